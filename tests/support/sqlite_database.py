"""An SQLite file as a control database, asked with the same SQL as one on PostgreSQL."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LEDGER = re.compile(r"\bcdc\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteDatabase:
    """Its file. Queries may say `cdc.table` for the ledger and `%s` for parameters."""

    path: Path

    @property
    def name(self) -> str:
        """What it is called."""
        return self.path.stem

    @property
    def dsn(self) -> str:
        """The target's url."""
        return f"sqlite:///{self.path}"

    def execute(self, statement: str, *params: Any) -> None:
        """Run one statement, or several where there are no params."""
        with closing(self.connect()) as connection:
            text = _translated(statement)
            if params:
                connection.execute(text, params)
            else:
                connection.executescript(text)

    def query(self, statement: str, *params: Any) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with closing(self.connect()) as connection:
            return connection.execute(_translated(statement), params).fetchall()

    def record(self, statement: str) -> dict[str, Any]:
        """The first row by column name."""
        with closing(self.connect()) as connection:
            connection.row_factory = sqlite3.Row
            return dict(connection.execute(_translated(statement)).fetchone())

    @contextmanager
    def held(self, how: str = "IMMEDIATE") -> Iterator[None]:
        """Somebody has a transaction open that keeps all others from writing."""
        with closing(self.connect()) as connection:
            connection.execute(f"BEGIN {how}")
            yield

    def connect(self) -> sqlite3.Connection:
        """A connection that commits each statement."""
        return sqlite3.connect(self.path, timeout=60, isolation_level=None)


def _translated(statement: str) -> str:
    return _LEDGER.sub("cdc_", statement).replace("%s", "?")
