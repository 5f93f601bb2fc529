"""Steps that leave references broken: the error of each lane at fault, and what to ask again later.

What is asked is the sink's (``UnitOfWork.dangling``): entity keys that steps wrote or deleted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import assert_never

from cdc_daemon.engine.awaiting import awaited_rows
from cdc_daemon.engine.lanes import entity_lane
from cdc_daemon.model.changes import Row
from cdc_daemon.model.effects import Delete, Key, Patch, Rename, Step, Truncate, Upsert
from cdc_daemon.model.errors import DataError, Stop

Broken = Mapping[str, set[Key]]
"""Entity keys by mapping."""


def reasons(steps: Sequence[Step], broken: Broken) -> dict[bytes, DataError]:
    """The error for each lane in a broken reference, by what was done to its key. Raises Stop where
    a truncate alone has left it."""
    found: dict[bytes, DataError] = {}
    for step in steps:
        keys = broken.get(step.layout.mapping, set())
        entity = step.layout.entity.name
        if isinstance(step, Delete):
            gone = still_referenced(entity)
            found |= {entity_lane(entity, key): gone for key in step.keys if key in keys}
            continue
        for row in _rows(step):
            if (key := step.layout.key_of(row)) in keys:
                awaits = awaited_rows(step.layout, row)
                found[entity_lane(entity, key)] = reference_missing(entity, awaits)
    if not found:
        raise _truncated_parent(steps, broken)
    return found


def _truncated_parent(steps: Sequence[Step], broken: Broken) -> Stop:
    """A truncate has no key of its own to park by."""
    names = {step.layout.entity.name for step in steps if step.layout.mapping in broken}
    return Stop(
        f"a truncate of {', '.join(sorted(names))} would leave rows that refer to it",
        hint="delete or truncate the referring rows in the source too, or drop 'references'",
    )


def reference_missing(entity: str, awaits: tuple[bytes, ...] = ()) -> DataError:
    """The error of a row that refers to an entity row that is not there."""
    return DataError(
        f"this {entity} refers to a row that is not in the control database",
        code="reference_missing",
        awaits=awaits,
    )


def still_referenced(entity: str) -> DataError:
    """The error of a delete of a row that others refer to."""
    return DataError(
        f"this {entity} cannot be deleted while other rows refer to it", code="still_referenced"
    )


def _rows(step: Step) -> Iterator[Row]:
    """The rows that a step writes."""
    match step:
        case Upsert() | Patch():
            yield from step.rows
        case Rename():
            yield from (row for _, row in step.pairs)
        case _:
            return


def restricted(steps: Sequence[Step], broken: Broken) -> list[Step]:
    """The steps cut down to the keys in a broken reference, to ask again at the end."""
    found: list[Step] = []
    for step in steps:
        keys = broken.get(step.layout.mapping)
        if not keys:
            continue
        match step:
            case Truncate():
                found.append(step)
                continue
            case Upsert() | Patch():
                rows = [row for row in step.rows if step.layout.key_of(row) in keys]
            case Rename():
                rows = [row for _, row in step.pairs if step.layout.key_of(row) in keys]
            case Delete():
                gone = [key for key in step.keys if key in keys]
                found.append(Delete(layout=step.layout, keys=gone, times=[]))
                continue
            case _:
                assert_never(step)
        found.append(Upsert(layout=step.layout, rows=rows))
    return found
