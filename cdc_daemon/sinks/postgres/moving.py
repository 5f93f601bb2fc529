"""Renames on the table: rows move one by one, each when its new key is free.

Foreign keys follow by ON UPDATE CASCADE. A cycle of keys is opened by letting one of its rows stand
aside on a key that nobody uses.
"""

from __future__ import annotations

from collections.abc import Sequence

from cdc_daemon.model.changes import UNCHANGED
from cdc_daemon.model.effects import Key, Outcome, Rename
from cdc_daemon.sinks.postgres.arrays import arrays
from cdc_daemon.sinks.postgres.names import key_attributes
from cdc_daemon.sinks.postgres.sets import states
from cdc_daemon.sinks.postgres.shape import Shape
from cdc_daemon.sinks.postgres.singles import params
from cdc_daemon.sinks.postgres.transaction import Transaction
from cdc_daemon.sinks.postgres.wire import Call
from cdc_daemon.sinks.rejected import duplicate_entity_key
from cdc_daemon.sinks.renaming import Move, follow, in_order
from cdc_daemon.sinks.steps import keys_of
from cdc_daemon.sinks.unlikely import unlikely

_TRIES = 8


def rename(transaction: Transaction, shape: Shape, step: Rename, outcome: Outcome) -> None:
    """Carry a step's renames out. A living row in the way is ``duplicate_entity_key``."""
    keys = list(dict.fromkeys(keys_of(step)))
    standing = states(transaction, shape, keys)
    found = follow(step, {key: True for key, living in standing.items() if living})
    if found.clash:
        raise duplicate_entity_key(shape.layout)
    outcome.missing += [(step.layout, row) for row in found.missing]
    tombs = [key for key, living in standing.items() if not living and key in found.taken]
    calls: list[Call] = [(shape.delete, arrays(tombs))] if tombs else []
    for group in in_order(found.moves):
        calls += _cycle(transaction, shape, group) if len(group) > 1 else [_move(shape, group[0])]
    if step.source_keys is not None:
        calls += _references(shape, found.moves)
    if calls:
        transaction.calls(calls)
    outcome.count(step.layout.mapping, "update", len(found.moves))


def _move(shape: Shape, move: Move, start: Key | None = None) -> Call:
    present = tuple(i for i, value in enumerate(move.row) if value is not UNCHANGED)
    values = [move.row[i] for i in present]
    return shape.rename(present), params([*values, *(start or move.old)])


def _cycle(transaction: Transaction, shape: Shape, group: Sequence[Move]) -> list[Call]:
    first = group[0]
    aside = _free_key(transaction, shape, first.old)
    places = shape.layout.key
    away = shape.rename(places), params([*aside, *first.old])
    return [away, *(_move(shape, move) for move in group[1:]), _move(shape, first, aside)]


def _references(shape: Shape, moves: Sequence[Move]) -> list[Call]:
    """First the source keys that are no more, then those that are: they may have changed places."""
    gone = [
        move.old_source
        for move in moves
        if move.old_source is not None and move.old_source != move.source
    ]
    calls: list[Call] = [(shape.forget_many, arrays(gone))] if gone else []
    return calls + [
        (shape.refer, params([*move.source, *move.new]))
        for move in moves
        if move.source is not None
    ]


def _free_key(transaction: Transaction, shape: Shape, key: Key) -> Key:
    """The key with one part changed to something that no row has."""
    for place, attribute in enumerate(key_attributes(shape.layout.entity)):
        values = [unlikely(attribute.type) for _ in range(_TRIES)]
        tried = [(*key[:place], v, *key[place + 1 :]) for v in values if v is not None]
        standing = states(transaction, shape, tried)
        for candidate in tried:
            if candidate not in standing:
                return candidate
    raise duplicate_entity_key(shape.layout)
