"""References written once more, where a rename in the same batch has carried them along.

Resolution fills a ``ref`` with the key that the row meant has when the batch is over. If that row
is renamed only after the reference was written, a foreign key follows whatever leaves the filled-in
key: with A going from a to b and B from b to a, a reference to A, written as b, ends at a. So these
rows get their references again after the last rename. Not in here: which rows those are among steps
of sets (fold) and of single changes (applying).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cdc_daemon.model.changes import UNCHANGED, Operation, Row
from cdc_daemon.model.effects import EntityRun, Key, Layout, Patch

Written = dict[Key, tuple[Layout, Row]]
"""What a batch leaves of each source row that it wrote; by entity key where there is no other."""


def rewritten(runs: Sequence[EntityRun], renamed: Collection[str]) -> list[Patch]:
    """Patches of nothing but the references to ``renamed`` entities, for rows that are still there.

    ``runs``: resolved, in source order per entity.
    """
    by_mapping: dict[str, Written] = {}
    for run in runs:
        if _places(run.layout, renamed):
            _follow(run, by_mapping.setdefault(run.layout.mapping, {}))
    found: dict[tuple[Layout, frozenset[int]], list[Row]] = {}
    for written in by_mapping.values():
        for layout, row in written.values():
            kept = {*layout.key, *_places(layout, renamed)}
            patch = tuple([value if i in kept else UNCHANGED for i, value in enumerate(row)])
            unchanged = frozenset(i for i, value in enumerate(patch) if value is UNCHANGED)
            found.setdefault((layout, unchanged), []).append(patch)
    return [Patch(layout=layout, unchanged=u, rows=rows) for (layout, u), rows in found.items()]


def _places(layout: Layout, renamed: Collection[str]) -> list[int]:
    attributes = layout.attributes
    return [i for i, _ in layout.refs if attributes[i].references in renamed]


def _follow(run: EntityRun, written: Written) -> None:
    """Let what is written follow one run."""
    match run.operation:
        case Operation.TRUNCATE:
            written.clear()
        case Operation.DELETE:
            for key in run.source_keys or run.old_keys or ():
                if key is not None:
                    written.pop(key, None)
        case Operation.INSERT | Operation.UPDATE:
            for i, row in enumerate(run.rows):
                new, old = _identities(run, i)
                before = written.pop(old, None)
                written[new] = (run.layout, row if before is None else _merged(run, before, row))


def _identities(run: EntityRun, i: int) -> tuple[Key, Key]:
    """What a row is known by after and before change i."""
    if run.source_keys is not None:
        new = run.source_keys[i]
        return new, new if run.old_source_keys is None else run.old_source_keys[i]
    new = run.layout.key_of(run.rows[i])
    return new, (run.old_keys[i] if run.old_keys is not None else None) or new


def _merged(run: EntityRun, before: tuple[Layout, Row], row: Row) -> Row:
    layout, earlier = before
    if not run.partial or layout.columns != run.layout.columns:
        return row
    return tuple([b if a is UNCHANGED else a for b, a in zip(earlier, row, strict=True)])
