"""Global transaction identifiers: MySQL's sets, with tags, and MariaDB's triples.

A MySQL GTID is ``uuid:number`` or ``uuid:tag:number`` (since 8.3), and a set of them is the text of
``@@gtid_executed``. Here its origin, ``uuid`` or ``uuid:tag``, is a plain text, so that adding a
transaction is one look into a dict and, nearly always, one addition. A MariaDB GTID is
``domain-server-sequence``; of each domain only the last one counts.

Formats: "GTID Format and Storage" and "Replication Protocol" of MySQL's manual
(COM_BINLOG_DUMP_GTID, PREVIOUS_GTIDS_EVENT; a set with tags has format 1 in the first and last byte
of its count), "Global Transaction ID" of MariaDB's.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from collections.abc import Mapping
from typing import ClassVar, Final, NamedTuple

from cdc_daemon.model.errors import DecodeError, Stop
from cdc_daemon.sources.mysql.intervals import insert, minus, pairs

_UUID: Final = re.compile(
    r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.ASCII
)
_TAG: Final = re.compile(r"[a-z_][a-z0-9_]{0,31}", re.ASCII)
_RANGE: Final = re.compile(r"([0-9]{1,19})(?:-([0-9]{1,19}))?", re.ASCII)
_TRIPLE: Final = re.compile(r"([0-9]{1,10})-([0-9]{1,10})-([0-9]{1,20})", re.ASCII)
_WRITTEN_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_OWNER: Final = re.compile(r"#[0-9]+", re.ASCII)
_LAST: Final = (1 << 63) - 2  # the greatest number that MySQL gives
_COUNT: Final = struct.Struct("<Q")
_INTERVAL: Final = struct.Struct("<QQ")
_TAGGED: Final = 1
_KIND: Final = "PREVIOUS_GTIDS"


class Gtid(NamedTuple):
    """One transaction of a MySQL server: its origin, ``uuid`` or ``uuid:tag``, and its number."""

    origin: str
    number: int

    def __str__(self) -> str:
        return f"{self.origin}:{self.number}"


class Triple(NamedTuple):
    """One transaction of a MariaDB server."""

    domain: int
    server: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.domain}-{self.server}-{self.sequence}"


def uuid_text(raw: bytes) -> str:
    """A server's UUID of 16 bytes as text."""
    digits = raw.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def parse_gtid(text: str) -> Gtid:
    """The GTID of ``uuid:5`` or ``uuid:tag:5``. Raises Stop for any other text."""
    found = parse_set(text)
    if found.count() != 1:
        raise Stop(f"{text[:80]!r} is not one GTID", hint="it looks like 3e11fa47-…:23")
    ((origin, bounds),) = found.intervals.items()
    return Gtid(origin, bounds[0])


