"""One source as its checks see it: everything is read when the first check asks, and then kept.

The checks themselves ask nothing: they look at these facts, which a test may set as it likes.
"""

from __future__ import annotations

import time
from functools import cached_property
from typing import Final

from cdc_daemon.model.errors import Stop
from cdc_daemon.model.findings import CannotLook, Errors
from cdc_daemon.model.position import Checkpoint, Phase, SourceIdentity
from cdc_daemon.sources.mysql.asked import Ask, Asked
from cdc_daemon.sources.mysql.binlogs import (
    LogEnd,
    executed_set,
    last_of_domains,
    purged_of_domains,
    purged_set,
    read_end,
    read_files,
    reader_ids,
    replicates,
)
from cdc_daemon.sources.mysql.catalog import Name, TableFacts, known_names, read_tables
from cdc_daemon.sources.mysql.connection import SESSION
from cdc_daemon.sources.mysql.foreign_keys import ForeignKey, acting, read_foreign_keys
from cdc_daemon.sources.mysql.grants import Grants, read_grants
from cdc_daemon.sources.mysql.gtid import GtidSet, Triple
from cdc_daemon.sources.mysql.position import Position, parse_position
from cdc_daemon.sources.mysql.system import System, read_system, read_variables

_ENCRYPTED: Final = "SHOW SESSION STATUS LIKE 'Ssl_cipher'"
_CLOCK: Final = "SELECT UNIX_TIMESTAMP(NOW(6))"


