"""Rows of a failed batch that can be told as sets to be at fault, with the error each would give.

Asked only after a data error. A step's rows are looked at in the server's own order: texts that it
cannot take, values that their column as it is now does not take, required values that are NULL,
CHECK constraints. A row with more than one bad value is left out, and so is whatever cannot be
told from the row alone: only applying it says what the error would be. Nothing is written.

Where an error is known that such rows give, the rows that may give it are found first, by one
column or one constraint, and only they are looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import psycopg
from psycopg.pq.abc import PGresult

from cdc_daemon.model.changes import Row
from cdc_daemon.model.effects import Key, Patch, Step, Upsert
from cdc_daemon.model.errors import DataError, Unreachable
from cdc_daemon.sinks.postgres.altered import AlteredTable, Check, Column, altered_table
from cdc_daemon.sinks.postgres.arrays import array, no_text
from cdc_daemon.sinks.postgres.diagnosis import all_texts, no_text_in
from cdc_daemon.sinks.postgres.errors import translate
from cdc_daemon.sinks.postgres.names import literal, quote
from cdc_daemon.sinks.postgres.sets import states
from cdc_daemon.sinks.postgres.shape import Shape
from cdc_daemon.sinks.postgres.transaction import Transaction
from cdc_daemon.sinks.postgres.wire import Call, Statement
from cdc_daemon.sinks.rejected import data_error
from cdc_daemon.sinks.steps import present_in

Faults = dict[Key, DataError]

_INPUT_INFO = 160000  # the server's version from which it tells bad input without an error
_LIMITED = re.compile(r"character(?: varying)?\((\d+)\)")
_ORDINAL = quote("#")


def faults_of(
    transaction: Transaction,
    shape: Shape,
    step: Step,
    server_version: int,
    like: DataError | None = None,
) -> Faults:
    """Entity keys of a step's rows at fault. ``like``: those that may give this error come first,
    and where there are any, only they are looked at."""
    if not isinstance(step, Upsert | Patch):
        return {}
    table = altered_table(transaction, shape.table)
    if table.rewrites or not table.columns.keys() >= set(shape.columns):
        return {}
    search = _Search(transaction, shape, step, table, server_version)
    places = (search.run_like(like) if like else None) or search.run()
    found = {shape.layout.key_of(step.rows[n]): error for n, error in places.items()}
    if isinstance(step, Upsert):
        return found
    asked = [key for key, error in found.items() if error.code != no_text().code]
    living = states(transaction, shape, asked)
    return {key: error for key, error in found.items() if key not in asked or living.get(key)}


class _Search:
    """One step's rows, and what was found out about each, by its place in the step."""

    def __init__(
        self,
        transaction: Transaction,
        shape: Shape,
        step: Upsert | Patch,
        table: AlteredTable,
        server_version: int,
    ) -> None:
        self._transaction = transaction
        self._shape = shape
        self._table = table
        self._server_version = server_version
        places = present_in(step) if isinstance(step, Patch) else range(len(shape.columns))
        self._places = {shape.columns[i]: i for i in places}
        self._rows: dict[int, Row] = dict(enumerate(step.rows))  # those nothing is known about
        self._found: dict[int, DataError] = {}

    def run(self) -> dict[int, DataError]:
        """Look at everything, in the server's order."""
        self._texts()
        self._values()
        self._nulls()
        for check in self._table.checks:
            self._check(check)
        return self._found

    def run_like(self, error: DataError) -> dict[int, DataError]:
        """The same for the rows that may give this error."""
        rows = self._rows
        self._rows = {n: rows[n] for n in self._suspects(error)}
        found = self.run() if self._rows else {}
        self._rows = rows
        return found

    def _suspects(self, error: DataError) -> Sequence[int]:
        """Their places, as far as one column or one constraint tells."""
        code, name = error.code.removeprefix("sqlstate_"), error.attribute or ""
        try:
            if code == "23514":
                named = [one for one in self._table.checks if one.name == error.constraint]
                return (self._failing(named[0]) if named else None) or []
            if code == "23502" and name in self._places:
                place = self._places[name]
                return [n for n, row in self._rows.items() if row[place] is None]
            if code.startswith("22") and name in set(self._columns()):
                return self._refused(name) or []
        except DataError:  # some text that no statement can carry
            return []
        return []

    def _texts(self) -> None:
        if all(map(all_texts, zip(*self._rows.values(), strict=True))):
            return
        for n, row in list(self._rows.items()):
            attribute = no_text_in(self._shape.layout, row)
            if attribute is not None:
                self._at_fault(n, no_text(attribute))

    def _values(self) -> None:
        """Values that are no input for their column: too long, out of range, malformed."""
        names, numbers = list(self._columns()), list(self._rows)
        results = self._asked(self._inputs(name) for name in names) if numbers else None
        bad: dict[int, list[DataError]] = {}
        for name, result in zip(names, results or (), strict=False):
            for n, code in _found_in(result, numbers):
                bad.setdefault(n, []).append(data_error(code, attribute=name))
        for n, errors in bad.items():
            if len(errors) == 1 and errors[0].code.startswith("sqlstate_22"):
                self._at_fault(n, errors[0])
            else:
                del self._rows[n]

    def _columns(self) -> Iterator[str]:
        """Columns whose input can be told to be bad."""
        for name in self._places:
            kind = self._column(name).type
            told = self._server_version >= _INPUT_INFO and kind != "text"
            if told or _LIMITED.fullmatch(kind):
                yield name

    def _inputs(self, name: str) -> Call:
        """(ordinal, SQLSTATE) of a column's values that are no input for it."""
        kind = self._column(name).type
        limit = _LIMITED.fullmatch(kind)
        rows = "unnest($1::text[]) WITH ORDINALITY AS u(v, n)"
        if limit is not None:  # spaces at the end are cut
            sql = f"SELECT n, '22001' FROM {rows} WHERE length(rtrim(v, ' ')) > {limit[1]}"
        else:
            sql = (
                f"SELECT u.n, e.sql_error_code FROM {rows}"
                f" CROSS JOIN LATERAL pg_input_error_info(u.v, {literal(kind)}) e"
                f" WHERE NOT pg_input_is_valid(u.v, {literal(kind)})"
            )
        return Statement(b"", sql.encode()), [self._array(name)]

    def _nulls(self) -> None:
        table = self._shape.layout.entity.name
        for name in self._table.columns:
            if name in self._places and self._column(name).required:
                place = self._places[name]
                error = data_error("23502", table=table, attribute=name)
                for n in [n for n, row in self._rows.items() if row[place] is None]:
                    self._at_fault(n, error)

    def _check(self, check: Check) -> None:
        """Rows for which a CHECK is false; where that cannot be computed nothing is told."""
        table = self._shape.layout.entity.name
        for n in self._failing(check) or ():
            self._at_fault(n, data_error("23514", table=table, constraint=check.name))

    def _failing(self, check: Check) -> list[int] | None:
        numbers = list(self._rows)
        used = [name for name in self._places if name in check.columns]
        if not numbers or not used or len(used) < len(check.columns):
            return None
        results = self._asked([self._false(check, used)])
        return None if results is None else [n for n, _ in _found_in(results[0], numbers)]

    def _refused(self, name: str) -> list[int] | None:
        results = self._asked([self._inputs(name)])
        return None if results is None else [n for n, _ in _found_in(results[0], list(self._rows))]

    def _false(self, check: Check, used: Sequence[str]) -> Call:
        kinds = ", ".join(f"${n}::{self._column(name).type}[]" for n, name in enumerate(used, 1))
        places = [f"c{n}" for n in range(len(used))]
        values = ", ".join(
            f"u.{place}{self._collated(name)} AS {quote(name)}"
            for place, name in zip(places, used, strict=True)
        )
        sql = (
            f"SELECT {_ORDINAL}, '' FROM (SELECT u.n AS {_ORDINAL}, {values}"
            f" FROM unnest({kinds}) WITH ORDINALITY AS u({', '.join(places)}, n)) AS r"
            f" WHERE ({check.expression}) IS FALSE"
        )
        return Statement(b"", sql.encode()), [self._array(name) for name in used]

    def _asked(self, calls: Iterable[Call]) -> Sequence[PGresult] | None:
        """The results of statements that only read; None where one of them fails."""
        self._transaction.mark()
        try:
            results = self._transaction.calls(calls)
        except psycopg.Error as exc:
            if isinstance(translate(exc), Unreachable):
                raise
            self._transaction.rollback_to_mark()
            return None
        self._transaction.release()
        return results

    def _at_fault(self, n: int, error: DataError) -> None:
        self._found[n] = error
        del self._rows[n]

    def _array(self, name: str) -> bytes:
        place = self._places[name]
        return array([row[place] for row in self._rows.values()])  # type: ignore[misc]

    def _column(self, name: str) -> Column:
        return self._table.columns[name]

    def _collated(self, name: str) -> str:
        collation = self._column(name).collation
        return f" COLLATE {collation}" if collation else ""


def _found_in(result: PGresult, numbers: Sequence[int]) -> Iterator[tuple[int, str]]:
    """(place in the step, text beside it) of the ordinals in a result."""
    for i in range(result.ntuples):
        n, text = result.get_value(i, 0) or b"0", result.get_value(i, 1) or b""
        yield numbers[int(n) - 1], text.decode()
