"""What the changes of a run touch, column by column: the lanes before they are digested.

A change touches source rows (by identity, before and after it) and entity keys (old and new). One
that decides which row has a key (the row comes, goes, or changes its identity) also touches the
key's *holder*; a change that refers to the key reads the holder. Among the changes of a batch these
are compared as they are; a digest of each is needed only to look them up among lanes that are
blocked. Not in here: which lanes those are, and what happens then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cdc_daemon.model.changes import Invalid, Operation, Row, Run
from cdc_daemon.model.effects import EntityRun, Key

Place = tuple[str, str]
"""Where keys can be compared: ``("row", mapping)``, ``("key", entity)``, ``("holder", entity)``."""

Part = bytes | Key
"""A key of several values, or the only value of a key of one: that is hashed once for all."""

_LENGTHS = [length.to_bytes(4, "big") for length in range(256)]
_LINKS = 8  # rounds in which what belongs together is followed


@dataclass(frozen=True, slots=True)
class Touched:
    """One key for each change of a run, or None where a change touches none."""

    place: Place
    keys: Sequence[Part | None]


@dataclass(frozen=True, slots=True)
class Touches:
    """What the changes of one run touch, and what they read."""

    writes: list[Touched]
    reads: list[Touched]

    @property
    def all(self) -> list[Touched]:
        """Both."""
        return self.writes + self.reads


def touches_of(run: EntityRun) -> Touches:
    """All that the changes of a mapped run have to do with; nothing for a truncate."""
    if run.operation is Operation.TRUNCATE:
        return Touches([], [])
    return Touches(_writes(run), _reads(run))


def _writes(run: EntityRun) -> list[Touched]:
    rows: Place = ("row", run.layout.mapping)
    keys: Place = ("key", run.layout.entity.name)
    found = [Touched(rows, column) for column in _identities(run)]
    if run.rows:
        found.append(Touched(keys, _parts(run.rows, run.layout.key)))  # type: ignore[arg-type]
    if run.old_keys is not None:
        found.append(Touched(keys, [old and part(old) for old in run.old_keys]))
    return found + _holders(run, found) if run.layout.referred else found


def _reads(run: EntityRun) -> list[Touched]:
    """The holders of the keys that rows refer to."""
    return [
        Touched(
            ("holder", attribute.references),
            [value if isinstance(value := row[i], bytes) else None for row in run.rows],
        )
        for i, attribute in enumerate(run.layout.attributes)
        if attribute.references is not None and run.rows
    ]


def _holders(run: EntityRun, columns: Sequence[Touched]) -> list[Touched]:
    """Of the entity keys in these columns those whose holder a change decides."""
    place: Place = ("holder", run.layout.entity.name)
    keys = [column.keys for column in columns if column.place[0] == "key"]
    if run.operation is Operation.UPDATE:
        moved = _moved(columns)
        keys = [[key if i in moved else None for i, key in enumerate(each)] for each in keys]
        if not moved:
            return []
    return [Touched(place, each) for each in keys]


def _moved(columns: Sequence[Touched]) -> set[int]:
    """The updates that change their row's identity. Another key alone is none: references to the
    row are carried along."""
    same = [column.keys for column in columns if column.place[0] == "row"]
    if len(same) < 2:
        return set()
    after, before = same
    return {i for i, (new, old) in enumerate(zip(after, before, strict=True)) if new != old}


def _identities(run: EntityRun) -> list[list[Part]]:
    """The identities of the source rows, after and before each change."""
    return [
        _identity_column(_meant(run, rows), places) for rows, places in _identity_images(run.source)
    ]


def _identity_images(source: Run) -> Iterator[tuple[Sequence[Row], Sequence[int]]]:
    """The images that the log has of rows, after and before, and where the identity is in them."""
    identity = source.relation.identity
    if source.operation in (Operation.INSERT, Operation.UPDATE):
        yield source.new_rows, identity
    if source.old_rows is not None:
        yield source.old_rows, identity if source.old_full else range(len(identity))


def _meant(run: EntityRun, rows: Sequence[Row]) -> Sequence[Row]:
    """Of the rows of its source those that a run is about."""
    if len(run.sequences) == len(rows):
        return rows
    first = run.source.sequence
    return [rows[sequence - first] for sequence in run.sequences]


def _identity_column(rows: Sequence[Row], places: Sequence[int]) -> list[Part]:
    columns = [_texts([row[i] for row in rows]) for i in places]
    return _joined(columns, len(rows))


def _parts(rows: Sequence[Row], places: Sequence[int]) -> list[object]:
    return _joined([[row[i] for row in rows] for i in places], len(rows))


def _joined(columns: Sequence[list[Any]], number: int) -> list[Any]:
    """Columns of values as one of keys."""
    if len(columns) == 1:
        return columns[0]
    return list(zip(*columns, strict=True)) if columns else [()] * number


def part(key: Key) -> Part:
    """A key as it is compared."""
    return key[0] if len(key) == 1 else key


def key_of(one: Part) -> Key:
    """The inverse."""
    return (one,) if isinstance(one, bytes) else one


def _texts(column: Sequence[object]) -> list[bytes]:
    """Identity values as ``identity_of`` has them, looked at only where some are no texts."""
    if set(map(type, column)) <= {bytes}:
        return column  # type: ignore[return-value]
    return list(identity_of(column))


def identity_of(values: Iterable[object]) -> Key:
    """A source row's identity: values that are no text (a null identity) count as empty, INVALID
    as its bytes, which are no text's."""
    raw = (value.raw if isinstance(value, Invalid) else value for value in values)
    return tuple([value if isinstance(value, bytes) else b"" for value in raw])


