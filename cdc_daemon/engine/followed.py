"""What is kept of a source row to follow its foreign keys: pure.

A *tracked* row is the columns of a table that identify it, refer to a parent or are referred to, as
texts in the order of their names. It is noted under each parent that one of its keys names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from cdc_daemon.model.cascades import Cascade, Child
from cdc_daemon.model.changes import UNCHANGED, Invalid, Operation, Relation, Row, Run, Value
from cdc_daemon.model.errors import Stop

Tracked = tuple[bytes | None, ...]
Parent = tuple[bytes | None, ...]
"""The values of a key's columns."""


class ParentDigests:
    """What the parents of one key are looked up by, 16 bytes each."""

    def __init__(self, key: Cascade, source: str) -> None:
        named = [name.encode() for name in (source, *key.child, *key.columns)]
        self._start = hashlib.blake2b(_joined(named), digest_size=16)
        self._padded = [i for i, name in enumerate(key.columns) if name in key.padded]

    def of(self, values: Sequence[bytes]) -> bytes:
        """The digest of a parent's key."""
        digest = self._start.copy()
        if self._padded:
            values = [v.rstrip(b" ") if i in self._padded else v for i, v in enumerate(values)]
        digest.update(_joined(values))
        return digest.digest()


def _joined(parts: Sequence[bytes]) -> bytes:
    """Parts in one, so that no others give the same."""
    return b"".join([b"%d:%b" % (len(part), part) for part in parts])


def mark(text: str) -> bytes:
    """The digest of a text."""
    return _digest(text.encode())


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=16).digest()


@dataclass(eq=False)
class Followed:
    """One table, as its rows are described now: what of them is tracked.

    ``as_child``, ``as_parent``: its keys, those in which it refers and those in which it is
    referred to.
    """

    relation: Relation
    as_child: Sequence[Cascade]
    as_parent: Sequence[Cascade]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The tracked columns."""
        columns = self.relation.columns
        found = {columns[i].name for i in self.relation.identity}
        found.update(*(key.columns for key in self.as_child))
        found.update(*(key.parent_columns for key in self.as_parent))
        return tuple(sorted(found))

    @cached_property
    def _places(self) -> list[int]:
        return [self.relation.position_of(name) for name in self.names]

    @cached_property
    def _identity(self) -> list[int]:
        columns = self.relation.columns
        return [self.names.index(columns[i].name) for i in self.relation.identity]

    def places(self, columns: Sequence[str]) -> list[int]:
        """Where these columns stand in a tracked row."""
        return [self.names.index(name) for name in columns]

    def tracked(self, rows: Iterable[Row]) -> list[Tracked]:
        """What is tracked of full-width rows. Raises Stop for what the log left out."""
        places = self._places
        try:
            return [tuple([_kept(row[i]) for i in places]) for row in rows]
        except _LeftOutError:
            raise not_whole(self.relation) from None

    @cached_property
    def _digests(self) -> list[tuple[ParentDigests, list[int]]]:
        source = self.relation.source
        return [(ParentDigests(key, source), self.places(key.columns)) for key in self.as_child]

    def notes(self, rows: Iterable[Tracked]) -> Iterator[Child]:
        """The rows under each parent that they have."""
        keys = self._digests
        for row in rows:
            text = _text(row)
            digest = _digest(text)
            shown = text.decode()
            for digests, places in keys:
                values = [row[i] for i in places]
                if None not in values:
                    yield Child(digests.of(values), digest, shown)  # type: ignore[arg-type]

    def deleted(self, rows: Sequence[Tracked]) -> Run:
        """That rows were deleted."""
        identity = self._identity
        olds: list[Row] = [tuple([row[i] for i in identity]) for row in rows]
        return Run(relation=self.relation, operation=Operation.DELETE, old_rows=olds)

    def updated(self, olds: Sequence[Tracked], news: Sequence[Tracked]) -> Iterator[Run]:
        """That columns were changed; what is not tracked stays as it was."""
        identity = self._identity
        for moved in (False, True):
            pairs = [
                (tuple([old[i] for i in identity]), new)
                for old, new in zip(olds, news, strict=True)
                if any(old[i] != new[i] for i in identity) is moved
            ]
            if pairs:
                yield Run(
                    relation=self.relation,
                    operation=Operation.UPDATE,
                    new_rows=[self._wide(new) for _, new in pairs],
                    old_rows=[old for old, _ in pairs] if moved else None,
                    partial=True,
                )

    def _wide(self, row: Tracked) -> Row:
        values: list[Value] = [UNCHANGED] * len(self.relation.columns)
        for place, value in zip(self._places, row, strict=True):
            values[place] = value
        return tuple(values)


class _LeftOutError(Exception):
    """A tracked column is UNCHANGED."""


def not_whole(relation: Relation) -> Stop:
    """What ends the pipeline where rows cannot be followed."""
    return Stop(
        f"{relation.name}: the log leaves out of a changed row what foreign keys need",
        hint="set binlog_row_image=FULL on the server, then take a new snapshot",
    )


def _kept(value: Value) -> bytes | None:
    if isinstance(value, Invalid):
        return value.kept
    if value is UNCHANGED:
        raise _LeftOutError
    return value


def _text(row: Tracked) -> bytes:
    """The row as a JSON array; one without anything particular is joined at once."""
    if None not in row:
        text = b'","'.join(row)  # type: ignore[arg-type]
        if text.count(b'"') == 2 * len(row) - 2 and b"\\" not in text and b"\0" not in text:
            return b'["' + text + b'"]'
    texts = [None if value is None else value.decode() for value in row]
    return json.dumps(texts, ensure_ascii=False, separators=(",", ":")).encode()


def tracked_of(text: str) -> Tracked:
    """The tracked row that a note holds."""
    return tuple(
        [None if value is None else value.encode() for value in json.loads(text, strict=False)]
    )


def referred(row: Tracked, places: Sequence[int]) -> Parent:
    """The values by which a row is referred to."""
    return tuple([row[i] for i in places])
