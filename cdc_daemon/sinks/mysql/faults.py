"""Rows of a failed batch that are at fault for themselves, with the error each would give alone.

Rows are offered to the server: a few dozen at once, and the halves of what was refused; the caller
takes all of it back. Left out is what depends on other rows (keys that are taken, references), and
what a check could not compute.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from cdc_daemon.model.effects import Key, Outcome, Patch, Step, Upsert
from cdc_daemon.model.errors import DataError
from cdc_daemon.sinks.mysql.shape import Shape
from cdc_daemon.sinks.mysql.transaction import Transaction
from cdc_daemon.sinks.mysql.writing import Writing

Faults = dict[Key, DataError]

TOGETHER = 50
"""Rows that are offered at once: where one row in a hundred is bad, most of them are good."""

_UNTOLD = ("sqlstate_23503", "sqlstate_23505", "sqlstate_22012", "duplicate_entity_key")


class Search:
    """Tries rows. ``started``: as for writing them."""

    def __init__(self, transaction: Transaction, started: str | None) -> None:
        self._transaction = transaction
        self._writing = Writing(transaction, {}, Outcome(), started)

    def run(self, shape: Shape, step: Step) -> Faults:
        """Entity keys of a step's rows at fault."""
        found: Faults = {}
        if isinstance(step, Upsert | Patch):
            for start in range(0, len(step.rows), TOGETHER):
                places = range(start, min(start + TOGETHER, len(step.rows)))
                for n, error in self._refused(shape, step, places):
                    if error.code not in _UNTOLD:
                        found[step.layout.key_of(step.rows[n])] = error
        return found

    def _refused(
        self, shape: Shape, step: Upsert | Patch, places: Sequence[int]
    ) -> Iterator[tuple[int, DataError]]:
        error = self._error_of(shape, step, places)
        if error is None:
            return
        if len(places) == 1:
            yield places[0], error
            return
        half = len(places) // 2
        yield from self._refused(shape, step, places[:half])
        yield from self._refused(shape, step, places[half:])

    def _error_of(
        self, shape: Shape, step: Upsert | Patch, places: Sequence[int]
    ) -> DataError | None:
        self._transaction.mark()
        try:
            self._write(shape, step, places)
        except DataError as error:
            self._transaction.rollback_to_mark()
            return error
        self._transaction.release()
        return None

    def _write(self, shape: Shape, step: Upsert | Patch, places: Sequence[int]) -> None:
        rows = [step.rows[n] for n in places]
        if isinstance(step, Patch):
            self._writing.patch(shape, replace(step, rows=rows))
            return
        sources = None if step.source_keys is None else [step.source_keys[n] for n in places]
        self._writing.upsert(shape, replace(step, rows=rows, fresh=False, source_keys=sources))
