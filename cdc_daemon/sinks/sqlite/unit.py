"""One unit of work: rows, references, parked changes and the checkpoint in one transaction.

It begins with its first use, by taking the write lock and asking for the epoch, so nobody else
writes until it ends. An ``apply`` that fails leaves the unit as it was.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import assert_never

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
from cdc_daemon.model.errors import DataError
from cdc_daemon.model.failpoint import failpoint
from cdc_daemon.model.ports import CopiedMapping, Repaired
from cdc_daemon.model.position import SourceIdentity
from cdc_daemon.sinks.forms import Stored
from cdc_daemon.sinks.rejected import data_error
from cdc_daemon.sinks.renaming import carry_out
from cdc_daemon.sinks.sqlite import (
    children,
    copied,
    verifications,
)
from cdc_daemon.sinks.sqlite.checkpoint import Lease
from cdc_daemon.sinks.sqlite.dangling import References, Suspects
from cdc_daemon.sinks.sqlite.database import Connection, translated
from cdc_daemon.sinks.sqlite.errors import rolled_back, translate
from cdc_daemon.sinks.sqlite.failure_queue import SqliteQueue
from cdc_daemon.sinks.sqlite.faults import Search
from cdc_daemon.sinks.sqlite.moving import Moving
from cdc_daemon.sinks.sqlite.shape import Shape
from cdc_daemon.sinks.sqlite.sweep import Sweep
from cdc_daemon.sinks.sqlite.writing import Writing
from cdc_daemon.sinks.steps import number_of

_CHUNK = """
    INSERT INTO cdc_backfill_chunk (pipeline, generation, mapping, rows, finished_at)
    SELECT pipeline, generation, ?1, ?2, ?3 FROM cdc_checkpoint WHERE pipeline = ?4
    ON CONFLICT (pipeline, generation, mapping, number)
    DO UPDATE SET rows = rows + excluded.rows, finished_at = excluded.finished_at"""


class Shapes:
    """SQL of each layout, kept as long as the sink."""

    def __init__(self) -> None:
        self._known: dict[int, Shape] = {}

    def of(self, layout: Layout) -> Shape:
        """The shape of a layout. The shape keeps the layout, so its id stays its own."""
        shape = self._known.get(id(layout))
        if shape is None:
            shape = self._known[id(layout)] = Shape(layout)
        return shape


class SqliteUnit:
    """``UnitOfWork`` on SQLite; made and ended by ``SqliteSink.begin``."""

    def __init__(
        self, connection: Connection, lease: Lease, shapes: Shapes, references: References
    ) -> None:
        self._connection = connection
        self._lease = lease
        self._shapes = shapes
        self._references = references
        self._moment = lease.moment()
        self._begun = False
        self._marks = 0
        self._suspects: list[tuple[tuple[str, str], set[Stored]]] = []
        self.queue = SqliteQueue(self._ledger, lease.pipeline, self._moment)

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """What is done inside is undone when an exception leaves it; savepoints may nest.

        Raises Stop where a data error took the whole transaction with it.
        """
        connection = self._opened()
        name = f"cdc_{self._marks}"
        self._marks += 1
        suspects, number = self._suspects, len(self._suspects)
        with translated():
            connection.execute(f"SAVEPOINT {name}")
        try:
            yield
        except BaseException as exc:
            self._suspects = suspects
            del suspects[number:]
            if connection.in_transaction:
                with translated():
                    connection.execute(f"ROLLBACK TO {name}")
                    connection.execute(f"RELEASE {name}")
            elif isinstance(exc, DataError):
                raise rolled_back() from exc
            raise
        else:
            with translated():
                connection.execute(f"RELEASE {name}")
        finally:
            self._marks -= 1

    # --- rows ---------------------------------------------------------------------------------

    def references(self, layout: Layout, source_keys: Sequence[Key]) -> dict[Key, Key]:
        """Entity key of each source row that the mapping's reference table knows."""
        if not source_keys:
            return {}
        shape = self._shapes.of(layout)
        with translated():
            found = self._opened().execute(shape.resolve, (shape.source_json(source_keys),))
            return {source_keys[n]: tuple([value.encode() for value in key]) for n, *key in found}

    def apply(self, steps: Sequence[Step]) -> Outcome:
        """Apply steps in order. All or nothing: on DataError the unit is as before the call."""
        outcome = Outcome()
        steps = [step for step in steps if number_of(step) > 0]
        if not steps:
            return outcome
        connection = self._opened()
        with self.savepoint():
            writing = Writing(connection, outcome, self._moment, self._lease.started)
            for step in steps:
                shape = self._shapes.of(step.layout)
                with translated(shape.columns):
                    self._apply(writing, shape, step, outcome)
            with translated():
                self._references.loosen_late(connection, steps)
                self._suspect(self._references.suspects(connection, steps))
        return outcome

    def _apply(self, writing: Writing, shape: Shape, step: Step, outcome: Outcome) -> None:
        match step:
            case Upsert():
                writing.upsert(shape, step)
            case Patch():
                writing.patch(shape, step)
            case Delete():
                writing.delete(shape, step)
                if not step.layout.soft:
                    self._references.loosen(self._connection, step.layout, step.keys)
            case Rename():
                carry_out(Moving(self._connection, shape, self._moment), step, outcome)
            case Truncate():
                writing.truncate(shape, step)
            case _:
                assert_never(step)

    def faults(
        self, steps: Sequence[Step], like: DataError | None = None
    ) -> dict[str, dict[Key, DataError]]:
        """Entity keys, by mapping, of rows that can be told to be at fault, and why."""
        del like  # only writing a row tells
        found: dict[str, dict[Key, DataError]] = {}
        connection = self._opened()
        search = Search(connection, self._moment, self._lease.started)
        with suppress(_TakeBack), self.savepoint(), translated():
            for step in steps:
                errors = search.run(self._shapes.of(step.layout), step)
                if errors:
                    known = found.setdefault(step.layout.mapping, {})
                    known |= {key: errors[key] for key in errors.keys() - known.keys()}
            raise _TakeBack
        return found

    def dangling(self, steps: Sequence[Step]) -> dict[str, set[Key]]:
        """Entity keys, by mapping, that these steps leave in a broken reference."""
        with translated():
            return self._references.dangling(self._opened(), steps)

    # --- the ledger ---------------------------------------------------------------------------

    @contextmanager
    def _ledger(self) -> Iterator[Connection]:
        """The connection, inside the transaction."""
        with translated():
            yield self._opened()

    def audit(self, repaired: Sequence[Repaired]) -> None:
        """Note what was repaired, in this unit."""
        with self._ledger() as ledger:
            verifications.audit(ledger, self._lease.pipeline, repaired, self._moment)

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
        with self._ledger() as ledger:
            children.note(ledger, self._lease.pipeline, table, gone, come)

    def forget_children(self, table: str | None = None) -> None:
        """Forget all children of one source table; None: of the pipeline."""
        with self._ledger() as ledger:
            children.forget(ledger, self._lease.pipeline, table)

    # --- the checkpoint -----------------------------------------------------------------------

    def save_checkpoint(
        self, position: str, *, commit_time: int | None, transactions: int, changes: int
    ) -> None:
        """Move the checkpoint in this unit.

        References that this unit concerns are checked here and now: DataError, with the unit as
        before. Raises Fenced when the epoch is not ours.
        """
        failpoint("before_checkpoint_upsert")
        connection = self._opened()
        self._check_references()
        with translated():
            self._lease.save(
                connection,
                position,
                commit_time=commit_time,
                transactions=transactions,
                changes=changes,
            )

    def save_snapshot(self, mapping_rows: dict[str, int]) -> None:
        """Note a finished group of the snapshot.

        DataError and Fenced as for ``save_checkpoint``.
        """
        connection = self._opened()
        self._check_references()
        with translated():
            for mapping, rows in mapping_rows.items():
                connection.execute(_CHUNK, (mapping, rows, self._moment, self._lease.pipeline))

    def finish_snapshot(
        self, layouts: Sequence[Layout], identity: SourceIdentity, position: str
    ) -> Outcome:
        """Sweep rows that this generation did not see and set the checkpoint to streaming."""
        outcome = Outcome()
        connection = self._opened()
        with translated():
            shapes = list(map(self._shapes.of, layouts))
            sweep = Sweep(
                connection,
                self._references,
                shapes,
                started=self._lease.started or "",
                moment=self._moment,
            )
            self._suspect(sweep.run(outcome))
        self._check_references()
        with translated():
            self._lease.finish(connection, identity, position)
        return outcome

    def _suspect(self, found: Suspects) -> None:
        self._suspects += found.items()

    def _check_references(self) -> None:
        """Check what was put off, where something was: no COMMIT is to find it."""
        if not self._suspects:
            return
        suspects: Suspects = {}
        for place, values in self._suspects:
            suspects.setdefault(place, set()).update(values)
        with self.savepoint():
            with translated():
                whole = self._references.settle(self._connection, suspects)
            if not whole:
                raise data_error("23503")
        self._suspects = []  # a new list: a savepoint around may go back to the old one

    # --- its beginning and its end --------------------------------------------------------------

    def _opened(self) -> Connection:
        """The connection, with the transaction begun and not ended yet.

        Raises Fenced when the epoch is not ours, Stop when something has ended the transaction:
        what came now would be committed alone.
        """
        if self._begun and not self._connection.in_transaction:
            raise rolled_back()
        if not self._begun:
            with translated():
                self._connection.execute("BEGIN IMMEDIATE")
                self._begun = True
                self._lease.hold(self._connection, self._moment)
        return self._connection

    def commit(self) -> None:
        """Commit."""
        if self._begun:
            self._opened()
            self._check_references()
        failpoint("before_sink_commit")
        if self._begun:
            try:
                self._connection.execute("COMMIT")
            except sqlite3.Error as exc:
                raise translate(exc) from exc

    def rollback(self) -> None:
        """Undo everything; never raises."""
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")


class _TakeBack(Exception):
    """Leaves a savepoint whose work is not to stay."""
