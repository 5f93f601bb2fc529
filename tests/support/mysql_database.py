"""A database on MySQL or MariaDB as a control database, asked with the same SQL as PostgreSQL."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from cdc_daemon.demo.mysql_family import FamilyServer

_LEDGER = re.compile(r"\bcdc\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class MysqlDatabase:
    """One database of a private server. Queries may say `cdc.table` for the ledger."""

    server: FamilyServer
    name: str
    user: str = "root"
    password: str = ""

    @property
    def dsn(self) -> str:
        """The target's url."""
        account = f"{self.user}:{self.password}" if self.password else self.user
        return f"mysql://{account}@127.0.0.1:{self.server.port}/{self.name}"

    def execute(self, statement: str, *params: Any) -> None:
        """Run one statement, or several where there are no params."""
        self.server.execute(_translated(statement), *params, database=self.name)

    def query(self, statement: str, *params: Any) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        return self.server.query(_translated(statement), *params, database=self.name)


def _translated(statement: str) -> str:
    return _LEDGER.sub("cdc_", statement)