class Examined:
    """A source that is being examined over an open SQL connection.

    ``where``: the source, for messages. ``errors``: turns the driver's errors into ours.
    ``checkpoint``: where a worker goes on from, None where that is not known; ``held``: a worker is
    at work now. ``rate``: the log's growth in bytes a second, as far as somebody has measured it,
    else it is measured over ``sample_seconds``. ``loopback``, ``verified``: whether the connection
    stays on this machine, and whether the server's certificate and name were checked.
    """

    def __init__(
        self,
        where: str,
        ask: Ask,
        errors: Errors,
        asked: Asked,
        checkpoint: Checkpoint | None,
        *,
        held: bool = False,
        sample_seconds: float = 0.0,
        rate: float | None = None,
        loopback: bool = False,
        verified: bool = False,
    ) -> None:
        self.where = where
        self.ask = ask
        self.errors = errors
        self.asked = asked
        self.checkpoint = checkpoint
        self.held = held
        self.loopback = loopback
        self.verified = verified
        self._rate = rate
        self._sample_seconds = sample_seconds

    def at(self, table: Name) -> str:
        """A table, for messages."""
        return f"{self.where}, table {'.'.join(table)}"

    # --- the server -------------------------------------------------------------------------------

    @cached_property
    def system(self) -> System:
        """Version and settings."""
        return read_system(self.ask)

    @cached_property
    def session(self) -> dict[str, str]:
        """Variables of our session, those that the daemon sets."""
        return read_variables(self.ask, SESSION, "SESSION")

    @cached_property
    def grants(self) -> Grants:
        """What the session may do."""
        return read_grants(self.ask)

    @cached_property
    def account(self) -> str:
        """The session's account, for SQL that cures something."""
        [(found,)] = self.ask("SELECT CURRENT_USER()")
        user, _, host = str(found).rpartition("@")
        return f"'{user}'@'{host}'"

    @property
    def sees_replication(self) -> bool:
        """Whether the account is told that a server is a replica."""
        wanted = "REPLICA MONITOR" if self.system.mariadb else "REPLICATION CLIENT"
        return self.grants.may(wanted) or self.grants.everything

    @cached_property
    def replicates(self) -> bool:
        """Whether the server is a replica; to be asked by who sees it."""
        return replicates(self.ask, self.system)

    @cached_property
    def readers(self) -> list[int]:
        """The server ids of those who read the log."""
        return reader_ids(self.ask, self.system)

    @cached_property
    def encrypted(self) -> bool:
        """Whether the connection is."""
        return any(cipher for _, cipher in self.ask(_ENCRYPTED))

    @cached_property
    def clock(self) -> tuple[float, float, float]:
        """Our clock before and after the question, and the server's (seconds since 1970)."""
        asked = time.time()
        [(said,)] = self.ask(_CLOCK)
        return asked, time.time(), float(said)

    # --- the log ----------------------------------------------------------------------------------

    @cached_property
    def end(self) -> LogEnd:
        """Where the log ends. Raises CannotLook."""
        found = read_end(self.ask, self.system)
        if found is None:
            raise CannotLook("the server writes no binary log: see source.binlog")
        return found

    @cached_property
    def files(self) -> dict[str, int]:
        """The log's files with their bytes, the oldest first."""
        return read_files(self.ask)

    def rate(self) -> float | None:
        """The log's growth in bytes a second; None: nobody measured it and we need not."""
        if self._rate is None and self._sample_seconds:
            began, start = time.monotonic(), sum(read_files(self.ask).values())
            time.sleep(self._sample_seconds)
            grown = sum(read_files(self.ask).values()) - start
            self._rate = max(0, grown) / (time.monotonic() - began)
        return self._rate

    @cached_property
    def executed(self) -> GtidSet:
        """MySQL: every transaction that the server has."""
        return executed_set(self.ask)

    @cached_property
    def purged(self) -> GtidSet:
        """MySQL: those that its log has no more."""
        return purged_set(self.ask)

    @cached_property
    def last_of_domains(self) -> dict[int, Triple]:
        """MariaDB: where its log ends."""
        return last_of_domains(self.ask)

    @cached_property
    def purged_of_domains(self) -> dict[int, Triple]:
        """MariaDB: what its log has no more ends there."""
        oldest = next(iter(self.files), None)
        return purged_of_domains(self.ask, oldest) if oldest else {}

    # --- tables -----------------------------------------------------------------------------------

    @cached_property
    def facts(self) -> dict[Name, TableFacts]:
        """The mapped tables, as far as they exist."""
        return read_tables(self.ask, [(table.schema, table.name) for table in self.asked.tables])

    @cached_property
    def foreign_keys(self) -> list[ForeignKey]:
        """The foreign keys of mapped tables, and those by which their parents change."""
        return read_foreign_keys(self.ask, self.facts)

    @property
    def schemas(self) -> frozenset[str]:
        """Where the tables are whose changes are read: the mapped ones, and both ends of each key
        that is followed."""
        keys = acting(self.foreign_keys) if self.asked.cascades == "follow" else []
        return self.asked.schemas | {end[0] for key in keys for end in (key.child, key.parent)}

    @property
    def logs_cascades(self) -> bool:
        """Whether rows that foreign keys change are in the log: not surely on a replica, where
        changes from an older primary are carried out as they were there."""
        return self.system.logs_cascades and not (self.sees_replication and self.replicates)

    @cached_property
    def known(self) -> list[str]:
        """``schema.table`` of whatever the session may see."""
        return known_names(self.ask)

    # --- the checkpoint ---------------------------------------------------------------------------

    @property
    def streaming(self) -> bool:
        """Whether the checkpoint has a position to go on from."""
        return self.checkpoint is not None and self.checkpoint.phase is Phase.STREAMING

    @cached_property
    def position(self) -> Position | None:
        """Where the checkpoint stands; None: nowhere yet. Raises CannotLook for what is none."""
        known = self.checkpoint
        if known is None or not self.streaming or known.position is None:
            return None
        try:
            return parse_position(known.position)
        except Stop:
            raise CannotLook(
                "the checkpoint's position is damaged: see source.checkpoint"
            ) from None

    @property
    def identity(self) -> SourceIdentity | None:
        """What the checkpoint's position belongs to; None: nothing was streamed yet."""
        return self.checkpoint.identity if self.checkpoint and self.streaming else None
