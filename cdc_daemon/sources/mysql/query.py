"""QUERY events: a statement with the schema, modes and character set of its session.

Also MariaDB's compressed form, and EXECUTE_LOAD_QUERY, which is one with a file behind its head.

Status variables are passed over by what their codes are known to take. They come in no order that
could be relied on (MariaDB 11.5 writes 131 before 4), so a code that is not known ends the search:
what was not found until then counts as the default. Format: Query_event of MySQL's documentation,
Query_log_event of MariaDB's server (128 to 131).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cdc_daemon.model.errors import DecodeError
from cdc_daemon.sources.mysql.compression import inflate
from cdc_daemon.sources.mysql.events import HEADER, Kind

_POST_HEADER: Final = struct.Struct("<8xBxxH")  # lengths of schema and status variables
_LOAD_EXTRA: Final = 13  # of EXECUTE_LOAD_QUERY: file, where its name stands, duplicates
_SQL_MODE, _CHARSET, _ALTER_FLAGS = 1, 4, 130
_COMMIT_OR_ROLLBACK_ALTER: Final = 4 | 8
_ANSI_QUOTES: Final = 4
_NO_BACKSLASH_ESCAPES: Final = 1 << 20
_MANY_SCHEMAS: Final = 254
_UTF8: Final = 33  # utf8mb3_general_ci


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """``collation``: number of the client's, in whose character set ``sql`` is; ``schema``: the
    default one, empty where there is none. ``error``: the code that it ended with on its server."""

    schema: str
    sql: bytes
    collation: int
    ansi_quotes: bool = False
    no_backslash_escapes: bool = False
    error: int = 0


def sql_of(event: bytes, end: int) -> bytes:
    """The statement of a QUERY event alone: so BEGIN and COMMIT are told at a seventh of the price.
    Raises DecodeError."""
    try:
        schema_length, status_length = _POST_HEADER.unpack_from(event, HEADER)
    except struct.error:
        raise DecodeError("malformed event", kind=Kind.QUERY.name, offset=HEADER) from None
    return event[HEADER + 14 + status_length + schema_length : end]


def parse_query(event: bytes, end: int) -> Query:
    """A QUERY, QUERY_COMPRESSED or EXECUTE_LOAD_QUERY event. Raises DecodeError."""
    kind = Kind(event[4])
    try:
        return _parse(event, end, kind)
    except (struct.error, IndexError, UnicodeDecodeError):
        raise DecodeError("malformed event", kind=kind.name, offset=HEADER) from None


def _parse(event: bytes, end: int, kind: Kind) -> Query:
    schema_length, status_length = _POST_HEADER.unpack_from(event, HEADER)
    start = HEADER + 13 + (_LOAD_EXTRA if kind is Kind.EXECUTE_LOAD_QUERY else 0)
    names = start + status_length
    begin = names + schema_length + 1
    if begin > end or event[begin - 1] != 0:
        raise IndexError
    status = _status(event[start:names])
    sql = event[begin:end]
    mode = int.from_bytes(status.get(_SQL_MODE, b""), "little")
    return Query(
        schema=event[names : begin - 1].decode(),
        sql=_inflated(sql) if kind is Kind.QUERY_COMPRESSED else sql,
        collation=int.from_bytes(status.get(_CHARSET, b"")[:2], "little") or _UTF8,
        ansi_quotes=bool(mode & _ANSI_QUOTES),
        no_backslash_escapes=bool(mode & _NO_BACKSLASH_ESCAPES),
        error=int.from_bytes(event[HEADER + 9 : HEADER + 11], "little"),
    )


def _inflated(body: bytes) -> bytes:
    try:
        return inflate(body)
    except ValueError as exc:
        raise DecodeError(str(exc), kind=Kind.QUERY_COMPRESSED.name, offset=HEADER) from exc


# --- status variables ---------------------------------------------------------------------------


def _status(raw: bytes) -> dict[int, bytes]:
    """The variables by code, up to the first that is not known."""
    found: dict[int, bytes] = {}
    offset = 0
    while offset < len(raw):
        code = raw[offset]
        measure = _SIZES.get(code)
        if measure is None:
            break
        offset += 1
        size = measure if isinstance(measure, int) else measure(raw, offset)
        found[code] = raw[offset : offset + size]
        offset += size
    return found


def _text(raw: bytes, offset: int) -> int:
    return 1 + raw[offset]


def _ended_text(raw: bytes, offset: int) -> int:
    return 2 + raw[offset]


def _two_texts(raw: bytes, offset: int) -> int:
    first = _text(raw, offset)
    return first + _text(raw, offset + first)


def _schemas(raw: bytes, offset: int) -> int:
    """A count and so many names, each ended by a zero byte; no names where there were too many."""
    if raw[offset] == _MANY_SCHEMAS:
        return 1
    end = offset + 1
    for _ in range(raw[offset]):
        found = raw.find(b"\0", end)
        if found < 0:
            raise IndexError
        end = found + 1
    return end - offset


def _alter_flags(raw: bytes, offset: int) -> int:
    return 9 if raw[offset] & _COMMIT_OR_ROLLBACK_ALTER else 1


def _collations(raw: bytes, offset: int) -> int:
    return 1 + 4 * raw[offset]


_SIZES: Final[dict[int, int | Callable[[bytes, int], int]]] = {
    0: 4,  # flags
    _SQL_MODE: 8,
    2: _ended_text,  # catalogue
    3: 4,  # auto_increment
    _CHARSET: 6,
    5: _text,  # time zone
    6: _text,  # catalogue
    7: 2,  # names of months and days
    8: 2,  # the schema's collation
    9: 8,  # tables of a multi-table update
    10: 4,  # size at the origin
    11: _two_texts,  # invoker
    12: _schemas,  # those that were changed
    13: 3,  # microseconds
    16: 1,  # explicit_defaults_for_timestamp
    17: 8,  # XID of a definition
    18: 2,  # default collation for utf8mb4
    19: 1,  # sql_require_primary_key
    20: 1,  # default_table_encryption
    128: 3,  # microseconds
    129: 8,  # XID of a definition
    _ALTER_FLAGS: _alter_flags,
    131: _collations,
}
