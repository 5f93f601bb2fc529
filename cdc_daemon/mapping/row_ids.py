"""An id that one table's column holds, as the identity column of another table prints it.

A ``ref`` finds its row by text, so the id must be exactly what the log says of the row meant: 7
and not 007 where that column is an integer, padded where it is a char. Not in here: which rows
there are (engine/resolve).

======================  ==========================================================================
identity column         ids may stand in columns of type
======================  ==========================================================================
smallint … bigint       any number, any text, types of other names (domains, citext)
numeric                 the same
uuid                    uuid, any text, other
char, varchar, text     any number, uuid, any text, other
other                   the same
every other type        its own type
======================  ==========================================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cdc_daemon.mapping.conversion_rule import INTEGERS, TEXTS, ConversionUnsupported, Convert
from cdc_daemon.mapping.decimals import canonical_decimal, with_scale
from cdc_daemon.model.changes import Column, ColumnType
from cdc_daemon.model.errors import DataError

NUMBERS = frozenset({*INTEGERS, "numeric", "real", "double", "oid"})
LOOSE = frozenset({*TEXTS, "other"})
BITS = {"smallint": 15, "integer": 31, "bigint": 63}

_WHOLE = re.compile(rb"-?[0-9]{1,19}")
_NUMBER = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?")
_UUID = re.compile(rb"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RefTarget:
    """Where a ``ref`` leads: the mapping that knows the row, its table, the table's identity.

    ``identity`` None: the table has not been described.
    """

    mapping: str
    table: str
    identity: tuple[Column, ...] | None = None


def row_id(source: ColumnType, identity: ColumnType) -> Convert | None:
    """How ids in a column of type ``source`` are looked up; None: as they are.

    The function raises DataError for what no row can have as its id. Raises ConversionUnsupported
    where that is so of every value.
    """
    if source.name not in (NUMBERS | LOOSE | {"uuid"}) or source.name == identity.name == "uuid":
        return _same(source, identity)
    if identity.name in INTEGERS:
        return _integer(source, identity)
    if identity.name == "numeric":
        return _numeric(source, identity)
    if identity.name == "uuid":
        return _uuid(source, identity)
    if identity.name == "char":
        return _padded(source, identity)
    if identity.name in LOOSE:
        return (lambda text: text.rstrip(b" ")) if source.name == "char" else None
    return _same(source, identity)


def _same(source: ColumnType, identity: ColumnType) -> Convert | None:
    if source.name != identity.name:
        raise ConversionUnsupported(f"{source} never becomes {identity}")
    return None


def _no_id() -> DataError:
    return DataError(
        "the value cannot be the id of any row that it refers to", code="reference_unresolved"
    )


def _integer(source: ColumnType, identity: ColumnType) -> Convert | None:
    if source.name == "uuid":
        return _same(source, identity)
    if source.name in INTEGERS and BITS[source.name] <= BITS[identity.name]:
        return None
    limit = 1 << BITS[identity.name]
    fractional = source.name == "numeric"

    def integer(text: bytes) -> bytes:
        text = canonical_decimal(text) if fractional else text.rstrip(b" ")
        if not _WHOLE.fullmatch(text) or not -limit <= int(text) < limit:
            raise _no_id()
        return b"%d" % int(text)

    return integer


def _numeric(source: ColumnType, identity: ColumnType) -> Convert | None:
    if source.name == "uuid":
        return _same(source, identity)
    if identity.length is None and (source.name in INTEGERS or source == identity):
        return None
    scale, digits = max(identity.scale or 0, 0), identity.length
    if source.name in INTEGERS and scale == 0:
        return None
    if source.name == "numeric" and source.length and digits and (source.scale or 0) == scale:
        return None

    def numeric(text: bytes) -> bytes:
        text = text.rstrip(b" ")
        if not _NUMBER.fullmatch(text):
            raise _no_id()
        text = canonical_decimal(text)
        if digits is None:
            return text
        if len(text.partition(b".")[2]) > scale:
            raise _no_id()
        return with_scale(text, scale)

    return numeric


def _uuid(source: ColumnType, identity: ColumnType) -> Convert | None:
    if source.name not in LOOSE:
        return _same(source, identity)

    def uuid(text: bytes) -> bytes:
        text = text.rstrip(b" ") if source.name == "char" else text
        if not _UUID.fullmatch(text):
            raise _no_id()
        return text.lower()

    return uuid


def _padded(source: ColumnType, identity: ColumnType) -> Convert | None:
    """To the length of a char column, as its own values are padded."""
    width = identity.length
    if source == identity or width is None:
        return None

    def padded(text: bytes) -> bytes:
        decoded = text.rstrip(b" ").decode()
        if len(decoded) > width:
            raise _no_id()
        return decoded.ljust(width).encode()

    return padded
