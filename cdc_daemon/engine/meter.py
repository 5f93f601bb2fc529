"""What the engine counts, once per batch and never per row, and how it is reported.

Every field of a :class:`Meter` has one writing thread (``received``, ``log_read``: the reader; the
rest: the applier), so it needs no lock; a third thread may take a snapshot.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cdc_daemon import telemetry
from cdc_daemon.engine.kept_log import KeptLog
from cdc_daemon.engine.status import (
    APPLY_BUCKETS,
    AT_RISK,
    EVENTS,
    FILTERS,
    IDLE_AFTER,
    LATENCY_BUCKETS,
    OPERATIONS,
    STALLED_AFTER,
    Histogram,
    State,
    WorkerStatus,
)
from cdc_daemon.engine.tally import FailureTally
from cdc_daemon.model.changes import Batch, Begin
from cdc_daemon.model.findings import Finding
from cdc_daemon.model.ports import SlotState


class Meter:
    """What the engine counts. ``entities`` names the entity of each mapping, so that every counter
    exists at 0 before its first row.
    """

    def __init__(self, pipeline: str, entities: Mapping[str, str] | None = None) -> None:
        self.pipeline = pipeline
        self.changed = threading.Event()  # set when the state changed: report at once
        self.connected = False
        self.epoch = 0
        self.verification: dict[str, Any] | None = None
        self.queue_bytes: Callable[[], int] = lambda: 0  # replaced by the queue's owner
        self.queue_capacity = 0
        self._entities = dict(entities or {})
        self._phase = State.STARTING
        self._started = time.time()
        self._reconnects = 0
        self._lost = False
        self._kept = KeptLog()
        self._findings: tuple[dict[str, str], ...] = ()
        self._read = 0  # the reader's share of progress
        self._event_time: float | None = None
        self._received = [0, 0]  # transactions, changes
        self._events = dict.fromkeys(EVENTS, 0)
        self._done = 0  # the applier's share of progress
        self._loops = 0
        self._read_at = self._done_at = self._in_hand_at = time.monotonic()
        self._patience = 0.0
        self._position: str | None = None
        self._commit_time: float | None = None
        self._checkpoint_time: float | None = None
        self._committed_at = time.monotonic()
        self._oldest: float | None = None  # commit time of the oldest transaction in hand
        self._applied_totals = [0, 0, 0]  # transactions, changes, commits
        self._applied = {
            (mapping, entity, op): 0
            for mapping, entity in self._entities.items()
            for op in OPERATIONS
        }
        self._filtered = {(mapping, reason): 0 for mapping in self._entities for reason in FILTERS}
        self._cascaded = 0
        self._failed: dict[str, int] = {}
        self.failures = FailureTally(self._entities)
        self._retries = 0
        self._retrying = self._tripped = False
        self._snapshot = (0, 0)
        self._error: tuple[str, float | None] = ("", None)
        self._durations = _Buckets(APPLY_BUCKETS)
        self._latencies = _Buckets(LATENCY_BUCKETS)

    # --- said by the reader thread ------------------------------------------------------------

    def received(self, batch: Batch) -> None:
        """The log was read; also for an empty batch, which attests that the source is there."""
        self._received[0] += batch.transactions
        self._received[1] += batch.changes
        for run in batch.runs:
            if not run.relation.mapped:
                continue
            self._events[run.operation.value] += len(run)
        self.log_read()

    def log_read(self) -> None:
        """The source answered, with or without changes."""
        self._read += 1
        self._event_time = time.time()
        self._read_at = time.monotonic()

    # --- said by the applier ------------------------------------------------------------------

    def phase(self, state: State) -> None:
        """What the pipeline does now: starting, snapshotting, streaming or stopped."""
        self._phase = state
        self.changed.set()

    def opened(self) -> None:
        """The log can be read: at first, or again after a loss."""
        self._reconnects += self._lost
        self._lost, self.connected = False, True

    def lost(self) -> None:
        """What was open broke off."""
        self._lost, self.connected = self._lost or self.connected, False

    def slot(self, state: SlotState | None) -> None:
        """What the source keeps of its log for us, and how far we are behind; None: unknown."""
        self._kept.note(state, self._position, time.monotonic())

    def found(self, findings: Sequence[Finding]) -> None:
        """What checks find amiss now, beyond what ends the worker."""
        self._findings = tuple(finding.to_dict() for finding in findings)

    @property
    def log_rate(self) -> float | None:
        """How fast the source's log grows, in bytes a second; None: not known yet."""
        return self._kept.growth

    def applying(self, begins: Sequence[Begin]) -> None:
        """A batch is in hand; until ``committed``, its first transaction defines the lag."""
        if begins and self._oldest is None:
            self._in_hand_at = time.monotonic()
            self._oldest = begins[0][2] / 1e6

    def committed(
        self,
        position: str,
        *,
        begins: Sequence[Begin] = (),
        commit_time: int | None = None,
        transactions: int = 0,
        changes: int = 0,
        counts: Mapping[tuple[str, str], int] | None = None,
        seconds: float = 0.0,
    ) -> None:
        """A unit of work was committed.

        ``begins`` in log order give the latency of each transaction; ``counts`` is
        ``Outcome.counts``; ``seconds`` is how long applying took.
        """
        now = time.time()
        self._applied_totals[0] += transactions
        self._applied_totals[1] += changes
        self._applied_totals[2] += 1
        self.applied(counts or {})
        if begins:
            self._latencies.observe_times([begin[2] for begin in begins], now)
        if transactions:
            self._committed_at = time.monotonic()
            self._durations.observe(seconds)
        if commit_time is not None:
            self._commit_time = commit_time / 1e6
        self.checkpointed(position)

    def applied(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Rows that a committed unit wrote: ``Outcome.counts``."""
        for (mapping, kind), rows in counts.items():
            key = (mapping, self._entities.get(mapping, ""), kind)
            self._applied[key] = self._applied.get(key, 0) + rows

    def checkpointed(self, position: str) -> None:
        """The checkpoint row holds this position (idle progress; ``committed`` implies it)."""
        self._position = position
        self._oldest = None
        self._checkpoint_time = time.time()
        if self._retrying:
            self._retrying = self._tripped = False
            self.changed.set()
        self.progressed()

    def progressed(self) -> None:
        """Something was finished: a piece of a snapshot, a chunk of a large transaction."""
        self._done += 1
        self._done_at = time.monotonic()

    def turned(self) -> None:
        """The applier's loop lives, whether or not there was anything to do."""
        self._loops += 1

    def filtered(self, mapping: str, reason: str, rows: int) -> None:
        """Changes that a mapping left out (reason: ``where``, ``ignore``, ``gone``)."""
        key = (mapping, reason)
        self._filtered[key] = self._filtered.get(key, 0) + rows

    def cascaded(self, changes: int) -> None:
        """Changes that foreign keys made and that the log lacked, in a committed unit."""
        self._cascaded += changes

    def failed(self, error_class: str, rows: int = 1) -> None:
        """Rows that could not be applied."""
        self._failed[error_class] = self._failed.get(error_class, 0) + rows

    def retrying(self, error: BaseException | str) -> None:
        """An attempt failed and will be repeated; the state is blocked until the next commit."""
        self._retries += 1
        self._retrying = True
        self.error(error)

    def stopped_by_breaker(self, reason: str) -> None:
        """Too much failed at once; the state is blocked until somebody says resume."""
        self._retrying = self._tripped = True
        self.error(reason)

    def resumed(self) -> None:
        """Somebody said resume: what follows, which may be a long copy, is not blocked."""
        self._retrying = self._tripped = False
        self.changed.set()

    def error(self, error: BaseException | str) -> None:
        """The last error in words."""
        self._error = (str(error)[:2000], time.time())
        self.changed.set()

    def snapshot_progress(self, *, tables_remaining: int, rows: int) -> None:
        """Tables still to copy, and rows copied since the worker began."""
        self._snapshot = (tables_remaining, rows)
        self.progressed()

    @contextmanager
    def patience(self, seconds: float) -> Iterator[None]:
        """One step inside may take that long without progress and is not a hang."""
        self._patience = seconds
        self.changed.set()
        try:
            yield
        finally:
            self.progressed()
            self._patience = 0.0

    @property
    def failed_rows(self) -> int:
        """How many rows could not be applied."""
        return sum(self._failed.values())

    @property
    def position(self) -> str | None:
        """The last checkpoint of this worker."""
        return self._position

    @property
    def commit_time(self) -> float | None:
        """When the last applied transaction was committed, in seconds since 1970."""
        return self._commit_time

    # --- read by the reporter -----------------------------------------------------------------

    def status(self) -> WorkerStatus:
        """A snapshot; any thread."""
        now, tick = time.time(), time.monotonic()
        progress = self._read + self._done
        transactions, changes, commits = self._applied_totals
        slot = self._kept.state
        return WorkerStatus(
            pipeline=self.pipeline,
            state=self._state(tick),
            time=now,
            started=self._started,
            pid=os.getpid(),
            epoch=self.epoch,
            connected=self.connected,
            reconnects=self._reconnects,
            position=self._position,
            commit_time=self._commit_time,
            event_time=self._event_time,
            checkpoint_time=self._checkpoint_time,
            lag_seconds=self._lag(now),
            lag_bytes=slot.behind_bytes if slot else None,
            slot=slot,
            slot_seconds_left=self._kept.seconds_left,
            log_bytes_per_second=self.log_rate,
            slot_seconds_if_stopped=self._kept.seconds_if_stopped,
            findings=self._findings,
            events=self._events.copy(),
            received_transactions=self._received[0],
            received_changes=self._received[1],
            applied_transactions=transactions,
            applied_changes=changes,
            commits=commits,
            cascaded=self._cascaded,
            applied=self._applied.copy(),
            filtered=self._filtered.copy(),
            failed=self._failed.copy(),
            **self.failures.fields(),
            retries=self._retries,
            queue_bytes=self.queue_bytes(),
            queue_capacity=self.queue_capacity,
            progress=progress,
            progress_time=now - (tick - max(self._read_at, self._done_at)),
            turns=self._done + self._retries + self._loops,
            patience=self._patience,
            verification=self.verification,
            snapshot_tables_remaining=self._snapshot[0],
            snapshot_rows=self._snapshot[1],
            error=self._error[0],
            tripped=self._tripped,
            error_time=self._error[1],
            apply_duration=self._durations.histogram(),
            end_to_end_latency=self._latencies.histogram(),
            memory_rss=_resident_bytes(),
            log_lines_dropped=telemetry.dropped(),
        )

    def _state(self, tick: float) -> State:
        if self._phase in {State.STARTING, State.STOPPED} and not self._retrying:
            return self._phase
        if self._retrying:
            return State.BLOCKED
        if tick - self._moved_at() > STALLED_AFTER + self._patience:
            return State.STALLED
        if self._phase is State.SNAPSHOTTING:
            return State.SNAPSHOTTING
        slot = self._kept.state
        if self.failures.parked or (slot and slot.status in AT_RISK):
            return State.DEGRADED
        quiet = self._oldest is None and tick - self._committed_at > IDLE_AFTER
        return State.IDLE if quiet else State.STREAMING

    def _moved_at(self) -> float:
        """When what there is to do last moved: the work in hand, else the reading of the log."""
        if self._oldest is not None:
            return max(self._done_at, self._in_hand_at)
        return max(self._done_at, self._read_at)

    def _lag(self, now: float) -> float | None:
        """Seconds since the commit of the oldest transaction known and not yet applied.

        With none in hand: 0 while the source answers and sends what it has, else the time since it
        last did. A source may answer and hold its log back (``synchronized_standby_slots``).
        """
        if self._oldest is not None:
            return max(0.0, now - self._oldest)
        if self._phase is not State.STREAMING:
            return None
        silent = self._silent(now)
        return silent if silent is None or silent > STALLED_AFTER else 0.0

    def _silent(self, now: float) -> float | None:
        """Seconds since the source last answered, or last sent what it has; None: it never has."""
        withheld = self._kept.withheld(self._position, time.monotonic())
        if withheld is not None:
            return max(withheld, now - (self._event_time or now))
        return None if self._event_time is None else now - self._event_time


class _Buckets:
    """A histogram being filled; by one thread."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._total += seconds

    def observe_times(self, times: Sequence[int], now: float) -> None:
        """The ages of many moments (µs since 1970, nearly ascending), by bisection per bound."""
        older = len(times)  # how many are not yet in a bucket: those older than the bound
        for index, bound in enumerate(self._bounds):
            position = min(bisect_left(times, (now - bound) * 1e6), older)
            self._counts[index] += older - position
            older = position
        self._counts[-1] += older
        self._total += max(0.0, len(times) * now - sum(times) / 1e6)

    def histogram(self) -> Histogram:
        return Histogram(tuple(itertools.accumulate(self._counts)), self._total)


def report(meter: Meter, status_fd: int, stopped: threading.Event, *, every: float = 1.0) -> None:
    """Write a status line each second, and at once when the state changed, until ``stopped``: what
    is new since the line before.

    Runs in a thread of the worker; to end it, set ``stopped`` and then ``meter.changed``: a last
    line is written first. Ends quietly when nobody reads any more.
    """
    with suppress(BrokenPipeError), os.fdopen(status_fd, "wb") as pipe:
        said = None
        while True:
            meter.changed.clear()
            last = stopped.is_set()
            status = meter.status()
            pipe.write(status.since(said).to_json().encode() + b"\n")
            pipe.flush()
            if last:
                return
            said = status
            meter.changed.wait(every)


def _resident_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
