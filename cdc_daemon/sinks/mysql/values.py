"""Columns of log text as MySQL takes them: checked, and in the form in which its columns hold them.

Every value is checked here, for the server rounds a number or the fraction of a second that does
not fit, and says nothing. What PostgreSQL holds and MySQL cannot (years before 1 or after 9999,
infinities, NaN) is the row's error. Many rows travel as one JSON text, which ``JSON_TABLE`` unfolds
into a table; appended ones as plain literals.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from cdc_daemon.mapping.decimals import parse_double, print_double
from cdc_daemon.mapping.times import trim_fraction
from cdc_daemon.model.effects import Key
from cdc_daemon.model.entities import Attribute, EntityType, Kind
from cdc_daemon.sinks.forms import Stored, stored, texts
from cdc_daemon.sinks.rejected import data_error

Columns = list[Sequence[Stored]]

_WHOLE = re.compile(r"(?:-?[0-9]+,)*-?[0-9]+")
_YEARS = re.compile(r"(?!0000)[0-9]{4}-[^B]*")


def columns_of(rows: Sequence[Sequence[object]], attributes: Sequence[Attribute]) -> Columns:
    """Rows of log text as columns of stored values. Raises DataError, which names the attribute."""
    return [
        stored_column(column, attribute)
        for column, attribute in zip(zip(*rows, strict=True), attributes, strict=True)
    ]


def stored_column(column: Sequence[bytes | None], attribute: Attribute) -> Sequence[Stored]:
    """A column's values as they are kept. Raises DataError, which names the attribute."""
    found = stored(column, attribute)
    check = _CHECKS.get(attribute.type.kind)
    return found if check is None else check(found, attribute)


def source_columns(keys: Sequence[Key]) -> Columns:
    """Source keys as columns: the server makes numbers of them where their columns hold numbers."""
    return [texts(column) for column in zip(*keys, strict=True)]


def shown(entity_type: EntityType) -> Callable[[bytes], bytes] | None:
    """What makes of a column's bytes, as MySQL prints them, the text that the log and PostgreSQL
    have for the value; None: they are the same."""
    return _SHOWN.get(entity_type.kind)


def shown_row(row: Sequence[bytes | None], types: Sequence[EntityType]) -> tuple[bytes | None, ...]:
    """A row of columns as MySQL prints them, as such texts."""
    return tuple(
        [
            value if value is None or (show := shown(type_)) is None else show(value)
            for value, type_ in zip(row, types, strict=True)
        ]
    )


# --- into SQL ---------------------------------------------------------------------------------


def literal(value: object) -> str:
    """A literal. Backslashes mean nothing in our sessions (NO_BACKSLASH_ESCAPES)."""
    match value:
        case None:
            return "NULL"
        case bool():
            return str(int(value))
        case int():
            return str(value)
        case bytes():
            return f"x'{value.hex()}'"
        case _:
            return "'" + str(value).replace("'", "''") + "'"


def unfolded(columns: Columns) -> str:
    """Columns as the literal of one JSON text: an array of rows, for :func:`table`."""
    made = json.dumps(list(zip(*columns, strict=True)), ensure_ascii=False, separators=(",", ":"))
    return literal(made)


def literals(columns: Columns, attributes: Sequence[Attribute], *more: str) -> str:
    """Columns as rows of literals: ``(…),(…)``; ``more``: literals at the end of each row."""
    made = [literal_column(c, a) for c, a in zip(columns, attributes, strict=True)]
    end = "".join("," + one for one in more)
    return "(" + f"{end}),(".join(map(",".join, zip(*made, strict=True))) + end + ")"


def literal_column(column: Sequence[Stored], attribute: Attribute) -> Sequence[str]:
    """A column's stored values as literals."""
    before = "x'" if attribute.type.kind is Kind.BYTES else "'"
    try:
        plain = "".join(column)  # type: ignore[arg-type]
    except TypeError:
        return [
            "NULL" if value is None else before + str(value).replace("'", "''") + "'"
            for value in column
        ]
    if "'" in plain:
        return ["'" + value.replace("'", "''") + "'" for value in column]  # type: ignore[union-attr]
    return [before + value + "'" for value in column]  # type: ignore[operator]


