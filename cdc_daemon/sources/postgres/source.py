"""One PostgreSQL database as a source: the ``Source`` protocol of ``model/ports.py``.

Not in here: how the log is decoded (``decoder.py``), the open stream (``stream.py``), the first
copy (``snapshot.py``), what is refused (``preflight.py``, ``requirements.py``), what an
administrator must set up (``setup.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from cdc_daemon.model.changes import Relation, Row
from cdc_daemon.model.effects import Key
from cdc_daemon.model.errors import ConfigurationError, PreflightRefusal, Problem
from cdc_daemon.model.ports import SlotState, Table
from cdc_daemon.model.position import Checkpoint, SourceIdentity
from cdc_daemon.sources.postgres import catalog, preflight, requirements
from cdc_daemon.sources.postgres.connection import Connection, Server
from cdc_daemon.sources.postgres.decoder import Decoder
from cdc_daemon.sources.postgres.relations import Relations
from cdc_daemon.sources.postgres.reread import reread
from cdc_daemon.sources.postgres.snapshot import PostgresSnapshot, exported_snapshot
from cdc_daemon.sources.postgres.stream import PostgresStream
from cdc_daemon.sources.postgres.types import Types

_NAME = re.compile(r"[a-z0-9_]{1,63}", re.ASCII)


class PostgresSource:
    """A source database, its slot and its publication, and the tables that are mapped."""

    def __init__(
        self,
        name: str,
        conninfo: Mapping[str, str],
        slot: str,
        publication: str,
        tables: Sequence[Table],
        *,
        piece_rows: int = 2000,
        piece_bytes: int = 1 << 20,
        max_value_bytes: int = 64 << 20,
        feedback_interval: float = 1.0,
        slot_timeout: float = 60.0,
    ) -> None:
        _check_names(name, slot=slot, publication=publication)
        self.name = name
        self.slot = slot
        self.publication = publication
        self.tables = tuple(tables)
        self._server = Server(name, conninfo)
        self._piece_rows = piece_rows
        self._piece_bytes = piece_bytes
        self._max_value_bytes = max_value_bytes
        self._feedback_interval = feedback_interval
        self._slot_timeout = slot_timeout
        self._relations = Relations(name, self.tables)
        self._types = Types()
        self._facts: dict[tuple[str, str], catalog.TableFacts] = {}
        self._connection: Connection | None = None

    # --- what it is ---------------------------------------------------------------------------

    def check(self, checkpoint: Checkpoint | None) -> list[Problem]:
        with self._server.errors("checking the source"):
            return preflight.check(self._server, self._sql(), self._asked(), checkpoint)

    def recheck(self, identity: SourceIdentity) -> list[Problem]:
        """Whether the publication is still the one of ``identity``; cheap, every few seconds."""
        with self._server.errors("checking the publication"):
            return preflight.recheck(self._server, self._sql(), self._asked(), identity)

    def slot_state(self, position: str) -> SlotState | None:
        """What the server keeps for the slot, and how far its log is past that position."""
        with self._server.errors("looking at the slot"):
            return preflight.slot_state(self._sql(), self.slot, position)

    def identify(self) -> SourceIdentity:
        with self._server.errors("identifying the source"):
            return preflight.identify(self._server, self._sql(), self._asked())

    def compare(self, then: SourceIdentity, now: SourceIdentity) -> list[Problem]:
        """What happened between two identities that would lose changes; asks nobody."""
        return preflight.compare_identities(self._server, self._asked(), then, now)

    def relations(self) -> list[Relation]:
        """The mapped tables as they are now; ConfigurationError for what is not there."""
        with self._server.errors("reading the catalogue"):
            self._learn(self._sql())
        return [self._describe(table) for table in self.tables]

    def _asked(self) -> requirements.Asked:
        return requirements.Asked(slot=self.slot, publication=self.publication, tables=self.tables)

    def _learn(self, connection: Connection) -> None:
        """Read the mapped tables' catalogue rows."""
        self._facts = catalog.read_tables(connection, self.tables)
        problems = requirements.missing(self._server.where, connection, self._asked(), self._facts)
        if problems:
            raise ConfigurationError(problems)
        catalog.learn(connection, list(self._facts.values()), self._relations, self._types)
        used = (column.oid for table in self._facts.values() for column in table.columns)
        if self._types.holds_money(used):
            self._types.money_scale = self._server.money_scale()

    def _describe(self, table: Table) -> Relation:
        facts = self._facts[table.schema, table.name]
        return catalog.describe(facts, self._relations, self._types)

    # --- reading ------------------------------------------------------------------------------

    @contextmanager
    def snapshot(self, slot: str, *, replace: bool) -> Iterator[PostgresSnapshot]:
        _check_names(self.name, slot=slot, publication=self.publication)
        with exported_snapshot(self._server, slot, replace=replace, timeout=self._slot_timeout) as (
            connection,
            position,
        ):
            with self._server.errors("reading the catalogue"):
                self._learn(connection)
            yield PostgresSnapshot(
                self._server,
                connection,
                position=position,
                relations={
                    (table.schema, table.name): (self._describe(table), self._partitioned(table))
                    for table in self.tables
                },
                piece_rows=self._piece_rows,
                piece_bytes=self._piece_bytes,
            )

    def _partitioned(self, table: Table) -> bool:
        return self._facts[table.schema, table.name].kind == "p"

    def stream(self, after: str) -> PostgresStream:
        with self._server.errors("reading the catalogue"):
            self._learn(self._sql())
        decoder = Decoder(
            self._relations,
            self._types,
            piece_rows=self._piece_rows,
            piece_bytes=self._piece_bytes,
            max_value_bytes=self._max_value_bytes,
        )
        stream = PostgresStream(
            self._server,
            decoder,
            slot=self.slot,
            publication=self.publication,
            after=after,
            feedback_interval=self._feedback_interval,
        )
        try:
            self._check_opened(after)
        except BaseException:
            stream.close()
            raise
        return stream

    def _check_opened(self, after: str) -> None:
        with self._server.errors("checking the slot"):
            problems = preflight.check_opened(self._server, self._sql(), self._asked(), after)
        if problems:
            raise PreflightRefusal(problems)

    def reread(self, relation: Relation, keys: Sequence[Key]) -> dict[Key, Row]:
        facts = self._facts.get((relation.schema, relation.table))
        with self._server.errors(f"reading rows of {relation.name} again"):
            return reread(
                self._sql(), relation, keys, partitioned=facts is not None and facts.kind == "p"
            )

    # --- connections --------------------------------------------------------------------------

    def _sql(self) -> Connection:
        """The SQL connection, opened anew when it was lost."""
        if self._connection is None or self._connection.closed:
            self._connection = self._server.connect()
        return self._connection

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.close()


def _check_names(source: str, **names: str) -> None:
    """Slot and publication names go into replication commands: only what needs no quoting."""
    problems = [
        Problem(
            what=f"{kind} name {name!r} is not usable",
            where=f"source {source}",
            cure="1 to 63 lower-case letters, digits and underscores",
        )
        for kind, name in names.items()
        if not _NAME.fullmatch(name)
    ]
    if problems:
        raise ConfigurationError(problems)
