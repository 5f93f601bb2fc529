"""One source with both consumers at rest: a backlog is built, then each runs through it in turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol, Self

from benchmarks.cpu import Cpu, cpu_seconds, peak_mb
from benchmarks.daemon import Daemon
from benchmarks.native import Native
from benchmarks.probe import BenchmarkError, Progress, connect, latencies, watch
from benchmarks.workload import Backlog, Workload
from cdc_daemon.demo.server import PrivatePostgres

SERVER_SETTINGS: dict[str, str | int] = {
    "shared_buffers": "256MB",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",  # tables are vacuumed between the runs instead
}
_SOURCE_DB = "erp"
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


class Course:
    """Fresh databases on two servers, for one pair of every figure.

    Leaving it drops them; after an error they are left to the servers' end, and only what runs
    outside the servers is cleared away.
    """

    def __init__(self, source: PrivatePostgres, target: PrivatePostgres) -> None:
        self._source = source
        self.native = Native(source, _SOURCE_DB, target)
        self.daemon = Daemon(source, _SOURCE_DB, target)
        self._sides: tuple[Side, ...] = (self.native, self.daemon)
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for side in self._sides:
                stack.callback(side.close)
            self._source.create_database(_SOURCE_DB)
            self.workload = Workload(self._source.dsn(_SOURCE_DB))
            stack.callback(self.workload.close)
            self.workload.create()
            for side in self._sides:
                side.prepare()
                self.settle(side)  # the first copy may show this one
                self.settle(side)  # but only the stream can show what came after it
                side.stop()
            self._open = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._open.close()
        if kind is None:
            for side in self._sides:
                side.drop()
            self._source.drop_database(_SOURCE_DB)

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
        source = self._source.dsn(_SOURCE_DB)
        with self.running(side):
            self.settle(side)
            found = latencies(source, side.dsn, after=after, rate=rate, number=warm_up + number)
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
            connection.execute("VACUUM (ANALYZE) item, single, marker")
            connection.execute("CHECKPOINT")
        self._source.execute("CHECKPOINT")

    def _cpu(self, side: Side) -> Cpu:
        slot = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s AND active"
        senders = [pid for (pid,) in self._source.execute(slot, (side.slot,))]
        if not senders:
            raise BenchmarkError(f"nobody reads the slot {side.slot}")
        return Cpu(
            walsender=cpu_seconds(senders),
            worker=cpu_seconds([side.worker()]),
            backend=cpu_seconds(side.backends()),
        )
