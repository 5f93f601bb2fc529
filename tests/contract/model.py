"""A mapping's rows as a dictionary: what each step must do, said as plainly as possible."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy

from cdc_daemon.model.changes import UNCHANGED, Row
from cdc_daemon.model.effects import (
    Delete,
    Key,
    Layout,
    Patch,
    Rename,
    Step,
    Truncate,
    Upsert,
)


class Duplicate(Exception):
    """Another source row holds this entity key."""


class Model:
    """Living rows, tombstones and references of one layout, counts, and rows that were missing."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.living: dict[Key, Row] = {}
        self.dead: dict[Key, tuple[Row, int]] = {}
        self.references: dict[Key, Key] = {}
        self.counts: Counter[str] = Counter()
        self.missing: list[Row] = []

    def apply(self, steps: list[Step]) -> None:
        """Carry steps out. On Duplicate nothing has changed."""
        before = deepcopy((self.living, self.dead, self.references))
        self.counts, self.missing = Counter(), []
        try:
            for step in steps:
                self._apply(step)
        except Duplicate:
            self.living, self.dead, self.references = before
            raise

    def _apply(self, step: Step) -> None:
        match step:
            case Upsert():
                self._upsert(step)
            case Patch():
                for row in step.rows:
                    self._patch(row)
            case Delete():
                self._delete(step)
            case Rename():
                self._rename(step)
            case Truncate():
                for key in list(self.living):
                    self._bury(key, step.time)
                if not self.layout.soft:
                    self.counts["delete"] += len(self.dead)
                    self.dead.clear()
                self.references.clear()

    def _upsert(self, step: Upsert) -> None:
        rows = step.rows
        sources = step.source_keys
        if sources is None:
            rows = list({self.layout.key_of(row): row for row in rows}.values())
        for i, row in enumerate(rows):
            key = self.layout.key_of(row)
            if sources is not None:
                if key in self.living and self.references.get(sources[i]) != key:
                    raise Duplicate
                self.references[sources[i]] = key
            existed = key in self.living or self.dead.pop(key, None) is not None
            self.counts["update" if existed else "insert"] += 1
            self.living[key] = row

    def _patch(self, row: Row) -> None:
        key = self.layout.key_of(row)
        if key not in self.living:
            self.missing.append(row)
            return
        self.living[key] = merged(self.living[key], row)
        self.counts["update"] += 1

    def _delete(self, step: Delete) -> None:
        for i, key in enumerate(step.keys):
            if step.owners is not None and self.references.get(step.owners[i]) != key:
                self.counts["noop"] += 1
            elif key in self.living:
                self._bury(key, step.times[i] if step.times else 0)
            elif not self.layout.soft and self.dead.pop(key, None) is not None:
                self.counts["delete"] += 1
            else:
                self.counts["noop"] += 1
        for source in step.owners or ():
            self.references.pop(source, None)

    def _bury(self, key: Key, time: int) -> None:
        row = self.living.pop(key)
        self.counts["delete"] += 1
        if self.layout.soft:
            self.dead[key] = (row, time)

    def _rename(self, step: Rename) -> None:
        """Rows in the order they came to where they are; of two at one key the pair's own moves on,
        or one that nobody moved yet; a row that another source row's pair moved there is not it.
        """
        rows: list[tuple[Key, Row, int]] = [
            (key, row, n) for n, (key, row) in enumerate(self.living.items())
        ]
        moved: dict[int, Key | None] = {}
        for i, (old, new_row) in enumerate(step.pairs):
            before = step.old_source_keys[i] if step.old_source_keys is not None else None
            here = [one for one in rows if one[0] == old]
            own = [one for one in here if moved.get(one[2]) == before]
            found = next(iter(own + [one for one in here if moved.get(one[2]) is None]), None)
            if found is None:
                self.missing.append(new_row)
                continue
            rows.remove(found)
            key = self.layout.key_of(new_row)
            rows.append((key, merged(found[1], new_row), found[2]))
            moved[found[2]] = step.source_keys[i] if step.source_keys is not None else None
            self.dead.pop(key, None)
            if step.source_keys is not None:
                self.references.pop(before, None)  # type: ignore[arg-type]
                self.references[step.source_keys[i]] = key
        self.living = {key: row for key, row, _ in rows}
        if len(self.living) < len(rows):
            raise Duplicate
        self.counts["update"] += len(moved)


def merged(before: Row, after: Row) -> Row:
    """The later row, with the earlier one's values where the log left columns out."""
    return tuple(b if a is UNCHANGED else a for b, a in zip(before, after, strict=True))
