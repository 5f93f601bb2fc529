"""One MySQL or MariaDB server as a source: the ``Source`` protocol of ``model/ports.py``.

There is no slot: what has been read is only noted in the checkpoint, and the server keeps its log
for as long as it was told to. Not in here: how the log is decoded (``decoder.py``), the open stream
(``stream.py``), the first copy (``snapshot.py``), what is looked at before (``checks``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress

from cdc_daemon.config.mysql_address import is_local_mysql
from cdc_daemon.model.cascades import Cascades
from cdc_daemon.model.changes import Relation, Row
from cdc_daemon.model.effects import Key
from cdc_daemon.model.errors import RESNAPSHOT, ConfigurationError, Problem, Stop, Unreachable
from cdc_daemon.model.findings import CannotLook, Finding
from cdc_daemon.model.ports import SlotState, Table
from cdc_daemon.model.position import Checkpoint, SourceIdentity
from cdc_daemon.sources.mysql import charsets, checks
from cdc_daemon.sources.mysql.asked import Answer, Ask, Asked
from cdc_daemon.sources.mysql.cascades import Followed, followed, unlike
from cdc_daemon.sources.mysql.catalog import Name, TableFacts, read_tables
from cdc_daemon.sources.mysql.connection import Connection, Edition, Server
from cdc_daemon.sources.mysql.decoder import Decoder
from cdc_daemon.sources.mysql.dump import open_dump, resume, server_id_of
from cdc_daemon.sources.mysql.events import Framing
from cdc_daemon.sources.mysql.fingerprint import fingerprint, known_otherwise
from cdc_daemon.sources.mysql.foreign_keys import ForeignKey, acting, read_foreign_keys
from cdc_daemon.sources.mysql.gtid import parse_domains, parse_owned
from cdc_daemon.sources.mysql.position import (
    FilePosition,
    FromFile,
    MariadbPosition,
    MysqlPosition,
    Start,
    parse_position,
)
from cdc_daemon.sources.mysql.printed import connect_for_rows
from cdc_daemon.sources.mysql.relations import Described, Relations
from cdc_daemon.sources.mysql.requirements import identity_problems, table_problems
from cdc_daemon.sources.mysql.reread import reread
from cdc_daemon.sources.mysql.said import Statements
from cdc_daemon.sources.mysql.snapshot import (
    MysqlSnapshot,
    consistent_snapshot,
    position_of,
    view,
)
from cdc_daemon.sources.mysql.statement_kinds import Definition
from cdc_daemon.sources.mysql.stream import MysqlStream
from cdc_daemon.sources.mysql.system import read_system
from cdc_daemon.sources.mysql.tables import Tables
from cdc_daemon.sources.mysql.types import catalogue_word, column_type_of
from cdc_daemon.telemetry import get_logger

_SILENT = 60.0  # seconds that the log may take to go on when it is read again


log = get_logger(__name__)


class MysqlSource:
    """A source server, and the tables that are mapped."""

    def __init__(
        self,
        name: str,
        settings: Mapping[str, str],
        tables: Sequence[Table],
        *,
        server_id: int,
        piece_rows: int = 2000,
        piece_bytes: int = 1 << 20,
        max_value_bytes: int = 64 << 20,
        lock_timeout: float = 60.0,
        cascades: str = "follow",
    ) -> None:
        self.name = name
        self.tables = tuple(tables)
        self._server = Server(name, settings)
        self._server_id = server_id
        self._second_id = server_id_of(name, str(server_id), "again")
        self._piece_rows = piece_rows
        self._piece_bytes = piece_bytes
        self._max_value_bytes = max_value_bytes
        self._lock_timeout = lock_timeout
        self._cascades = cascades
        self._read = self.tables  # those that are mapped and those that keys need
        self._followed = Followed()
        self._keys: list[ForeignKey] = []
        self._handed_out = False  # whether somebody follows these keys
        self._relations = Relations(name, self.tables)
        self._facts: dict[Name, TableFacts] = {}
        self._connection: Connection | None = None
        self._rows: Connection | None = None  # the one that rows are read again on
        self._edition: Edition | None = None

    # --- what it is ---------------------------------------------------------------------------

    def examine(
        self, checkpoint: Checkpoint | None, *, held: bool = False, sample_seconds: float = 0.0
    ) -> list[Finding]:
        return checks.examine(self._examined(checkpoint, held=held, sample_seconds=sample_seconds))

    def watch(self, checkpoint: Checkpoint, rate: float | None) -> list[Finding]:
        return checks.watch(self._examined(checkpoint, held=True, rate=rate))

    def _examined(self, checkpoint: Checkpoint | None, **how: float | None) -> checks.Examined:
        self._sql()
        return checks.Examined(
            self._server.where,
            self._ask,
            self._server.errors,
            Asked(
                tables=self.tables,
                server_id=self._server_id,
                charsets=charsets.known(),
                cascades=self._cascades,
            ),
            checkpoint,
            loopback=is_local_mysql(self._server.address),
            verified=self._server.address.get("sslmode") == "verify-full",
            **how,  # type: ignore[arg-type]
        )

    def identify(self) -> SourceIdentity:
        """Which server answers, and by what its rows are known; whether its log is the one that was
        read, positions tell."""
        names = [(table.schema, table.name) for table in self.tables]
        with self._server.errors("identifying the source"):
            system = read_system(self._ask).identity
            known = fingerprint(self.tables, read_tables(self._ask, names))
        return SourceIdentity(system=system, timeline=0, database="", publication=known)

    def compare(self, then: SourceIdentity, now: SourceIdentity) -> list[Problem]:
        """Other keys; another server goes on where this one was, or its position says why not."""
        return [
            Problem(
                what="its rows are known by another key than when they were copied",
                where=f"{self._server.where}, table {table.schema}.{table.name}",
                cure=RESNAPSHOT,
            )
            for table in known_otherwise(self.tables, then.publication, now.publication)
        ]

    def remember(self, identity: SourceIdentity) -> SourceIdentity:
        return identity

    def relations(self) -> list[Relation]:
        """The mapped tables as they are now; ConfigurationError for what is not there."""
        self._learn()
        return [self._describe(table) for table in self._read if table.mapped]

    def cascades(self) -> Cascades:
        """The keys that act on mapped tables, where they are to be followed."""
        beside = [self._describe(table) for table in self._read if not table.mapped]
        self._handed_out = True
        return Cascades(
            silent=True,
            ignored=self._cascades != "follow",
            keys=self._followed.keys,
            beside=tuple(beside),
        )

    def _learn(self) -> None:
        """Read the mapped tables' catalogue rows."""
        connection = self._sql()
        self._relations.fold = self._edition_of(connection).lower_case != 0
        with self._server.errors("reading the catalogue"):
            keys = self._acting(self._ask)
            names = {(table.schema, table.name) for table in self.tables}
            names |= {end for key in keys for end in (key.child, key.parent)}
            self._facts = read_tables(self._ask, sorted(names))
        if odd := unlike(keys, self._facts):
            what = "{}, which joins columns of unlike types: {}"
            raise ConfigurationError(
                [self._not_followed(what.format(key.name, key)) for key in odd]
            )
        self._followed = followed(keys, self._facts, fold=self._relations.fold)
        self._read = self._followed.tables(self.tables, self._facts)
        self._relations.read(self._read)
        problems = [problem for table in self._read for problem in self._problems(table)]
        if problems:
            raise ConfigurationError(problems)
        self._relations.learn(
            {
                (table.schema, table.name): self._facts[table.schema, table.name].primary_key
                or table.identity
                for table in self._read
            }
        )

    def _acting(self, ask: Ask) -> list[ForeignKey]:
        """The keys to be followed. Raises ConfigurationError where they cannot be, Stop where they
        are no longer those that are being followed."""
        if self._cascades != "follow":
            return []
        try:
            keys = acting(read_foreign_keys(ask, [(one.schema, one.name) for one in self.tables]))
        except CannotLook as unseen:
            raise ConfigurationError([self._not_followed(str(unseen))]) from None
        odd = [key for key in keys if "SET DEFAULT" in (key.on_delete, key.on_update)]
        if odd:
            raise ConfigurationError([self._not_followed(f"key {key.name}: {key}") for key in odd])
        if self._handed_out and keys != self._keys:
            raise Stop(
                f"{self._server.where}: foreign keys that change rows came, went or were changed",
                hint="the pipeline looks at them anew when it is started again",
            )
        self._keys = keys
        return keys

    def _not_followed(self, what: str) -> Problem:
        return Problem(
            what=f"what a foreign key does cannot be followed: {what}",
            where=self._server.where,
            cure="set the source's cascades to ignore, or change the key's rule",
        )

    def _defined_anew(self, found: Definition, table: Table) -> None:
        """A table that is read was altered: raise Stop where its keys are others now, and
        PreflightRefusal where one that acts came or went, though it may be as it was by now.

        The reader's thread: on a connection of its own.
        """
        if self._cascades != "follow":
            return
        child = (table.schema, table.name)
        mine = {key.name.lower() for key in self._keys if key.child == child}
        if found.acts or not mine.isdisjoint(name.lower() for name in found.dropped):
            what = "in the log a foreign key of it that changes rows comes or goes"
            raise self._relations.refused(table, what)
        with closing(self._server.connect()) as connection, connection.cursor() as cursor:

            def ask(statement: str, *params: object) -> Sequence[Answer]:
                cursor.execute(statement, params or None)
                return cursor.fetchall()

            with self._server.errors("looking at foreign keys"):
                self._acting(ask)

    def _problems(self, table: Table) -> Iterator[Problem]:
        """What is wrong with a table, so that no mapping of it can be compiled."""
        where = f"{self._server.where}, table {table.schema}.{table.name}"
        facts = self._facts.get((table.schema, table.name))
        if facts is None and not table.mapped:
            what = "foreign keys of it change mapped rows, and the account may not see it"
            yield Problem(
                what=what,
                where=where,
                cure="grant SELECT on it, or set the source's cascades to ignore",
            )
            return
        if facts is None:
            what = "the table does not exist, or the account may not see it"
            yield Problem(what=what, where=where, cure="correct the mapping, or grant SELECT on it")
            return
        account = self._server.user
        for what, cure in table_problems(table, facts, charsets.known(), account):
            yield Problem(what=what, where=where, cure=cure)
        for what, cure in identity_problems(table, facts):
            yield Problem(what=what, where=where, cure=cure)

    def _describe(self, table: Table) -> Relation:
        facts = self._facts[table.schema, table.name]
        described = Described(
            schema=facts.schema,
            table=facts.name,
            names=tuple([column.name for column in facts.columns]),
            types=tuple([column_type_of(c.data_type, c.native) for c in facts.columns]),
            primary_key=facts.primary_key,
        )
        return self._relations.describe(described, table)[0]

    # --- reading ------------------------------------------------------------------------------

    def make_room(self, slot: str, checkpoint: Checkpoint) -> None:
        """A server keeps nothing for its readers."""

    @contextmanager
    def snapshot(self, slot: str) -> Iterator[MysqlSnapshot]:
        self._learn()
        mariadb = self._edition_of(self._sql()).mariadb
        with consistent_snapshot(
            self._server, self._read, mariadb=mariadb, timeout=self._lock_timeout
        ) as (connection, position):
            yield self._reading(connection, str(position))

    @contextmanager
    def view(self) -> Iterator[MysqlSnapshot]:
        """The tables, as :meth:`relations` described them, at one moment: for looking, not for
        going on, so that nothing is locked and no place in the log is known."""
        with view(self._server) as connection:
            yield self._reading(connection, "")

    def _reading(self, connection: Connection, position: str) -> MysqlSnapshot:
        return MysqlSnapshot(
            self._server,
            connection,
            position=position,
            relations={(table.schema, table.name): self._describe(table) for table in self._read},
            facts=self._facts,
            piece_rows=self._piece_rows,
            piece_bytes=self._piece_bytes,
            max_value_bytes=self._max_value_bytes,
        )

    def stream(self, after: str) -> MysqlStream:
        position = parse_position(after)
        self.relations()
        dump, witness = resume(self._server, position, server_id=self._server_id)
        mariadb = dump.edition.mariadb
        tables = Tables(
            self._relations,
            mariadb=mariadb,
            natives=self._natives() if mariadb else {},
            max_value_bytes=self._max_value_bytes,
            watched=self._followed.columns,
        )
        decoder = Decoder(
            tables,
            Statements(
                self._relations,
                dump.edition.dialect,
                self._tell_of_values,
                altered=self._defined_anew,
            ),
            position,
            Framing(),
            fetch=self._read_again,
            witness=witness,
            piece_rows=self._piece_rows,
            piece_bytes=self._piece_bytes,
        )
        return MysqlStream(self._server, dump, decoder)

    def _tell_of_values(self, table: Table, verb: str) -> None:
        log.warning(
            "values of rows may have changed without a word in the log",
            source=self.name,
            table=f"{table.schema}.{table.name}",
            by=verb,
            cure="compare them: cdc-daemon verify --repair",
        )

    def _read_again(self, start: Start) -> Iterator[bytes]:
        """What the log holds from there on, in a reading of its own."""
        dump = open_dump(self._server, start, server_id=self._second_id, until_end=True)
        try:
            while events := dump.read(_SILENT):
                yield from events
            if events is None:
                raise Unreachable(f"{self._server.where}: reading the log again took too long")
        finally:
            dump.close()

    def _natives(self) -> dict[Name, dict[str, str]]:
        """The types that MariaDB's log does not tell, by table and column."""
        return {
            name: {column.name: catalogue_word(column.native) for column in facts.columns}
            for name, facts in self._facts.items()
        }

    def slot_state(self, position: str) -> SlotState | None:
        """There is none."""
        return None

    def reread(self, relation: Relation, keys: Sequence[Key]) -> dict[Key, Row]:
        facts = self._facts[relation.schema, relation.table]
        if self._rows is None or not self._rows.open:
            self._rows = connect_for_rows(self._server)
        with self._server.errors(f"reading rows of {relation.name} again"):
            return reread(self._rows, relation, facts, keys)

    def mark(self) -> str:
        """Where the log ends now, with what MySQL shows already and only then lists as executed."""
        connection = self._sql()
        with self._server.errors("looking at the log"):
            if self._edition_of(connection).mariadb:
                ((text,),) = self._ask("SELECT @@GLOBAL.gtid_binlog_pos")
                return str(MariadbPosition(domains=parse_domains(str(text))))
            ((owned,),) = self._ask("SELECT @@GLOBAL.gtid_owned")
            position = position_of(connection)
            if isinstance(position, MysqlPosition):
                position.executed.update(parse_owned(owned))
            return str(position)

    def passed(self, position: str, mark: str) -> bool:
        match parse_position(position), parse_position(mark):
            case MysqlPosition() as here, MysqlPosition(executed=there):
                return here.covers(there)
            case MariadbPosition() as here, MariadbPosition(domains=there):
                return here.covers(there)
            case FilePosition() as here, FilePosition(at=there):
                return here.covers(FromFile(there.file, there.offset))
            case _:
                return False

    # --- connections --------------------------------------------------------------------------

    def _sql(self) -> Connection:
        """The SQL connection, opened anew when it was lost."""
        if self._connection is None or not self._connection.open:
            self._connection = self._server.connect()
        return self._connection

    def _ask(self, statement: str, *params: object) -> Sequence[Answer]:
        with self._sql().cursor() as cursor:
            cursor.execute(statement, params or None)
            return cursor.fetchall()

    def _edition_of(self, connection: Connection) -> Edition:
        if self._edition is None:
            self._edition = self._server.edition(connection)
        return self._edition

    def close(self) -> None:
        connections = (self._connection, self._rows)
        self._connection = self._rows = self._edition = None
        for connection in connections:
            if connection is not None:
                with suppress(Exception):
                    connection.close()
