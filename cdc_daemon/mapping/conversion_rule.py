"""The rule for one pair of types: pass through or convert, and the same in SQL.

What the builders in mapping/convert, mapping/convert_numbers and mapping/convert_times return.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from cdc_daemon.model.changes import ColumnType
from cdc_daemon.model.entities import EntityType

Lossy = Literal["round", "truncate"]
Convert = Callable[[bytes], bytes]

TEXTS = frozenset({"char", "varchar", "text", "citext"})
PRINTED = "(SELECT format('%s', o.v) FROM (SELECT {} AS v) o WHERE o.v IS DISTINCT FROM NULL)"
"""What a type's output function prints; a cast to text may say something else (inet: ``/32``)."""

OPAQUE = frozenset({"other", "array", "hstore"})
"""Types whose text only the type itself can read."""

INTEGERS = {"smallint": 5, "integer": 10, "bigint": 19}  # most digits


class ConversionUnsupported(ValueError):
    """No value of the source type can become a value of the entity type without an expression."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """How values of one source type become values of one entity type.

    ``lossless``: bytes pass through unchanged, ``convert`` is None. Else ``convert`` takes and
    gives text and raises DataError (``too_long``, ``out_of_range``, ``loss``, ``invalid_value``,
    ``nul_byte``) without the value in its message. ``sql``: a PostgreSQL expression with ``{}`` for
    the source expression; for every value that ``convert`` accepts it gives the same value.
    ``injective``: different source values never become the same, so that a key stays a key.
    """

    lossless: bool
    convert: Convert | None
    sql: str
    injective: bool


def passes(sql: str = "{}") -> Conversion:
    """Bytes pass through unchanged."""
    return Conversion(lossless=True, convert=None, sql=sql, injective=True)


def converts(convert: Convert, sql: str, *, injective: bool = False) -> Conversion:
    """Every value goes through ``convert``."""
    return Conversion(lossless=False, convert=convert, sql=sql, injective=injective)


def from_text(source: ColumnType, convert: Convert) -> Convert:
    """A strict parser for a text column; a char column's padding goes first."""
    if source.name != "char":
        return convert
    return lambda text: convert(text.rstrip(b" "))


def same_type(source: ColumnType, target: EntityType) -> Conversion | None:
    """Pass through where the entity type has the source type's name."""
    return passes() if source.name == target.kind.value else None


def parsed(
    source: ColumnType, target: EntityType, parse: Convert, sql_type: str
) -> Conversion | None:
    """A strict parser for text columns; else only the type of the same name."""
    if source.name in TEXTS:
        return converts(from_text(source, parse), f"{{}}::text::{sql_type}")
    return same_type(source, target)
