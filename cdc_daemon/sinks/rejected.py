"""The error of a row that a control database does not take: the same words and codes on each.

Errors of rows have the SQLSTATE that PostgreSQL gives them, so that one failure queue reads like
the other. No message holds a value.
"""

from __future__ import annotations

from cdc_daemon.model.effects import Layout
from cdc_daemon.model.errors import DataError

_AT_FAULT = {
    "22001": "a value is too long for its column",
    "22003": "a number is out of its column's range",
    "22007": "a value is no date or time",
    "22008": "a date or time is out of range",
    "22021": "a text holds a NUL or is not valid UTF-8",
    "22P02": "a value is not of its column's type",
    "22P03": "a value is not of its column's type",
    "22P05": "a character cannot be stored",
    "23502": "a required value is NULL",
    "23503": "a row refers to, or is referred to by, another that would not exist",
    "23505": "another row has this value already",
    "23514": "a check constraint rejects the row",
    "23P01": "an exclusion constraint rejects the row",
    "54000": "a value is too large for an index or a row",
    "P0001": "a trigger rejects the row",
}


def data_error(
    code: str,
    *,
    table: str | None = None,
    attribute: str | None = None,
    constraint: str | None = None,
) -> DataError:
    """The error of a row that the database rejects with this SQLSTATE."""
    words = _AT_FAULT.get(code, "the database rejects a value")
    at_table = f" ({table})" if table else ""
    place = f", attribute {attribute}" if attribute else ""
    named = f", constraint {constraint}" if constraint else ""
    message = f"{words}{at_table}{place}{named}"
    return DataError(
        message[0].upper() + message[1:],
        code=f"sqlstate_{code}",
        attribute=attribute or None,
        constraint=constraint or None,
    )


def duplicate_entity_key(layout: Layout) -> DataError:
    """The error of a row whose entity key another source row holds."""
    return DataError(
        f"Another source row holds this key of {layout.entity.name} already",
        code="duplicate_entity_key",
    )
