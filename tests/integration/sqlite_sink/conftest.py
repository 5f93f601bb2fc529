"""A control database in a file, and a sink that holds it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cdc_daemon.sinks.sqlite import SqliteSink, database
from tests.contract.shapes import ENTITIES, LAYOUTS
from tests.contract.sqlite_target import SqliteTarget


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for a lock."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)


@pytest.fixture
def target(tmp_path: Path) -> Iterator[SqliteTarget]:
    """A control database of one test's own."""
    with closing(SqliteTarget(tmp_path / "control.db", ENTITIES, LAYOUTS)) as made:
        yield made


@pytest.fixture
def sink(target: SqliteTarget) -> SqliteSink:
    """A sink that holds it."""
    made = target.sink()
    made.acquire()
    return made
