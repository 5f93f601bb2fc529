"""The events that begin a transaction: a GTID, with or without a tag, anonymous, or MariaDB's.

Formats: Gtid_event of MySQL's server documentation; GTID_TAGGED in mysql::serialization (integers
whose low bits tell their length, a field's number before each); GTID_EVENT of MariaDB's
"Replication Protocol", with what Gtid_log_event appends: commit id, XA name, flags of a two-phase
ALTER.
"""

from __future__ import annotations

import enum
import functools
import struct
from typing import Final, NamedTuple

from cdc_daemon.model.errors import DecodeError
from cdc_daemon.sources.mysql.events import HEADER, Kind
from cdc_daemon.sources.mysql.gtid import Gtid, Triple, uuid_text
from cdc_daemon.sources.mysql.xid import Xid

_GTID: Final = struct.Struct("<x16sQB")
_MARIADB: Final = struct.Struct("<QIB")
_TIMES: Final = HEADER + 42  # behind flags, uuid, number and the logical clock
_LOGICAL_CLOCK: Final = 2
_TWO_TIMES: Final = 1 << 55

_STANDALONE, _COMMIT_ID, _PREPARED, _COMPLETED = 1, 2, 64, 128
_MULTI_ENGINE, _START_ALTER, _COMMIT_ALTER, _ROLLBACK_ALTER = 1, 2, 4, 8


class Alter(enum.Enum):
    """Which part of a two-phase ALTER a MariaDB group is."""

    START = "start"  # the primary has begun; nothing is defined yet
    COMMIT = "commit"
    ROLLBACK = "rollback"


class MysqlGroup(NamedTuple):
    """``gtid``: None where GTIDs are off. ``time``: of the commit at its origin, µs since 1970; 0:
    not known. It is the same in every replica's log."""

    gtid: Gtid | None
    time: int


class MariadbGroup(NamedTuple):
    """``standalone``: one statement, without commit. ``prepared``, ``completed``: an XA
    transaction's name. ``alter_of``: the sequence of the START that a COMMIT or ROLLBACK ends."""

    gtid: Triple
    standalone: bool
    prepared: Xid | None = None
    completed: Xid | None = None
    alter: Alter | None = None
    alter_of: int = 0


def parse_gtid_event(event: bytes, end: int) -> MysqlGroup:
    """A GTID or ANONYMOUS_GTID event. Raises DecodeError."""
    kind = Kind(event[4])
    try:
        uuid, number, clock = _GTID.unpack_from(event, HEADER)
        time = _commit_time(event, end) if clock == _LOGICAL_CLOCK and end > _TIMES else 0
    except struct.error:
        raise _malformed(kind) from None
    if kind is Kind.ANONYMOUS_GTID:
        return MysqlGroup(None, time)
    return MysqlGroup(_named(_uuid(uuid), number, kind), time)


def _commit_time(event: bytes, end: int) -> int:
    """The original commit time, which is there a second time where it differs."""
    if end < _TIMES + 7:
        return 0  # MySQL before 8.0.1
    time = int.from_bytes(event[_TIMES : _TIMES + 7], "little")
    if not time & _TWO_TIMES:
        return time
    if end < _TIMES + 14:
        raise struct.error
    return int.from_bytes(event[_TIMES + 7 : _TIMES + 14], "little")


@functools.lru_cache(maxsize=256)
def _uuid(raw: bytes) -> str:
    return uuid_text(raw)


def _named(origin: str, number: int, kind: Kind) -> Gtid:
    if not 0 < number < 1 << 63:
        raise _malformed(kind)
    return Gtid(origin, number)


# --- tagged -------------------------------------------------------------------------------------


def parse_tagged_event(event: bytes, end: int) -> MysqlGroup:
    """A GTID_TAGGED event. Raises DecodeError."""
    reader = _Reader(event, HEADER, end)
    try:
        return _tagged(reader)
    except (IndexError, ValueError):
        raise _malformed(Kind.GTID_TAGGED, reader.offset) from None


def _tagged(reader: _Reader) -> MysqlGroup:
    reader.unsigned()  # version of the serialization
    size = reader.unsigned()
    if size > reader.end - HEADER or reader.unsigned() > _Field.TICKET + 1:
        raise ValueError  # fields that must not be ignored, and are not known here
    reader.end = HEADER + size
    found: dict[int, int | bytes] = {}
    while reader.offset < reader.end and (field := reader.unsigned()) <= _Field.TICKET:
        found[field] = reader.field(field)
    uuid, tag, number = found[_Field.UUID], found[_Field.TAG], found[_Field.NUMBER]
    assert isinstance(uuid, bytes)
    assert isinstance(tag, bytes)
    assert isinstance(number, int)
    origin = _uuid(uuid) + (f":{tag.decode('ascii')}" if tag else "")
    time = found.get(_Field.ORIGINAL_TIME, found.get(_Field.TIME, 0))
    assert isinstance(time, int)
    return MysqlGroup(_named(origin, number, Kind.GTID_TAGGED), time)


