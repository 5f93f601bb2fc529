"""The first consistent copy: one transaction's view of the tables, and the position it is true at.

MariaDB tells of a transaction that begins WITH CONSISTENT SNAPSHOT at which place of the log it
began; nothing is locked. MySQL does not, so the mapped tables, and no others, are locked against
writes while the transaction begins and the executed GTIDs are read: whoever changed them has
committed by then, and who comes after is in neither. The copy itself holds no lock.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import Any, Final, NoReturn

import pymysql

from cdc_daemon.model.changes import Batch, Operation, Relation, Row, Run
from cdc_daemon.model.errors import CdcError, Stop, Unreachable
from cdc_daemon.model.ports import Table
from cdc_daemon.sources.mysql.asked import quoted, spelled
from cdc_daemon.sources.mysql.catalog import TableFacts
from cdc_daemon.sources.mysql.connection import Connection, Server
from cdc_daemon.sources.mysql.gtid import parse_domains, parse_set
from cdc_daemon.sources.mysql.position import (
    FilePosition,
    FromFile,
    MariadbPosition,
    MysqlPosition,
    Position,
)
from cdc_daemon.sources.mysql.printed import Printed, connect_for_rows
from cdc_daemon.sources.mysql.selected import expression, reader

LOCK_TIMEOUT: Final = 60.0  # seconds that the copy may wait for transactions to end
_PATIENCE: Final = 2  # seconds that one attempt to lock waits: others wait behind it
_PAUSE: Final = 0.5
_LOCK_WAIT: Final = 1205
_READ_ONLY: Final = 1290
_BEGIN: Final = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"

Key = tuple[str, str]


class MysqlSnapshot:
    """A transaction that sees the tables as they were at ``position``."""

    def __init__(
        self,
        server: Server,
        connection: Connection,
        *,
        position: str,
        relations: Mapping[Key, Relation],
        facts: Mapping[Key, TableFacts],
        piece_rows: int,
        piece_bytes: int,
        max_value_bytes: int,
    ) -> None:
        self._server = server
        self._connection = connection
        self._position = position
        self._relations = relations
        self._facts = facts
        self._piece_rows = piece_rows
        self._piece_bytes = piece_bytes
        self._max_value_bytes = max_value_bytes
        self._thread = int(connection.thread_id())  # type: ignore[no-untyped-call]
        self._sequence = 0
        self._begun = time.time_ns() // 1000

    @property
    def position(self) -> str:
        """Where the log goes on after the copy."""
        return self._position

    def read(self, tables: Sequence[Table]) -> Generator[Batch, None, None]:
        """All rows of these tables, table by table, as INSERT runs."""
        for table in tables:
            key = (table.schema, table.name)
            relation, facts = self._relations[key], self._facts[key]
            with self._server.errors(f"reading {table.schema}.{table.name}"):
                self._run("SAVEPOINT reading")
                yield from self._batches(relation, facts)
                self._run("ROLLBACK TO SAVEPOINT reading")  # lets go of the table's definition

    def _run(self, statement: str) -> None:
        self._connection.cursor().execute(statement)

    def first(self, table: Table, limit: int) -> list[Row]:
        """The first rows of a table in the order of their identity."""
        key = (table.schema, table.name)
        relation, facts = self._relations[key], self._facts[key]
        columns = columns_of(relation, facts)
        order = ", ".join(quoted(columns[i].name) for i in relation.identity)
        statement = f"{select(relation, facts)} ORDER BY {order} LIMIT {limit}"
        with self._server.errors(f"reading {table.schema}.{table.name}"):
            printed = self._printed(statement, relation, facts)
            rows = printed.read(limit, self._piece_bytes)[0]
            printed.drain()
        return rows

    def _printed(self, statement: str, relation: Relation, facts: TableFacts) -> Printed:
        return Printed(
            self._connection,
            statement,
            [reader(column) for column in columns_of(relation, facts)],
            limit=self._max_value_bytes,
            refuse=partial(_too_large, relation, self._max_value_bytes),
        )

    def _batches(self, relation: Relation, facts: TableFacts) -> Iterator[Batch]:
        """The rows of one table, up to a piece's limits at a time."""
        printed = self._printed(select(relation, facts), relation, facts)
        try:
            while True:
                rows, size, odd = printed.read(self._piece_rows, self._piece_bytes)
                if not rows:
                    return
                yield self._batch(relation, rows, size, odd)
        finally:
            if not printed.ended:
                self._give_up(printed)

    def _batch(self, relation: Relation, rows: list[Row], size: int, odd: bool) -> Batch:
        run = Run(
            relation=relation,
            operation=Operation.INSERT,
            new_rows=rows,
            partial=odd,
            sequence=self._sequence,
        )
        self._sequence += len(rows)
        begin = (0, 0, self._begun)  # the copy is one transaction
        return Batch(runs=[run], begins=[begin], changes=len(rows), size=size)

    def _give_up(self, printed: Printed) -> None:
        """End a SELECT that nobody reads to its end, and keep the snapshot."""
        with suppress(pymysql.err.Error, CdcError), closing(self._server.connect()) as other:
            other.cursor().execute(f"KILL QUERY {self._thread}")
            printed.drain()


def _too_large(relation: Relation, limit: int, column: int, length: int) -> NoReturn:
    key = ", ".join(relation.columns[i].name for i in relation.identity)
    raise Stop(
        f"{relation.name}: a value of {length} bytes (column {relation.columns[column].name}, row "
        f"identified by {key}) is longer than max_value_bytes ({limit})",
        hint="raise max_value_bytes or leave the column out of the mapping",
    )


def columns_of(relation: Relation, facts: TableFacts) -> list[Any]:
    """The catalogue's facts of the relation's columns."""
    by_name = {column.name: column for column in facts.columns}
    return [by_name[column.name] for column in relation.columns]


