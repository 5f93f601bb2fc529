"""A handful of rows: one prepared statement each, all of them in one round trip.

Also the way of every rename, whatever its number: each row goes on its own, in an order in which
its new key is free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from psycopg.pq.abc import PGresult

from cdc_daemon.model.changes import Row
from cdc_daemon.model.effects import Delete, Outcome, Patch, Upsert
from cdc_daemon.sinks.postgres.arrays import array, arrays, no_text
from cdc_daemon.sinks.postgres.shape import Shape
from cdc_daemon.sinks.postgres.wire import Call, Param, affected
from cdc_daemon.sinks.rejected import duplicate_entity_key
from cdc_daemon.sinks.steps import last_of_each, present_in

Answer = Callable[[PGresult], None]

MOST = 12
"""Steps of at most this many rows go row by row (measured: arrays cost as much as 14 rows)."""


class Singles:
    """Calls for single rows, collected, and what their answers count."""

    def __init__(self, outcome: Outcome) -> None:
        self.calls: list[Call] = []
        self._answers: list[Answer | None] = []
        self._outcome = outcome

    def finish(self, results: Sequence[PGresult]) -> None:
        """Take the answers. Raises DataError where one says so."""
        for answer, result in zip(self._answers, results, strict=True):
            if answer is not None:
                answer(result)

    def upsert(self, shape: Shape, step: Upsert) -> None:
        """Write whole rows, and their references."""
        layout = shape.layout
        rows, source_keys = last_of_each(step)
        for i, row in enumerate(rows):
            source = source_keys[i] if source_keys is not None else ()
            self._add(shape, (shape.write, params((*row, *source))), self._written)
            if source_keys is not None:
                self._add(shape, (shape.refer, params((*source, *layout.key_of(row)))), None)

    def patch(self, shape: Shape, step: Patch) -> None:
        """Write the present columns of rows that exist."""
        present = present_in(step)
        statement = shape.patch(present)
        for row in step.rows:

            def answer(result: PGresult, shape: Shape = shape, row: Row = row) -> None:
                if affected(result):
                    self._outcome.count(shape.layout.mapping, "update", 1)
                else:
                    self._outcome.missing.append((shape.layout, row))

            self.calls.append((statement, params([row[i] for i in present])))
            self._answers.append(answer)

    def delete(self, shape: Shape, step: Delete) -> None:
        """Delete by arrays, hard or softly, and the references that go along."""
        number = len(step.keys)

        def answer(result: PGresult) -> None:
            self._outcome.count(shape.layout.mapping, "delete", affected(result))
            self._outcome.count(shape.layout.mapping, "noop", number - affected(result))

        self.calls.append(delete_call(shape, step))
        self._answers.append(answer)
        if step.owners:
            self.calls.append((shape.forget_many, arrays(step.owners)))
            self._answers.append(None)

    def also(self, calls: Sequence[Call]) -> None:
        """Calls whose answers count nothing."""
        self.calls += calls
        self._answers += [None] * len(calls)

    def _add(
        self, shape: Shape, call: Call, answer: Callable[[Shape, PGresult], None] | None
    ) -> None:
        self.calls.append(call)
        self._answers.append(None if answer is None else lambda result: answer(shape, result))

    def _written(self, shape: Shape, result: PGresult) -> None:
        if not result.ntuples:
            raise duplicate_entity_key(shape.layout)
        kind = "insert" if result.get_value(0, 0) == b"t" else "update"
        self._outcome.count(shape.layout.mapping, kind, 1)


def delete_call(shape: Shape, step: Delete) -> Call:
    """The statement that deletes a step's keys, as far as they are their owners'."""
    owners = [] if step.owners is None else arrays(step.owners)
    if not step.layout.soft:
        statement = shape.delete if step.owners is None else shape.delete_owned
        return statement, [*arrays(step.keys), *owners]
    statement = shape.bury if step.owners is None else shape.bury_owned
    moments = array([b"%d" % time for time in step.times])
    return statement, [*arrays(step.keys), moments, *owners]


def params(values: Sequence[object]) -> list[Param]:
    """Parameters of a call. Raises DataError for a NUL, at which libpq would cut the text."""
    for value in values:
        if value is not None and b"\0" in value:  # type: ignore[operator]
            raise no_text()
    return list(values)  # type: ignore[arg-type]
