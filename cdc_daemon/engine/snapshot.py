"""The first consistent copy, through the same mapping and applying as the stream.

Tables go in groups in the reference order of their entities, one unit of work a group, so that
every reference inside it can be checked at its end. A kill anywhere leaves a ``snapshotting``
checkpoint: the next start begins a new generation, and rows that it does not see again are swept.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace

from cdc_daemon.engine.applying import LONG_STEP, Applier
from cdc_daemon.engine.breaker import Breaker, Tripped, stopped
from cdc_daemon.engine.cascading import Cascading
from cdc_daemon.engine.meter import Meter
from cdc_daemon.engine.payload import Parking
from cdc_daemon.engine.reading import DrainExpired, Stopping
from cdc_daemon.engine.sparing import spare
from cdc_daemon.engine.status import State
from cdc_daemon.model.changes import Batch
from cdc_daemon.model.effects import Layout, Outcome
from cdc_daemon.model.errors import LateFailure, PreflightRefusal, Problem
from cdc_daemon.model.failpoint import failpoint
from cdc_daemon.model.ports import CopiedMapping, Sink, Snapshot, Source, Table
from cdc_daemon.model.position import Checkpoint, SourceIdentity

QUEUE_PIECES = 8  # pieces of a table read ahead
SLOT_SECONDS = 600.0  # that a slot may wait for the source's transactions


@dataclass(frozen=True, slots=True, kw_only=True)
class Copying:
    """What a snapshot needs beside source and sink. ``groups``: tables in reference order."""

    name: str
    slot: str
    groups: Sequence[Sequence[Table]]
    layouts: Sequence[Layout]
    mappings: dict[str, CopiedMapping]
    cascading: Cascading
    parking: Parking
    breaker: Breaker


def take_snapshot(
    source: Source,
    sink: Sink,
    applier: Applier,
    meter: Meter,
    stopping: Stopping,
    copying: Copying,
    checkpoint: Checkpoint,
) -> tuple[str, SourceIdentity]:
    """Copy every table and set the checkpoint to streaming; returns its position and identity.

    ``checkpoint``: as it was before; a slot that is provably its own is dropped. From then on the
    row says that there is no slot, until the new one stands in it with its position: a restart must
    neither be locked out by a slot that this made nor drop one that somebody else did.
    """
    meter.phase(State.SNAPSHOTTING)
    before = source.identify()
    source.make_room(copying.slot, checkpoint)
    sink.begin_generation(copying.slot, replace(before, publication=""))
    applier.reload(sink.lanes())
    failpoint("generation_begun")
    with ExitStack() as opened:
        with meter.patience(SLOT_SECONDS):
            snapshot = opened.enter_context(source.snapshot(copying.slot))
        failpoint("slot_created")
        sink.save_progress(snapshot.position)
        if copying.cascading.needed:
            with meter.patience(LONG_STEP), sink.begin() as unit:
                unit.forget_children()
        rows = 0
        for n, group in enumerate(copying.groups):
            remaining = sum(len(tables) for tables in copying.groups[n:])
            meter.snapshot_progress(tables_remaining=remaining, rows=rows)
            rows += _copy_group(snapshot, sink, applier, meter, stopping, copying, group)
        failpoint("handoff")
        after = source.identify()
        _same_publication(source, before, after)
        with meter.patience(LONG_STEP), sink.begin() as unit:
            unit.note_copied(copying.mappings)
            copying.cascading.end_copy(unit)
            unit.finish_snapshot(copying.layouts, after, snapshot.position)
        meter.snapshot_progress(tables_remaining=0, rows=rows)
        meter.checkpointed(snapshot.position)
        return snapshot.position, after


def _copy_group(
    snapshot: Snapshot,
    sink: Sink,
    applier: Applier,
    meter: Meter,
    stopping: Stopping,
    copying: Copying,
    group: Sequence[Table],
) -> int:
    while True:
        try:
            return _copy_once(snapshot, sink, applier, meter, stopping, copying, group)
        except LateFailure as failure:
            applier.forget()
            applier.condemn(failure)
        except BaseException as error:
            applier.forget()
            if isinstance(error, Tripped):
                stopped(sink, error)
            raise


def _copy_once(
    snapshot: Snapshot,
    sink: Sink,
    applier: Applier,
    meter: Meter,
    stopping: Stopping,
    copying: Copying,
    group: Sequence[Table],
) -> int:
    outcome, failed = Outcome(), Counter[str]()
    last = Batch(begins=[(0, 0, 0)])
    with (
        closing(prefetch(snapshot.read(group))) as batches,
        ExitStack() as ending,
        sink.begin() as unit,
    ):
        for batch in _with_end(batches):
            if stopping.asked:
                raise DrainExpired
            final = batch is None
            last = last if batch is None else batch
            piece = Batch(begins=last.begins) if batch is None else batch
            applied = applier.apply(copying.cascading.copied(piece, unit), unit, final=final)
            held = applied.division.held
            if held:
                unit.queue.park(
                    [copying.parking.parked(one, last, snapshot.position) for one in held]
                )
                spare(unit, held)
                for one in held:
                    meter.failed(one.error.code)
                failed.update(one.error.code for one in held)
                copying.breaker.judge(sum(outcome.counts.values()) + failed.total(), failed)
            for (mapping, kind), number in applied.outcome.counts.items():
                outcome.count(mapping, kind, number)
            meter.progressed()
            failpoint("snapshot_chunk")
        rows = _rows(outcome)
        ending.enter_context(meter.patience(LONG_STEP))
        unit.save_snapshot(rows)
    applier.settle()
    copying.breaker.committed(sum(outcome.counts.values()) + failed.total(), failed)
    meter.applied(outcome.counts)
    return sum(rows.values())


def _rows(outcome: Outcome) -> dict[str, int]:
    """Rows written, by mapping."""
    found: dict[str, int] = {}
    for (mapping, _), number in outcome.counts.items():
        found[mapping] = found.get(mapping, 0) + number
    return found


def _with_end(batches: Iterator[Batch]) -> Iterator[Batch | None]:
    """The batches, then None: the point at which what was put off is decided."""
    yield from batches
    yield None


def _same_publication(source: Source, before: SourceIdentity, after: SourceIdentity) -> None:
    """Nothing that loses changes may have happened meanwhile; a new partition does not."""
    found = source.compare(before, after)
    if found or before.timeline != after.timeline:
        what = "the publication or a replica identity changed during the snapshot"
        cure = "start again; leave the publication alone until the snapshot is done"
        raise PreflightRefusal([Problem(what=what, cure=cure), *found])


def prefetch(batches: Iterator[Batch]) -> Generator[Batch, None, None]:
    """Read ahead in a thread, so that source and control database work at the same time.

    The thread ends with the iteration; an error of the source comes up where its batch would.
    """
    reader = _Ahead(batches)
    try:
        while (batch := reader.take()) is not None:
            yield batch
    finally:
        reader.close()


class _Ahead:
    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches = batches
        self._queue: deque[Batch] = deque()
        self._changed = threading.Condition()
        self._ended = self._closed = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="snapshot-reader", daemon=True)
        self._thread.start()

    def take(self) -> Batch | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._ended)
            if self._queue:
                self._changed.notify_all()
                return self._queue.popleft()
            if self._failure is not None:
                raise self._failure
            return None

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        try:
            for batch in self._batches:
                with self._changed:
                    self._changed.wait_for(lambda: self._closed or len(self._queue) < QUEUE_PIECES)
                    if self._closed:
                        break
                    self._queue.append(batch)
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - raised again by take()
            self._failure = error
        finally:
            if isinstance(self._batches, Generator):
                self._batches.close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()
