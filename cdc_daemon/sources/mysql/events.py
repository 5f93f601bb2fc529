"""What a binlog is made of: an event's header, its checksum, and which kinds there are.

Every kind stands in one table with what becomes of it: it is **taken** (the decoder has a place for
it), **skipped** (it says nothing about rows), or **refused** (rows would be lost without it). What
is in no table is refused by its number. Nothing is ever dropped because nobody knows it.

Format: "Binary Log Event" in the documentation of MySQL's server (libs/mysql/binlog/event) and
"Replication Protocol" in MariaDB's; a header is 19 bytes: time, type, server, size, end, flags.
"""

from __future__ import annotations

import enum
import struct
import zlib
from dataclasses import dataclass
from typing import Final

from cdc_daemon.model.errors import DecodeError, PreflightRefusal, Problem
from cdc_daemon.sources.mysql.xid import Xid

HEADER: Final = 19
TYPE: Final = 4  # where a header has the type
_HEAD: Final = struct.Struct("<IBIIIH")
_CHECKSUM: Final = 4
_RESIDUE: Final = 0x2144DF1C  # the CRC32 of anything that its own CRC32 follows
_IN_USE: Final = 0x01  # of a file that is being written; not in its description's checksum
_ARTIFICIAL: Final = 0x20  # made for us, in no file
_FLAGS: Final = 17
_VERSION_4: Final = 4
_XID_PART: Final = 64  # bytes at most


class Kind(enum.IntEnum):
    """Event types by number."""

    UNKNOWN = 0
    START_V3 = 1
    QUERY = 2
    STOP = 3
    ROTATE = 4
    INTVAR = 5
    LOAD = 6
    SLAVE = 7
    CREATE_FILE = 8
    APPEND_BLOCK = 9
    EXEC_LOAD = 10
    DELETE_FILE = 11
    NEW_LOAD = 12
    RAND = 13
    USER_VAR = 14
    FORMAT_DESCRIPTION = 15
    XID = 16
    BEGIN_LOAD_QUERY = 17
    EXECUTE_LOAD_QUERY = 18
    TABLE_MAP = 19
    PRE_GA_WRITE_ROWS = 20
    PRE_GA_UPDATE_ROWS = 21
    PRE_GA_DELETE_ROWS = 22
    WRITE_ROWS_V1 = 23
    UPDATE_ROWS_V1 = 24
    DELETE_ROWS_V1 = 25
    INCIDENT = 26
    HEARTBEAT = 27
    IGNORABLE = 28
    ROWS_QUERY = 29
    WRITE_ROWS = 30
    UPDATE_ROWS = 31
    DELETE_ROWS = 32
    GTID = 33
    ANONYMOUS_GTID = 34
    PREVIOUS_GTIDS = 35
    TRANSACTION_CONTEXT = 36
    VIEW_CHANGE = 37
    XA_PREPARE = 38
    PARTIAL_UPDATE_ROWS = 39
    TRANSACTION_PAYLOAD = 40
    HEARTBEAT_V2 = 41
    GTID_TAGGED = 42
    LARGE_TRANSACTION_HEADER = 43
    ANNOTATE_ROWS = 160
    BINLOG_CHECKPOINT = 161
    MARIADB_GTID = 162
    MARIADB_GTID_LIST = 163
    START_ENCRYPTION = 164
    QUERY_COMPRESSED = 165
    WRITE_ROWS_COMPRESSED_V1 = 166
    UPDATE_ROWS_COMPRESSED_V1 = 167
    DELETE_ROWS_COMPRESSED_V1 = 168
    WRITE_ROWS_COMPRESSED = 169
    UPDATE_ROWS_COMPRESSED = 170
    DELETE_ROWS_COMPRESSED = 171
    PARTIAL_ROW_DATA = 172


class Handling(enum.Enum):
    """What becomes of a kind of event."""

    TAKEN = "taken"
    SKIPPED = "skipped"
    REFUSED = "refused"


_TOO_OLD: Final = "it is of a server older than MySQL 5.6"

