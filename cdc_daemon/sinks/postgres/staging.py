"""Many rows: straight COPY while inserts keep not conflicting, else COPY to a stage and join.

Rows that the log inserted are appended to the entity table under a savepoint. A conflict takes that
back and sends them, and for a while all later ones, through the stage: a temporary table of the
layout, from which one UPDATE writes the rows that exist and one INSERT adds those that do not.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from itertools import starmap

import psycopg

from cdc_daemon.model.changes import Row
from cdc_daemon.model.effects import Delete, Key, Layout, Outcome, Patch, Truncate, Upsert
from cdc_daemon.model.entities import Kind
from cdc_daemon.sinks.postgres.copytext import Encoder, encoder, feed
from cdc_daemon.sinks.postgres.names import DELETED_AT, LAST_SYNC, quote
from cdc_daemon.sinks.postgres.session import Session
from cdc_daemon.sinks.postgres.shape import Shape
from cdc_daemon.sinks.postgres.singles import (
    arrays,
    delete_call,
    duplicate_entity_key,
    last_of_each,
    present_in,
)
from cdc_daemon.sinks.postgres.transaction import Transaction
from cdc_daemon.sinks.postgres.wire import affected

STAGE_ROWS = 20_000
"""Rows staged at once, so that the stage stays within temp_buffers."""

_CAUTION = (4, 64)  # batches through the stage after a first conflict, and at most


class Caution:
    """Whether a layout's inserts are worth a straight COPY; doubles the wait with each conflict."""

    def __init__(self) -> None:
        self._wait, self._left = _CAUTION[0], 0

    def direct(self) -> bool:
        """Ask before each batch of inserts."""
        if self._left:
            self._left -= 1
            return False
        return True

    def went_well(self) -> None:
        """A straight COPY met no conflict."""
        self._wait = _CAUTION[0]

    def conflicted(self) -> None:
        """A straight COPY had to be taken back."""
        self._left = self._wait
        self._wait = min(self._wait * 2, _CAUTION[1])


