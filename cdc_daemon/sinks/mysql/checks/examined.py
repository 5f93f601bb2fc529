"""A control database as its checks see it: read when the first check asks, and then kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Final

from cdc_daemon.config.mysql_address import mysql_place
from cdc_daemon.model.effects import Layout
from cdc_daemon.model.entities import Entity
from cdc_daemon.model.errors import Problem
from cdc_daemon.sinks.mysql.checkpoint import version_problem
from cdc_daemon.sinks.mysql.live import LiveTable, live_tables
from cdc_daemon.sinks.mysql.names import PREFIX
from cdc_daemon.sinks.mysql.rights import RIGHTS, used_tables
from cdc_daemon.sinks.mysql.session import Session

_SETTINGS: Final = (
    "binlog_format",
    "character_set_client",
    "collation_connection",
    "innodb_doublewrite",
    "innodb_flush_log_at_trx_commit",
    "innodb_read_only",
    "innodb_rollback_on_timeout",
    "log_bin",
    "max_allowed_packet",
    "read_only",
    "sql_mode",
    "super_read_only",
    "sync_binlog",
    "time_zone",
    "transaction_isolation",
    "transaction_read_only",
    "tx_isolation",
    "tx_read_only",
)
_POWERS: Final = """
    SELECT PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES
     WHERE REPLACE(GRANTEE, '''', '') = CURRENT_USER()
    UNION
    SELECT PRIVILEGE_TYPE FROM information_schema.SCHEMA_PRIVILEGES
     WHERE TABLE_SCHEMA = DATABASE() AND REPLACE(GRANTEE, '''', '') = CURRENT_USER()"""


class Examined:
    """A control database that is being examined over an open session with our settings."""

    def __init__(
        self,
        session: Session,
        conninfo: Mapping[str, str],
        entities: Mapping[str, Entity],
        layouts: Sequence[Layout],
    ) -> None:
        self.session = session
        self.conninfo = conninfo
        self.entities = entities
        self.layouts = layouts

    @property
    def where(self) -> str:
        """The database, for messages."""
        return f"target ({mysql_place(self.conninfo)})"

    @cached_property
    def settings(self) -> dict[str, str]:
        """Settings of our session; those that this server lacks are empty."""
        names = ", ".join(f"'{name}'" for name in _SETTINGS)
        rows = self.session.run(f"SHOW SESSION VARIABLES WHERE Variable_name IN ({names})").rows
        found = {(name or b"").decode(): (value or b"").decode() for name, value in rows}
        for new, old in (
            ("transaction_isolation", "tx_isolation"),
            ("transaction_read_only", "tx_read_only"),
        ):
            found[new] = found.get(new) or found.get(old, "")
        return {name: found.get(name, "") for name in _SETTINGS}

    @cached_property
    def ledger(self) -> Problem | None:
        """What is wrong with the ledger as a whole."""
        return version_problem(self.session)

    @cached_property
    def names(self) -> list[str]:
        """Every table that a worker uses; only the entities' where there is no ledger."""
        found = used_tables(self.entities, self.layouts)
        return [name for name in found if self.ledger is None or not name.startswith(PREFIX)]

    @cached_property
    def tables(self) -> Mapping[str, LiveTable]:
        """Those of them that exist, as they are."""
        return live_tables(self.session, self.names)

    @cached_property
    def powers(self) -> frozenset[str]:
        """What the account was granted on the whole server, as far as that is told directly."""
        rows = self.session.run(_POWERS).rows
        return frozenset((row[0] or b"").decode() for row in rows)

    @cached_property
    def may_everything(self) -> bool:
        """Whether the account may write every table because of what it was granted above them."""
        return self.powers.issuperset(RIGHTS)
