"""Parked changes applied once more, all of a call in one unit of work, and what is noted of a try.

Not in here: which of them, and in which order (``replay``, ``releasing``).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence

from cdc_daemon.engine.applying import Applier
from cdc_daemon.engine.awaiting import Awaited
from cdc_daemon.engine.blocked import Lanes
from cdc_daemon.engine.lanes import Division, read_by
from cdc_daemon.engine.payload import batch_of
from cdc_daemon.engine.privacy import NOTHING, Privacy
from cdc_daemon.engine.schedule import Schedule
from cdc_daemon.engine.touched import touches_of
from cdc_daemon.mapping.compile import CompiledMapping
from cdc_daemon.mapping.mapper import Mapper
from cdc_daemon.model.changes import Relation
from cdc_daemon.model.effects import EntityRun, Rejected
from cdc_daemon.model.errors import DataError, Stop
from cdc_daemon.model.ports import Sink
from cdc_daemon.model.queue import Failure

MakeApplier = Callable[[Mapper, Lanes], Applier]
"""An applier like the pipeline's own, over another mapper and other lanes."""


Tell = Callable[[Failure, bool], None]
"""Is told of a change, as it was parked, whether it took effect."""


class Attempting:
    """Tries parked changes of one pipeline. ``versions``: of the mappings as they are now;
    ``tell`` is called for each change that was tried."""

    def __init__(
        self,
        *,
        sink: Sink,
        compile_relation: Callable[[Relation], Sequence[CompiledMapping]],
        applier: MakeApplier,
        awaited: Awaited,
        schedule: Schedule,
        versions: Mapping[str, str],
        privacy: Privacy = NOTHING,
        tell: Tell = lambda failure, applied: None,
    ) -> None:
        self._sink = sink
        self._compile = compile_relation
        self._applier = applier
        self._awaited = awaited
        self._schedule = schedule
        self._versions = versions
        self._privacy = privacy
        self._tell = tell
        self._left: set[bytes] = set()  # lanes of what took effect since they were opened last

    @property
    def awaits(self) -> bool:
        """Whether some parked change waits for a row."""
        return bool(self._awaited)

    def apply(
        self, failures: Sequence[Failure], relation: Relation | None, actor: str
    ) -> DataError | None:
        """Parked changes of one mapping in one unit of work, all or none; why not, if so.

        What would stop the pipeline is such a reason, too: it goes on without these.
        """
        error: DataError | None = None
        try:
            self._apply(failures, relation, actor)
        except DataError as found:
            error = found
        except Stop as stop:
            error = DataError(stop.message, code="unreplayable")
        for failure in failures:
            self._tell(failure, error is None)
        return error

    def try_one(self, failure: Failure, relation: Relation | None, actor: str) -> DataError | None:
        """The same with one; a reason why not is noted, and when it is tried again by itself."""
        error = self.apply([failure], relation, actor)
        if error is not None:
            self._note(failure, error)
        return error

    def _apply(self, failures: Sequence[Failure], relation: Relation | None, actor: str) -> None:
        first = failures[0]
        if relation is None:
            raise DataError(f"no mapping reads table {first.table} any longer", code="unmapped")
        compiled = self._only(relation, first.mapping)
        if not compiled:
            raise DataError(f"mapping {first.mapping} is no longer there", code="unmapped")
        before = min(failure.id for failure in failures)
        applier = self._applier(Mapper(lambda _: compiled), _Earlier(self._sink, before))
        opened = [(one, self._privacy.opened(one.table, one.payload)) for one in failures]
        batch = batch_of(opened, relation)
        with self._sink.begin() as unit:
            held = applier.apply(batch, unit, final=True).division.held
            if held:
                raise held[0].error
            for failure in failures:
                unit.queue.settle(failure.id, "replayed", actor=actor)
        self._left.update(lane for failure in failures for lane in failure.lanes)

    def open(self, lanes: Lanes) -> None:
        """Let the stream pass where nothing is parked any longer since changes took effect."""
        if self._left:
            lanes.open(self._left - self._sink.still_blocked(list(self._left)))
            self._awaited.reload(self._sink.awaited())
            self._left.clear()

    def _only(self, relation: Relation, mapping: str) -> list[CompiledMapping]:
        return [one for one in self._compile(relation) if one.layout.mapping == mapping]

    def _note(self, failure: Failure, error: DataError) -> None:
        self._awaited.add(error.awaits)
        delay = self._schedule.delay(error.code, failure.attempts + 1)
        now = dt.datetime.now(dt.UTC)
        with self._sink.begin() as unit:
            unit.queue.attempted(
                failure.id,
                code=error.code,
                message=error.message,
                retry_at=None if delay is None else now + dt.timedelta(seconds=delay),
                awaits=error.awaits,
                version=self._versions.get(failure.mapping),
            )
        self._awaited.settle()


class _Earlier(Lanes):
    """Of the lanes that a change reads those that parked changes before it block."""

    def __init__(self, sink: Sink, before: int) -> None:
        super().__init__()
        self._sink = sink
        self._before = before

    def divide(
        self,
        runs: Sequence[EntityRun],
        rejected: Sequence[Rejected] = (),
        condemned: Mapping[bytes, DataError] | None = None,
    ) -> Division:
        """As a batch is divided."""
        each = [(touches_of(run), range(len(run))) for run in runs]
        lanes = {lane for touches, changes in each for i in changes for lane in read_by(touches, i)}
        if lanes:
            closed = self._sink.still_blocked(sorted(lanes), self._before)
            self.reload(dict.fromkeys(closed, ""))
        return super().divide(runs, rejected, condemned)
