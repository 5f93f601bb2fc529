"""Runs cut by their changes: some, all but some, and those that rows at fault drag along."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import compress
from typing import Any

from cdc_daemon.engine.touched import Part, Place, Touches, part, together, touches_of
from cdc_daemon.model.changes import Operation
from cdc_daemon.model.effects import EntityRun, Key


def pick(run: EntityRun, indices: Sequence[int]) -> EntityRun:
    """The changes of a run at these indices, as a run of their own."""
    return _cut(run, lambda values: [values[i] for i in indices])


def without(run: EntityRun, indices: Iterable[int]) -> EntityRun:
    """The changes of a run but for those at these indices, as a run of their own."""
    kept = bytearray(b"\1") * len(run)
    for i in indices:
        kept[i] = 0
    return _cut(run, lambda values: list(compress(values, kept)))


def _cut(run: EntityRun, of: Callable[[Sequence[Any]], list[Any]]) -> EntityRun:
    return replace(
        run,
        sequences=of(run.sequences),
        rows=of(run.rows) if run.rows else [],
        old_keys=None if run.old_keys is None else of(run.old_keys),
        source_keys=None if run.source_keys is None else of(run.source_keys),
        old_source_keys=None if run.old_source_keys is None else of(run.old_source_keys),
    )


def apart(
    runs: Sequence[EntityRun],
    at_fault: Mapping[str, Iterable[Key]],
    known: Sequence[Touches] | None = None,
) -> tuple[list[EntityRun], list[EntityRun]]:
    """Runs cut into the changes that have nothing to do with these keys, and the rest.

    ``at_fault``: keys by entity; ``known``: what each run touches and reads. A change has to do
    with a key that it touches or refers to, and with whatever else such a change touches. With a
    truncate among them nothing is independent: all of them have.
    """
    seeds: dict[Place, Iterable[Part]] = {
        ("key", name): map(part, keys) for name, keys in at_fault.items()
    }
    if not seeds:
        return list(runs), []
    if any(run.operation is Operation.TRUNCATE for run in runs):
        return [], list(runs)
    found = together(known or [touches_of(run) for run in runs], seeds)
    if found is None:
        return [], list(runs)
    kept: list[EntityRun] = []
    others: list[EntityRun] = []
    for run, changes in zip(runs, found, strict=True):
        if not changes:
            kept.append(run)
        elif len(changes) == len(run):
            others.append(run)
        else:
            kept.append(without(run, changes))
            others.append(pick(run, sorted(changes)))
    return kept, others
