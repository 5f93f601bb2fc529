"""pgoutput's messages other than rows, parsed: begin, commit, relation, keepalive.

Formats: "Streaming Replication Protocol" (XLogData, keepalive) and "Logical Replication Message
Formats" of the PostgreSQL documentation, protocol version 1. Every function takes the payload of a
whole CopyData message.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from cdc_daemon.model.changes import Begin
from cdc_daemon.model.errors import DecodeError
from cdc_daemon.sources.postgres.relations import REPLICAS, Described
from cdc_daemon.sources.postgres.types import Types

HEADER: Final = 25  # XLogData: 'w', first and last position, send time
KEY_END: Final = HEADER + 8  # of a row: kind, relation oid, tuple tag, number of columns
EPOCH: Final = 946_684_800_000_000  # 2000-01-01, where the protocol's clock begins, µs since 1970
_BEGINS = struct.Struct(f">{HEADER + 1}xQq4x")  # position of the commit record, commit time
_COMMIT = struct.Struct(">BQQq")  # flags, commit record, its end, commit time
_KEEPALIVE = struct.Struct(">QqB")  # end of the log, clock, whether a reply is wanted
_FEEDBACK = struct.Struct(">cQQQq?")  # 'r', written, flushed, applied, clock, whether to reply


def parse_begins(found: Sequence[tuple[int, memoryview]]) -> list[Begin]:
    """Transactions by the ordinal of their first change and their Begin message, which is of the
    right length: with the commit record's position and time."""
    parsed = _BEGINS.iter_unpack(b"".join([message for _, message in found]))
    return [
        (first, mark, time + EPOCH) for (first, _), (mark, time) in zip(found, parsed, strict=True)
    ]


def transaction_of(begin: memoryview) -> int:
    """The transaction's number in a Begin message; 0 for none."""
    return int.from_bytes(begin[HEADER + 17 : HEADER + 21], "big")


def parse_commit(message: memoryview) -> tuple[int, int]:
    """Position after the commit record, and commit time in µs since 1970."""
    _, _, end, time = _COMMIT.unpack_from(message, HEADER + 1)
    return end, time + EPOCH


def parse_keepalive(message: bytes) -> tuple[int, bool]:
    """How far the server has read its log, and whether it wants a reply at once."""
    end, _, reply = _KEEPALIVE.unpack(message[1:])
    return end, bool(reply)


def feedback(*, written: int, flushed: int, now: int, ask: bool = False) -> bytes:
    """A standby status update; ``now`` in µs since 1970. ``ask``: the server is to answer at once.

    It answers with a keepalive, which itself asks for nothing.
    """
    return _FEEDBACK.pack(b"r", written, flushed, flushed, now - EPOCH, ask)


def parse_type(message: bytes, codec: str = "utf-8") -> tuple[int, str]:
    """The oid and the qualified name of a type that is not built in."""
    schema, name, _ = message[HEADER + 5 :].split(b"\0")
    oid = int.from_bytes(message[HEADER + 1 : HEADER + 5], "big")
    return oid, f"{schema.decode(codec)}.{name.decode(codec)}"


def parse_truncate(message: bytes) -> list[bytes]:
    """The oids of the truncated relations; whether it cascaded does not matter here."""
    count = int.from_bytes(message[HEADER + 1 : HEADER + 5], "big")
    start = HEADER + 6
    if len(message) != start + 4 * count:
        raise DecodeError("wrong number of relations", kind="T", offset=HEADER + 1)
    return [message[i : i + 4] for i in range(start, len(message), 4)]


def parse_relation(message: bytes, types: Types) -> Described:
    """A Relation message in words."""
    schema, table, rest = message[30:].split(b"\0", 2)
    count = int.from_bytes(rest[1:3], "big")
    names, column_types, flagged = [], [], []
    offset = 3
    for _ in range(count):
        end = rest.index(b"\0", offset + 1)
        name = rest[offset + 1 : end].decode(types.codec)
        oid, modifier = struct.unpack_from(">Ii", rest, end + 1)
        names.append(name)
        column_types.append(types.column_type(oid, modifier))
        if rest[offset] & 1:
            flagged.append(name)
        offset = end + 9
    if offset != len(rest):
        raise DecodeError("bytes after the end", kind="R", offset=len(message) - len(rest) + offset)
    replica = chr(rest[0])
    if replica not in REPLICAS:
        raise DecodeError(f"unknown replica identity {replica!r}", kind="R", offset=30)
    return Described(
        schema=schema.decode(types.codec) or "pg_catalog",
        table=table.decode(types.codec),
        names=tuple(names),
        types=tuple(column_types),
        flagged=frozenset(flagged),
        replica=REPLICAS[replica],
    )


def malformed(message: bytes) -> DecodeError:
    """What a parser tripped over."""
    what = f"malformed message of {len(message)} bytes"
    if message[:1] == b"w" and len(message) > HEADER:
        return DecodeError(what, kind=chr(message[HEADER]), offset=HEADER)
    return DecodeError(what, kind=chr(message[0]) if message else "", offset=0)
