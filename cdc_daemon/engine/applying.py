"""One mapped batch into the open unit of work, and what happens when that fails on data.

As sets first. On a data error the rows at fault are told as sets, and their lanes are replayed
uncoalesced in source order, one change at a time, while the rest goes as sets again; where the
rows cannot be told, everything is replayed so. Only what fails there is parked.
References are checked over everything that was written; in an open transaction that waits for its
end, and what is still broken then is a LateFailure: the unit rolls back and the lanes at fault are
parked when they come again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from cdc_daemon.engine.awaiting import Awaited
from cdc_daemon.engine.blocked import Lanes
from cdc_daemon.engine.broken import reasons, restricted
from cdc_daemon.engine.cutting import apart, pick
from cdc_daemon.engine.faults import AtFault, Expected, at_fault, missing_value
from cdc_daemon.engine.fold import TwoRowsOneKey, fold
from cdc_daemon.engine.lanes import (
    Division,
    Held,
    held_change,
    lanes_of,
    read_by,
    waiting,
    waiting_for,
)
from cdc_daemon.engine.resolve import Resolver
from cdc_daemon.engine.rewriting import rewritten
from cdc_daemon.engine.touched import touches_of
from cdc_daemon.mapping.mapper import Mapped, Mapper, Unresolved
from cdc_daemon.model.changes import Batch, Operation
from cdc_daemon.model.effects import (
    EntityRun,
    Outcome,
    Patch,
    Rejected,
    Rename,
    Step,
    Truncate,
)
from cdc_daemon.model.errors import DataError, LateFailure, Stop
from cdc_daemon.model.ports import Reread, UnitOfWork

TimeOf = Callable[[int], int]

LONG_STEP = 3600.0
"""Seconds that one step over many rows may take: a truncate, constraints, a commit, a sweep."""


class _BrokenReferences(Exception):
    """Set-based work left references broken; ``reasons`` by lane."""

    def __init__(self, reasons: dict[bytes, DataError]) -> None:
        self.reasons = reasons
        super().__init__()


@dataclass(slots=True)
class Applied:
    """What became of a batch: what it changed, what it held, how much was filtered."""

    outcome: Outcome
    division: Division
    filtered: Mapping[tuple[str, str], int] = field(default_factory=dict)


class Applier:
    """Applies the batches of one pipeline.

    ``rank``: an entity's place in reference order. ``linked``: entities that refer to others or are
    referred to. ``progressed`` is called for each change that is replayed alone; ``patience`` is
    held while one step may take so many seconds.
    """

    def __init__(
        self,
        *,
        mapper: Mapper,
        resolver: Resolver,
        lanes: Lanes,
        awaited: Awaited,
        reread: Reread,
        rank: Mapping[str, int],
        linked: Set[str],
        stop_on_error: bool = False,
        progressed: Callable[[], None] = lambda: None,
        patience: Callable[[float], AbstractContextManager[None]] = lambda _: nullcontext(),
    ) -> None:
        self._mapper = mapper
        self._resolver = resolver
        self._lanes = lanes
        self._awaited = awaited
        self._reread = reread
        self._rank = rank
        self._linked = linked
        self._stop_on_error = stop_on_error
        self._progressed = progressed
        self._patience = patience
        self._condemned: dict[bytes, DataError] = {}
        self._suspects: list[Step] = []
        self._expected = Expected()

    def apply(self, batch: Batch, unit: UnitOfWork, *, final: bool) -> Applied:
        """Map and apply one batch; what is held is in the result, for the caller to park.

        Raises LateFailure (only when ``final``), Stop when the pipeline's policy is to stop at the
        first data error, and the sink's Retryable.
        """
        mapped = self._mapper.map(batch)
        runs, rejected = self._resolver.resolve(mapped, unit, self._reread, final=final)
        applied = self._narrow(unit, runs, rejected, batch, final=final)
        applied.filtered = mapped.filtered
        if self._stop_on_error and applied.division.held:
            first = applied.division.held[0]
            raise Stop(
                f"a change of {first.source.relation.name} failed: {first.error.message}",
                hint="on_error is stop: repair the row or the mapping, or set on_error: park",
            )
        self._lanes.block(applied.division)
        self._release(unit, runs, applied.division)
        return applied

    def _release(self, unit: UnitOfWork, runs: Sequence[EntityRun], division: Division) -> None:
        """Parked changes that waited for rows of this batch are due; what it parks waits, too."""
        self._awaited.add(one for held in division.held for one in held.error.awaits)
        if not self._awaited:
            return
        if arrived := self._awaited.arrived(_without(runs, division.held)):
            unit.queue.arrived(arrived)

    def condemn(self, failure: LateFailure) -> None:
        """Park these lanes when their changes come again."""
        if not failure.reasons.keys() - self._condemned.keys():
            raise Stop("the same lanes failed again at the end of a transaction") from failure
        self._condemned.update(failure.reasons)

    def settle(self) -> None:
        """The unit has committed."""
        self._lanes.settle()
        self._awaited.settle()
        self._condemned, self._suspects = {}, []

    def forget(self) -> None:
        """The unit was rolled back; condemned lanes stay condemned for the next try."""
        self._lanes.forget()
        self._awaited.forget()
        self._resolver.forget()
        self._suspects = []

    def reload(self, blocked: dict[bytes, str]) -> None:
        """Take the failure queue's word: what stands in it was superseded by a new copy."""
        self._lanes.reload(blocked)

    # --- as sets, narrowing until it holds ------------------------------------------------------

    def _narrow(
        self,
        unit: UnitOfWork,
        runs: Sequence[EntityRun],
        rejected: Sequence[Rejected],
        batch: Batch,
        *,
        final: bool,
    ) -> Applied:
        condemned = dict(self._condemned)
        time_of = _times(batch)
        while True:
            division = self._lanes.divide(runs, rejected, condemned)
            try:
                with self._point_of_return(unit, division):
                    for mapping in division.superseded:
                        unit.queue.supersede(mapping)
                    applied, steps = self._carry_out(
                        unit, division, time_of, final=final, expect=True
                    )
                    self._check_references(unit, steps, final=final)
                applied.division.held.sort(key=lambda one: one.sequence)
                return applied
            except _BrokenReferences as broken:
                if not broken.reasons.keys() - condemned.keys():
                    raise Stop("rows stay in a broken reference although they are held") from broken
                condemned |= broken.reasons

    def _point_of_return(
        self, unit: UnitOfWork, division: Division
    ) -> AbstractContextManager[None]:
        """A savepoint where references may turn out broken; none where there are no references."""
        linked = any(run.layout.entity.name in self._linked for run in division.ready)
        return unit.savepoint() if linked else nullcontext()

    def _carry_out(
        self,
        unit: UnitOfWork,
        division: Division,
        time_of: TimeOf,
        *,
        final: bool,
        expect: bool = False,
    ) -> tuple[Applied, list[Step]]:
        """As sets, or around the rows at fault. ``expect``: look for these before the first try."""
        if not division.ready:
            return Applied(Outcome(), division), []
        steps: list[Step] = []
        try:
            steps = fold(division.ready, self._rank, time_of)
            if expect and self._expected:
                found = self._expected.faults(unit, steps)
                if found.keys:
                    return self._around(unit, division, found, time_of, final=final)
            with _undone_together(unit, steps), self._as_long_as_it_takes(steps):
                outcome = unit.apply(steps)
                if outcome.missing:
                    steps += self._missing(unit, outcome, division, time_of, final=final)
        except (DataError, TwoRowsOneKey) as error:
            found = at_fault(unit, steps, error)
            self._expected.note(found)
            return self._around(unit, division, found, time_of, final=final)
        return Applied(outcome, division), steps

    def _around(
        self,
        unit: UnitOfWork,
        division: Division,
        found: AtFault,
        time_of: TimeOf,
        *,
        final: bool,
    ) -> tuple[Applied, list[Step]]:
        """The rest as sets once more, then the lanes at fault one change at a time.

        A change whose error is told, and which is its lanes' only one here, need not be tried.
        """
        rest, alone = apart(division.ready, found.keys, division.touches)
        told, alone = found.told(alone)
        if not told and not (rest and alone):
            return self._one_by_one(unit, division, time_of, final=final)
        held, superseded = [*division.held, *told], division.superseded
        applied, steps = self._carry_out(
            unit, Division(rest, held, superseded), time_of, final=final
        )
        if not alone:
            return applied, steps
        division = Division(alone, applied.division.held, superseded)
        before = _without(rest, division.held)
        singly, more = self._one_by_one(unit, division, time_of, final=final, before=before)
        for (mapping, kind), number in applied.outcome.counts.items():
            singly.outcome.count(mapping, kind, number)
        return singly, steps + more

    def _one_by_one(
        self,
        unit: UnitOfWork,
        division: Division,
        time_of: TimeOf,
        *,
        final: bool,
        before: Sequence[EntityRun] = (),
    ) -> tuple[Applied, list[Step]]:
        """Replay uncoalesced in source order; what fails is held, and what stands behind it.

        ``before``: what was carried out of the same batch already.
        """
        outcome, done = Outcome(), []
        division = Division(division.ready, list(division.held), division.superseded)
        carried: list[EntityRun] = list(before)
        behind = deque(sorted(division.held, key=lambda one: one.sequence))
        closed: dict[bytes, str] = {}
        for run in _changes(division.ready):
            while behind and behind[0].sequence < run.sequences[0]:
                held = behind.popleft()
                closed.update(dict.fromkeys(held.lanes, held.layout.mapping))
            touches = touches_of(run)
            lanes = lanes_of(touches, 0)
            try:
                if any(lane in closed for lane in lanes):
                    raise waiting()
                if unsure := tuple(lane for lane in read_by(touches, 0) if lane in closed):
                    raise waiting_for(unsure)
                steps = self._one(unit, run, outcome, time_of, final=final)
            except DataError as error:
                if run.operation is Operation.TRUNCATE:
                    raise _refused_truncate(run, error) from error
                closed.update(dict.fromkeys(lanes, run.layout.mapping))
                division.held.append(held_change(run, 0, error, touches))
            else:
                done += steps
                carried.append(run)
                if run.operation is Operation.TRUNCATE:
                    closed = _undone(run, division, closed)
            self._progressed()
        renamed = {step.layout.entity.name for step in done if isinstance(step, Rename)}
        carried.sort(key=lambda run: run.sequences[0])
        if again := rewritten(carried, renamed):
            unit.apply(again)
        return Applied(outcome, division), done

    def _one(
        self, unit: UnitOfWork, run: EntityRun, total: Outcome, time_of: TimeOf, *, final: bool
    ) -> list[Step]:
        for row in run.rows:
            if (error := missing_value(run.layout, row)) is not None:
                raise error
        steps = fold([run], self._rank, time_of)
        with unit.savepoint(), self._as_long_as_it_takes(steps):
            outcome = unit.apply(steps)
            if outcome.missing:
                steps += self._missing(unit, outcome, Division([run]), time_of, final=final)
        for (mapping, kind), number in outcome.counts.items():
            total.count(mapping, kind, number)
        return steps

    def _as_long_as_it_takes(self, steps: Sequence[Step]) -> AbstractContextManager[None]:
        """Patience where a step touches a whole table."""
        whole = any(isinstance(step, Truncate) for step in steps)
        return self._patience(LONG_STEP) if whole else nullcontext()

    def _missing(
        self,
        unit: UnitOfWork,
        outcome: Outcome,
        division: Division,
        time_of: TimeOf,
        *,
        final: bool,
    ) -> list[Step]:
        """Rows that a patch or rename did not find: read at the source, written whole."""
        wanted = {(layout.mapping, layout.key_of(row)) for layout, row in outcome.missing}
        outcome.missing = []
        mapped = Mapped()
        for run in division.ready:
            for i, row in enumerate(run.rows):
                if (run.layout.mapping, run.layout.key_of(row)) in wanted:
                    mapped.unresolved.append(self._unresolved(run, i))
        runs, rejected = self._resolver.apart(mapped, unit, self._reread, final=final)
        if rejected:
            raise rejected[0].error
        for run in runs:
            if run.operation is not Operation.DELETE:
                run.old_keys = None  # there is no row to rename, whatever its reference says
        steps = fold(runs, self._rank, time_of) if runs else []
        again = unit.apply(steps) if steps else Outcome()
        for (mapping, kind), number in again.counts.items():
            outcome.count(mapping, kind, number)
        return steps

    def _unresolved(self, run: EntityRun, i: int) -> Unresolved:
        for compiled in self._mapper.compiled(run.source.relation):
            if compiled.layout.mapping == run.layout.mapping:
                return Unresolved(compiled, run.source, run.sequences[i])
        raise Stop(f"mapping {run.layout.mapping} is gone")

    # --- references -----------------------------------------------------------------------------

    def _check_references(self, unit: UnitOfWork, steps: Sequence[Step], *, final: bool) -> None:
        broken = unit.dangling(steps) if steps else {}
        if not final:
            self._suspects += restricted(steps, broken)
            return
        if broken:
            raise _BrokenReferences(reasons(steps, broken))
        if self._suspects and (late := unit.dangling(self._suspects)):
            raise LateFailure(reasons(self._suspects, late))


