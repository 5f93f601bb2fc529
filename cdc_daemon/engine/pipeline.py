"""The main loop: what becomes of a batch between the log and the commit.

Every step named here is a function beside it: reading (reader thread, queue), cascading,
mapping/mapper, resolve, applying (lanes, fold, sets, replay), payload, snapshot, repair. Not here:
retrying after a lost connection (worker) and anything about SQL.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from cdc_daemon.engine.applying import LONG_STEP, Applied, Applier
from cdc_daemon.engine.breaker import Breaker, Tripped, stopped
from cdc_daemon.engine.cascading import Cascading
from cdc_daemon.engine.meter import Meter
from cdc_daemon.engine.payload import Parking
from cdc_daemon.engine.reading import Limits, Reader, Stopping, gather
from cdc_daemon.engine.status import State
from cdc_daemon.model.changes import Batch
from cdc_daemon.model.errors import LateFailure
from cdc_daemon.model.failpoint import failpoint
from cdc_daemon.model.ports import Sink, Source, Stream, UnitOfWork


class Pipeline:
    """One source, streamed into the control database until asked to stop.

    ``between``: called about once a second between units of work (commands, watching the
    publication).
    """

    def __init__(
        self,
        *,
        source: Source,
        sink: Sink,
        applier: Applier,
        meter: Meter,
        limits: Limits,
        stopping: Stopping,
        parking: Parking,
        breaker: Breaker,
        between: Callable[[], None],
        cascading: Cascading,
    ) -> None:
        self.source = source
        self.sink = sink
        self.applier = applier
        self.meter = meter
        self.limits = limits
        self.stopping = stopping
        self.parking = parking
        self.breaker = breaker
        self.between = between
        self.cascading = cascading
        self._progress_saved = 0.0
        self._progress: Batch | None = None  # idle progress that is not checkpointed yet

    def stream(self, after: str) -> None:
        """Apply what the log says after that position, until asked to stop."""
        if self.cascading.needed:
            with self.meter.patience(LONG_STEP), self.sink.begin() as unit:
                self.cascading.require(unit)
        stream = self.source.stream(after)
        self.meter.opened()
        self.meter.phase(State.STREAMING)
        with Reader(stream, self.limits, self.meter) as reader:
            batches = gather(reader, self.stopping, lambda: self._tick(stream))
            for batch in batches:
                if batch.runs or not batch.complete:
                    self._carry_out(batch, batches, stream)
                else:
                    self._progress = batch
                    self._save_progress(stream)

    def _carry_out(self, batch: Batch, following: Iterator[Batch], stream: Stream) -> None:
        """One unit of work: a batch of whole transactions, or one transaction in pieces.

        Nothing of it stays when an exception leaves.
        """
        began = time.monotonic()
        total = _Total()
        cascaded = self.cascading.added
        try:
            with ExitStack() as ending, self.sink.begin() as unit:
                while True:
                    self.meter.applying(batch.begins)
                    self._apply(batch, unit, stream, total)
                    self.breaker.judge(total.changes, total.failed)
                    if batch.position is not None:
                        break
                    self.meter.progressed()
                    failpoint("between_pieces")
                    batch = next(following)
                if total.pieces > 1:
                    ending.enter_context(self.meter.patience(LONG_STEP))
                failpoint("before_checkpoint")
                unit.save_checkpoint(
                    batch.position,
                    commit_time=batch.commit_time,
                    transactions=total.transactions,
                    changes=total.changes,
                )
        except BaseException as error:
            self.applier.forget()
            if isinstance(error, LateFailure):
                self.applier.condemn(error)
            if isinstance(error, Tripped):
                stopped(self.sink, error)
            raise
        failpoint("after_sink_commit")
        self.applier.settle()
        self.breaker.committed(total.changes, total.failed)
        self.meter.cascaded(self.cascading.added - cascaded)
        total.report(self.meter, batch, time.monotonic() - began)
        self._progress, self._progress_saved = None, time.monotonic()
        stream.acknowledge(batch.position)

    def _apply(self, batch: Batch, unit: UnitOfWork, stream: Stream, total: _Total) -> None:
        """Apply a batch with what foreign keys did, which may make it several pieces."""

        def deliver(piece: Batch, last: bool) -> None:
            final = last and piece.complete
            total.add(piece, self._apply_piece(piece, unit, stream, final=final))

        self.cascading.carry_out(batch, unit, deliver)

    def _apply_piece(
        self, batch: Batch, unit: UnitOfWork, stream: Stream, *, final: bool
    ) -> Applied:
        applied = self.applier.apply(batch, unit, final=final)
        held = applied.division.held
        if held:
            unit.queue.park(
                [
                    self.parking.parked(one, batch, stream.render(batch.begin_of(one.sequence)[1]))
                    for one in held
                ]
            )
        return applied

    def _tick(self, stream: Stream) -> None:
        """Once a second between units."""
        self._save_progress(stream)
        self.between()

    def _save_progress(self, stream: Stream) -> None:
        """Checkpoint an idle log's position when it is due, then acknowledge it."""
        batch, now = self._progress, time.monotonic()
        if batch is None or batch.position is None:
            return
        if not batch.urgent and now - self._progress_saved < self.limits.idle_seconds:
            return
        self.sink.save_progress(batch.position)
        self._progress, self._progress_saved = None, now
        self.meter.checkpointed(batch.position)
        stream.acknowledge(batch.position)


class _Total:
    """What the pieces of one unit of work come to, for checkpoint and meter."""

    def __init__(self) -> None:
        self.pieces = 0
        self.transactions = 0
        self.changes = 0
        self.counts: dict[tuple[str, str], int] = {}
        self.filtered: dict[tuple[str, str], int] = {}
        self.failed: dict[str, int] = {}

    def add(self, batch: Batch, applied: Applied) -> None:
        """Take in one applied piece."""
        self.pieces += 1
        self.transactions += batch.transactions
        self.changes += batch.changes
        for key, number in applied.outcome.counts.items():
            self.counts[key] = self.counts.get(key, 0) + number
        for left_out, number in applied.filtered.items():
            self.filtered[left_out] = self.filtered.get(left_out, 0) + number
        for held in applied.division.held:
            self.failed[held.error.code] = self.failed.get(held.error.code, 0) + 1

    def report(self, meter: Meter, batch: Batch, seconds: float) -> None:
        """Tell the meter; the unit has committed."""
        assert batch.position is not None
        meter.committed(
            batch.position,
            begins=batch.begins,
            commit_time=batch.commit_time,
            transactions=self.transactions,
            changes=self.changes,
            counts=self.counts,
            seconds=seconds,
        )
        for (mapping, reason), number in self.filtered.items():
            meter.filtered(mapping, reason, number)
        for code, number in self.failed.items():
            meter.failed(code, number)