class Codec:
    """The encoders of one layout, made at first use."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._made: dict[tuple[tuple[int, ...] | None, int], Encoder] = {}
        self._binary = frozenset(
            i for i, a in enumerate(layout.attributes) if a.type.kind is Kind.BYTES
        )

    def rows(self, present: tuple[int, ...] | None = None, extra: int = 0) -> Encoder:
        """For rows of the layout, or of its present columns, with ``extra`` fields behind."""
        made = self._made.get((present, extra))
        if made is None:
            places = range(len(self._layout.columns)) if present is None else present
            binary = frozenset(n for n, place in enumerate(places) if place in self._binary)
            made = self._made[present, extra] = encoder(len(places) + extra, binary)
        return made

    def references(self) -> Encoder:
        """For source key and entity key."""
        key = (-1,)
        made = self._made.get((key, 0))
        if made is None:
            reference = self._layout.reference
            sources = len(reference.columns) if reference else 0
            made = self._made[key, 0] = encoder(sources + len(self._layout.key))
        return made


class Staging:
    """Sets of rows, written inside one transaction."""

    def __init__(
        self,
        session: Session,
        transaction: Transaction,
        cautions: dict[int, Caution],
        codecs: dict[int, Codec],
    ) -> None:
        self._session = session
        self._transaction = transaction
        self._cautions = cautions
        self._codecs = codecs
        self._filled: set[int] = set()
        self.created: list[int] = []

    def upsert(self, shape: Shape, step: Upsert, outcome: Outcome) -> None:
        """Write whole rows, and their references. DataError ``duplicate_entity_key``."""
        if step.fresh and self._append(shape, step, outcome):
            return
        rows, source_keys = last_of_each(shape, step)
        for start in range(0, len(rows), STAGE_ROWS):
            piece = rows[start : start + STAGE_ROWS]
            named = source_keys[start : start + STAGE_ROWS] if source_keys is not None else None
            self._merge(shape, piece, named, outcome)

    def patch(self, shape: Shape, step: Patch, outcome: Outcome) -> None:
        """Write the present columns of rows that exist; the others are missing."""
        present = present_in(step)
        encode = self._codec(shape).rows(present)
        pick = operator.itemgetter(*present) if len(present) > 1 else None
        for start in range(0, len(step.rows), STAGE_ROWS):
            rows = step.rows[start : start + STAGE_ROWS]
            picked = list(map(pick, rows)) if pick else [(row[present[0]],) for row in rows]
            copy = shape.copy_stage(present)
            statements = [*self._prepared(shape), copy, shape.patch_staged(present)]
            written = affected(self._transaction.script(statements, feed(encode, picked))[-1])
            outcome.count(step.layout.mapping, "update", written)
            if written < len(rows):
                self._note_missing(shape, rows, outcome)

    def delete(self, shape: Shape, step: Delete, outcome: Outcome) -> None:
        """Delete by key, hard or softly, and the references that go along."""
        calls = [delete_call(shape, step)]
        if step.source_keys:
            calls.append((shape.forget_many, arrays(step.source_keys)))
        gone = affected(self._transaction.calls(calls)[0])
        outcome.count(step.layout.mapping, "delete", gone)
        outcome.count(step.layout.mapping, "noop", len(step.keys) - gone)

    def truncate(self, shape: Shape, step: Truncate, outcome: Outcome) -> None:
        """Delete every row of the mapping, hard or softly, and all its references."""
        if step.layout.soft:
            moment = f"timestamptz 'epoch' + {step.time} * interval '1 microsecond'"
            statement = (
                f"UPDATE {shape.table} SET {quote(DELETED_AT)} = {moment},"
                f" {quote(LAST_SYNC)} = now() WHERE {quote(DELETED_AT)} IS NULL"
            )
        else:
            statement = f"DELETE FROM {shape.table}"
        statements = [statement]
        if shape.reference:
            statements.append(f"DELETE FROM {shape.reference}")
        gone = affected(self._transaction.script(statements)[0])
        outcome.count(step.layout.mapping, "delete", gone)

    def _append(self, shape: Shape, step: Upsert, outcome: Outcome) -> bool:
        """Try a straight COPY; False where a row was there already."""
        caution = self._cautions.setdefault(shape.number, Caution())
        if not caution.direct():
            return False
        codec = self._codec(shape)
        statements, feeds = [shape.copy_table], [feed(codec.rows(), step.rows)]
        if step.source_keys is not None:
            statements.append(shape.copy_references)
            feeds.append(feed(codec.references(), _references(shape, step.rows, step.source_keys)))
        self._transaction.mark()
        try:
            self._transaction.script(statements, *feeds)
        except psycopg.errors.UniqueViolation:
            self._transaction.rollback_to_mark()
            caution.conflicted()
            return False
        self._transaction.release()
        caution.went_well()
        outcome.count(step.layout.mapping, "insert", len(step.rows))
        return True

    def _merge(
        self, shape: Shape, rows: Sequence[Row], source_keys: list[Key] | None, outcome: Outcome
    ) -> None:
        """One stage full: write over what exists, add what does not."""
        named = source_keys is not None
        staged: Sequence[Sequence[object]] = rows
        if source_keys is not None:
            staged = list(map(operator.add, rows, source_keys))
        encode = self._codec(shape).rows(extra=len(shape.sources) if named else 0)
        statements = [*self._prepared(shape), shape.copy_stage(sources=named)]
        statements.append(shape.update_staged)
        if named:
            statements.append(shape.refer_staged)
        results = self._transaction.script(statements, feed(encode, staged))
        updated = affected(results[-2 if named else -1])
        inserted = 0
        if updated < len(rows):
            inserted = affected(self._transaction.script([shape.insert_staged])[0])
        if named and updated + inserted < len(rows):
            raise duplicate_entity_key(shape)
        outcome.count(shape.layout.mapping, "update", updated)
        outcome.count(shape.layout.mapping, "insert", inserted)

    def _note_missing(self, shape: Shape, rows: Sequence[Row], outcome: Outcome) -> None:
        keys = [shape.layout.key_of(row) for row in rows]
        living = states(self._transaction, shape, keys)
        outcome.missing += [
            (shape.layout, row) for row, key in zip(rows, keys, strict=True) if not living.get(key)
        ]

    def _prepared(self, shape: Shape) -> list[str]:
        """What makes the stage ready: created once per session, empty before each use."""
        if shape.number not in self._session.stages:
            self._session.stages.add(shape.number)
            self.created.append(shape.number)
            self._filled.add(shape.number)
            return [shape.create_stage]
        if shape.number in self._filled:
            return [shape.empty_stage]
        self._filled.add(shape.number)
        return []

    def forget_created(self, since: int) -> None:
        """A rollback took these stages away."""
        self._session.stages.difference_update(self.created[since:])
        del self.created[since:]

    def _codec(self, shape: Shape) -> Codec:
        codec = self._codecs.get(shape.number)
        if codec is None:
            codec = self._codecs[shape.number] = Codec(shape.layout)
        return codec


def states(transaction: Transaction, shape: Shape, keys: Sequence[Key]) -> dict[Key, bool]:
    """Those of these keys that exist, and whether the row there lives (True) or is a tombstone."""
    if not keys:
        return {}
    found = transaction.calls([(shape.states, arrays(keys))])[0]
    return {
        keys[int(found.get_value(i, 0) or 0) - 1]: found.get_value(i, 1) == b"t"
        for i in range(found.ntuples)
    }


def _references(
    shape: Shape, rows: Sequence[Row], source_keys: Sequence[Key]
) -> list[Sequence[object]]:
    if len(shape.keys) == 1:
        index = shape.layout.key[0]
        return [(*source, row[index]) for source, row in zip(source_keys, rows, strict=True)]
    pairs = zip(source_keys, map(shape.layout.key_of, rows), strict=True)
    return list(starmap(operator.add, pairs))
