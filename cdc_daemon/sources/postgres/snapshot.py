"""The first consistent copy: a new slot, its exported snapshot, and COPY ... TO STDOUT.

The snapshot is exactly the state at the slot's consistent point, so the stream goes on after it
without gap and without overlap. It is imported into a second connection before the replication
connection, with which it would vanish, does anything else.
"""

from __future__ import annotations

import select
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Final

import psycopg
from psycopg import sql

from cdc_daemon.model.changes import Batch, Operation, Relation, Row, Run
from cdc_daemon.model.errors import PreflightRefusal, Problem, Unreachable
from cdc_daemon.model.ports import Table
from cdc_daemon.model.position import Checkpoint
from cdc_daemon.sources.postgres.connection import Connection, Server
from cdc_daemon.sources.postgres.copytext import parse_rows
from cdc_daemon.sources.postgres.encodings import in_its_encoding, read_rows, take_bytes
from cdc_daemon.sources.postgres.lsn import parse_lsn
from cdc_daemon.sources.postgres.slot import left_behind, read_slot

SLOT_TIMEOUT: Final = 60.0  # seconds that creating a slot may wait for running transactions
DROP_TIMEOUT: Final = 10.0  # seconds that dropping a slot may wait for its reader to end
_ACTIVE: Final = psycopg.pq.TransactionStatus.ACTIVE
_BLOCKERS: Final = """
SELECT pid, usename::text, application_name,
       pg_catalog.date_part('epoch', pg_catalog.now() - xact_start)::bigint
FROM pg_catalog.pg_stat_activity
WHERE backend_xid IS NOT NULL AND pid <> pg_catalog.pg_backend_pid()
ORDER BY xact_start LIMIT 5
"""
_CLAIM: Final = "SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended(%s, 0))"


class PostgresSnapshot:
    """An imported snapshot. ``relations`` gives each table's description."""

    def __init__(
        self,
        server: Server,
        connection: Connection,
        *,
        position: str,
        relations: dict[tuple[str, str], Relation],
        piece_rows: int,
        piece_bytes: int,
    ) -> None:
        self._server = server
        self._connection = connection
        self._position = position
        self._relations = relations
        self._piece_rows = piece_rows
        self._piece_bytes = piece_bytes
        self._sequence = 0
        self._begun = time.time_ns() // 1000

    @property
    def position(self) -> str:
        """The slot's consistent point."""
        return self._position

    def read(self, tables: Sequence[Table]) -> Iterator[Batch]:
        """All rows of these tables, table by table, as INSERT runs."""
        with self._server.errors("copying"):
            take_bytes(self._connection)
        for table in tables:
            relation = self._relations[table.schema, table.name]
            query = copy_query(relation)
            with self._server.errors(f"copying {table.schema}.{table.name}"):
                for lines in self._pieces(query):
                    yield self._batch(relation, parse_rows(lines), sum(map(len, lines)))

    def _pieces(self, query: sql.Composed) -> Iterator[list[bytes]]:
        """The lines of one COPY, up to a piece's limits at a time; given up, it leaves no trace."""
        self._connection.execute("SAVEPOINT copying")
        try:
            yield from self._lines(query)
        finally:
            if self._connection.pgconn.transaction_status == _ACTIVE:
                self._give_up()

    def _give_up(self) -> None:
        """End a COPY that nobody reads to its end, and keep the snapshot."""
        pgconn = self._connection.pgconn
        with suppress(psycopg.Error):
            pgconn.get_cancel().cancel()
            while pgconn.get_copy_data(0)[0] > 0:
                pass
            while pgconn.get_result() is not None:
                pass
            self._connection.execute("ROLLBACK TO SAVEPOINT copying")

    def _lines(self, query: sql.Composed) -> Iterator[list[bytes]]:
        """The lines of one COPY, as they come from the server."""
        pgconn = self._connection.pgconn
        pgconn.send_query(in_its_encoding(query, self._connection))
        poll = select.poll()
        poll.register(pgconn.socket, select.POLLIN)
        _expect_copy(self._connection, poll)
        lines: list[bytes] = []
        size = 0
        while True:
            found, view = pgconn.get_copy_data(1)
            if found > 0:
                lines.append(bytes(view))
                size += found
                if len(lines) >= self._piece_rows or size >= self._piece_bytes:
                    yield lines
                    lines, size = [], 0
            elif found == 0:
                poll.poll(1000)
                pgconn.consume_input()
            else:
                break
        _finish(self._connection)
        if lines:
            yield lines

    def _batch(self, relation: Relation, rows: list[Row], size: int) -> Batch:
        first = self._sequence
        self._sequence += len(rows)
        run = Run(relation=relation, operation=Operation.INSERT, new_rows=rows, sequence=first)
        if relation.codec:
            run.new_rows, marked = read_rows(rows, relation.codec)
            run.partial = bool(marked)
        begin = (0, parse_lsn(self._position), self._begun)  # the copy is one transaction
        return Batch(runs=[run], begins=[begin], changes=len(rows), size=size)


