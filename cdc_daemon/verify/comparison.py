"""Two streams in key order, side by side: what is equal is counted, what is not is set aside.

What is set aside is grouped by key: the target's row, if any, and every source row that would have
that key (more than one where two rows of the source claim one key).
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from cdc_daemon.model.entities import Attribute
from cdc_daemon.verify.hashes import Canonical, Digest, Values, digest, encoded
from cdc_daemon.verify.reading import Texts

Key = tuple[bytes, ...]

WHOLE = 100
"""Unequal rows per mapping that are kept with their values, to say in what they differ."""


Content = Values | Digest
"""What a row says: all of it, or as little as is needed to see that it has changed."""


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A source row, mapped. ``reason``: why it cannot be; ``dangling``: refs that lead nowhere."""

    identity: Texts
    reason: str
    dangling: tuple[str, ...]
    content: Content

    def equals(self, target: Content, attributes: Sequence[Attribute]) -> bool:
        """Whether the target says the same, where the source row says anything."""
        if self.reason or not self.dangling:
            return not self.reason and _same(self.content, target)
        return not self.differing(target, attributes)

    def differing(self, target: Content, attributes: Sequence[Attribute]) -> tuple[str, ...]:
        """Names of the attributes that differ, as far as known; dangling refs do not count."""
        if isinstance(self.content, Digest) or isinstance(target, Digest):
            return ()
        return tuple(
            attribute.name
            for attribute, ours, theirs in zip(attributes, self.content, target, strict=True)
            if ours != theirs and attribute.name not in self.dangling
        )


def _same(ours: Content, theirs: Content) -> bool:
    if isinstance(ours, Digest) is not isinstance(theirs, Digest):
        return _brief(ours) == _brief(theirs)
    return ours == theirs


def _brief(content: Content) -> Digest:
    return content if isinstance(content, Digest) else digest(content)


@dataclass(frozen=True, slots=True)
class Group:
    """Everything with one key. ``key`` None: one source row that has no key."""

    key: Key | None
    rows: tuple[SourceRow, ...]
    target: Content | None

    def brief(self) -> Group:
        """The same in less memory; dangling refs are compared value by value, and stay."""
        if any(row.dangling for row in self.rows):
            return self
        rows = tuple([replace(row, content=_brief(row.content)) for row in self.rows])
        return Group(self.key, rows, None if self.target is None else _brief(self.target))

    def __eq__(self, other: object) -> bool:
        """Whether both sides say what they said in another reading."""
        if not isinstance(other, Group):
            return NotImplemented
        return self._fingerprint() == other._fingerprint()

    def __hash__(self) -> int:
        return hash(self.key)

    def _fingerprint(self) -> tuple[object, ...]:
        rows = [(row.identity, row.reason, _brief(row.content)) for row in self.rows]
        return self.key, rows, None if self.target is None else _brief(self.target)


@dataclass(slots=True)
class Tally:
    """What comparing two streams came to.

    ``unequal`` holds at most ``limit`` groups, only the first ``WHOLE`` of them with their values;
    ``beyond`` counts the others.
    """

    limit: int
    source: int = 0
    target: int = 0
    match: int = 0
    kept: int = 0
    unequal: list[Group] = field(default_factory=list)
    beyond: int = 0
    source_hash: str = ""
    target_hash: str = ""


class Hash(Protocol):
    """What takes in bytes."""

    def update(self, data: bytes, /) -> None:
        """Take in some more."""


_END: tuple[Texts, Iterator[Texts] | None] = ((), None)


def _precedes(key: Texts, other: Texts) -> bool:
    """Whether a source row comes before a key of the target; one without a key always does."""
    return None in key or key < other


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
        self._canonical = Canonical(attributes)

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
            equal = self._hash(group, *hashes)
            if equal:
                tally.match += 1
            elif len(tally.unequal) < limit:
                whole = len(tally.unequal) < WHOLE
                tally.unequal.append(group if whole else group.brief())
            else:
                tally.beyond += 1
        tally.source_hash, tally.target_hash = (one.hexdigest() for one in hashes)
        return tally

    def groups(self, source: Iterable[Texts], target: Iterable[Texts]) -> Iterator[Group]:
        """Both sides by key, in key order; source rows that lack a part of it wherever they come.

        Each column has its NULLs first, so such a row may stand between two that have a key.
        """
        rows = itertools.groupby(source, self._key_of)
        key, found = next(rows, _END)
        for theirs in target:
            their_key = theirs[: self._keys]
            while found is not None and key != their_key and _precedes(key, their_key):
                yield from self._ours(key, found)
                key, found = next(rows, _END)
            if found is not None and key == their_key:
                yield self._group(key, found, theirs)
                key, found = next(rows, _END)
            else:
                yield self._group(their_key, (), theirs)
        while found is not None:
            yield from self._ours(key, found)
            key, found = next(rows, _END)

    def _ours(self, key: Texts, rows: Iterable[Texts]) -> Iterator[Group]:
        """Source rows of one key that the target does not have; without a key each on its own."""
        if None not in key:
            yield self._group(key, rows, None)
            return
        for row in rows:
            yield self._group(None, (row,), None)

    def _hash(self, group: Group, source: Hash, target: Hash) -> bool:
        """Add a group to the content hashes; whether it is one row, the same on both sides."""
        assert not isinstance(group.target, Digest)
        theirs = None if group.target is None else encoded(group.target)
        equal = False
        for row in group.rows:
            assert not isinstance(row.content, Digest)
            if row.content == group.target:
                equal = len(group.rows) == 1 and not row.dangling and not row.reason
            if not row.reason:
                same = row.content == group.target and theirs is not None
                source.update(theirs if same and theirs else encoded(row.content))
        if theirs is not None:
            target.update(theirs)
        return equal

    def _source_row(self, row: Texts, theirs: Texts | None, target: Values | None) -> SourceRow:
        """A row of a source statement; the target's row with that key saves some work."""
        reason, dangling = row[self._identities], row[self._identities + 1]
        texts = row[self._identities + 2 :]
        if theirs is None or target is None:
            content = self._canonical.row(texts)
        else:
            content = self._canonical.like(texts, theirs, target)
        return SourceRow(
            row[: self._identities],
            "" if reason is None else reason.decode(),
            tuple(dangling.decode().split(",")) if dangling else (),
            content,
        )

    def _key_of(self, row: Texts) -> Texts:
        start = self._identities + 2
        return row[start : start + self._keys]

    def _group(self, key: Texts | None, rows: Iterable[Texts], theirs: Texts | None) -> Group:
        target = None if theirs is None else self._canonical.row(theirs)
        found = tuple([self._source_row(row, theirs, target) for row in rows])
        return Group(key, found, target)  # type: ignore[arg-type]
