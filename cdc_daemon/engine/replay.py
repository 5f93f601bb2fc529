"""Parked changes applied again because somebody asks for it, oldest first, each in its own unit.

A change goes only when nothing before it in any of its lanes is still parked. Where a row waits for
its entity key and the change that frees the key waits behind it, the lane is applied as a set.
A retry of many takes several turns, between which the stream goes on; each change is read anew when
its turn comes, for by then it may have been settled otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf

from cdc_daemon.engine.attempting import Attempting
from cdc_daemon.engine.blocked import Lanes
from cdc_daemon.model.changes import Relation
from cdc_daemon.model.errors import DataError
from cdc_daemon.model.ports import Command, Sink
from cdc_daemon.model.queue import Failure
from cdc_daemon.model.selection import Selection, selection_of

DUPLICATE = "duplicate_entity_key"
_PAGE = 200  # changes read at once
_SECONDS = 0.5  # that a turn takes; the stream waits for it
_MOST_TOGETHER = 5000  # changes that are applied as one set


@dataclass(slots=True)
class Retried:
    """A retry on its way: ids by fate, and how far it has come."""

    selection: Selection
    actor: str
    applied: list[int] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)  # error code of each
    waiting: set[int] = field(default_factory=set)
    again: list[int] | None = None  # what is walked through; None: the selection
    after: int = 0

    def as_result(self) -> dict[str, object]:
        """For the command's row."""
        return {
            "applied": sorted(self.applied),
            "failed": sorted(self.failed),
            "waiting": sorted(self.waiting),
        }

    def page(self) -> Selection:
        """The changes that come next."""
        if self.again is None:
            return replace(self.selection, after=max(self.after, self.selection.after or 0))
        return Selection(ids=tuple(self.again[:_PAGE]))

    def passed(self, number: int, *, waits: bool = False) -> None:
        """It was tried, or stands behind another."""
        self.after = number
        if waits:
            self.waiting.add(number)

    def tried(self, number: int, error: DataError | None) -> None:
        """It took effect, or did not."""
        self.waiting.discard(number)
        if error is None:
            self.failed.pop(number, None)
            self.applied.append(number)
        else:
            self.failed[number] = error.code

    def was_in_vain(self, number: int) -> bool:
        """Whether its turn has been, and it is still parked."""
        return number in self.failed or number in self.waiting

    def walk_again(self) -> None:
        """Go once more through what waited, for something else took effect."""
        self.again, self.waiting, self.after = sorted(self.waiting), set(), 0

    def may_join(self, failure: Failure) -> bool:
        """Whether it is asked for and only waits, or failed only because another row has its key.
        What was not reached yet was not asked for: all of them were walked through before."""
        return failure.id in self.waiting or self.failed.get(failure.id) == DUPLICATE


