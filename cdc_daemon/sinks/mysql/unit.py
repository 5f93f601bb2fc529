"""One unit of work: rows, references, parked changes and the checkpoint in one transaction.

The checkpoint's row is touched last of all, together with the COMMIT, so heartbeats go on
meanwhile. An ``apply`` that fails leaves the unit as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
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
from cdc_daemon.model.errors import CdcError, DataError
from cdc_daemon.model.failpoint import failpoint
from cdc_daemon.model.ports import CopiedMapping, Repaired
from cdc_daemon.model.position import SourceIdentity
from cdc_daemon.sinks.caution import Caution
from cdc_daemon.sinks.mysql import (
    children,
    copied,
    verifications,
)
from cdc_daemon.sinks.mysql.checkpoint import Lease
from cdc_daemon.sinks.mysql.dangling import References, Suspects
from cdc_daemon.sinks.mysql.failure_queue import MysqlQueue
from cdc_daemon.sinks.mysql.faults import Search
from cdc_daemon.sinks.mysql.moving import Moving
from cdc_daemon.sinks.mysql.session import Session, translated
from cdc_daemon.sinks.mysql.shape import Shape
from cdc_daemon.sinks.mysql.sweep import Sweep
from cdc_daemon.sinks.mysql.transaction import Transaction
from cdc_daemon.sinks.mysql.writing import Writing, referred
from cdc_daemon.sinks.rejected import data_error
from cdc_daemon.sinks.renaming import carry_out
from cdc_daemon.sinks.steps import number_of

_CHUNK = """
    INSERT INTO cdc_backfill_chunk (pipeline, generation, mapping, `rows`, finished_at)
    VALUES (%s, %s, %s, %s, UTC_TIMESTAMP(6))"""
_MORE = """
    UPDATE cdc_backfill_chunk SET `rows` = `rows` + %s, finished_at = UTC_TIMESTAMP(6)
     WHERE pipeline = %s AND generation = %s AND mapping = %s AND number = 0"""


class Shapes:
    """SQL of each layout, and caution in appending to it, kept as long as the sink."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, str], Shape] = {}
        self.cautions: dict[int, Caution] = {}

    def of(self, layout: Layout, collation: str) -> Shape:
        """The shape of a layout. The shape keeps the layout, so its id stays its own."""
        shape = self._known.get((id(layout), collation))
        if shape is None:
            shape = self._known[id(layout), collation] = Shape(layout, collation)
        return shape


