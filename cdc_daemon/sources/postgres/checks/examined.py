"""One source as its checks see it: everything is read when the first check asks, and then kept."""

from __future__ import annotations

import time
from functools import cached_property
from typing import Final

from psycopg import sql

from cdc_daemon.model.errors import CdcError
from cdc_daemon.model.findings import CannotLook
from cdc_daemon.model.position import Checkpoint, Phase, SourceIdentity
from cdc_daemon.sources.postgres.asked import Asked
from cdc_daemon.sources.postgres.catalog import TableFacts, read_tables
from cdc_daemon.sources.postgres.connection import SESSION, Connection, Server
from cdc_daemon.sources.postgres.fingerprint import fingerprint
from cdc_daemon.sources.postgres.publication import (
    Publication,
    as_published,
    membership,
    read_publication,
)
from cdc_daemon.sources.postgres.slot import Slot, left_behind, log_end, read_slot
from cdc_daemon.sources.postgres.system import System, identify_system

_SETTINGS: Final = (
    *SESSION,
    "hot_standby_feedback",
    "idle_replication_slot_timeout",
    "idle_session_timeout",
    "max_replication_slots",
    "max_slot_wal_keep_size",
    "max_wal_senders",
    "max_wal_size",
    "server_version",
    "synchronized_standby_slots",
    "synchronous_standby_names",
    "transaction_timeout",
    "wal_level",
    "wal_sender_timeout",
)
_READ_SETTINGS: Final = """
SELECT w.name, pg_catalog.current_setting(w.name, true), s.setting
FROM pg_catalog.unnest(%s::text[]) AS w (name)
LEFT JOIN pg_catalog.pg_settings s ON lower(s.name) = lower(w.name)
"""
_RECOVERY: Final = "SELECT pg_catalog.pg_is_in_recovery()"


class Examined:
    """A source that is being examined over an open SQL connection.

    ``checkpoint``: where a worker goes on from, None where that is not known; ``held``: a worker is
    at work now; ``rate``: the log's growth in bytes a second, as far as somebody has measured it,
    else it is measured over ``sample_seconds``.
    """

    def __init__(
        self,
        server: Server,
        connection: Connection,
        asked: Asked,
        checkpoint: Checkpoint | None,
        *,
        held: bool = False,
        sample_seconds: float = 0.0,
        rate: float | None = None,
    ) -> None:
        self.server = server
        self.connection = connection
        self.asked = asked
        self.checkpoint = checkpoint
        self.held = held
        self._rate = rate
        self._sample_seconds = sample_seconds

    # --- places -----------------------------------------------------------------------------------

    @property
    def at_slot(self) -> str:
        """The slot, for messages."""
        return f"{self.server.where}, slot {self.asked.slot}"

    @property
    def at_publication(self) -> str:
        """The publication, for messages."""
        return f"{self.server.where}, publication {self.asked.publication}"

    @property
    def role(self) -> str:
        """The daemon's role, quoted for SQL that cures something."""
        return sql.Identifier(self.connection.info.user).as_string()

    # --- the server -------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """The major version."""
        return self.connection.info.server_version // 10000

    @cached_property
    def settings(self) -> dict[str, str]:
        """Settings of our session as people write them; those that this version lacks are empty."""
        return {name: shown or "" for name, (shown, _) in self._settings.items()}

    def number(self, name: str) -> int:
        """A setting in its base unit (milliseconds, seconds or MB, as pg_settings has it)."""
        return int(self._settings[name][1] or 0)

    @cached_property
    def _settings(self) -> dict[str, tuple[str | None, str | None]]:
        rows = self.connection.execute(_READ_SETTINGS, (list(_SETTINGS),))
        return {name: (shown, raw) for name, shown, raw in rows}

    @cached_property
    def in_recovery(self) -> bool:
        """Whether the server is a standby."""
        row = self.connection.execute(_RECOVERY).fetchone()
        return bool(row and row[0])

    @cached_property
    def identified(self) -> System | CdcError:
        """What a replication connection says, or why there is none."""
        try:
            with self.server.errors("identifying the source"):
                return identify_system(self.server)
        except CdcError as error:
            return error

    @property
    def system(self) -> System:
        """The same. Raises CannotLook."""
        if isinstance(self.identified, CdcError):
            raise CannotLook("it needs a replication connection: see source.replication")
        return self.identified

    def rate(self) -> float | None:
        """The log's growth in bytes a second; None: nobody measured it and we need not."""
        if self._rate is None and self._sample_seconds:
            began, start = time.monotonic(), log_end(self.connection)
            time.sleep(self._sample_seconds)
            grown = log_end(self.connection) - start
            self._rate = max(0, grown) / (time.monotonic() - began)
        return self._rate

    # --- slot, publication, tables ----------------------------------------------------------------

    @cached_property
    def slot(self) -> Slot | None:
        """The slot, or None."""
        return read_slot(self.connection, self.asked.slot)

    @cached_property
    def publication(self) -> Publication | None:
        """The publication, or None."""
        return read_publication(self.connection, self.asked.publication)

    @cached_property
    def facts(self) -> dict[tuple[str, str], TableFacts]:
        """The mapped tables, as far as they exist."""
        return as_published(read_tables(self.connection, self.asked.tables), self.publication)

    @cached_property
    def memberships(self) -> dict[int, str]:
        """What makes each mapped table a member of the publication, by oid."""
        oids = [each.oid for each in self.facts.values()]
        return membership(self.connection, self.publication, oids)

    @cached_property
    def fingerprint(self) -> str:
        """The publication's identity; what partitions are called is learnt beside it."""
        self.asked.places.learn(self.facts)
        return fingerprint(self.connection, self.publication, self.asked.tables, self.facts)

    # --- the checkpoint ---------------------------------------------------------------------------

    @property
    def identity(self) -> SourceIdentity | None:
        """What the checkpoint's position belongs to; None: nothing was streamed yet."""
        known = self.checkpoint
        return known.identity if known is not None and known.phase is Phase.STREAMING else None

    @property
    def replaced(self) -> bool:
        """Whether the copy that comes next drops the slot and creates it anew."""
        return self.slot is not None and left_behind(self.slot, self.asked.slot, self.checkpoint)
