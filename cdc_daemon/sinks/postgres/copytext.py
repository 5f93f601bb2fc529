r"""Rows as COPY text: ``a⇥b⇥\N⏎``, strictly escaped, at the price of a join.

A chunk of rows is turned into columns. A column joined whole tells with four searches whether any
of its values holds a character that needs an escape; only such a column is escaped, value by value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

CHUNK_ROWS = 512
"""Rows encoded at once: about 100 KB of common rows, so that server and daemon overlap."""

NULL = rb"\N"


Rows = Sequence[Sequence[object]]
"""Rows of one width; values are bytes, or None for NULL."""

Columns = list[Sequence[bytes]]


def copy_text(rows: Rows) -> bytes:
    """COPY text of these rows."""
    return _lines(_columns(rows))


def feed(rows: Rows) -> Iterator[bytes]:
    """COPY text of many rows, in chunks."""
    for start in range(0, len(rows), CHUNK_ROWS):
        yield copy_text(rows[start : start + CHUNK_ROWS])


def feed_both(
    rows: Rows, others: Rows, taken: Sequence[int]
) -> tuple[Iterator[bytes], Iterator[bytes]]:
    """COPY text of rows, and of ``others`` followed by the columns ``taken`` of the rows.

    The second feed is made while the first is taken, from the same columns, and is complete only
    when the first has been taken to its end.
    """
    made: list[bytes] = []

    def first() -> Iterator[bytes]:
        for start in range(0, len(rows), CHUNK_ROWS):
            columns = _columns(rows[start : start + CHUNK_ROWS])
            yield _lines(columns)
            beside = _columns(others[start : start + CHUNK_ROWS])
            made.append(_lines([*beside, *(columns[i] for i in taken)]))

    return first(), iter(made)


def _columns(rows: Rows) -> Columns:
    return [_escaped(column) for column in zip(*rows, strict=True)]


def _lines(columns: Columns) -> bytes:
    return b"\n".join(map(b"\t".join, zip(*columns, strict=True))) + b"\n"


def _escaped(column: Sequence[bytes | None]) -> Sequence[bytes]:
    try:
        text = b"".join(column)  # type: ignore[arg-type]
        found: Sequence[bytes] = column  # type: ignore[assignment]
    except TypeError:
        text = b"".join([value for value in column if value is not None])
        found = [NULL if value is None else value for value in column]
    if b"\\" in text or b"\t" in text or b"\n" in text or b"\r" in text:
        return [NULL if value is None else _escape(value) for value in column]
    return found


def _escape(value: bytes) -> bytes:
    if b"\\" in value:
        value = value.replace(b"\\", b"\\\\")
    if b"\t" in value:
        value = value.replace(b"\t", b"\\t")
    if b"\n" in value:
        value = value.replace(b"\n", b"\\n")
    if b"\r" in value:
        value = value.replace(b"\r", b"\\r")
    return value
