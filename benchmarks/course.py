"""One source with both consumers at rest: a backlog is built, then each runs through it in turn."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol, Self

from benchmarks.cpu import Cpu, cpu_seconds, peak_mb
from benchmarks.probe import BenchmarkError, Progress, connect, latencies, singles, watch
from benchmarks.workload import Backlog, Workload
from cdc_daemon.demo.server import PrivatePostgres

SERVER_SETTINGS: dict[str, str | int] = {
    "shared_buffers": "256MB",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",  # tables are vacuumed between the runs instead
}
_WARM_UP_SECONDS = 1.0


class Side(Protocol):
    """A consumer of the source's log: native replication or the daemon."""

    name: str
    slot: str
    dsn: str  # of the database it writes to

    def prepare(self) -> None: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def check(self) -> None: ...
    def worker(self) -> int: ...
    def backends(self) -> list[int]: ...
    def drop(self) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Lap:
    """How one side ran through a backlog."""

    progress: Progress
    cpu: Cpu
    peak_mb: float

    @property
    def rate(self) -> float:
        """Rows per second."""
        return self.progress.rate


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the log is, and where it is applied."""

    source: PrivatePostgres
    target: PrivatePostgres


class Course:
    """Fresh databases on two servers, for one pair of every figure: consumers of one database.

    Leaving it drops them; after an error they are left to the servers' end, and only what runs
    outside the servers is cleared away.
    """

    def __init__(
        self, servers: Servers, dbname: str, tables: Sequence[str], sides: Sequence[Side]
    ) -> None:
        self.servers, self._dbname = servers, dbname
        self._tables = tables
        self.first_start: dict[str, float] = {}  # seconds, with the copy of empty tables
        self._sides = {side.name: side for side in sides}
        self._open = ExitStack()

    def side(self, name: str) -> Side:
        """One of its consumers."""
        return self._sides[name]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for side in self._sides.values():
                stack.callback(side.close)
            self.servers.source.create_database(self._dbname)
            self.workload = Workload(self.servers.source.dsn(self._dbname))
            stack.callback(self.workload.close)
            self.workload.create(self._tables)
            for side in self._sides.values():
                side.prepare()
                self.first_start[side.name] = self.start_seconds(side)
            self._open = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._open.close()
        if kind is None:
            for side in self._sides.values():
                side.drop()
            self.servers.source.drop_database(self._dbname)

    def start_seconds(self, side: Side) -> float:
        """Start a side that is at rest, and stop it: seconds until it follows the log."""
        started = time.perf_counter()
        side.start()
        self.settle(side)  # a first copy may show this one
        self.settle(side)  # but only the stream can show what came after it
        passed = time.perf_counter() - started
        side.stop()
        return passed

    def lap(self, side: Side, backlog: Backlog, patience: float = 120.0) -> Lap:
        """Start one side, measure how it works off the backlog, and stop it."""
        self._tidy(side)
        before: list[tuple[int, Cpu]] = []
        with self.running(side), connect(side.dsn) as connection:

            def count() -> int:
                found = connection.execute(backlog.count.encode(), prepare=True).fetchone()
                return int(found[0]) if found else 0

            progress = watch(
                count,
                backlog,
                at_first=lambda: before.append((side.worker(), self._cpu(side))),
                check=side.check,
                patience=patience,
            )
            worker, earlier = before[0]
            if side.worker() != worker:
                raise BenchmarkError(f"{side.name}: the worker was started again on the way")
            used = self._cpu(side).per_million(earlier, progress.rows)
            return Lap(progress=progress, cpu=used, peak_mb=peak_mb(worker))

    def latencies(self, side: Side, rate: float, seconds: float) -> list[float]:
        """Milliseconds from commit to sight of one side, of transactions at a steady rate."""
        warm_up, number = round(rate * _WARM_UP_SECONDS), round(rate * seconds)
        after, self.workload.singles = (
            self.workload.singles,
            self.workload.singles + warm_up + number,
        )
        source = self.servers.source.dsn(self._dbname)
        with self.running(side):
            self.settle(side)
            found = latencies(
                singles(source), side.dsn, after=after, rate=rate, number=warm_up + number
            )
            return found[warm_up:]

    @contextmanager
    def running(self, side: Side) -> Iterator[None]:
        """One side runs; at the end it has caught up, and its slot lets go of the log."""
        side.start()
        yield
        self.settle(side)
        side.stop()

    def settle(self, side: Side) -> None:
        """Wait until the side shows all there is."""
        last = self.workload.bump()
        with connect(side.dsn) as connection:

            def count() -> int:
                found = connection.execute(last.count.encode()).fetchone()
                return int(found[0]) if found else 0

            watch(count, last, check=side.check)

    def _tidy(self, side: Side) -> None:
        """The same state before each lap: rows visible to all, nothing left to write back."""
        with connect(side.dsn) as connection:
            connection.execute("VACUUM (ANALYZE)")
            connection.execute("CHECKPOINT")
        self.servers.source.execute("CHECKPOINT")

    def _cpu(self, side: Side) -> Cpu:
        slot = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s AND active"
        senders = [pid for (pid,) in self.servers.source.execute(slot, (side.slot,))]
        if not senders:
            raise BenchmarkError(f"nobody reads the slot {side.slot}")
        return Cpu(
            walsender=cpu_seconds(senders),
            worker=cpu_seconds([side.worker()]),
            backend=cpu_seconds(side.backends()),
        )