def copy_query(relation: Relation) -> sql.Composed:
    """COPY of the relation's columns in their order, of the rows that the log tells."""
    columns = [sql.Identifier(column.name) for column in relation.columns]
    where = f" WHERE {relation.condition}" if relation.condition else ""
    return sql.SQL("COPY (SELECT {} FROM {}{}) TO STDOUT").format(
        sql.SQL(", ").join(columns), table_of(relation), sql.SQL(where)
    )


def table_of(relation: Relation) -> sql.Composed:
    """The relation's table in FROM, without what inherits from it."""
    return sql.SQL("ONLY {}" if relation.alone else "{}").format(
        sql.Identifier(relation.schema, relation.table)
    )


def _expect_copy(connection: Connection, poll: select.poll) -> None:
    """Wait for the answer to COPY; raise the server's error."""
    pgconn = connection.pgconn
    while pgconn.flush():
        poll.poll(10)
    while pgconn.is_busy():
        poll.poll(1000)
        pgconn.consume_input()
    result = pgconn.get_result()
    if result is None or result.status != psycopg.pq.ExecStatus.COPY_OUT:
        _finish(connection)
        assert result is not None
        raise psycopg.errors.error_from_result(result)


def _finish(connection: Connection) -> None:
    """Read the results up to the query's end; raise the server's error if there is one."""
    error: psycopg.Error | None = None
    while (result := connection.pgconn.get_result()) is not None:
        if result.status == psycopg.pq.ExecStatus.FATAL_ERROR:
            error = psycopg.errors.error_from_result(result)
    if error is not None:
        raise error


# --- the slot ----------------------------------------------------------------------------------


def make_room(server: Server, slot: str, checkpoint: Checkpoint) -> None:
    """Drop the slot that the checkpoint's next copy replaces, if there is one.

    Raises PreflightRefusal for a slot that is not its own, and Unreachable where it may be and
    somebody is at work with it.
    """
    asked_for = checkpoint.slot_noted and checkpoint.position is None
    with closing(server.connect()) as connection, server.errors(f"dropping slot {slot}"):
        if not checkpoint.slot_noted and read_slot(connection, slot) is not None:
            _claim(server, connection, slot)
        found = read_slot(connection, slot)
        if found is None:
            return
        if not left_behind(found, slot, checkpoint):
            raise _taken(server, slot)
        if found.active_pid is not None and not asked_for:
            message = f"{server.where}: process {found.active_pid} of the server is at slot {slot}"
            raise Unreachable(message, hint="see pg_stat_activity who that is; it is tried again")
        _drop_slot(connection, slot, DROP_TIMEOUT if asked_for else 0.0)


def _claim(server: Server, connection: Connection, slot: str) -> None:
    """Wait a moment for a copy of our own that was cut short to end; another's is left alone."""
    deadline = time.monotonic() + DROP_TIMEOUT
    while not _claimed(connection, slot):
        if time.monotonic() > deadline:
            message = f"{server.where}: somebody takes a copy with slot {slot} now"
            raise Unreachable(message, hint="give each installation a slot name of its own")
        time.sleep(0.1)


