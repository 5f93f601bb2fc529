"""What a step's renames come to: who ends at which key, and in which order rows can move there.

Pure. Pairs are followed in source order over the set of keys that exist. A source with deferred
uniqueness shifts keys (1→2, 2→3) through moments in which two rows share one key; then the pair's
own source key says which of them moves on, and where none are kept, the row that came first does.
What counts is the state after the last pair: there each key may hold one living row only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cdc_daemon.model.changes import UNCHANGED, Row
from cdc_daemon.model.effects import Key, Rename


@dataclass(slots=True, kw_only=True)
class Move:
    """One row's way: from the key it has in the table to the last one it was given."""

    old: Key
    new: Key
    row: Row
    old_source: Key | None = None
    source: Key | None = None


@dataclass(slots=True, kw_only=True)
class Renaming:
    """The moves of a step, the rows that were not there, and whether two would share a key.

    ``taken``: every key that a row moved to, also those it left again.
    """

    moves: list[Move] = field(default_factory=list)
    taken: set[Key] = field(default_factory=set)
    missing: list[Row] = field(default_factory=list)
    clash: bool = False


def follow(step: Rename, living: Mapping[Key, bool]) -> Renaming:
    """Follow a step's pairs. ``living``: the keys among them at which a living row stands."""
    stands: dict[Key, list[Move | None]] = {key: [None] for key in living}
    found = Renaming()
    for i, (old, row) in enumerate(step.pairs):
        new = step.layout.key_of(row)
        source = step.source_keys[i] if step.source_keys is not None else None
        before = step.old_source_keys[i] if step.old_source_keys is not None else None
        occupants = stands.get(old, [])
        place = _place(occupants, before)
        if place is None:
            found.missing.append(row)
            continue
        move = occupants.pop(place)
        if move is None:
            move = Move(old=old, new=new, row=row, old_source=before, source=source)
            found.moves.append(move)
        else:
            move.new, move.row, move.source = new, _merged(move.row, row), source
        found.taken.add(new)
        stands.setdefault(new, []).append(move)
    found.clash = any(len(occupants) > 1 for occupants in stands.values())
    return found


def _place(occupants: Sequence[Move | None], source: Key | None) -> int | None:
    """Where a pair's row stands among those at its key: the one that came there from its source
    row, else one that did not move yet; None: only rows of other source rows stand there."""
    sources = [None if move is None else move.source for move in occupants]
    for wanted in (source, None):
        if wanted in sources:
            return sources.index(wanted)
    return None


def in_order(moves: Sequence[Move]) -> list[list[Move]]:
    """Moves in an order in which each finds its new key free; a cycle is a group of its own.

    Groups of one move just move; of a longer one the first must step aside, the others follow in
    the order given, and the first comes last.
    """
    by_old = {move.old: move for move in moves if move.new != move.old}
    ordered = [[move] for move in moves if move.new == move.old]
    done: set[Key] = set()
    for start in by_old.values():
        path: list[Move] = []
        move: Move | None = start
        while move is not None and move.old not in done:
            done.add(move.old)
            path.append(move)
            move = by_old.get(move.new)
        if move is not None and path and move is path[0]:
            ordered.append([path[0], *reversed(path[1:])])
        else:
            ordered += [[step] for step in reversed(path)]
    return ordered


def _merged(earlier: Row, later: Row) -> Row:
    """The later row, with the earlier one's values where the log left columns out."""
    return tuple(
        before if after is UNCHANGED else after
        for before, after in zip(earlier, later, strict=True)
    )