def _refused_truncate(run: EntityRun, error: DataError) -> Stop:
    """A truncate has no key of its own to park by: tried again, it would take later rows along."""
    return Stop(
        f"a truncate of {run.layout.entity.name} is refused: {error.message}",
        hint="make the control database take it (a trigger, a foreign key of your own), or delete"
        " the rows there by hand",
    )


def _without(runs: Sequence[EntityRun], held: Sequence[Held]) -> list[EntityRun]:
    """The changes of runs that are not held."""
    at = {(one.layout.mapping, one.sequence) for one in held}
    found: list[EntityRun] = []
    for run in runs:
        mapping = run.layout.mapping
        kept = [i for i, sequence in enumerate(run.sequences) if (mapping, sequence) not in at]
        if kept:
            found.append(run if len(kept) == len(run) else pick(run, kept))
    return found


def _undone(run: EntityRun, division: Division, closed: dict[bytes, str]) -> dict[bytes, str]:
    """A truncate undid what its mapping held before it in this batch: the lanes still closed."""
    mapping = run.layout.mapping
    division.held = [
        one
        for one in division.held
        if one.layout.mapping != mapping or one.sequence > run.sequences[0]
    ]
    return {lane: owner for lane, owner in closed.items() if owner != mapping}


def _undone_together(unit: UnitOfWork, steps: Sequence[Step]) -> AbstractContextManager[None]:
    """A savepoint where a row may turn out missing, and reading it again may fail on data."""
    risky = any(isinstance(step, Patch | Rename) for step in steps)
    return unit.savepoint() if risky else nullcontext()


def _times(batch: Batch) -> TimeOf:
    def time_of(sequence: int) -> int:
        return batch.begin_of(sequence)[2]

    return time_of


def _changes(runs: Sequence[EntityRun]) -> Iterator[EntityRun]:
    """Every change as a run of its own, in source order."""
    found = [
        (sequence, n, i) for n, run in enumerate(runs) for i, sequence in enumerate(run.sequences)
    ]
    for _, n, i in sorted(found):
        yield pick(runs[n], [i])
