"""A source value's text → the text of an entity type, and which pairs need no conversion at all.

Pass-through (``lossless``) is only for these pairs; everything else converts value by value and
rejects what the target could not hold:

===========================  ============================================================
source type                  entity types its text passes to unchanged
===========================  ============================================================
smallint                     integer, bigint, decimal(p,s) with p-s ≥ 5, numeric, double
integer                      integer, bigint, decimal(p,s) with p-s ≥ 10, numeric, double
bigint                       bigint, decimal(p,s) with p-s ≥ 19, numeric
oid                          decimal(p,s) with p-s ≥ its digits, numeric, bigint (10 digits)
numeric(p,s)                 decimal(P,S) with S ≥ s and P-S ≥ p-s, numeric
numeric                      numeric
real, double                 double
boolean                      boolean
date, time, timestamp,       the type of the same name
timestamptz, interval
duration                     interval
uuid, bytes                  the type of the same name
jsonb                        json
varchar(n)                   string(m) with m ≥ n, text
text                         text
===========================  ============================================================

Every type but char and boolean passes to text unchanged, and to string(n) where its longest text
has at most n characters. A real is carried as the decimal text it prints (``0.1``), not as the
nearest double. ``numeric(p,s)`` can hold NaN: passed through it stays NaN, while every converter
into decimal(p,s) rejects it. timestamp and timestamptz are different types and never become each
other here; json becomes text but text becomes json only if it parses. The page for users is made by
mapping/type_table; the type matrix compares every pair with a real target.

Text of a source type is what its server prints (ISO dates, hex bytea, UTC, ``extra_float_digits``
above 0); what comes from text columns is parsed strictly. Not in here: canonical text
(mapping/canonical, offered here too), NULL and default rules (mapping/fields).
"""

from __future__ import annotations

from collections.abc import Callable

from cdc_daemon.mapping import documents, times
from cdc_daemon.mapping.canonical import canonical, canonical_form
from cdc_daemon.mapping.conversion_rule import (
    INTEGERS,
    OPAQUE,
    PRINTED,
    TEXTS,
    Conversion,
    ConversionUnsupported,
    Convert,
    Lossy,
    converts,
    from_text,
    parsed,
    passes,
    same_type,
)
from cdc_daemon.mapping.convert_documents import json_of_hstore, to_json_array
from cdc_daemon.mapping.convert_numbers import to_decimal, to_double, to_integer, to_numeric
from cdc_daemon.mapping.convert_times import to_date, to_interval, to_time, to_timestamp
from cdc_daemon.mapping.strict import (
    parse_boolean,
    parse_bytes,
    parse_json,
    parse_uuid,
)
from cdc_daemon.model.changes import ColumnType
from cdc_daemon.model.entities import EntityType, Kind
from cdc_daemon.model.errors import DataError

__all__ = ["Conversion", "ConversionUnsupported", "canonical", "canonical_form", "conversion"]

_LONGEST = {
    "smallint": 6, "integer": 11, "bigint": 20, "real": 15, "double": 24, "boolean": 5,
    "date": 16, "time": 15, "timetz": 24, "timestamp": 32, "timestamptz": 38, "uuid": 36,
    "money": 27, "duration": 17,
}  # fmt: skip


def conversion(source: ColumnType, target: EntityType, *, lossy: Lossy | None = None) -> Conversion:
    """The conversion for one pair of types. Raises ConversionUnsupported.

    ``lossy``: ``round`` (half away from zero) or ``truncate`` what has too many digits after the
    point, ``truncate`` also texts that are too long and the time of day of a timestamp that becomes
    a date. Numbers that are too large are data errors all the same.
    """
    if target.kind in (Kind.STRING, Kind.TEXT):
        return _to_text(source, target, lossy)
    builder = _BUILDERS.get(target.kind)
    found = builder(source, target, lossy) if builder else same_type(source, target)
    if found is None:
        raise ConversionUnsupported(_reason(source, target))
    return found


def _reason(source: ColumnType, target: EntityType) -> str:
    zones = {source.name, str(target.kind.value)}
    if zones >= {"timestamp", "timestamptz"} or zones in ({"date", "timestamptz"},):
        return f"{source} and {target} differ by a time zone; none is converted to the other"
    if source.name in OPAQUE:
        return f"{source} can only become text or string(n), not {target}"
    return f"{source} cannot become {target} without an expression"


# --- texts ------------------------------------------------------------------------------------