class Replay:
    """Retries of one pipeline. ``progressed`` is called for each change."""

    def __init__(
        self,
        *,
        sink: Sink,
        attempting: Attempting,
        relations: Callable[[], list[Relation]],
        lanes: Lanes,
        progressed: Callable[[], None],
    ) -> None:
        self._sink = sink
        self._attempting = attempting
        self._relations = relations
        self._lanes = lanes
        self._progressed = progressed
        self._works: dict[int, Retried] = {}

    def keep(self, commands: Collection[int]) -> None:
        """Forget how far others than these had come: they were withdrawn."""
        self._works = {number: work for number, work in self._works.items() if number in commands}

    def turn(self, command: Command, *, hurried: bool) -> dict[str, object] | None:
        """Go on with a retry; the result, or None: there is more to come.

        ``hurried``: for half a second only.
        """
        work = self._works.get(command.id)
        if work is None:
            meant = selection_of(command.arguments)
            work = self._works[command.id] = Retried(meant, command.actor)
        done = self._go_on(work, time.monotonic() + (_SECONDS if hurried else inf))
        self._attempting.open(self._lanes)
        if not done:
            return None
        del self._works[command.id]
        return work.as_result()

    def _go_on(self, work: Retried, deadline: float) -> bool:
        """Whether it is done."""
        relations = {relation.name: relation for relation in self._relations()}
        while True:
            if not self._walk(work, relations, deadline):
                return False
            if not self._retry_together(work, relations):
                return True
            work.walk_again()

    def _walk(self, work: Retried, relations: Mapping[str, Relation], deadline: float) -> bool:
        while some := self._page(work):
            behind = self._sink.behind([failure.id for failure in some])
            for failure in some:
                waits = failure.id in behind and bool(self._sink.behind([failure.id]))
                if not waits and self._try(failure, work, relations):
                    self._follow(work, relations)
                work.passed(failure.id, waits=waits)
                self._progressed()
                if time.monotonic() >= deadline:
                    return False
        return True

    def _page(self, work: Retried) -> list[Failure]:
        """What comes next, as it is parked now."""
        while True:
            if work.again is not None:
                work.again = [number for number in work.again if number > work.after]
            meant = work.page()
            some = self._sink.failures(meant, _PAGE)
            if some or not meant.ids or work.again is None:
                return some
            work.after = meant.ids[-1]  # all of them were settled otherwise

    def _try(self, failure: Failure, work: Retried, relations: Mapping[str, Relation]) -> bool:
        """Whether it took effect."""
        relation = relations.get(failure.table)
        error = self._attempting.try_one(failure, relation, work.actor)
        work.tried(failure.id, error)
        return error is None

    def _follow(self, work: Retried, relations: Mapping[str, Relation]) -> None:
        """What was in vain before, and is due since something took effect, goes before what comes
        later: the row that it refers to may be gone by then."""
        again = bool(work.failed or work.waiting) and self._attempting.awaits
        while again:
            due = [number for number in self._sink.due(_PAGE) if work.was_in_vain(number)]
            free = sorted(set(due) - self._sink.behind(due)) if due else []
            some = self._sink.failures(Selection(ids=tuple(free))) if free else []
            effects = [self._try(failure, work, relations) for failure in some]
            again = any(effects)

    # --- changes that hold each other up --------------------------------------------------------

    def _retry_together(self, work: Retried, relations: Mapping[str, Relation]) -> bool:
        """Changes that hold each other up at one entity key, as a set; whether one took effect.

        A row that comes to a key is parked while another row has it, and the change that would
        free the key waits behind it.
        """
        took_effect = False
        for number in [one for one, code in work.failed.items() if code == DUPLICATE]:
            lane = self._lane_of(number, work)
            orders = (lane, _last_rows_first(lane)) if len(lane) > 1 else ()
            for order in orders:
                if self._apply_together(order, work, relations):
                    took_effect = True
                    break
            self._progressed()
        return took_effect

    def _apply_together(
        self, order: Sequence[Failure], work: Retried, relations: Mapping[str, Relation]
    ) -> bool:
        relation = relations.get(order[0].table)
        if self._attempting.apply(order, relation, work.actor) is not None:
            return False
        for failure in order:
            work.tried(failure.id, None)
        return True

    def _lane_of(self, head: int, work: Retried) -> list[Failure]:
        """The change and what waits behind it, without what something else holds up too."""
        lane: list[Failure] = []
        inside: set[bytes] = set()
        closed: set[bytes] = set()
        for failure in self._around(head):
            joins = failure.id == head or _meets(failure, inside)
            if joins and work.may_join(failure) and not _meets(failure, closed):
                lane.append(failure)
                inside.update(failure.lanes)
            else:
                closed.update(failure.lanes)
        return lane

    def _around(self, head: int) -> list[Failure]:
        """What is parked and shares a lane with a change, or with one that does, in source order;
        nothing where that is more than can be applied as one set."""
        found = {one.id: one for one in self._sink.failures(Selection(ids=(head,)))}
        known: set[bytes] = set()
        while new := {lane for one in found.values() for lane in one.lanes} - known:
            for one in self._sink.failures(Selection(lanes=tuple(new)), _MOST_TOGETHER + 1):
                found[one.id] = one
            if len(found) > _MOST_TOGETHER:
                return []
            known |= new
        return [found[number] for number in sorted(found)]


def _meets(failure: Failure, lanes: Collection[bytes]) -> bool:
    return any(lane in lanes for lane in failure.lanes)


def _last_rows_first(lane: Sequence[Failure]) -> list[Failure]:
    """The same changes with the source row that came last in front; each row's own order stays.

    So a key is left before somebody comes to it. What one source row becomes does not depend on
    when another one changed. A change's first lane is that of its source row.
    """
    rows = {failure.lanes[0] for failure in lane if failure.lanes}
    histories: list[tuple[set[bytes], list[Failure]]] = []
    for failure in lane:
        touched, history = rows.intersection(failure.lanes), [failure]
        for other in [one for one in histories if one[0] & touched]:
            histories.remove(other)
            touched |= other[0]
            history = sorted([*other[1], *history], key=lambda one: one.id)
        histories.append((touched, history))
    histories.sort(key=lambda one: one[1][0].id, reverse=True)
    return [failure for _, history in histories for failure in history]