def identities_in(source: Run, sequence: int) -> list[Row]:
    """The identities of one change's row as the log gives them, after it and before it."""
    i = sequence - source.sequence
    return [tuple([rows[i][j] for j in places]) for rows, places in _identity_images(source)]


# --- digests ------------------------------------------------------------------------------------


class Lane(bytes):
    """A digest made here, beside the ``mark`` of its key: a number that no other process shares."""

    mark: int


def digest(kind: str, name: str, key: Sequence[bytes]) -> Lane:
    """16 bytes for one lane. ``kind``, ``name``: its place."""
    one = part(tuple(key))
    lane = Lane(digests((kind, name), [one])[0])
    lane.mark = hash(one)
    return lane


def digests(place: Place, keys: Iterable[Part]) -> list[bytes]:
    """The same for many keys of one place."""
    begin = hashlib.blake2b("\0".join(place).encode(), digest_size=16)
    found: list[bytes] = []
    for key in keys:
        state = begin.copy()
        for value in (key,) if isinstance(key, bytes) else key:
            length = len(value)
            state.update((_LENGTHS[length] if length < 256 else length.to_bytes(4, "big")) + value)
        found.append(state.digest())
    return found


# --- what belongs together ----------------------------------------------------------------------


def together(
    runs: Sequence[Touches], seeds: Mapping[Place, Iterable[Part]]
) -> list[set[int]] | None:
    """For each run the changes that touch one of these keys, or a key that such a change touches.

    None where that has no end in sight: then all changes may belong together.
    """
    joined: dict[Place, set[Part | None]] = {place: set(keys) for place, keys in seeds.items()}
    found: list[set[int]] = [set() for _ in runs]
    columns_of = [run.all for run in runs]
    for _ in range(_LINKS):
        grown = False
        for columns, known in zip(columns_of, found, strict=True):
            new = _touching(columns, joined) - known
            if new:
                grown = True
                known.update(new)
                _join(columns, new, joined)
        if not grown:
            return found
    return None


def _touching(columns: Sequence[Touched], joined: Mapping[Place, set[Part | None]]) -> set[int]:
    found: set[int] = set()
    for column in columns:
        wanted = joined.get(column.place)
        if wanted and not wanted.isdisjoint(column.keys):
            found.update([i for i, key in enumerate(column.keys) if key in wanted])
    return found


def _join(
    columns: Sequence[Touched], changes: Iterable[int], joined: dict[Place, set[Part | None]]
) -> None:
    for column in columns:
        keys = joined.setdefault(column.place, set())
        keys.update(key for i in changes if (key := column.keys[i]) is not None)
