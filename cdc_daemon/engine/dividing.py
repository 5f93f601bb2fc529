"""A walk over changes in source order, with lanes that close and open on the way."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence

from cdc_daemon.engine.cutting import without
from cdc_daemon.engine.lanes import (
    Division,
    Held,
    entity_lane,
    held_change,
    holder_lane,
    lanes_of,
    lanes_of_source,
    read_by,
    waiting,
    waiting_for,
)
from cdc_daemon.engine.touched import Lane, Touches
from cdc_daemon.model.changes import Operation
from cdc_daemon.model.effects import EntityRun, Rejected
from cdc_daemon.model.errors import DataError


class Divider:
    """Walks the changes of a batch in source order, with lanes that close and open on the way."""

    def __init__(
        self,
        blocked: Mapping[bytes, str],
        pending: Mapping[bytes, str],
        freed: set[str],
        condemned: Mapping[bytes, DataError],
    ) -> None:
        self.blocked = blocked
        self.local = dict(pending)
        self.freed = set(freed)
        self.condemned = dict(condemned)
        self.passed: dict[bytes, tuple[Lane, ...]] = {}  # lane of a change that goes on -> all its
        self.division = Division([])

    def divide(
        self,
        runs: Sequence[EntityRun],
        touches: Sequence[Touches],
        concerned: Sequence[Collection[int]],
        rejected: Sequence[Rejected],
    ) -> Division:
        """``runs`` in source order, what each touches, and which changes of it to look at."""
        todo = deque(sorted(rejected, key=lambda one: one.sequence))
        for run, each, changes in zip(runs, touches, concerned, strict=True):
            self._hold_rejected(todo, run.sequences[0])
            if run.operation is Operation.TRUNCATE:
                self._truncate(run)
            else:
                self._divide_run(run, each, changes, todo)
        self._hold_rejected(todo, None)
        self.division.held.sort(key=lambda one: one.sequence)
        return self.division

    def _divide_run(
        self, run: EntityRun, touches: Touches, changes: Iterable[int], todo: deque[Rejected]
    ) -> None:
        held: set[int] = set()
        for i in changes:
            sequence = run.sequences[i]
            self._hold_rejected(todo, sequence)
            lanes = lanes_of(touches, i)
            error = self._obstacle(lanes, read_by(touches, i))
            if error is None:
                self.passed.update(dict.fromkeys(lanes, lanes))
            else:
                held.add(i)
                self._hold(held_change(run, i, error, touches))
        if not held:
            self.division.ready.append(run)
        elif len(held) < len(run):
            self.division.ready.append(without(run, held))

    def _hold_rejected(self, todo: deque[Rejected], before: int | None) -> None:
        """Hold the rejected changes that stand before a sequence (None: all that are left)."""
        while todo and (before is None or todo[0].sequence < before):
            one = todo.popleft()
            lanes = self._lanes_of_rejected(one)
            error = waiting() if self._closed(lanes) else one.error
            self._hold(
                Held(
                    layout=one.layout,
                    source=one.source,
                    sequence=one.sequence,
                    error=error,
                    lanes=lanes,
                    keys=one.keys,
                )
            )

    def _lanes_of_rejected(self, one: Rejected) -> tuple[Lane, ...]:
        """Its row's, and those of entity keys that it touches or that its row had in this batch."""
        rows = lanes_of_source(one.layout, one.source, one.sequence)
        keys = [entity_lane(one.layout.entity.name, key) for key in one.keys]
        before = [lane for row in rows for lane in self.passed.get(row, ())]
        return tuple(dict.fromkeys([*rows, *keys, *_holders(one, rows), *before]))

    def _obstacle(self, lanes: Sequence[Lane], reads: Sequence[Lane]) -> DataError | None:
        if self._closed(lanes):
            return waiting()
        if unsure := tuple(lane for lane in reads if self._closed([lane])):
            return waiting_for(unsure)
        return next((self.condemned[lane] for lane in lanes if lane in self.condemned), None)

    def _closed(self, lanes: Sequence[bytes]) -> bool:
        blocked, local = self.blocked, self.local
        return any(
            lane in local or (lane in blocked and blocked[lane] not in self.freed) for lane in lanes
        )

    def _hold(self, held: Held) -> None:
        self.local.update(dict.fromkeys(held.lanes, held.layout.mapping))
        self.division.held.append(held)

    def _truncate(self, run: EntityRun) -> None:
        """It undoes the mapping's changes before it, the parked ones too: their lanes open."""
        mapping = run.layout.mapping
        self.division.ready.append(run)
        self.division.superseded.add(mapping)
        self.freed.add(mapping)
        self.local = {k: v for k, v in self.local.items() if v != mapping}
        self.division.held = [one for one in self.division.held if one.layout.mapping != mapping]


def _holders(one: Rejected, rows: Sequence[Lane]) -> list[Lane]:
    """The holders of its keys, where a rejected change decides who has them."""
    layout = one.layout
    stays = one.source.operation is Operation.UPDATE and len(rows) == 1
    if stays or not layout.referred:
        return []
    return [holder_lane(layout.entity.name, key) for key in one.keys]
