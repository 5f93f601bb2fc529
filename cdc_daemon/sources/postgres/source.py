"""One PostgreSQL database as a source: the ``Source`` protocol of ``model/ports.py``.

Not in here: how the log is decoded (``decoder.py``), the open stream (``stream.py``), the first
copy (``snapshot.py``), what is looked at before and while running (``checks``), what an
administrator must set up (``setup.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from cdc_daemon.model.cascades import Cascades
from cdc_daemon.model.changes import Relation, Row
from cdc_daemon.model.effects import Key
from cdc_daemon.model.errors import ConfigurationError, PreflightRefusal, Problem, Unreachable
from cdc_daemon.model.findings import Finding, refusals
from cdc_daemon.model.ports import SlotState, Table
from cdc_daemon.model.position import Checkpoint, SourceIdentity
from cdc_daemon.sources.postgres import asked, catalog, checks, partitions, requirements
from cdc_daemon.sources.postgres.checks import identity
from cdc_daemon.sources.postgres.checks.slot import advanced
from cdc_daemon.sources.postgres.connection import Connection, Server
from cdc_daemon.sources.postgres.decoder import Decoder
from cdc_daemon.sources.postgres.fingerprint import flagged
from cdc_daemon.sources.postgres.logend import nudge, written
from cdc_daemon.sources.postgres.lsn import is_lsn, parse_lsn
from cdc_daemon.sources.postgres.publication import as_published, read_publication
from cdc_daemon.sources.postgres.relations import Relations
from cdc_daemon.sources.postgres.reread import reread
from cdc_daemon.sources.postgres.slot import read_slot, slot_state
from cdc_daemon.sources.postgres.snapshot import PostgresSnapshot, exported_snapshot, make_room
from cdc_daemon.sources.postgres.stream import PostgresStream
from cdc_daemon.sources.postgres.system import timeline_of_last_checkpoint
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
        self._places = partitions.Places()
        self._newcomers = partitions.Newcomers(self._server, {}, frozenset())
        self._connection: Connection | None = None

    # --- what it is ---------------------------------------------------------------------------

    def check(self, checkpoint: Checkpoint | None) -> list[Problem]:
        """Why a worker must not start from there. Raises as :meth:`examine`."""
        return refusals(self.examine(checkpoint))

    def examine(
        self, checkpoint: Checkpoint | None, *, held: bool = False, sample_seconds: float = 0.0
    ) -> list[Finding]:
        """The findings of every check. Raises Unreachable, and ConfigurationError for a wrong
        password or missing database."""
        at = checks.Examined(
            self._server,
            self._sql(),
            self._asked(),
            checkpoint,
            held=held,
            sample_seconds=sample_seconds,
        )
        return checks.examine(at)

    def watch(self, checkpoint: Checkpoint, rate: float | None) -> list[Finding]:
        """The findings of the watched checks. Raises Unreachable after a promotion: the stream is
        opened anew, which compares the timelines."""
        known = checkpoint.identity
        with self._server.errors("watching the source"):
            connection = self._sql()
            if known and timeline_of_last_checkpoint(connection) > known.timeline:
                raise Unreachable(f"{self._server.where}: the server was promoted")
        at = checks.Examined(
            self._server, connection, self._asked(), checkpoint, held=True, rate=rate
        )
        return checks.watch(at)

    def slot_state(self, position: str) -> SlotState | None:
        """What the server keeps for the slot, and how far its log is past that position; None also
        for what is no position, which the checks refuse."""
        if not is_lsn(position):
            return None
        with self._server.errors("looking at the slot"):
            return slot_state(self._sql(), self.slot, position)

    def identify(self) -> SourceIdentity:
        with self._server.errors("identifying the source"):
            return identity.identify(self._server, self._sql(), self._asked())

    def compare(self, then: SourceIdentity, now: SourceIdentity) -> list[Problem]:
        """What happened between two identities that would lose changes; asks nobody."""
        return identity.compare_identities(self._server, self._asked(), then, now)

    def remember(self, identity: SourceIdentity) -> SourceIdentity:
        if not identity.publication:  # a damaged checkpoint, which the checks refuse
            return identity
        publication = flagged(identity.publication, self._places.unlogged)
        return replace(identity, publication=publication)

    def relations(self) -> list[Relation]:
        """The mapped tables as they are now; ConfigurationError for what is not there."""
        with self._server.errors("reading the catalogue"):
            self._learn(self._sql())
        return [self._describe(table) for table in self.tables]

    def _asked(self) -> asked.Asked:
        return asked.Asked(
            slot=self.slot,
            publication=self.publication,
            tables=self.tables,
            places=self._places,
        )

    def _learn(self, connection: Connection) -> None:
        """Read the mapped tables' catalogue rows."""
        publication = read_publication(connection, self.publication)
        self._facts = as_published(catalog.read_tables(connection, self.tables), publication)
        problems = requirements.missing(self._server.where, connection, self._asked(), self._facts)
        if problems:
            raise ConfigurationError(problems)
        facts = list(self._facts.values())
        extents = partitions.extents(facts, publication, self._places.noted)
        catalog.learn(connection, facts, self._relations, self._types, extents)
        used = (column.oid for table in facts for column in table.columns)
        if self._types.holds_money(used):
            self._types.money_scale = self._server.money_scale()

    def _describe(self, table: Table) -> Relation:
        facts = self._facts[table.schema, table.name]
        return catalog.describe(facts, self._relations, self._types)

    # --- reading ------------------------------------------------------------------------------

    def cascades(self) -> Cascades:
        """None: triggers carry them out, and the log has them."""
        return Cascades()

    def make_room(self, slot: str, checkpoint: Checkpoint) -> None:
        make_room(self._server, slot, checkpoint)

    @contextmanager
    def snapshot(self, slot: str) -> Iterator[PostgresSnapshot]:
        _check_names(self.name, slot=slot, publication=self.publication)
        with exported_snapshot(self._server, slot, timeout=self._slot_timeout) as (
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
                    (table.schema, table.name): self._describe(table) for table in self.tables
                },
                piece_rows=self._piece_rows,
                piece_bytes=self._piece_bytes,
            )

    def stream(self, after: str) -> PostgresStream:
        with self._server.errors("reading the catalogue"):
            self._learn(self._sql())
        self._watch_newcomers()
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
            with self._server.errors("marking the slot as read"):
                nudge(self._sql())
        except BaseException:
            stream.close()
            raise
        return stream

    def _watch_newcomers(self) -> None:
        """Partitions that join while the stream is open are asked about."""
        facts = [found for found in self._facts.values() if found.partitioned]
        roots = {found.oid: f"{found.schema}.{found.name}" for found in facts}
        noted = self._places.noted
        if noted is None:
            noted = frozenset(leaf.oid for found in facts for leaf in found.descendants)
        self._newcomers.close()
        self._newcomers = partitions.Newcomers(self._server, roots, noted)
        self._relations.newcomer = self._newcomers.ask if roots else None

    def _check_opened(self, after: str) -> None:
        """Whether the stream begins after that position, or silently further on: from now on nobody
        else can move the slot, and we have not yet confirmed anything."""
        with self._server.errors("checking the slot"):
            found = read_slot(self._sql(), self.slot)
        where = f"{self._server.where}, slot {self.slot}"
        if found is None:  # although we read it
            self._disconnect()
            raise Unreachable(f"{where}: another server sends the log than answers questions")
        moved = advanced(where, found, parse_lsn(after))
        if moved:
            raise PreflightRefusal([Problem(what=moved.what, where=where, cure=moved.cure)])

    def reread(self, relation: Relation, keys: Sequence[Key]) -> dict[Key, Row]:
        with self._server.errors(f"reading rows of {relation.name} again"):
            return reread(self._sql(), relation, keys)

    def mark(self) -> str:
        with self._server.errors("looking at the log"):
            end = written(self._sql())
            nudge(self._sql())
            return end

    def passed(self, position: str, mark: str) -> bool:
        return parse_lsn(position) >= parse_lsn(mark)

    # --- connections --------------------------------------------------------------------------

    def _sql(self) -> Connection:
        """The SQL connection, opened anew when it was lost."""
        if self._connection is None or self._connection.closed:
            self._connection = self._server.connect()
        return self._connection

    def close(self) -> None:
        self._newcomers.close()
        self._disconnect()

    def _disconnect(self) -> None:
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
