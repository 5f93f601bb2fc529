"""Renames on the table: rows move one by one, each when its new key is free.

Rows that refer to them follow, by statements of their own. A cycle of keys is opened by letting one
of its rows stand aside on a key that nobody uses.
"""

from __future__ import annotations

from collections.abc import Sequence

from cdc_daemon.model.changes import UNCHANGED, Row
from cdc_daemon.model.effects import Key, Outcome, Rename
from cdc_daemon.sinks.columns import key_attributes
from cdc_daemon.sinks.mysql.dangling import References
from cdc_daemon.sinks.mysql.shape import Shape, filled
from cdc_daemon.sinks.mysql.transaction import Transaction
from cdc_daemon.sinks.mysql.values import source_columns
from cdc_daemon.sinks.mysql.writing import states
from cdc_daemon.sinks.rejected import duplicate_entity_key
from cdc_daemon.sinks.renaming import Move, follow, in_order
from cdc_daemon.sinks.steps import keys_of
from cdc_daemon.sinks.unlikely import unlikely

_TRIES = 8


class Renames:
    """The renames of one step."""

    def __init__(self, transaction: Transaction, references: References, shape: Shape) -> None:
        self._transaction = transaction
        self._references = references
        self._shape = shape

    def carry_out(self, step: Rename, outcome: Outcome) -> None:
        """Move the rows. A living row in the way is ``duplicate_entity_key``."""
        shape = self._shape
        keys = list(dict.fromkeys(keys_of(step)))
        standing = states(self._transaction, shape, keys)
        found = follow(step, {key: True for key, living in standing.items() if living})
        if found.clash:
            raise duplicate_entity_key(shape.layout)
        outcome.missing += [(step.layout, row) for row in found.missing]
        tombs = [key for key, living in standing.items() if not living and key in found.taken]
        if tombs:
            self._transaction.run(filled(shape.delete(), shape.key_json(tombs)))
        for group in in_order(found.moves):
            self._move_all(group)
        if step.source_keys is not None:
            self._refer(found.moves)
        outcome.count(step.layout.mapping, "update", len(found.moves))

    def _move_all(self, group: Sequence[Move]) -> None:
        """A row, or a cycle of them."""
        first, *others = group
        if not others:
            self._move(first.row, first.old)
            return
        aside = self._free_key(first.old)
        away: list[object] = [UNCHANGED] * len(self._shape.columns)
        for place, value in zip(self._shape.layout.key, aside, strict=True):
            away[place] = value
        self._move(tuple(away), first.old)  # type: ignore[arg-type]
        for move in others:
            self._move(move.row, move.old)
        self._move(first.row, aside)

    def _move(self, row: Row, old: Key) -> None:
        shape = self._shape
        present = tuple(i for i, value in enumerate(row) if value is not UNCHANGED)
        statements = [shape.rename(row, present, old, self._transaction.moment)]
        new = shape.layout.key_of(row)
        if new[0] != old[0]:
            statements += self._references.follow(shape.layout.entity, old[0], new[0])
        self._transaction.script(statements, shape.columns)

    def _refer(self, moves: Sequence[Move]) -> None:
        """First the source keys that are no more, then those that are: they may have changed."""
        shape = self._shape
        gone = [m.old_source for m in moves if m.old_source and m.old_source != m.source]
        if gone:
            self._transaction.run(filled(shape.forget, shape.source_json(gone)))
        named = [(move.source, move.new) for move in moves if move.source is not None]
        if named:
            sources = source_columns([source for source, _ in named])
            targets = shape.key_columns([key for _, key in named])
            self._transaction.run(shape.refer([*sources, *targets]))

    def _free_key(self, key: Key) -> Key:
        """The key with one part changed to something that no row has."""
        for place, attribute in enumerate(key_attributes(self._shape.layout.entity)):
            values = [unlikely(attribute.type) for _ in range(_TRIES)]
            tried = [(*key[:place], v, *key[place + 1 :]) for v in values if v is not None]
            standing = states(self._transaction, self._shape, tried)
            for candidate in tried:
                if candidate not in standing:
                    return candidate
        raise duplicate_entity_key(self._shape.layout)