def select(relation: Relation, facts: TableFacts) -> str:
    """SELECT of the relation's columns in their order."""
    columns = ", ".join(map(expression, columns_of(relation, facts)))
    return f"SELECT {columns} FROM {spelled(relation.schema, relation.table)}"


# --- the place in the log -----------------------------------------------------------------------


@contextmanager
def consistent_snapshot(
    server: Server, tables: Sequence[Table], *, mariadb: bool, timeout: float = LOCK_TIMEOUT
) -> Iterator[tuple[Connection, Position]]:
    """A connection whose transaction sees the tables, and the position at which they are so.

    Raises Unreachable when transactions that are in the way do not end in time.
    """
    with closing(connect_for_rows(server)) as connection:
        begin = _begin_on_mariadb if mariadb else _begin_on_mysql
        with server.errors("beginning the copy"):
            position = begin(server, connection, tables, timeout)
        yield connection, position


@contextmanager
def view(server: Server) -> Iterator[Connection]:
    """A connection whose transaction sees every table as of one moment, wherever in the log."""
    with closing(connect_for_rows(server)) as connection:
        with server.errors("beginning to read"):
            connection.cursor().execute(_BEGIN)
        yield connection


def _begin_on_mariadb(
    server: Server, connection: Connection, _tables: Sequence[Table], timeout: float
) -> Position:
    """Begin where no XA transaction is prepared: its rows would be in neither copy nor log."""
    deadline = time.monotonic() + timeout
    while True:
        prepared = _ask(connection, "XA RECOVER")
        connection.cursor().execute(_BEGIN)
        file, offset = _place_on_mariadb(connection)
        prepared = prepared or _ask(connection, "XA RECOVER")
        if not prepared:
            break
        connection.rollback()
        if time.monotonic() > deadline:
            message = f"{server.where}: the copy waits for {len(prepared)} prepared XA transactions"
            raise Unreachable(message, hint="see XA RECOVER; commit them or roll them back")
        time.sleep(_PAUSE)
    ((text,),) = _ask(connection, f"SELECT BINLOG_GTID_POS('{file}', {int(offset)})")
    if text is None:
        message = f"{server.where}: the log was rotated and purged while the copy began"
        raise Unreachable(message, hint="it is tried again")
    return MariadbPosition(domains=parse_domains(text))


def _place_on_mariadb(connection: Connection) -> tuple[str, str]:
    status = dict(_ask(connection, "SHOW STATUS LIKE 'binlog_snapshot_%'"))
    found = {name.lower(): value for name, value in status.items()}
    return found["binlog_snapshot_file"], found["binlog_snapshot_position"]


def _begin_on_mysql(
    server: Server, connection: Connection, tables: Sequence[Table], timeout: float
) -> Position:
    with closing(server.connect()) as lock:
        _lock(server, lock, tables, timeout)
        connection.cursor().execute(_BEGIN)
        who = "SELECT @@server_uuid"
        if _ask(lock, who) != _ask(connection, who):
            raise Unreachable(
                f"{server.where}: two connections lead to two servers, and a copy needs one",
                hint="give the address of one server; it is tried again",
            )
        return position_of(lock)


def _lock(server: Server, lock: Connection, tables: Sequence[Table], timeout: float) -> None:
    """Lock the tables against writes, in short attempts.

    Who writes goes past a lock for reading, so on a busy table that is never granted: from the
    second attempt on the lock is one for writing, which others wait behind, for seconds at most.
    """
    lock.cursor().execute(f"SET SESSION lock_wait_timeout = {_PATIENCE}, transaction_read_only = 0")
    kinds = ["READ", "WRITE"]
    deadline = time.monotonic() + timeout
    while True:
        kind = kinds.pop(0) if len(kinds) > 1 else kinds[0]
        names = ", ".join(f"{spelled(table.schema, table.name)} {kind}" for table in tables)
        try:
            lock.cursor().execute(f"LOCK TABLES {names}")
        except pymysql.err.OperationalError as exc:
            if exc.args[0] == _READ_ONLY:  # nobody writes here but who replicates
                kinds = ["READ"]
            elif exc.args[0] != _LOCK_WAIT:
                raise
        else:
            return
        if time.monotonic() > deadline:
            message = f"{server.where}: the copy waits for transactions that change mapped tables"
            hint = "end these transactions, prepared XA transactions too; it is tried again"
            raise Unreachable(message, hint=hint)
        time.sleep(_PAUSE)


def position_of(connection: Connection) -> Position:
    """Where the log of a MySQL server is now."""
    statement = "SELECT @@GLOBAL.gtid_mode, @@GLOBAL.gtid_executed, @@GLOBAL.server_uuid"
    ((mode, executed, uuid),) = _ask(connection, statement)
    if str(mode).upper() == "ON":
        return MysqlPosition(executed=parse_set(executed))
    file, offset = end_of_log(connection)
    return FilePosition(server=uuid, at=FromFile(file, offset))


def end_of_log(connection: Connection) -> tuple[str, int]:
    """File and offset of the log's end."""
    try:
        rows = _ask(connection, "SHOW BINARY LOG STATUS")
    except pymysql.err.Error:  # before MySQL 8.2, and MariaDB
        rows = _ask(connection, "SHOW MASTER STATUS")
    file, offset = rows[0][:2]
    return _word(file), int(offset)


def _ask(connection: Connection, statement: str) -> list[tuple[Any, ...]]:
    """The rows of a statement as words, whatever kind of connection it is."""
    cursor = connection.cursor()
    cursor.execute(statement)
    return [tuple(map(_word, row)) for row in cursor.fetchall()]


def _word(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