def _to_text(source: ColumnType, target: EntityType, lossy: Lossy | None) -> Conversion:
    limit = target.length if target.kind is Kind.STRING else None
    sql = "{}" if source.name in TEXTS else PRINTED if source.name in OPAQUE else "{}::text"
    longest = _longest(source)
    prepare = _PREPARED.get(source.name)
    if prepare is None and (limit is None or (longest is not None and longest <= limit)):
        return passes(sql)
    if source.name == "char":
        sql = "{}::text"
    if lossy == "truncate" and limit is not None:
        return converts(_cut(prepare, limit), f"pg_catalog.left({sql}, {limit})")
    if prepare is None:
        assert limit is not None
        return converts(_limited(limit), sql, injective=True)
    return converts(_checked(prepare, limit), sql, injective=True)


def _longest(source: ColumnType) -> int | None:
    """The most characters a value of this type prints; None: no bound."""
    if source.name in ("varchar", "oid"):
        return source.length
    if source.name == "numeric" and source.length is not None:
        scale = source.scale or 0
        whole = max(source.length - scale, 1)
        return max(1 + whole + (1 + scale if scale > 0 else 0), 3)
    return _LONGEST.get(source.name)


def _check_text(text: bytes, limit: int | None) -> bytes:
    if b"\0" in text:
        raise DataError("the text contains a NUL byte", code="nul_byte")
    if limit is not None and len(text) > limit and len(text.decode()) > limit:
        raise DataError(f"the text is longer than {limit} characters", code="too_long")
    return text


def _limited(limit: int) -> Convert:
    def limited(text: bytes) -> bytes:
        if len(text) <= limit and b"\0" not in text:
            return text
        return _check_text(text, limit)

    return limited


def _checked(prepare: Convert, limit: int | None) -> Convert:
    return lambda text: _check_text(prepare(text), limit)


def _cut(prepare: Convert | None, limit: int) -> Convert:
    """To the first ``limit`` characters."""

    def cut(text: bytes) -> bytes:
        text = _check_text(text if prepare is None else prepare(text), None)
        return text if len(text) <= limit else text.decode()[:limit].encode()

    return cut


def _without_padding(text: bytes) -> bytes:
    return text.rstrip(b" ")


def _named(text: bytes) -> bytes:
    """``true`` and ``false``, as PostgreSQL's own cast."""
    return b"true" if parse_boolean(text) == b"t" else b"false"


_PREPARED: dict[str, Convert] = {"char": _without_padding, "boolean": _named}


# --- everything else --------------------------------------------------------------------------


def _to_boolean(source: ColumnType, _target: EntityType, _lossy: Lossy | None) -> Conversion | None:
    if source.name == "boolean":
        return passes()
    if source.name in INTEGERS:
        return converts(_bit, "({} <> 0)")
    if source.name in TEXTS:
        return converts(from_text(source, parse_boolean), "{}::text::boolean")
    return None


def _bit(text: bytes) -> bytes:
    if text == b"1":
        return b"t"
    if text == b"0":
        return b"f"
    raise DataError("only 0 and 1 become boolean", code="invalid_value")


def _to_json(source: ColumnType, target: EntityType, _lossy: Lossy | None) -> Conversion | None:
    if source.name == "jsonb":
        return passes()
    if source.name == "json":
        return converts(documents.check_json, "{}::jsonb")
    if source.name == "hstore":
        return converts(json_of_hstore, "{}::jsonb")
    if source.name == "array" and source.element is not None:
        return to_json_array(source.element)
    return parsed(source, target, parse_json, "jsonb")


def _strict(
    parse: Convert, sql_type: str
) -> Callable[[ColumnType, EntityType, Lossy | None], Conversion | None]:
    return lambda source, target, _lossy: parsed(source, target, parse, sql_type)


_BUILDERS: dict[Kind, Callable[[ColumnType, EntityType, Lossy | None], Conversion | None]] = {
    Kind.INTEGER: to_integer,
    Kind.BIGINT: to_integer,
    Kind.DECIMAL: to_decimal,
    Kind.NUMERIC: to_numeric,
    Kind.DOUBLE: to_double,
    Kind.BOOLEAN: _to_boolean,
    Kind.DATE: to_date,
    Kind.TIME: to_time,
    Kind.TIMESTAMP: to_timestamp,
    Kind.TIMESTAMPTZ: _strict(
        lambda t: times.print_timestamptz(times.parse_timestamptz(t)), "timestamptz"
    ),
    Kind.INTERVAL: to_interval,
    Kind.UUID: _strict(parse_uuid, "uuid"),
    Kind.JSON: _to_json,
    Kind.BYTES: _strict(parse_bytes, "bytea"),
}
