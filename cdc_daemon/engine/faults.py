"""The rows at fault in a batch that failed as sets, and the changes that need not be tried alone.

The sink tells rows by entity key, with the error that each would give alone. A change of such a row
that nothing else in the batch has to do with gives just that error, so it is held as it is; every
other change of these rows is replayed by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from cdc_daemon.engine.cutting import pick
from cdc_daemon.engine.fold import TwoRowsOneKey
from cdc_daemon.engine.lanes import Held, held_change
from cdc_daemon.engine.touched import Part, Place, Touches, touches_of
from cdc_daemon.mapping.fields import required
from cdc_daemon.model.effects import EntityRun, Key, Layout, Step
from cdc_daemon.model.errors import DataError
from cdc_daemon.model.ports import UnitOfWork


@dataclass(slots=True)
class AtFault:
    """``keys``: by entity; ``errors``: by mapping and key, as far as they are known."""

    keys: dict[str, Set[Key]] = field(default_factory=dict)
    errors: Mapping[str, Mapping[Key, DataError]] = field(default_factory=dict)

    def told(self, runs: Sequence[EntityRun]) -> tuple[list[Held], list[EntityRun]]:
        """Of these changes those whose error is known for certain, and the runs without them."""
        touches = [touches_of(run) for run in runs]
        by_change = [_by_change(run, each) for run, each in zip(runs, touches, strict=True)]
        times = Counter(one for run in by_change for change in run for one in change)
        held: list[Held] = []
        others: list[EntityRun] = []
        for run, each, changes in zip(runs, touches, by_change, strict=True):
            kept: list[int] = []
            for i, change in enumerate(changes):
                error = self._error_of(run, i)
                if error is None or any(times[one] > 1 for one in change):
                    kept.append(i)
                else:
                    held.append(held_change(run, i, error, each))
            if kept:
                others.append(run if len(kept) == len(run) else pick(run, kept))
        return held, others

    def _error_of(self, run: EntityRun, i: int) -> DataError | None:
        errors = self.errors.get(run.layout.mapping)
        if not errors or not run.rows:
            return None
        row = run.rows[i]
        error = errors.get(run.layout.key_of(row))
        return error and (missing_value(run.layout, row) or error)


def at_fault(unit: UnitOfWork, steps: Sequence[Step], error: DataError | TwoRowsOneKey) -> AtFault:
    """The rows that steps failed on, as far as they can be told as sets."""
    if isinstance(error, TwoRowsOneKey):
        return AtFault(keys={error.entity: error.keys})
    return _by_entity(steps, unit.faults(steps, error))


class Expected:
    """The errors that rows gave lately, by mapping: their like are looked for before a batch is
    tried as a whole, which would fail."""

    def __init__(self) -> None:
        self._errors: dict[str, DataError] = {}

    def __bool__(self) -> bool:
        return bool(self._errors)

    def note(self, found: AtFault) -> None:
        """Rows were told to be at fault."""
        for mapping, errors in found.errors.items():
            self._errors[mapping] = next(iter(errors.values()))

    def faults(self, unit: UnitOfWork, steps: Sequence[Step]) -> AtFault:
        """Rows that give such an error again. Of a mapping without any, none are expected more."""
        errors: dict[str, Mapping[Key, DataError]] = {}
        for mapping in {step.layout.mapping for step in steps} & self._errors.keys():
            own = [step for step in steps if step.layout.mapping == mapping]
            errors |= unit.faults(own, self._errors.pop(mapping))
        found = _by_entity(steps, errors)
        self.note(found)
        return found


def _by_entity(steps: Sequence[Step], errors: Mapping[str, Mapping[Key, DataError]]) -> AtFault:
    entities = {step.layout.mapping: step.layout.entity.name for step in steps}
    keys: dict[str, Set[Key]] = {}
    for mapping, found in errors.items():
        keys[entities[mapping]] = keys.get(entities[mapping], set()) | found.keys()
    return AtFault(keys, errors)


def missing_value(layout: Layout, row: Sequence[object]) -> DataError | None:
    """The error of a row in which a required attribute would become NULL."""
    for attribute, value in zip(layout.attributes, row, strict=True):
        if value is None and attribute.required:
            return required(attribute.name)
    return None


def _by_change(run: EntityRun, touches: Touches) -> list[set[tuple[Place, Part]]]:
    """What each change of a run touches and reads; a truncate is in nobody's way here."""
    found: list[set[tuple[Place, Part]]] = [set() for _ in run.sequences]
    for column in touches.all:
        for change, key in zip(found, column.keys, strict=True):
            if key is not None:
                change.add((column.place, key))
    return found
