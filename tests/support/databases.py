"""A database of one test's own, on a private server."""

from dataclasses import dataclass
from typing import Any

from cdc_daemon.demo.server import PrivatePostgres


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A fresh database; the fixtures `database` and `database_factory` make and drop it."""

    server: PrivatePostgres
    name: str

    @property
    def dsn(self) -> str:
        """The superuser's libpq URI."""
        return self.server.dsn(self.name)

    def execute(self, statement: str, *params: Any) -> None:
        """Run SQL as superuser (autocommit); without params it may be several statements."""
        self.server.execute(statement, params or None, dbname=self.name)

    def query(self, statement: str, *params: Any) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        return self.server.execute(statement, params or None, dbname=self.name)
