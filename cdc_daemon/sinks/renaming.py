"""What a step's renames come to: who ends at which key, and in which order rows can move there.

A sink moves rows one by one (:class:`Rows`), each when its new key is free. A cycle of keys is
opened by letting one of its rows stand aside on a key that nobody uses. Not in here: how rows that
refer to a renamed one follow; that is the sink's.

Pairs are followed in source order over the set of keys that exist. A source with deferred
uniqueness shifts keys (1→2, 2→3) through moments in which two rows share one key; then the pair's
own source key says which of them moves on, and where none are kept, the row that came first does.
What counts is the state after the last pair: there each key may hold one living row only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cdc_daemon.model.changes import UNCHANGED, Row, Value
from cdc_daemon.model.effects import Key, Layout, Outcome, Rename
from cdc_daemon.sinks.columns import key_attributes
from cdc_daemon.sinks.rejected import duplicate_entity_key
from cdc_daemon.sinks.steps import keys_of
from cdc_daemon.sinks.unlikely import unlikely

_TRIES = 8


class Rows(Protocol):
    """An entity's table and its mapping's references, as renames change them."""

    def standing(self, keys: Sequence[Key]) -> Mapping[Key, bool]:
        """Those of these keys at which a row stands, and whether it is a living one."""

    def clear(self, tombs: Sequence[Key]) -> None:
        """Delete the tombstones at these keys."""

    def move(self, row: Row, old: Key) -> None:
        """Give the row at a key what the row has, its key too; UNCHANGED stays."""

    def refer(self, gone: Sequence[Key], named: Sequence[tuple[Key, Key]]) -> None:
        """Forget these source keys, then note (source key, entity key): they may have changed
        places."""


def carry_out(rows: Rows, step: Rename, outcome: Outcome) -> None:
    """Move a step's rows. A living row in the way is ``duplicate_entity_key``."""
    standing = rows.standing(list(dict.fromkeys(keys_of(step))))
    found = follow(step, {key: True for key, living in standing.items() if living})
    if found.clash:
        raise duplicate_entity_key(step.layout)
    outcome.missing += [(step.layout, row) for row in found.missing]
    tombs = [key for key, living in standing.items() if not living and key in found.taken]
    if tombs:
        rows.clear(tombs)
    for group in in_order(found.moves):
        _move_all(rows, step.layout, group)
    if step.source_keys is not None:
        gone = [m.old_source for m in found.moves if m.old_source and m.old_source != m.source]
        rows.refer(gone, [(m.source, m.new) for m in found.moves if m.source is not None])
    outcome.count(step.layout.mapping, "update", len(found.moves))


def _move_all(rows: Rows, layout: Layout, group: Sequence[Move]) -> None:
    """A row, or a cycle of them."""
    first, *others = group
    if not others:
        rows.move(first.row, first.old)
        return
    aside = _free_key(rows, layout, first.old)
    away: list[Value] = [UNCHANGED] * len(layout.columns)
    for place, value in zip(layout.key, aside, strict=True):
        away[place] = value
    rows.move(tuple(away), first.old)
    for move in others:
        rows.move(move.row, move.old)
    rows.move(first.row, aside)


def _free_key(rows: Rows, layout: Layout, key: Key) -> Key:
    """The key with one part changed to something that no row has."""
    for place, attribute in enumerate(key_attributes(layout.entity)):
        values = [unlikely(attribute.type) for _ in range(_TRIES)]
        tried = [(*key[:place], v, *key[place + 1 :]) for v in values if v is not None]
        standing = rows.standing(tried)
        for candidate in tried:
            if candidate not in standing:
                return candidate
    raise duplicate_entity_key(layout)


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
