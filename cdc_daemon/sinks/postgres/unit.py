"""One unit of work: rows, references, parked changes and the checkpoint in one transaction.

BEGIN travels with the first statement and COMMIT with the checkpoint, so a unit of a few rows costs
two round trips. An ``apply`` that fails leaves the unit as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import assert_never

import psycopg

from cdc_daemon.model.cascades import Child
from cdc_daemon.model.effects import (
    Delete,
    Key,
    Layout,
    Outcome,
    Patch,
    Rename,
    Step,
    Truncate,
    Upsert,
)
from cdc_daemon.model.errors import DataError, Retryable
from cdc_daemon.model.failpoint import failpoint
from cdc_daemon.model.ports import CopiedMapping, Repaired
from cdc_daemon.model.position import SourceIdentity
from cdc_daemon.sinks.caution import Caution
from cdc_daemon.sinks.postgres import children, commands, copied
from cdc_daemon.sinks.postgres.arrays import arrays
from cdc_daemon.sinks.postgres.checkpoint import CLOCK_BEHIND, FENCED, Lease
from cdc_daemon.sinks.postgres.dangling import References
from cdc_daemon.sinks.postgres.diagnosis import located
from cdc_daemon.sinks.postgres.errors import translate
from cdc_daemon.sinks.postgres.failure_queue import PostgresQueue
from cdc_daemon.sinks.postgres.faults import faults_of
from cdc_daemon.sinks.postgres.moving import rename
from cdc_daemon.sinks.postgres.session import Connection, Session
from cdc_daemon.sinks.postgres.sets import Sets
from cdc_daemon.sinks.postgres.shape import Shape
from cdc_daemon.sinks.postgres.singles import MOST, Singles
from cdc_daemon.sinks.postgres.sweep import Sweep
from cdc_daemon.sinks.postgres.transaction import Transaction
from cdc_daemon.sinks.postgres.wire import Call, Statement
from cdc_daemon.sinks.steps import number_of, written_rows

_IMMEDIATE = Statement(b"cdc_immediate", b"SET CONSTRAINTS ALL IMMEDIATE")
_FOREIGN_KEY = "sqlstate_23503"
_AT_ONCE = """DO $$
    DECLARE names text := (
        SELECT string_agg(format('%I.%I', n.nspname, c.conname), ', ')
          FROM pg_catalog.pg_constraint c
          JOIN pg_catalog.pg_namespace n ON n.oid = c.connamespace
         WHERE c.condeferred AND c.contype IN ('u', 'p', 'x', 't') AND c.conrelid <> 0);
    BEGIN
        IF names IS NOT NULL THEN EXECUTE 'SET CONSTRAINTS ' || names || ' IMMEDIATE'; END IF;
    END $$"""
"""Constraints of others that are put off, which would fail when no row is at hand any more."""


class Shapes:
    """SQL of each layout, and caution in appending to it, kept as long as the sink."""

    def __init__(self, schema: str, pipeline: str) -> None:
        self._schema = schema
        self._pipeline = pipeline
        self._known: dict[int, Shape] = {}
        self.cautions: dict[int, Caution] = {}
        self.at_once = False  # others' constraints are not put off, since one of them failed so

    def of(self, layout: Layout) -> Shape:
        """The shape of a layout. The shape keeps the layout, so its id stays its own."""
        shape = self._known.get(id(layout))
        if shape is None:
            shape = self._known[id(layout)] = Shape(layout, self._schema, self._pipeline)
        return shape


class PostgresUnit:
    """``UnitOfWork`` on PostgreSQL; made and ended by ``PostgresSink.begin``."""

    def __init__(
        self, session: Session, lease: Lease, shapes: Shapes, references: References
    ) -> None:
        self._session = session
        self._lease = lease
        self._shapes = shapes
        self._references = references
        self._transaction = Transaction(session.wire, [_AT_ONCE] if shapes.at_once else [])
        self._concerned = False
        self._last: list[Call] = []
        self.queue = PostgresQueue(self._ledger, self._calls, lease.pipeline)

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """What is done inside is undone when an exception leaves it; savepoints may nest."""
        self._transaction.mark()
        last = self._last
        try:
            yield
        except BaseException:
            self._last = last
            if self._session.alive:
                with self._translated():
                    self._transaction.rollback_to_mark()
            raise
        self._transaction.release()

    # --- rows ---------------------------------------------------------------------------------

    def references(self, layout: Layout, source_keys: Sequence[Key]) -> dict[Key, Key]:
        """Entity key of each source row that the mapping's reference table knows."""
        if not source_keys:
            return {}
        shape = self._shapes.of(layout)
        params = arrays(source_keys)
        with self._translated():
            found = self._transaction.calls([(shape.resolve, params)])[0]
        values = found.get_value
        if len(shape.targets) == 1:
            keys = [(key, values(i, 0)) for i, key in enumerate(source_keys)]
            return {key: (value,) for key, value in keys if value is not None}
        width = range(len(shape.targets))
        return {
            key: tuple([values(i, j) or b"" for j in width])
            for i, key in enumerate(source_keys)
            if values(i, 0) is not None
        }

    def apply(self, steps: Sequence[Step]) -> Outcome:
        """Apply steps in order. All or nothing: on DataError the unit is as before the call."""
        outcome = Outcome()
        steps = [step for step in steps if number_of(step) > 0]
        if not steps:
            return outcome
        known = frozenset(name for step in steps for name in step.layout.columns)
        try:
            with self.savepoint(), self._translated(known):
                self._apply_all(steps, outcome)
        except DataError as error:
            raise self._located(error, steps) from error.__cause__
        self._concerned |= any(map(self._references.concern, steps))
        return outcome

    def faults(
        self, steps: Sequence[Step], like: DataError | None = None
    ) -> dict[str, dict[Key, DataError]]:
        """Entity keys, by mapping, of rows that can be told as sets to be at fault, and why."""
        found: dict[str, dict[Key, DataError]] = {}
        version = self._session.connection.info.server_version
        with self._translated():
            for step in steps:
                shape = self._shapes.of(step.layout)
                errors = faults_of(self._transaction, shape, step, version, like)
                if errors:
                    known = found.setdefault(step.layout.mapping, {})
                    known |= {key: errors[key] for key in errors.keys() - known.keys()}
        return found

    def dangling(self, steps: Sequence[Step]) -> dict[str, set[Key]]:
        """Entity keys, by mapping, that these steps leave in a broken reference."""
        with self._translated():
            return self._references.dangling(self._transaction, steps)

    def _apply_all(self, steps: Sequence[Step], outcome: Outcome) -> None:
        for small, group in groupby(steps, _is_small):
            if small:
                self._apply_singly(list(group), outcome)
            else:
                for step in group:
                    self._apply_set(step, outcome)
        late = self._references.loosen_late(steps)
        if late:
            self._transaction.calls(late)

    def _located(self, error: DataError, steps: Sequence[Step]) -> DataError:
        """The error of a single row with its attribute."""
        if len(steps) == 1 and not isinstance(steps[0], Delete | Truncate):
            rows = written_rows(steps[0])
            if len(rows) == 1:
                shape = self._shapes.of(steps[0].layout)
                return located(self._transaction, shape, rows[0], error)
        return error

    def _apply_singly(self, steps: Sequence[Step], outcome: Outcome) -> None:
        singles = Singles(outcome)
        for step in steps:
            shape = self._shapes.of(step.layout)
            match step:
                case Upsert():
                    singles.upsert(shape, step)
                case Patch():
                    singles.patch(shape, step)
                case Delete():
                    singles.delete(shape, step)
                    singles.also(self._loosened(step))
                case Rename() | Truncate():
                    raise AssertionError("not a step of single rows")
                case _:
                    assert_never(step)
        singles.finish(self._transaction.calls(singles.calls))

    def _apply_set(self, step: Step, outcome: Outcome) -> None:
        shape = self._shapes.of(step.layout)
        sets = Sets(self._transaction, self._shapes.cautions, outcome)
        match step:
            case Upsert():
                sets.upsert(shape, step)
            case Patch():
                sets.patch(shape, step)
            case Delete():
                sets.delete(shape, step)
                loosened = self._loosened(step)
                if loosened:
                    self._transaction.calls(loosened)
            case Rename():
                rename(self._transaction, shape, step, outcome)
            case Truncate():
                sets.truncate(shape, step)
            case _:
                assert_never(step)

    def _loosened(self, step: Delete) -> list[Call]:
        return [] if step.layout.soft else self._references.loosen(step.layout, step.keys)

    # --- the ledger ---------------------------------------------------------------------------

    @contextmanager
    def _ledger(self) -> Iterator[Connection]:
        """The connection, inside the transaction."""
        with self._translated():
            self._transaction.begin()
            yield self._session.connection

    def _calls(self, calls: Iterable[Call]) -> None:
        """Statements of their own, inside the transaction."""
        with self._translated():
            self._transaction.calls(calls)

    def audit(self, repaired: Sequence[Repaired]) -> None:
        """Note what was repaired, in this unit."""
        with self._ledger() as ledger:
            commands.audit(ledger, self._lease.pipeline, repaired)

    def note_copied(self, mappings: Mapping[str, CopiedMapping]) -> None:
        """Note, in this unit, by which mappings the rows that there are were made; no others."""
        with self._ledger() as ledger:
            copied.note(ledger, self._lease.pipeline, mappings)

    def children(self, parents: Sequence[bytes], most: int, after: bytes = b"") -> list[str]:
        """Rows that are noted as children of any of these parents; so many at most.

        Of one parent: in the order of their digests, those behind ``after``; else in no order.
        """
        with self._ledger() as ledger:
            return children.read(ledger, parents, most, after)

    def note_children(
        self, table: str, gone: Sequence[tuple[bytes, bytes]], come: Sequence[Child]
    ) -> None:
        """Forget some children (parent and digest), then note others, of one source table."""
        self._calls(children.note(self._lease.pipeline, table, gone, come))

    def forget_children(self, table: str | None = None) -> None:
        """Forget all children of one source table; None: of the pipeline."""
        with self._ledger() as ledger:
            children.forget(ledger, self._lease.pipeline, table)

    # --- the checkpoint -----------------------------------------------------------------------

    def save_checkpoint(
        self, position: str, *, commit_time: int | None, transactions: int, changes: int
    ) -> None:
        """Move the checkpoint in this unit; it is sent with the COMMIT.

        Foreign keys that this unit concerns are checked here and now: DataError, with the unit as
        before. That the epoch is not ours is known at the end of the ``with``, as Fenced.
        """
        failpoint("before_checkpoint_upsert")
        self._check_constraints()
        self._last = [
            self._lease.save(
                position, commit_time=commit_time, transactions=transactions, changes=changes
            )
        ]

    def save_snapshot(self, mapping_rows: dict[str, int]) -> None:
        """Note a finished group of the snapshot.

        DataError and Fenced as for ``save_checkpoint``.
        """
        self._check_constraints()
        with self._translated():
            self._transaction.begin()
            for mapping, rows in mapping_rows.items():
                params = {**self._lease.params, "mapping": mapping, "rows": rows}
                self._session.connection.execute(_CHUNK, params)

    def finish_snapshot(
        self, layouts: Sequence[Layout], identity: SourceIdentity, position: str
    ) -> Outcome:
        """Sweep rows that this generation did not see and set the checkpoint to streaming.

        The checkpoint's row is touched with the COMMIT: heartbeats go on meanwhile.
        """
        outcome = Outcome()
        with self._translated():
            self._transaction.begin()
            _, started = self._lease.generation(self._session.connection)
            shapes = list(map(self._shapes.of, layouts))
            Sweep(self._transaction, self._references, shapes, started).run(outcome)
        self._concerned = True
        self._check_constraints()
        self._last = [self._lease.finish(identity, position)]
        return outcome

    def _check_constraints(self) -> None:
        """Check what was put off, where something was: no COMMIT is to find it.

        A tombstone may still refer to a row that went before it, in an earlier piece of the unit.
        """
        if not self._concerned:
            return
        try:
            with self.savepoint(), self._translated():
                self._transaction.calls([(_IMMEDIATE, ())])
        except DataError as error:
            loosening = self._references.loosen_everywhere()
            if error.code != _FOREIGN_KEY:
                self._check_at_once(error)
            if error.code != _FOREIGN_KEY or not loosening:
                raise
            with self.savepoint(), self._translated():
                self._transaction.calls([*loosening, (_IMMEDIATE, ())])

    def _check_at_once(self, error: DataError) -> None:
        """Raise Retryable where a constraint that somebody put off was met so for the first time:
        checked at once from now on, it tells its row."""
        if not self._shapes.at_once:
            self._shapes.at_once = True
            raise Retryable(
                f"{error.message}, which was checked at the end of the transaction only.",
                hint="such constraints are checked at once from now on",
            ) from error

    # --- its end ------------------------------------------------------------------------------

    def commit(self) -> None:
        """Commit.

        Raises Fenced, Retryable when the clock stands before the copy's beginning, and Unreachable
        when nobody knows whether it took effect.

        The last call locks the checkpoint's row, so nothing slow may come after it.
        """
        if self._transaction.begun and not self._last:
            self._check_constraints()
            self._last = [self._lease.hold()]
        failpoint("before_sink_commit")
        try:
            self._transaction.commit(self._last)
        except psycopg.Error as exc:
            if exc.sqlstate == FENCED:
                raise self._lease.fenced() from exc
            if exc.sqlstate == CLOCK_BEHIND:
                raise self._began_early() from exc
            error = translate(exc)
            if isinstance(error, DataError):
                self._check_at_once(error)
            raise error from exc

    def _began_early(self) -> Retryable:
        """What ends a unit whose rows would count as left behind; it is rolled back."""
        with self._translated():
            self._transaction.rollback()
            return self._lease.began_early(self._session.connection)

    def rollback(self) -> None:
        """Undo everything, as far as the connection lives; never raises."""
        if not self._session.alive:
            self._session.close()
            return
        try:
            self._transaction.rollback()
        except psycopg.Error:
            self._session.close()

    @contextmanager
    def _translated(self, known: frozenset[str] = frozenset()) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as exc:
            raise translate(exc, known=known) from exc


_CHUNK = """
    INSERT INTO cdc.backfill_chunk (pipeline, generation, mapping, rows, finished_at)
    SELECT pipeline, generation, %(mapping)s, %(rows)s, clock_timestamp()
      FROM cdc.checkpoint WHERE pipeline = %(pipeline)s
    ON CONFLICT (pipeline, generation, mapping, number)
    DO UPDATE SET rows = backfill_chunk.rows + EXCLUDED.rows, finished_at = EXCLUDED.finished_at"""


def _is_small(step: Step) -> bool:
    """Whether a step is cheaper row by row."""
    return not isinstance(step, Rename | Truncate) and number_of(step) <= MOST