def _claimed(connection: Connection, slot: str) -> bool:
    """Take the lock that says who is copying with a slot; it goes with the connection."""
    row = connection.execute(_CLAIM, (f"cdc_daemon slot {slot}",)).fetchone()
    return bool(row and row[0])


def _taken(server: Server, slot: str) -> PreflightRefusal:
    cure = f"if nobody else uses it: SELECT pg_drop_replication_slot('{slot}')"
    what = f"slot {slot} exists, but no checkpoint belongs to it"
    return PreflightRefusal([Problem(what=what, where=server.where, cure=cure)])


@contextmanager
def exported_snapshot(
    server: Server, slot: str, *, timeout: float = SLOT_TIMEOUT
) -> Iterator[tuple[Connection, str]]:
    """Create the slot; a connection that sees its snapshot, and the consistent point.

    Raises Unreachable, naming who is in the way, when running transactions do not end in time.
    """
    walsender = server.connect_for_replication()
    try:
        connection = server.connect()
        try:
            with server.errors(f"looking for slot {slot}"):
                _claimed(connection, slot)  # a lock of somebody who is gone must not be in the way
                if read_slot(connection, slot) is not None:
                    raise _taken(server, slot)
            position, name = _create_slot(server, walsender, slot, timeout)
            with server.errors("importing the snapshot"):
                connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(name)))
            walsender.close()
            yield connection, position
        finally:
            connection.close()
    finally:
        walsender.close()


def _drop_slot(connection: Connection, slot: str, patience: float) -> None:
    """Drop it, once whoever read from it has ended: our own walsender may take a moment."""
    deadline = time.monotonic() + patience
    while True:
        try:
            connection.execute("SELECT pg_catalog.pg_drop_replication_slot(%s)", (slot,))
        except psycopg.errors.ObjectInUse:
            if time.monotonic() > deadline:
                raise
        else:
            return
        time.sleep(0.1)


def _create_slot(
    server: Server, walsender: Connection, slot: str, timeout: float
) -> tuple[str, str]:
    """Consistent point and snapshot name of a new slot."""
    command = sql.SQL("CREATE_REPLICATION_SLOT {} LOGICAL pgoutput EXPORT_SNAPSHOT").format(
        sql.Identifier(slot)
    )
    pgconn = walsender.pgconn
    poll = select.poll()
    poll.register(pgconn.socket, select.POLLIN)
    with server.errors(f"creating slot {slot}"):
        pgconn.send_query(command.as_bytes(walsender))
        deadline = time.monotonic() + timeout
        while pgconn.is_busy():
            if time.monotonic() > deadline:
                message = f"{server.where}: creating slot {slot} waits for {_blockers(server)}"
                pgconn.get_cancel().cancel()
                raise Unreachable(message, hint="end these transactions; it is tried again")
            poll.poll(100)
            pgconn.consume_input()
        result = pgconn.get_result()
        _finish_or_raise(walsender, result)
    assert result is not None
    point, name = result.get_value(0, 1), result.get_value(0, 2)
    assert point is not None
    assert name is not None
    return point.decode(), name.decode()


def _finish_or_raise(connection: Connection, result: psycopg.pq.abc.PGresult | None) -> None:
    _finish(connection)
    if result is not None and result.status != psycopg.pq.ExecStatus.TUPLES_OK:
        raise psycopg.errors.error_from_result(result)


def _blockers(server: Server) -> str:
    """Who has a transaction open that the slot must wait for: never what they are running."""
    with server.connect() as connection:
        rows = connection.execute(_BLOCKERS).fetchall()
    words = [
        f"pid {pid} (user {user}, {application or 'no name'}, open for {age or 0} s)"
        for pid, user, application, age in rows
    ]
    return ", ".join(words) or "transactions that are running"
