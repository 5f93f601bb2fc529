"""Watching a target from outside: how far it is, and how long a commit takes to show there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import psycopg
from psycopg.rows import TupleRow

from benchmarks.workload import SINGLE_COUNT, Backlog, single_row

APPLICATION = "benchmark probe"
PERIOD = 0.01
LATENCY_PERIOD = 0.001
MOST_AT_FIRST = 0.1


class BenchmarkError(Exception):
    """A figure cannot be taken."""


@dataclass(frozen=True, slots=True)
class Sight:
    """How many rows were there, and when (monotonic seconds)."""

    time: float
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The first and the last probe that saw rows of a backlog."""

    first: Sight
    last: Sight
    total: int

    @property
    def valid(self) -> bool:
        """Whether the first probe saw little enough for the rest to be a steady state."""
        return self.first.rows <= self.total * MOST_AT_FIRST

    @property
    def rows(self) -> int:
        """Rows between the two."""
        return self.last.rows - self.first.rows

    @property
    def rate(self) -> float:
        """Rows per second between the two."""
        return self.rows / max(self.last.time - self.first.time, PERIOD)


def connect(dsn: str) -> psycopg.Connection[TupleRow]:
    """A connection that says of itself that it only watches."""
    return psycopg.connect(dsn, autocommit=True, application_name=APPLICATION)


def watch(
    count: Callable[[], int],
    backlog: Backlog,
    *,
    at_first: Callable[[], None] = lambda: None,
    check: Callable[[], None] = lambda: None,
    patience: float = 120.0,
) -> Progress:
    """Probe every 10 ms until the backlog's goal is reached.

    `at_first` is called once, after the first probe that saw anything of it. `check` raises when it
    is in vain to wait. Raises BenchmarkError after `patience` seconds without progress.
    """
    first: Sight | None = None
    last = Sight(time.perf_counter(), 0)
    total = backlog.goal - backlog.base
    while last.rows < total:
        rows = min(count() - backlog.base, total)
        now = time.perf_counter()
        if rows > last.rows:
            last = Sight(now, rows)
            if first is None:
                first = last
                at_first()
        elif now > last.time + patience:
            message = f"no progress within {patience:g} s; {last.rows} of {total} rows are there"
            raise BenchmarkError(message)
        else:
            check()
        time.sleep(max(0.0, now + PERIOD - time.perf_counter()))
    return Progress(first=first or last, last=last, total=total)


Writing = AbstractContextManager[Callable[[int], None]]
"""A session that inserts the row with an id, and has committed it when it returns."""


def latencies(
    writing: Writing,
    target: str,
    *,
    after: int,
    rate: float,
    number: int,
    count: str = SINGLE_COUNT,
    patience: float = 30.0,
) -> list[float]:
    """Milliseconds from "COMMIT returned" to "row seen", of `number` rows with ids past `after`.

    `count` asks the target for the greatest id.
    """
    seen: list[float] = []
    enough = threading.Event()
    gave_up = threading.Event()

    def poll() -> None:
        with connect(target) as connection:
            while len(seen) < number and not gave_up.is_set():
                started = time.perf_counter()
                found = connection.execute(count.encode(), prepare=True).fetchone()
                now = time.perf_counter()
                seen.extend([now] * ((found[0] if found else 0) - after - len(seen)))
                time.sleep(max(0.0, started + LATENCY_PERIOD - time.perf_counter()))
        enough.set()

    poller = threading.Thread(target=poll, name="latency-poll", daemon=True)
    poller.start()
    try:
        committed = _write(writing, after, rate, number)
        if not enough.wait(patience):
            raise BenchmarkError(f"{number - len(seen)} rows were not seen within {patience:g} s")
    finally:
        gave_up.set()
        poller.join()
    return [max(0.0, s - c) * 1000 for s, c in zip(seen, committed, strict=False)]


def _write(writing: Writing, after: int, rate: float, number: int) -> list[float]:
    """Insert one row a transaction at a steady rate; when each COMMIT returned."""
    committed: list[float] = []
    with writing as insert:
        start = time.perf_counter()
        for ordinal in range(number):
            time.sleep(max(0.0, start + ordinal / rate - time.perf_counter()))
            insert(after + ordinal + 1)
            committed.append(time.perf_counter())
    return committed


@contextmanager
def singles(source: str) -> Iterator[Callable[[int], None]]:
    """Inserts one row a transaction into a PostgreSQL source."""
    insert = single_row().encode()
    with connect(source) as connection:

        def write(number: int) -> None:
            connection.execute(insert, (number,), prepare=True)

        yield write
