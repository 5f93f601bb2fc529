"""Which attribute of a single row the database would not take, where its error did not say.

Only COPY names the column that it was converting, so the row is offered to COPY once more, under a
savepoint that is always taken back. Rows come here one by one, on their way to the failure queue.
"""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from cdc_daemon.model.changes import Row
from cdc_daemon.model.effects import Layout
from cdc_daemon.model.errors import DataError
from cdc_daemon.sinks.postgres.arrays import no_text
from cdc_daemon.sinks.postgres.copytext import copy_text
from cdc_daemon.sinks.postgres.errors import translate
from cdc_daemon.sinks.postgres.shape import Shape
from cdc_daemon.sinks.postgres.transaction import Transaction


def located(transaction: Transaction, shape: Shape, row: Row, error: DataError) -> DataError:
    """The same error with its attribute, if that can be found out."""
    if error.attribute is not None or not error.code.startswith("sqlstate_22"):
        return error
    attribute = no_text_in(shape.layout, row)
    if attribute is not None:
        return no_text(attribute)
    present = tuple(i for i, value in enumerate(row) if isinstance(value, bytes))
    transaction.mark()
    try:
        transaction.script([shape.copy_some(present)], [copy_text([[row[i] for i in present]])])
    except psycopg.Error as exc:
        found = translate(exc, known=frozenset(shape.columns))
        if isinstance(found, DataError) and found.code == error.code:
            error = found
    transaction.rollback_to_mark()
    return error


def all_texts(column: Sequence[object]) -> bool:
    """Whether every value of a column is UTF-8 without NUL."""
    values = [value for value in column if isinstance(value, bytes)]
    joined = b"\n".join(values)
    try:
        joined.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in joined


def no_text_in(layout: Layout, row: Row) -> str | None:
    """The first attribute whose value is not UTF-8 without NUL."""
    for name, value in zip(layout.columns, row, strict=True):
        if isinstance(value, bytes):
            try:
                if "\0" in value.decode():
                    return name
            except UnicodeDecodeError:
                return name
    return None
