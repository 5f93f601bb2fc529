"""A column as the binlog tells it, and the numbers that it has for types.

Numbers: ``enum_field_types`` in MySQL's ``field_types.h``, and MariaDB's own from 140 on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cdc_daemon.model.changes import Invalid

TINY, SHORT, LONG, FLOAT, DOUBLE, TIMESTAMP, LONGLONG, INT24 = 1, 2, 3, 4, 5, 7, 8, 9
DATE, TIME, DATETIME, YEAR, NEWDATE, VARCHAR, BIT = 10, 11, 12, 13, 14, 15, 16
TIMESTAMP2, DATETIME2, TIME2 = 17, 18, 19
BLOB_COMPRESSED, VARCHAR_COMPRESSED = 140, 141  # MariaDB
VECTOR, JSON, NEWDECIMAL, ENUM, SET = 242, 245, 246, 247, 248
BLOB, VAR_STRING, STRING, GEOMETRY = 252, 253, 254, 255

NUMERIC: Final = frozenset({TINY, SHORT, LONG, FLOAT, DOUBLE, LONGLONG, INT24, YEAR, NEWDECIMAL})
CHARACTER: Final = frozenset(
    {VARCHAR, STRING, VAR_STRING, BLOB, BLOB_COMPRESSED, VARCHAR_COMPRESSED}
)
COMPRESSED: Final = frozenset({BLOB_COMPRESSED, VARCHAR_COMPRESSED})


@dataclass(frozen=True, slots=True, kw_only=True)
class BinlogColumn:
    """One column as the log tells it.

    ``type``: the binlog's number (ENUM and SET are told from STRING). ``length``: bytes at most
    (strings), bytes of the value's length (blobs, JSON), bytes (ENUM, SET, FLOAT, DOUBLE), bits
    (BIT) or precision (NEWDECIMAL); ``scale``: digits after the point, also of seconds.
    ``charset``: None where the log does not say, or by a number that nobody here knows
    (``collation``). ``labels``: UTF-8 of ENUM's and SET's words, in order. ``geometry``: subtype's
    number. ``dimension``: of a vector. ``native``: a type that only the catalogue knows.
    """

    name: str
    type: int
    length: int = 0
    scale: int = 0
    nullable: bool = True
    unsigned: bool = False
    charset: str | None = None
    collation: int | None = None
    labels: tuple[bytes | Invalid, ...] = ()
    geometry: int = 0
    dimension: int | None = None
    native: str = ""