HANDLING: Final[dict[Kind, tuple[Handling, str]]] = {
    Kind.UNKNOWN: (Handling.REFUSED, "it has no meaning"),
    Kind.START_V3: (Handling.REFUSED, _TOO_OLD),
    Kind.QUERY: (Handling.TAKEN, "statements that end a transaction, define or are refused"),
    Kind.STOP: (Handling.SKIPPED, "the server was shut down in order"),
    Kind.ROTATE: (Handling.TAKEN, "the next file"),
    Kind.INTVAR: (Handling.SKIPPED, "belongs to a statement, which is judged itself"),
    Kind.LOAD: (Handling.REFUSED, _TOO_OLD),
    Kind.SLAVE: (Handling.REFUSED, _TOO_OLD),
    Kind.CREATE_FILE: (Handling.REFUSED, _TOO_OLD),
    Kind.APPEND_BLOCK: (Handling.SKIPPED, "data of a LOAD DATA, which is judged itself"),
    Kind.EXEC_LOAD: (Handling.REFUSED, _TOO_OLD),
    Kind.DELETE_FILE: (Handling.SKIPPED, "data of a LOAD DATA that was rolled back"),
    Kind.NEW_LOAD: (Handling.REFUSED, _TOO_OLD),
    Kind.RAND: (Handling.SKIPPED, "belongs to a statement, which is judged itself"),
    Kind.USER_VAR: (Handling.SKIPPED, "belongs to a statement, which is judged itself"),
    Kind.FORMAT_DESCRIPTION: (Handling.TAKEN, "lengths and checksum of the file's events"),
    Kind.XID: (Handling.TAKEN, "commit"),
    Kind.BEGIN_LOAD_QUERY: (Handling.SKIPPED, "data of a LOAD DATA, which is judged itself"),
    Kind.EXECUTE_LOAD_QUERY: (Handling.TAKEN, "a LOAD DATA in statement format"),
    Kind.TABLE_MAP: (Handling.TAKEN, "the table of the rows that follow"),
    Kind.PRE_GA_WRITE_ROWS: (Handling.REFUSED, _TOO_OLD),
    Kind.PRE_GA_UPDATE_ROWS: (Handling.REFUSED, _TOO_OLD),
    Kind.PRE_GA_DELETE_ROWS: (Handling.REFUSED, _TOO_OLD),
    Kind.WRITE_ROWS_V1: (Handling.TAKEN, "rows"),
    Kind.UPDATE_ROWS_V1: (Handling.TAKEN, "rows"),
    Kind.DELETE_ROWS_V1: (Handling.TAKEN, "rows"),
    Kind.INCIDENT: (Handling.TAKEN, "changes are missing from the log: stops with its message"),
    Kind.HEARTBEAT: (Handling.SKIPPED, "the server is there"),
    Kind.IGNORABLE: (Handling.SKIPPED, "says of itself that it may be"),
    Kind.ROWS_QUERY: (Handling.SKIPPED, "the statement behind the rows, for people"),
    Kind.WRITE_ROWS: (Handling.TAKEN, "rows"),
    Kind.UPDATE_ROWS: (Handling.TAKEN, "rows"),
    Kind.DELETE_ROWS: (Handling.TAKEN, "rows"),
    Kind.GTID: (Handling.TAKEN, "begin"),
    Kind.ANONYMOUS_GTID: (Handling.TAKEN, "begin"),
    Kind.PREVIOUS_GTIDS: (Handling.SKIPPED, "what is before the file"),
    Kind.TRANSACTION_CONTEXT: (Handling.SKIPPED, "certification of group replication"),
    Kind.VIEW_CHANGE: (Handling.SKIPPED, "membership of group replication"),
    Kind.XA_PREPARE: (Handling.TAKEN, "prepared, or committed in one phase"),
    Kind.PARTIAL_UPDATE_ROWS: (Handling.TAKEN, "rows whose JSON is written as differences"),
    Kind.TRANSACTION_PAYLOAD: (Handling.TAKEN, "a transaction's events, compressed"),
    Kind.HEARTBEAT_V2: (Handling.SKIPPED, "the server is there"),
    Kind.GTID_TAGGED: (Handling.TAKEN, "begin"),
    Kind.LARGE_TRANSACTION_HEADER: (
        Handling.SKIPPED,
        "where a large transaction ends, for recovery",
    ),
    Kind.ANNOTATE_ROWS: (Handling.SKIPPED, "the statement behind the rows, for people"),
    Kind.BINLOG_CHECKPOINT: (Handling.SKIPPED, "up to where the server's own recovery reads"),
    Kind.MARIADB_GTID: (Handling.TAKEN, "begin"),
    Kind.MARIADB_GTID_LIST: (Handling.SKIPPED, "what is before the file"),
    Kind.START_ENCRYPTION: (Handling.SKIPPED, "the file is encrypted; what is sent is not"),
    Kind.QUERY_COMPRESSED: (Handling.TAKEN, "as QUERY"),
    Kind.WRITE_ROWS_COMPRESSED_V1: (Handling.TAKEN, "rows"),
    Kind.UPDATE_ROWS_COMPRESSED_V1: (Handling.TAKEN, "rows"),
    Kind.DELETE_ROWS_COMPRESSED_V1: (Handling.TAKEN, "rows"),
    Kind.WRITE_ROWS_COMPRESSED: (Handling.TAKEN, "rows"),
    Kind.UPDATE_ROWS_COMPRESSED: (Handling.TAKEN, "rows"),
    Kind.DELETE_ROWS_COMPRESSED: (Handling.TAKEN, "rows"),
    Kind.PARTIAL_ROW_DATA: (
        Handling.REFUSED,
        "rows in pieces (MariaDB 12.3) are not read; raise binlog_row_event_fragment_threshold",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """``time``: seconds since 1970; ``end``: the lower 32 bits of the next event's offset, or 0."""

    time: int
    type: int
    server: int
    size: int
    end: int
    flags: int

    @property
    def artificial(self) -> bool:
        """Whether the event is in no file: the server made it for us."""
        return bool(self.flags & _ARTIFICIAL)


def parse_header(event: bytes) -> Header:
    """The header of a whole event. Raises DecodeError."""
    if len(event) < HEADER:
        raise DecodeError(f"an event of {len(event)} bytes", kind="?", offset=0)
    time, kind, server, size, end, flags = _HEAD.unpack_from(event)
    if size != len(event):
        raise DecodeError(f"{len(event)} bytes instead of {size}", kind=name_of(kind), offset=9)
    return Header(time=time, type=kind, server=server, size=size, end=end, flags=flags)


def name_of(kind: int) -> str:
    """The type's name; for one that is not known, its number."""
    try:
        return Kind(kind).name
    except ValueError:
        return f"number {kind}"


class Framing:
    """How the events of the file that is being read are framed, and which file it is.

    ``checksum``: whether events end in a CRC32; at first they do, for every session asks for it.
    """

    def __init__(self, *, checksum: bool = True, file: str = "") -> None:
        self.checksum = checksum
        self.file = file
        self.version = ""

    def end(self, event: bytes) -> int:
        """Where the body ends, after the checksum was found right. Raises DecodeError."""
        if not self.checksum:
            return len(event)
        if zlib.crc32(event) != _RESIDUE:
            raise self.broken(event, "its checksum is wrong: the log, or the way here, is damaged")
        return len(event) - _CHECKSUM

    def where(self, event: bytes) -> str:
        """``file:offset`` of the event's end, as far as it is known."""
        end = int.from_bytes(event[13:17], "little")
        return f"{self.file}:{end}" if end else self.file or "?"

    def broken(self, event: bytes, why: str) -> DecodeError:
        """An event that cannot be read, named with its place."""
        kind = event[TYPE] if len(event) > TYPE else 0
        what = f"event {name_of(kind)} that ends at {self.where(event)}: {why}"
        return DecodeError(what, kind=str(kind), offset=0)

    def skip(self, event: bytes) -> None:
        """Pass over an event that nobody takes. Raises DecodeError unless it may be skipped."""
        try:
            handling, reason = HANDLING[Kind(event[TYPE])]
        except ValueError:
            why = "no event of that number is known, and to skip it might lose rows"
            raise self.broken(event, why) from None
        if handling is not Handling.SKIPPED:
            raise self.broken(event, f"it is refused: {reason}")

    def describe(self, event: bytes) -> None:
        """Take in a FORMAT_DESCRIPTION. Raises DecodeError."""
        cleared = bytearray(event)
        cleared[_FLAGS] &= ~_IN_USE
        try:
            version, self.version, length, checksum = _parse_format(event)
        except (struct.error, IndexError, UnicodeDecodeError):
            raise self.broken(event, "it is too short") from None
        if version != _VERSION_4 or length != HEADER:
            raise self.broken(event, f"version {version} of the log's format is not read")
        if checksum not in (0, 1):
            raise self.broken(event, f"checksum algorithm {checksum} is not known")
        if zlib.crc32(cleared) != _RESIDUE and checksum:
            raise self.broken(event, "its checksum is wrong")
        self.checksum = checksum == 1

    def rotate(self, event: bytes) -> int:
        """Take in a ROTATE: the next file begins. Its offset. Raises DecodeError."""
        end = self.end(event)
        if end < HEADER + 9:
            raise self.broken(event, "it is too short")
        self.file = event[HEADER + 8 : end].decode("utf-8", "backslashreplace")
        return int.from_bytes(event[HEADER : HEADER + 8], "little")


def _parse_format(event: bytes) -> tuple[int, str, int, int]:
    """Version of the format, the server's version, length of a header, checksum algorithm."""
    version, name = struct.unpack_from("<H50s", event, HEADER)
    server = name.rstrip(b"\0").decode("ascii")
    return version, server, event[HEADER + 56], event[-_CHECKSUM - 1]


def incident(event: bytes, end: int, where: str) -> PreflightRefusal:
    """What an INCIDENT says: from here on changes are missing."""
    length = event[HEADER + 2] if end > HEADER + 2 else 0
    said = event[HEADER + 3 : min(end, HEADER + 3 + length)].decode("utf-8", "replace")
    what = (
        f"the server's log says at {where} that changes are missing from it: {said or 'no reason'}"
    )
    cure = "read the server's error log; then take a new copy: cdc-daemon snapshot start"
    return PreflightRefusal([Problem(what=what, cure=cure)])


def parse_xa_prepare(event: bytes, end: int) -> tuple[Xid, bool]:
    """The transaction, and whether it was not only prepared but committed (in one phase)."""
    try:
        one_phase, number, first, second = struct.unpack_from("<BIII", event, HEADER)
    except struct.error:
        raise _malformed(Kind.XA_PREPARE) from None
    start = HEADER + 13
    if max(first, second) > _XID_PART or start + first + second > end:
        raise _malformed(Kind.XA_PREPARE)
    data = event[start : start + first + second]
    return Xid(number, data[:first], data[first:]), bool(one_phase)


def _malformed(kind: Kind) -> DecodeError:
    return DecodeError("malformed event", kind=kind.name, offset=HEADER)
