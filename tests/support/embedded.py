"""The ERP database of `erp.py` beside an embedded control database: one SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdc_daemon.sources.postgres.lsn import parse_lsn
from tests.support.databases import Database
from tests.support.erp import SAME, Erp
from tests.support.real_daemon import RealDaemon
from tests.support.waiting import until


@dataclass(frozen=True, slots=True)
class SqliteFile:
    """A control database as anybody with the sqlite3 shell sees it."""

    path: Path

    @property
    def dsn(self) -> str:
        """Its address in a configuration."""
        return f"sqlite:///{self.path}"

    def query(self, statement: str, *params: Any) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with closing(sqlite3.connect(self.path, timeout=10)) as connection:
            return connection.execute(statement, params).fetchall()

    def execute(self, statement: str, *params: Any) -> None:
        """Run one statement and commit."""
        with closing(sqlite3.connect(self.path, timeout=10, isolation_level=None)) as connection:
            connection.execute(statement, params)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Somebody holds the only write lock."""
        with closing(sqlite3.connect(self.path, timeout=10, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            yield
            connection.execute("ROLLBACK")


class EmbeddedErp(Erp):
    """`Erp` whose control database is a file."""

    def __init__(self, source: Database, file: SqliteFile, folder: Path) -> None:
        self.file = file
        super().__init__(source, file, folder)  # type: ignore[arg-type]

    def caught_up(self, daemon: RealDaemon | None = None, seconds: float = 60.0) -> None:
        ((end,),) = self.source.query("SELECT pg_current_wal_insert_lsn()::text")
        self.source.execute("SELECT pg_logical_emit_message(true, 'test', 'wake')")

        def reached() -> bool:
            assert daemon is None or daemon.running, daemon.log
            found = self.checkpoint()
            streams = found["phase"] == "streaming" and found["position"] is not None
            return streams and parse_lsn(found["position"]) >= parse_lsn(end)

        try:
            until(reached, seconds=seconds, what="the checkpoint reaches the source's position")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{daemon.log if daemon is not None else ''}") from None

    def same_content(self) -> None:
        for entity, (there, here) in SAME.items():
            wanted = sorted(map(_texts, self.source.query(there)))
            found = sorted(map(_texts, self.file.query(here)))
            assert found == wanted, f"{entity}: {self._difference(there, here)}"

    def same_counters(self) -> None:
        wanted = self.source.query("SELECT count(*), coalesce(sum(changes), 0) FROM journal")
        found = self.checkpoint()
        assert [(found["transactions"], found["changes"])] == wanted

    def parked(self) -> list[tuple[Any, ...]]:
        return self.file.query(
            "SELECT error_code, operation, state FROM cdc_failure"
            " WHERE state = 'parked' ORDER BY id"
        )

    def references(self) -> int:
        names = self.file.query("SELECT name FROM sqlite_schema WHERE name LIKE 'cdc_reference%'")
        assert names, "no mapping keeps references"
        return sum(self.file.query(f'SELECT count(*) FROM "{name}"')[0][0] for (name,) in names)

    def checkpoint(self) -> dict[str, Any]:
        with closing(sqlite3.connect(self.file.path, timeout=10)) as connection:
            connection.row_factory = sqlite3.Row
            return dict(connection.execute("SELECT * FROM cdc_checkpoint").fetchone())


def _texts(row: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple("\0" if value is None else str(value) for value in row)