class GtidSet:
    """A set of MySQL GTIDs: of each origin the numbers, as sorted bounds [first, end, first, …)."""

    __slots__ = ("intervals",)

    def __init__(self, intervals: Mapping[str, list[int]] | None = None) -> None:
        self.intervals: dict[str, list[int]] = dict(intervals or {})

    # --- one transaction ------------------------------------------------------------------------

    def add(self, origin: str, number: int) -> None:
        """Put a transaction in; what is there already stays."""
        bounds = self.intervals.get(origin)
        if bounds is None:
            self.intervals[origin] = [number, number + 1]
        elif bounds[-1] == number:
            bounds[-1] = number + 1
        elif bounds[-1] < number:
            bounds += (number, number + 1)
        else:
            insert(bounds, number, number + 1)

    def remove(self, gtid: Gtid) -> None:
        """Take a transaction out; what is not there stays so."""
        bounds = self.intervals.get(gtid.origin)
        if bounds is None or gtid not in self:
            return
        rest = minus(bounds, [gtid.number, gtid.number + 1])
        if rest:
            self.intervals[gtid.origin] = rest
        else:
            del self.intervals[gtid.origin]

    def __contains__(self, gtid: Gtid) -> bool:
        bounds = self.intervals.get(gtid.origin)
        return bounds is not None and bisect_right(bounds, gtid.number) % 2 == 1

    # --- sets -----------------------------------------------------------------------------------

    def copy(self) -> GtidSet:
        return GtidSet({origin: list(bounds) for origin, bounds in self.intervals.items()})

    def update(self, other: GtidSet) -> None:
        """Put all transactions of the other set in."""
        for origin, bounds in other.intervals.items():
            mine = self.intervals.setdefault(origin, [])
            for first, end in pairs(bounds):
                insert(mine, first, end)

    def __sub__(self, other: GtidSet) -> GtidSet:
        rest = {
            origin: minus(bounds, other.intervals.get(origin, []))
            for origin, bounds in self.intervals.items()
        }
        return GtidSet({origin: bounds for origin, bounds in rest.items() if bounds})

    def __and__(self, other: GtidSet) -> GtidSet:
        return self - (self - other)

    def __ge__(self, other: GtidSet) -> bool:
        """Whether all of the other set is in this one."""
        return not other - self

    def __bool__(self) -> bool:
        return bool(self.intervals)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GtidSet) and self.intervals == other.intervals

    __hash__: ClassVar[None]  # type: ignore[assignment]  # it changes

    def count(self) -> int:
        """How many transactions these are."""
        return sum(
            end - first for bounds in self.intervals.values() for first, end in pairs(bounds)
        )

    # --- text and bytes -------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"<GtidSet {self}>"

    def __str__(self) -> str:
        """As MySQL writes it, in one line without blanks."""
        pieces: list[str] = []
        before = ""
        for origin in sorted(self.intervals):
            uuid, _, tag = origin.partition(":")
            ranges = ":".join(
                str(first) if end == first + 1 else f"{first}-{end - 1}"
                for first, end in pairs(self.intervals[origin])
            )
            if uuid == before:
                pieces[-1] += f":{tag}:{ranges}"
            else:
                pieces.append(f"{origin}:{ranges}")
            before = uuid
        return ",".join(pieces)

    def encode(self) -> bytes:
        """As COM_BINLOG_DUMP_GTID takes it; the older form unless there are tags."""
        tagged = any(":" in origin for origin in self.intervals)
        count = len(self.intervals)
        head = count << 8 | _TAGGED | _TAGGED << 56 if tagged else count
        pieces = [_COUNT.pack(head)]
        for origin in sorted(self.intervals):
            uuid, _, tag = origin.partition(":")
            bounds = self.intervals[origin]
            pieces.append(bytes.fromhex(uuid.replace("-", "")))
            if tagged:
                pieces.append(bytes((len(tag) << 1,)) + tag.encode())
            pieces.append(struct.pack(f"<Q{len(bounds)}Q", len(bounds) // 2, *bounds))
        return b"".join(pieces)


def parse_set(text: str) -> GtidSet:
    """The set of ``@@gtid_executed``'s text, blanks and line ends allowed. Raises Stop."""
    found = GtidSet()
    for member in "".join(text.split()).lower().split(","):
        if member:
            _take_member(found, member)
    return found


def parse_owned(text: str) -> GtidSet:
    """A ``gtid_owned``: transactions under way that have their number; ``#`` tells who owns one.

    MySQL 9 writes nothing between the number of an owner and the next UUID.
    """
    return parse_set(_OWNER.sub("", _WRITTEN_UUID.sub(r",\g<0>", text)))


def _take_member(found: GtidSet, member: str) -> None:
    """Put ``uuid:1-3:5:tag:1`` in."""
    uuid, *parts = member.split(":")
    if _UUID.fullmatch(uuid) is None or not parts or _TAG.fullmatch(parts[-1]):
        raise _no_set(member)
    uuid = uuid_text(bytes.fromhex(uuid.replace("-", "")))
    origin = uuid
    for part in parts:
        if _TAG.fullmatch(part):
            origin = f"{uuid}:{part}"
        else:
            insert(found.intervals.setdefault(origin, []), *_range(part, member))


def _range(part: str, member: str) -> tuple[int, int]:
    """First number and the one after the last."""
    ends = _RANGE.fullmatch(part)
    if ends is None:
        raise _no_set(member)
    first, last = int(ends[1]), int(ends[2] or ends[1])
    if not 1 <= first <= last <= _LAST:
        raise _no_set(member)
    return first, last + 1


def _no_set(member: str) -> Stop:
    return Stop(f"{member[:80]!r} is no part of a GTID set", hint="it looks like 3e11fa47-…:1-23")


def decode_set(raw: bytes) -> GtidSet:
    """The set of a PREVIOUS_GTIDS event's body. Raises DecodeError."""
    found = GtidSet()
    try:
        (count,) = _COUNT.unpack_from(raw)
        tagged = raw[7] == _TAGGED
        offset = 8
        for _ in range(count >> 8 & 0xFFFF_FFFF_FFFF if tagged else count):
            offset = _decode_origin(raw, offset, found, tagged=tagged)
    except (struct.error, IndexError, ValueError):
        raise DecodeError("malformed GTID set", kind=_KIND, offset=0) from None
    if offset != len(raw):
        raise DecodeError("bytes after the end", kind=_KIND, offset=offset)
    return found


def _decode_origin(raw: bytes, offset: int, found: GtidSet, *, tagged: bool) -> int:
    origin = uuid_text(raw[offset : offset + 16])
    offset += 16
    if tagged:
        length = raw[offset] >> 1
        tag = raw[offset + 1 : offset + 1 + length].decode("ascii")
        offset += 1 + length
        if length and not _TAG.fullmatch(tag):
            raise ValueError
        origin += f":{tag}" if tag else ""
    count = int.from_bytes(raw[offset : offset + 8], "little")
    end = offset + 8 + 16 * count
    bounds = found.intervals.setdefault(origin, [])
    for first, after in _INTERVAL.iter_unpack(raw[offset + 8 : end]):
        if not 1 <= first < after:
            raise ValueError
        insert(bounds, first, after)
    if len(raw) < end or not bounds:
        raise ValueError
    return end


# --- MariaDB ------------------------------------------------------------------------------------


def parse_triple(text: str) -> Triple:
    """The GTID of ``0-1-17``. Raises Stop for any other text."""
    found = _TRIPLE.fullmatch(text.strip())
    if found is None:
        raise Stop(f"{text[:80]!r} is not a MariaDB GTID", hint="it looks like 0-1-17")
    triple = Triple(int(found[1]), int(found[2]), int(found[3]))
    if max(triple.domain, triple.server) >= 1 << 32 or triple.sequence >= 1 << 64:
        raise Stop(f"{text!r} is not a MariaDB GTID: a number is too large")
    return triple


def parse_domains(text: str) -> dict[int, Triple]:
    """The last GTID of each domain, of ``@@gtid_binlog_pos``' text. Raises Stop."""
    found = [parse_triple(piece) for piece in text.split(",") if piece.strip()]
    domains = {triple.domain: triple for triple in found}
    if len(domains) != len(found):
        raise Stop(f"{text[:80]!r} names a GTID domain twice")
    return domains


def format_domains(domains: Mapping[int, Triple]) -> str:
    """As MariaDB writes ``@slave_connect_state``, in order of domains."""
    return ",".join(str(domains[domain]) for domain in sorted(domains))
