"""What the steps of a unit name: rows, keys, positions; the same for every sink."""

from __future__ import annotations

from typing import assert_never

from cdc_daemon.model.changes import Row
from cdc_daemon.model.effects import Delete, Key, Patch, Rename, Step, Truncate, Upsert
from cdc_daemon.sinks.rejected import duplicate_entity_key


def number_of(step: Step) -> int:
    """How many rows a step names; a truncate counts as one."""
    match step:
        case Upsert() | Patch():
            return len(step.rows)
        case Delete():
            return len(step.keys)
        case Rename():
            return len(step.pairs)
        case Truncate():
            return 1
        case _:
            assert_never(step)


def last_of_each(step: Upsert) -> tuple[list[Row], list[Key] | None]:
    """Rows without repeated keys: the last one counts. With references a repetition is an error."""
    if not step.fresh:
        return step.rows, step.source_keys
    key_of = step.layout.key_of
    last = {key_of(row): row for row in step.rows}
    if len(last) == len(step.rows):
        return step.rows, step.source_keys
    if step.source_keys is not None:
        raise duplicate_entity_key(step.layout)
    return list(last.values()), None


def present_in(step: Patch) -> tuple[int, ...]:
    """The positions that a patch writes or finds its row by."""
    return tuple(i for i in range(len(step.layout.columns)) if i not in step.unchanged)


def written_rows(step: Upsert | Patch | Rename) -> list[Row]:
    """The rows that a step writes."""
    return [row for _, row in step.pairs] if isinstance(step, Rename) else step.rows


def keys_of(step: Rename) -> list[Key]:
    """The keys that rows leave, pass through or come to."""
    return [key for old, row in step.pairs for key in (old, step.layout.key_of(row))]
