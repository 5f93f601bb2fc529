"""Columns as array literals: how many rows travel as parameters of one statement.

``UPDATE … FROM (SELECT unnest($1::text[]), unnest($2::integer[]) …)`` needs no temporary table, so
it costs hardly anything beside the rows; and a column is joined at once, like a row of COPY text.
"""

from __future__ import annotations

from collections.abc import Sequence

from cdc_daemon.model.errors import DataError

_NULL = b"\0"  # stands for NULL until it is known that no value holds a NUL


def arrays(rows: Sequence[Sequence[object]]) -> list[bytes | None]:
    """One array literal for each column of these rows. Raises DataError for a NUL."""
    return [array(column) for column in zip(*rows, strict=True)]


def array(values: Sequence[bytes | None]) -> bytes:
    """The array literal of these values. Raises DataError for a NUL.

    Every value is quoted, so only quotes and backslashes in a value can mean anything; whether
    there are any is told by counting them in the whole.
    """
    nulls = 0
    try:
        text = b'","'.join(values)  # type: ignore[arg-type]
    except TypeError:
        nulls = len(values) - len([value for value in values if value is not None])
        text = b'","'.join([_NULL if value is None else value for value in values])
    if text.count(b"\0") != nulls:
        raise no_text()
    if b"\\" in text or text.count(b'"') != 2 * max(len(values) - 1, 0):
        return b"{" + b",".join([_quoted(value) for value in values]) + b"}"
    if not values:
        return b"{}"
    text = b'{"' + text + b'"}'
    return text.replace(b'"\0"', b"NULL") if nulls else text


def _quoted(value: bytes | None) -> bytes:
    if value is None:
        return b"NULL"
    return b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def no_text(attribute: str | None = None) -> DataError:
    """The error of a value with a NUL (libpq would cut a parameter there) or not in UTF-8."""
    place = f", attribute {attribute}" if attribute else ""
    words = f"A text holds a NUL or is not valid UTF-8{place}"
    return DataError(words, code="sqlstate_22021", attribute=attribute)
