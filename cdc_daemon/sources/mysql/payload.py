"""TRANSACTION_PAYLOAD: the events of a transaction, compressed with zstd (MySQL, since 8.0.20).

They have no checksum of their own, and their ends are counted from the payload's beginning. They
are unpacked a piece at a time: a transaction of gigabytes is never whole in memory. Format:
Transaction_payload_event of MySQL's documentation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import zstandard

from cdc_daemon.model.errors import DecodeError
from cdc_daemon.sources.mysql.events import HEADER, Kind

_ZSTD, _NONE = 0, 255
_END, _SIZE, _COMPRESSION, _UNCOMPRESSED = 0, 1, 2, 3
_PIECE: Final = 1 << 20
_SIZE_AT: Final = 9  # of an event's size in its header


def nested_events(event: bytes, end: int) -> Iterator[bytes]:
    """The events within, one after the other. Raises DecodeError, at the latest at their end."""
    try:
        fields, offset = _fields(event, end)
    except IndexError:
        raise _malformed("it ends in the middle of its head") from None
    payload = event[offset:end]
    if len(payload) != fields.get(_SIZE, len(payload)):
        raise _malformed("its size is wrong")
    return _split(_pieces(payload, fields.get(_COMPRESSION, _NONE)), fields.get(_UNCOMPRESSED))


def _fields(event: bytes, end: int) -> tuple[dict[int, int], int]:
    """The numbers of the head by their kind, and where the payload begins."""
    found: dict[int, int] = {}
    offset = HEADER
    while True:
        kind, offset = _number(event, offset, end)
        if kind == _END:
            return found, offset
        length, offset = _number(event, offset, end)
        if length > end - offset:
            raise IndexError
        found[kind], _ = _number(event, offset, end)
        offset += length


def _number(event: bytes, offset: int, end: int) -> tuple[int, int]:
    """A length-encoded integer, and the offset behind it."""
    first = event[offset]
    size = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(first, 0)
    after = offset + 1 + size
    if after > end:
        raise IndexError
    return (int.from_bytes(event[offset + 1 : after], "little") if size else first), after


def _pieces(payload: bytes, compression: int) -> Iterator[bytes]:
    if compression == _NONE:
        yield payload
        return
    if compression != _ZSTD:
        raise _malformed(f"compression {compression} is not known")
    try:
        yield from zstandard.ZstdDecompressor().read_to_iter(payload, write_size=_PIECE)
    except zstandard.ZstdError:
        raise _malformed("its compression is damaged") from None


def _split(pieces: Iterator[bytes], size: int | None) -> Iterator[bytes]:
    """Cut at the events' ends, which may lie anywhere in the pieces."""
    data = bytearray()
    total = 0
    for piece in pieces:
        total += len(piece)
        data += piece
        offset = 0
        while (after := _next_end(data, offset)) is not None:
            yield bytes(memoryview(data)[offset:after])
            offset = after
        del data[:offset]
    if data or (size is not None and total != size):
        raise _malformed("its events are cut off")


def _next_end(data: bytearray, offset: int) -> int | None:
    """Where the event that begins at the offset ends; None: not in this data."""
    if len(data) < offset + HEADER:
        return None
    size = int.from_bytes(data[offset + _SIZE_AT : offset + _SIZE_AT + 4], "little")
    if size < HEADER:
        raise _malformed("an event within is too short")
    return offset + size if offset + size <= len(data) else None


def _malformed(why: str) -> DecodeError:
    what = f"event {Kind.TRANSACTION_PAYLOAD.name}: {why}"
    return DecodeError(what, kind=str(int(Kind.TRANSACTION_PAYLOAD)), offset=HEADER)