class MysqlUnit:
    """``UnitOfWork`` on MySQL; made and ended by ``MysqlSink.begin``."""

    def __init__(
        self, session: Session, lease: Lease, shapes: Shapes, references: References
    ) -> None:
        self._session = session
        self._lease = lease
        self._shapes = shapes
        self._references = references
        self._transaction = Transaction(session)
        self._suspects: list[tuple[tuple[str, str], set[bytes]]] = []
        self._last = ""
        self.queue = MysqlQueue(lambda: nullcontext(self._transaction.run), lease.pipeline)

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """What is done inside is undone when an exception leaves it; savepoints may nest."""
        self._transaction.mark()
        last, suspects, number = self._last, self._suspects, len(self._suspects)
        try:
            yield
        except BaseException:
            self._last, self._suspects = last, suspects
            del suspects[number:]
            self._transaction.rollback_to_mark()
            raise
        self._transaction.release()

    # --- rows ---------------------------------------------------------------------------------

    def references(self, layout: Layout, source_keys: Sequence[Key]) -> dict[Key, Key]:
        """Entity key of each source row that the mapping's reference table knows."""
        return referred(self._transaction, self._shape(layout), source_keys)

    def apply(self, steps: Sequence[Step]) -> Outcome:
        """Apply steps in order. All or nothing: on DataError the unit is as before the call."""
        outcome = Outcome()
        steps = [step for step in steps if number_of(step) > 0]
        if not steps:
            return outcome
        with self.savepoint():
            for step in steps:
                self._apply(self._shape(step.layout), step, outcome)
            self._references.loosen_late(self._transaction, steps)
            self._suspects += self._references.suspects(self._transaction, steps).items()
        return outcome

    def _apply(self, shape: Shape, step: Step, outcome: Outcome) -> None:
        transaction, references = self._transaction, self._references
        writing = Writing(transaction, self._shapes.cautions, outcome, self._lease.started)
        match step:
            case Upsert():
                writing.upsert(shape, step)
            case Patch():
                writing.patch(shape, step)
            case Delete():
                writing.delete(shape, step)
                if not step.layout.soft:
                    references.loosen(transaction, step.layout, step.keys)
            case Rename():
                carry_out(Moving(transaction, references, shape), step, outcome)
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
        search = Search(self._transaction, self._lease.started)
        with suppress(_TakeBack), self.savepoint():
            for step in steps:
                errors = search.run(self._shape(step.layout), step)
                if errors:
                    known = found.setdefault(step.layout.mapping, {})
                    known |= {key: errors[key] for key in errors.keys() - known.keys()}
            raise _TakeBack
        return found

    def dangling(self, steps: Sequence[Step]) -> dict[str, set[Key]]:
        """Entity keys, by mapping, that these steps leave in a broken reference."""
        return self._references.dangling(self._transaction, steps)

    # --- the ledger ---------------------------------------------------------------------------

    def audit(self, repaired: Sequence[Repaired]) -> None:
        """Note what was repaired, in this unit."""
        verifications.audit(self._transaction.run, self._lease.pipeline, repaired)

    def note_copied(self, mappings: Mapping[str, CopiedMapping]) -> None:
        """Note, in this unit, by which mappings the rows that there are were made; no others."""
        copied.note(self._transaction.run, self._lease.pipeline, mappings)

    def children(self, parents: Sequence[bytes], most: int, after: bytes = b"") -> list[str]:
        """Rows that are noted as children of any of these parents; so many at most.

        Of one parent: in the order of their digests, those behind ``after``; else in no order.
        """
        return children.read(self._transaction.run, parents, most, after)

    def note_children(
        self, table: str, gone: Sequence[tuple[bytes, bytes]], come: Sequence[Child]
    ) -> None:
        """Forget some children (parent and digest), then note others, of one source table."""
        children.note(self._transaction.run, self._lease.pipeline, table, gone, come)

    def forget_children(self, table: str | None = None) -> None:
        """Forget all children of one source table; None: of the pipeline."""
        children.forget(self._transaction.run, self._lease.pipeline, table)

    # --- the checkpoint -----------------------------------------------------------------------

    def save_checkpoint(
        self, position: str, *, commit_time: int | None, transactions: int, changes: int
    ) -> None:
        """Move the checkpoint in this unit; it is sent with the COMMIT.

        References that this unit concerns are checked here and now: DataError, with the unit as
        before. That the epoch is not ours is known at the end of the ``with``, as Fenced.
        """
        failpoint("before_checkpoint_upsert")
        self._check_references()
        self._last = self._lease.save(
            position,
            self._transaction.moment,
            commit_time=commit_time,
            transactions=transactions,
            changes=changes,
        )

    def save_snapshot(self, mapping_rows: dict[str, int]) -> None:
        """Note a finished group of the snapshot.

        DataError and Fenced as for ``save_checkpoint``.
        """
        self._check_references()
        self._transaction.begin()
        with translated():
            generation = self._lease.generation(self._session)
        for mapping, rows in mapping_rows.items():
            place = (self._lease.pipeline, generation, mapping)
            if self._transaction.run(_MORE, rows, *place).affected == 0:
                self._transaction.run(_CHUNK, *place, rows)

    def finish_snapshot(
        self, layouts: Sequence[Layout], identity: SourceIdentity, position: str
    ) -> Outcome:
        """Sweep rows that this generation did not see and set the checkpoint to streaming.

        The checkpoint's row is touched with the COMMIT: heartbeats go on meanwhile.
        """
        outcome = Outcome()
        self._transaction.begin()
        with translated():
            self._lease.generation(self._session)
        shapes = list(map(self._shape, layouts))
        sweep = Sweep(self._transaction, self._references, shapes, self._lease.started or "")
        self._suspects += sweep.run(outcome).items()
        self._check_references()
        self._last = self._lease.finish(identity, position, self._transaction.moment)
        return outcome

    def _check_references(self) -> None:
        """Check what was put off, where something was: no COMMIT is to find it."""
        if not self._suspects:
            return
        suspects: Suspects = {}
        for place, values in self._suspects:
            suspects.setdefault(place, set()).update(values)
        with self.savepoint():
            if not self._references.settle(self._transaction, suspects):
                raise data_error("23503")
        self._suspects = []  # a new list: a savepoint around may go back to the old one

    # --- its end ------------------------------------------------------------------------------

    def commit(self) -> None:
        """Commit.

        Raises Fenced, Retryable when the clock stands before the copy's beginning, and Unreachable
        when nobody knows whether it took effect.
        """
        if self._transaction.begun:
            self._check_references()
        failpoint("before_sink_commit")
        if self._transaction.begun:
            last = self._last or self._lease.hold(self._transaction.moment)
            if self._transaction.run(last).affected == 0:
                raise self._refused()
            self._transaction.commit()

    def _refused(self) -> CdcError:
        """Why the last statement found no row; the unit is rolled back."""
        moment = self._transaction.moment
        self._transaction.rollback()
        with translated():
            return self._lease.refusal(self._session, moment)

    def rollback(self) -> None:
        """Undo everything, as far as the connection lives; never raises."""
        self._transaction.rollback()

    def _shape(self, layout: Layout) -> Shape:
        return self._shapes.of(layout, self._session.collation)


class _TakeBack(Exception):
    """Leaves a savepoint whose work is not to stay."""
