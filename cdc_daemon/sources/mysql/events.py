"""What a binlog is made of: an event's header and checksum, and the small events.

Nothing is ever dropped because nobody knows it: what the decoder does not take goes through
:meth:`Framing.skip`, which passes over only those kinds that the table in ``event_kinds`` names.

Format: "Binary Log Event" in the documentation of MySQL's server (libs/mysql/binlog/event) and
"Replication Protocol" in MariaDB's; a header is 19 bytes: time, type, server, size, end, flags.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final

from cdc_daemon.model.errors import RESNAPSHOT, DecodeError, PreflightRefusal, Problem
from cdc_daemon.sources.mysql.event_kinds import HANDLING, Handling, Kind, name_of
from cdc_daemon.sources.mysql.starts import Begun
from cdc_daemon.sources.mysql.xid import Xid

__all__ = [
    "ARTIFICIAL",
    "END",
    "FLAGS",
    "HANDLING",
    "HEADER",
    "TIME",
    "TYPE",
    "Framing",
    "Handling",
    "Header",
    "Kind",
    "incident",
    "name_of",
    "parse_header",
    "parse_xa_prepare",
]

HEADER: Final = 19
TYPE: Final = 4  # where a header has the type
_HEAD: Final = struct.Struct("<IBIIIH")
_CHECKSUM: Final = 4
_RESIDUE: Final = 0x2144DF1C  # the CRC32 of anything that its own CRC32 follows
_IN_USE: Final = 0x01  # of a file that is being written; not in its description's checksum
TIME: Final = slice(0, 4)
END: Final = slice(13, 17)  # the lower 32 bits of the next event's offset
FLAGS: Final = 17
ARTIFICIAL: Final = 0x20  # a flag: made for us, in no file
_VERSION_4: Final = 4
_XID_PART: Final = 64  # bytes at most


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
        return bool(self.flags & ARTIFICIAL)


def parse_header(event: bytes) -> Header:
    """The header of a whole event. Raises DecodeError."""
    if len(event) < HEADER:
        raise DecodeError(f"an event of {len(event)} bytes", kind="?", offset=0)
    time, kind, server, size, end, flags = _HEAD.unpack_from(event)
    if size != len(event):
        raise DecodeError(f"{len(event)} bytes instead of {size}", kind=name_of(kind), offset=9)
    return Header(time=time, type=kind, server=server, size=size, end=end, flags=flags)


class Framing:
    """How the events of the file that is being read are framed, and which file it is.

    ``checksum``: whether events end in a CRC32; at first they do, for every session asks for it.
    ``begun``: who began the file, and when, once its description has come.
    """

    def __init__(self, *, checksum: bool = True, file: str = "") -> None:
        self.checksum = checksum
        self.file = file
        self.version = ""
        self.begun: Begun | None = None

    def end(self, event: bytes) -> int:
        """Where the body ends, after the checksum was found right. Raises DecodeError."""
        if not self.checksum:
            return len(event)
        if zlib.crc32(event) != _RESIDUE:
            raise self.broken(event, "its checksum is wrong: the log, or the way here, is damaged")
        return len(event) - _CHECKSUM

    def where(self, event: bytes) -> str:
        """``file:offset`` of the event's end, as far as it is known."""
        end = int.from_bytes(event[END], "little")
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
        cleared[FLAGS] &= ~_IN_USE
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
        header = parse_header(event)
        self.begun = Begun(header.server, header.time)

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
    cure = f"read the server's error log; then {RESNAPSHOT}"
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