# --- what MySQL cannot hold ---------------------------------------------------------------------


def _whole(column: Sequence[Stored], attribute: Attribute) -> Sequence[Stored]:
    given = [str(value) for value in column if value is not None]
    text = ",".join(given)
    if given and (text.count(",") != len(given) - 1 or not _WHOLE.fullmatch(text)):
        raise data_error("22P02", attribute=attribute.name)
    digits, bits = _RANGES[attribute.type.kind]
    if given and len(max(given, key=len)) >= digits:
        numbers = [int(value) for value in given]
        if max(numbers) >= 1 << bits or min(numbers) < -(1 << bits):
            raise data_error("22003", attribute=attribute.name)
    return column


_RANGES: Final = {Kind.INTEGER: (10, 31), Kind.BIGINT: (19, 63)}
"""From how many characters on a number may be too large, and its bits: a key that does not fit
would silently be another one in JSON_TABLE."""


def _years(code: str, cut: int) -> Callable[[Sequence[Stored], Attribute], Sequence[Stored]]:
    """Dates from year 1 to 9999; ``cut``: characters at the end that MySQL does not take."""

    def check(column: Sequence[Stored], attribute: Attribute) -> Sequence[Stored]:
        fits = _YEARS.fullmatch
        for value in column:
            if value is not None and not fits(value):  # type: ignore[arg-type]
                raise data_error(code, attribute=attribute.name)
        if not cut:
            return column
        return [None if value is None else value[:-cut] for value in column]  # type: ignore[index]

    return check


def _finite(column: Sequence[Stored], attribute: Attribute) -> Sequence[Stored]:
    for value in column:
        if value is not None and value[-1:] > "9":  # type: ignore[index]
            raise data_error("22003", attribute=attribute.name)
    return column


def _short(column: Sequence[Stored], attribute: Attribute) -> Sequence[Stored]:
    """Texts of at most the type's length; blanks beyond it are cut, as PostgreSQL cuts them."""
    limit = attribute.type.length or 1
    if max((len(value) for value in column if value is not None), default=0) <= limit:  # type: ignore[arg-type]
        return column
    found: list[Stored] = [
        None if value is None else _fitted(str(value), limit) for value in column
    ]
    if any(value is not None and len(str(value)) > limit for value in found):
        raise data_error("22001", attribute=attribute.name)
    return found


def _fitted(value: str, limit: int) -> str:
    return value[:limit] if len(value) > limit and not value[limit:].strip(" ") else value


def _hex(column: Sequence[Stored], attribute: Attribute) -> Sequence[Stored]:
    del attribute
    return [None if value is None else value[2:] for value in column]  # type: ignore[index]


_CHECKS: dict[Kind, Callable[[Sequence[Stored], Attribute], Sequence[Stored]]] = {
    Kind.STRING: _short,
    Kind.INTEGER: _whole,
    Kind.BIGINT: _whole,
    Kind.DECIMAL: _finite,
    Kind.DOUBLE: _finite,
    Kind.DATE: _years("22008", 0),
    Kind.TIMESTAMP: _years("22008", 0),
    Kind.TIMESTAMPTZ: _years("22008", 3),
    Kind.BYTES: _hex,
}


# --- what MySQL prints otherwise ------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _double(text: bytes) -> bytes:
    return print_double(parse_double(text) + 0.0)


_SHOWN: dict[Kind, Callable[[bytes], bytes]] = {
    Kind.BOOLEAN: lambda text: b"false" if text == b"0" else b"true",
    Kind.DOUBLE: _double,
    Kind.TIME: trim_fraction,
    Kind.TIMESTAMP: trim_fraction,
    Kind.TIMESTAMPTZ: lambda text: trim_fraction(text) + b"+00",
    Kind.BYTES: lambda data: b"\\x" + data.hex().encode(),
}