class _Field(enum.IntEnum):
    FLAGS = 0
    UUID = 1
    NUMBER = 2
    TAG = 3
    LAST_COMMITTED = 4
    SEQUENCE = 5
    TIME = 6
    ORIGINAL_TIME = 7
    LENGTH = 8
    VERSION = 9
    ORIGINAL_VERSION = 10
    TICKET = 11


_SIGNED: Final = frozenset((_Field.NUMBER, _Field.LAST_COMMITTED, _Field.SEQUENCE))


class _Reader:
    """Values of mysql::serialization, one after the other."""

    def __init__(self, event: bytes, offset: int, end: int) -> None:
        self.event = event
        self.offset = offset
        self.end = end

    def field(self, field: int) -> int | bytes:
        """The value of a GTID_TAGGED event's field."""
        if field == _Field.UUID:
            return self.bytes_of_bytes(16)
        if field == _Field.TAG:
            return self.text()
        return self.signed() if field in _SIGNED else self.unsigned()

    def take(self, count: int) -> bytes:
        """The next bytes."""
        start, self.offset = self.offset, self.offset + count
        if self.offset > self.end:
            raise IndexError
        return self.event[start : self.offset]

    def unsigned(self) -> int:
        """An integer of 1 to 9 bytes: so many low one-bits in the first, so many bytes more."""
        more = 0
        while more < 8 and self.event[self.offset] >> more & 1:
            more += 1
        raw = int.from_bytes(self.take(more + 1), "little")
        return raw >> (more + 1 if more < 8 else 8)

    def signed(self) -> int:
        """The same, with the sign in the lowest bit of the value."""
        value = self.unsigned()
        return ~(value >> 1) if value & 1 else value >> 1

    def text(self) -> bytes:
        """A length and so many bytes."""
        return self.take(self.unsigned())

    def bytes_of_bytes(self, count: int) -> bytes:
        """So many integers, each the value of one byte."""
        return bytes(self.unsigned() for _ in range(count))


# --- MariaDB ------------------------------------------------------------------------------------


def parse_mariadb_gtid(event: bytes, end: int) -> MariadbGroup:
    """A GTID event of MariaDB. Raises DecodeError."""
    try:
        sequence, domain, flags = _MARIADB.unpack_from(event, HEADER)
        server = int.from_bytes(event[5:9], "little")
        triple = Triple(domain, server, sequence)
        if flags & (_COMMIT_ID | _PREPARED | _COMPLETED) == 0 and not any(event[HEADER + 13 : end]):
            return MariadbGroup(triple, bool(flags & _STANDALONE))
        return _appended(event, end, triple, flags)
    except (struct.error, IndexError):
        raise _malformed(Kind.MARIADB_GTID) from None


def _appended(event: bytes, end: int, triple: Triple, flags: int) -> MariadbGroup:
    """What follows the flags, whose padding of zero bytes may be there or not."""
    offset = HEADER + 13
    if flags & _COMMIT_ID:
        offset += 8
    xid = None
    if flags & (_PREPARED | _COMPLETED):
        number, first, second = struct.unpack_from("<IBB", event, offset)
        middle, offset = offset + 6 + first, offset + 6 + first + second
        if offset > end:
            raise IndexError
        xid = Xid(number, event[middle - first : middle], event[middle:offset])
    alter, alter_of = _alter(event, offset, end)
    return MariadbGroup(
        triple,
        bool(flags & _STANDALONE),
        prepared=xid if flags & _PREPARED else None,
        completed=xid if flags & _COMPLETED else None,
        alter=alter,
        alter_of=alter_of,
    )


def _alter(event: bytes, offset: int, end: int) -> tuple[Alter | None, int]:
    extra = event[offset] if offset < end else 0
    offset += 2 if extra & _MULTI_ENGINE else 1
    if extra & (_COMMIT_ALTER | _ROLLBACK_ALTER):
        (begun,) = struct.unpack_from("<Q", event[:end], offset)
        return Alter.COMMIT if extra & _COMMIT_ALTER else Alter.ROLLBACK, begun
    return (Alter.START if extra & _START_ALTER else None), 0


def _malformed(kind: Kind, offset: int = HEADER) -> DecodeError:
    return DecodeError("malformed event", kind=kind.name, offset=offset)
