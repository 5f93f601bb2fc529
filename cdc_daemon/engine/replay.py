"""Parked changes applied again, oldest first, each in a unit of its own.

A change goes only when nothing before it in any of its lanes is still parked. Where a row waits for
its entity key and the change that frees the key waits behind it, the lane is applied as a set.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cdc_daemon.engine.applying import Applier
from cdc_daemon.engine.blocked import Lanes
from cdc_daemon.engine.payload import batch_of
from cdc_daemon.engine.privacy import NOTHING, Privacy
from cdc_daemon.mapping.compile import CompiledMapping
from cdc_daemon.mapping.mapper import Mapper
from cdc_daemon.model.changes import Relation
from cdc_daemon.model.errors import DataError
from cdc_daemon.model.ports import Sink
from cdc_daemon.model.queue import PARKED, Failure
from cdc_daemon.model.selection import Selection

DUPLICATE = "duplicate_entity_key"

MakeApplier = Callable[[Mapper, Lanes], Applier]
"""An applier like the pipeline's own, over another mapper and other lanes."""


@dataclass(slots=True)
class Replayed:
    """What a retry came to: ids by fate."""

    applied: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)

    def as_result(self) -> dict[str, object]:
        """For the command's row."""
        return {"applied": self.applied, "failed": self.failed, "waiting": self.waiting}


class Replay:
    """Retries of one pipeline. ``progressed`` is called for each change."""

    def __init__(
        self,
        *,
        sink: Sink,
        compile_relation: Callable[[Relation], Sequence[CompiledMapping]],
        relations: Callable[[], list[Relation]],
        applier: MakeApplier,
        progressed: Callable[[], None],
        privacy: Privacy = NOTHING,
    ) -> None:
        self._privacy = privacy
        self._sink = sink
        self._compile = compile_relation
        self._relations = relations
        self._applier = applier
        self._progressed = progressed

    def retry(self, selection: Selection, *, actor: str) -> Replayed:
        """Apply the parked changes that are meant again."""
        relations = {relation.name: relation for relation in self._relations()}
        round_ = _Round(self._sink.failures(), self._wanted(selection))
        while True:
            for failure in round_.due():
                error = self.attempt([failure], relations.get(failure.table), actor)
                if error is None:
                    round_.applied(failure)
                else:
                    self._note_attempt(failure, error)
                    round_.failed(failure, error)
                self._progressed()
            if not self._retry_together(round_, relations, actor):
                return round_.replayed()

    def _wanted(self, selection: Selection) -> set[int] | None:
        if selection == PARKED:
            return None
        return {failure.id for failure in self._sink.failures(selection)}

    def _retry_together(
        self, round_: _Round, relations: Mapping[str, Relation], actor: str
    ) -> bool:
        """Changes that hold each other up at one entity key, as a set; whether one took effect.

        A row that comes to a key is parked while another row has it, and the change that would
        free the key waits behind it.
        """
        took_effect = False
        for head in round_.duplicates():
            lane = round_.lane_of(head)
            relation = relations.get(head.table)
            orders = (lane, _last_rows_first(lane)) if len(lane) > 1 else ()
            if any(self.attempt(order, relation, actor) is None for order in orders):
                took_effect = True
                for failure in lane:
                    round_.applied(failure)
            self._progressed()
        return took_effect

    def _note_attempt(self, failure: Failure, error: DataError) -> None:
        with self._sink.begin() as unit:
            unit.queue.attempted(
                failure.id, code=error.code, message=error.message, awaits=error.awaits
            )

    def attempt(
        self, failures: Sequence[Failure], relation: Relation | None, actor: str
    ) -> DataError | None:
        """Parked changes of one mapping in one unit of work, all or none; why not, if so."""
        first = failures[0]
        if relation is None:
            return DataError(f"no mapping reads table {first.table} any longer", code="unmapped")
        applier = self._applier(Mapper(lambda found: self._only(found, first.mapping)), Lanes())
        try:
            opened = [(one, self._privacy.opened(one.table, one.payload)) for one in failures]
            batch = batch_of(opened, relation)
            with self._sink.begin() as unit:
                held = applier.apply(batch, unit, final=True).division.held
                if held:
                    raise held[0].error
                for failure in failures:
                    unit.queue.settle(failure.id, "replayed", actor=actor)
        except DataError as error:
            return error
        return None

    def _only(self, relation: Relation, mapping: str) -> list[CompiledMapping]:
        return [one for one in self._compile(relation) if one.layout.mapping == mapping]


class _Round:
    """The parked changes of a pipeline during one retry, in source order, and their fates."""

    def __init__(self, failures: Sequence[Failure], wanted: set[int] | None) -> None:
        self._left = {failure.id: failure for failure in failures}
        self._wanted = wanted
        self._errors: dict[int, DataError] = {}
        self._applied: list[int] = []

    def due(self) -> Iterator[Failure]:
        """Changes that are asked for, were not tried yet, and have nothing parked before them."""
        closed: set[bytes] = set()
        for failure in list(self._left.values()):
            if self._stays(failure) or failure.id in self._errors or _meets(failure, closed):
                closed.update(failure.lanes)
                continue
            yield failure
            if failure.id in self._errors:
                closed.update(failure.lanes)

    def applied(self, failure: Failure) -> None:
        """It took effect."""
        del self._left[failure.id]
        self._errors.pop(failure.id, None)
        self._applied.append(failure.id)

    def failed(self, failure: Failure, error: DataError) -> None:
        """It was tried and failed."""
        self._errors[failure.id] = error

    def duplicates(self) -> list[Failure]:
        """Changes that failed because another row has their entity key."""
        return [one for one in self._left.values() if self._is_duplicate(one)]

    def lane_of(self, head: Failure) -> list[Failure]:
        """The change and what waits behind it, without what something else holds up too."""
        lane: list[Failure] = []
        inside: set[bytes] = set()
        closed: set[bytes] = set()
        for failure in self._left.values():
            joins = failure is head or (_meets(failure, inside) and not self._stays(failure))
            if joins and self._may_join(failure) and not _meets(failure, closed):
                lane.append(failure)
                inside.update(failure.lanes)
            else:
                closed.update(failure.lanes)
        return lane

    def replayed(self) -> Replayed:
        """What it came to."""
        asked = [one.id for one in self._left.values() if not self._stays(one)]
        return Replayed(
            applied=sorted(self._applied),
            failed=[number for number in asked if number in self._errors],
            waiting=[number for number in asked if number not in self._errors],
        )

    def _stays(self, failure: Failure) -> bool:
        return self._wanted is not None and failure.id not in self._wanted

    def _may_join(self, failure: Failure) -> bool:
        """Whether it only waits, or failed only because another row has its key."""
        return failure.id not in self._errors or self._is_duplicate(failure)

    def _is_duplicate(self, failure: Failure) -> bool:
        error = self._errors.get(failure.id)
        return error is not None and error.code == DUPLICATE


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
