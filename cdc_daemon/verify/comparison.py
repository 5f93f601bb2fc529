"""Two streams in key order, side by side: what is equal is counted, what is not is set aside.

What is set aside is grouped by key: the target's row, if any, and every source row that would have
that key (more than one where two rows of the source claim one key).
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from cdc_daemon.model.entities import Attribute
from cdc_daemon.verify.hashes import Values, canonical_row, encoded
from cdc_daemon.verify.reading import Texts

Key = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A source row, mapped. ``reason``: why it cannot be; ``dangling``: refs that lead nowhere."""

    identity: Texts
    reason: str
    dangling: tuple[str, ...]
    values: Values

    def equals(self, target: Values, attributes: Sequence[Attribute]) -> bool:
        """Whether the target says the same, where the source row says anything."""
        return not self.reason and not self.differing(target, attributes)

    def differing(self, target: Values, attributes: Sequence[Attribute]) -> tuple[str, ...]:
        """Names of the attributes that differ; dangling refs are not compared."""
        if target == self.values:
            return ()
        return tuple(
            attribute.name
            for attribute, ours, theirs in zip(attributes, self.values, target, strict=True)
            if ours != theirs and attribute.name not in self.dangling
        )


@dataclass(frozen=True, slots=True)
class Group:
    """Everything with one key. ``key`` None: one source row that has no key."""

    key: Key | None
    rows: tuple[SourceRow, ...]
    target: Values | None


@dataclass(slots=True)
class Tally:
    """What comparing two streams came to. ``unequal`` holds at most ``limit`` groups; of what is
    beyond it only the number of groups is known."""

    limit: int
    source: int = 0
    target: int = 0
    match: int = 0
    kept: int = 0
    unequal: list[Group] = field(default_factory=list)
    beyond: int = 0
    source_hash: str = ""
    target_hash: str = ""


class Comparison:
    """Compares rows of one mapping. ``keep_extra``: the target's rows without a source row stay on
    purpose and are only counted."""

    def __init__(
        self, attributes: Sequence[Attribute], keys: int, identities: int, *, keep_extra: bool
    ) -> None:
        self.attributes = attributes
        self._keys = keys
        self._identities = identities
        self._keep_extra = keep_extra
        self._canonical = canonical_row(attributes)

    def compare(self, source: Iterable[Texts], target: Iterable[Texts], limit: int) -> Tally:
        """Compare two streams, both in key order."""
        tally = Tally(limit)
        hashes = hashlib.sha256(), hashlib.sha256()
        for group in self.groups(source, target):
            tally.source += len(group.rows)
            tally.target += group.target is not None
            if self._keep_extra and not group.rows:
                tally.kept += 1
                continue
            for row in group.rows:
                if not row.reason:
                    hashes[0].update(encoded(row.values))
            if group.target is not None:
                hashes[1].update(encoded(group.target))
            if len(group.rows) == 1 and self._plainly_equal(group):
                tally.match += 1
            elif len(tally.unequal) < limit:
                tally.unequal.append(group)
            else:
                tally.beyond += 1
        tally.source_hash, tally.target_hash = (one.hexdigest() for one in hashes)
        return tally

    def groups(self, source: Iterable[Texts], target: Iterable[Texts]) -> Iterator[Group]:
        """Both sides by key, in key order; first the source rows without a key."""
        rows = itertools.groupby(source, self._key_of)
        key, found = next(rows, (None, None))
        while found is not None and None in (key or ()):
            for row in found:
                yield Group(None, (self.source_row(row),), None)
            key, found = next(rows, (None, None))
        for theirs in target:
            their_key = theirs[: self._keys]
            while found is not None and key < their_key:  # type: ignore[operator]
                yield self._group(key, found, None)
                key, found = next(rows, (None, None))
            if found is not None and key == their_key:
                yield self._group(key, found, self._canonical(theirs))
                key, found = next(rows, (None, None))
            else:
                yield self._group(their_key, (), self._canonical(theirs))
        while found is not None:
            yield self._group(key, found, None)
            key, found = next(rows, (None, None))

    def source_row(self, row: Texts) -> SourceRow:
        """A row of a source statement."""
        reason, dangling = row[self._identities], row[self._identities + 1]
        return SourceRow(
            row[: self._identities],
            "" if reason is None else reason.decode(),
            tuple(dangling.decode().split(",")) if dangling else (),
            self._canonical(row[self._identities + 2 :]),
        )

    def _key_of(self, row: Texts) -> Texts:
        start = self._identities + 2
        return row[start : start + self._keys]

    def _group(self, key: Texts | None, rows: Iterable[Texts], target: Values | None) -> Group:
        assert key is not None
        return Group(key, tuple(map(self.source_row, rows)), target)  # type: ignore[arg-type]

    def _plainly_equal(self, group: Group) -> bool:
        (row,) = group.rows
        return not row.reason and not row.dangling and row.values == group.target
