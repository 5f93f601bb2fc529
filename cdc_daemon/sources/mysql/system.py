"""Which server this is: MySQL or MariaDB, its version, its settings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from cdc_daemon.sources.mysql.asked import Ask

_VERSION: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_VARIABLES: Final = "SHOW {} VARIABLES WHERE variable_name IN ({})"

VARIABLES: Final = (
    "binlog_alter_two_phase",
    "binlog_checksum",
    "binlog_expire_logs_auto_purge",
    "binlog_expire_logs_seconds",
    "binlog_format",
    "binlog_row_image",
    "binlog_row_metadata",
    "binlog_row_value_options",
    "binlog_transaction_compression",
    "enforce_gtid_consistency",
    "expire_logs_days",
    "gtid_mode",
    "gtid_slave_pos",
    "gtid_strict_mode",
    "innodb_flush_log_at_trx_commit",
    "innodb_native_foreign_keys",
    "log_bin",
    "log_bin_compress",
    "log_replica_updates",
    "log_slave_updates",
    "max_binlog_total_size",
    "read_only",
    "server_id",
    "server_uuid",
    "super_read_only",
    "sync_binlog",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A server. ``shown``: its version in its own words; ``version``: major, minor, patch.

    ``variables``: global ones by name; those that it does not have are left out.
    """

    mariadb: bool
    version: tuple[int, int, int]
    shown: str
    variables: Mapping[str, str]

    @property
    def title(self) -> str:
        """For messages."""
        return f"{'MariaDB' if self.mariadb else 'MySQL'} {'.'.join(map(str, self.version))}"

    def on(self, *names: str) -> bool:
        """Whether a variable is ON; of several names the first that there is."""
        return self.value(*names).upper() in ("ON", "1", "YES")

    def value(self, *names: str) -> str:
        """A variable's value; of several names the first that there is; empty: there is none."""
        return next((self.variables[name] for name in names if name in self.variables), "")

    def number(self, *names: str) -> float:
        """The same as a number; 0 for none."""
        return float(self.value(*names) or 0)

    @property
    def gtids(self) -> bool:
        """Whether every transaction in the log has a GTID."""
        return self.mariadb or self.value("gtid_mode").upper() == "ON"

    @property
    def identity(self) -> str:
        """By which it is told from other servers."""
        return self.value("server_uuid") or f"server_id {self.value('server_id')}"

    @property
    def logs_cascades(self) -> bool:
        """Whether rows that a foreign key changes are in the log (MySQL from 9.6 on)."""
        return "innodb_native_foreign_keys" in self.variables and not self.on(
            "innodb_native_foreign_keys"
        )


def read_system(ask: Ask) -> System:
    """The server of this connection."""
    [(shown,)] = ask("SELECT @@version")
    version = _VERSION.search(shown)
    major, minor, patch = map(int, version.groups()) if version else (0, 0, 0)
    return System(
        mariadb="mariadb" in shown.lower(),
        version=(major, minor, patch),
        shown=shown,
        variables=read_variables(ask, VARIABLES),
    )


def read_variables(ask: Ask, names: Iterable[str], scope: str = "GLOBAL") -> dict[str, str]:
    """Variables by name, those that there are."""
    listed = ", ".join(f"'{name}'" for name in names)
    return {name.lower(): value for name, value in ask(_VARIABLES.format(scope, listed))}
