"""Real binlog files, event by event, and events made by hand."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from cdc_daemon.sources.mysql.events import HEADER, Framing, Kind

_FOLDER = Path(__file__).parents[1] / "data" / "binlog"
_MAGIC = b"\xfebin"


def events_of(name: str) -> list[bytes]:
    """Every event of a file that a server wrote, as a server sends it."""
    data = (_FOLDER / name).read_bytes()
    assert data.startswith(_MAGIC)
    found, offset = [], len(_MAGIC)
    while offset < len(data):
        (size,) = struct.unpack_from("<I", data, offset + 9)
        found.append(data[offset : offset + size])
        offset += size
    return found


def kinds_of(events: list[bytes]) -> list[Kind]:
    return [Kind(event[4]) for event in events]


def opened(events: list[bytes]) -> tuple[Framing, list[bytes]]:
    """How the file's events are framed, and those behind its description."""
    framing = Framing(checksum=True, file="bin.000001")
    framing.describe(events[0])
    return framing, events[1:]


def event(  # everything that a header has
    kind: int,
    body: bytes,
    *,
    checksum: bool = False,
    time: int = 1_795_805_298,
    server: int = 1,
    end: int = 0,
    flags: int = 0,
) -> bytes:
    """An event made by hand."""
    size = HEADER + len(body) + (4 if checksum else 0)
    made = struct.pack("<IBIIIH", time, kind, server, size, end, flags) + body
    return made + struct.pack("<I", zlib.crc32(made)) if checksum else made
