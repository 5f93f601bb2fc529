"""What MariaDB compresses: values of COMPRESSED columns, and events with ``log_bin_compress=ON``.

Formats: ``compress_zlib`` in MariaDB's ``sql/field_comp.cc`` and ``binlog_buf_compress`` in
``sql/log_event.cc``. Both begin with a byte of method and length, then comes the length when
uncompressed, highest byte first. What is damaged raises ValueError.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

from cdc_daemon.model.errors import Stop
from cdc_daemon.sources.mysql.cursor import Cursor

_RAW_DEFLATE: Final = 8  # in a column's first byte: without zlib's header and checksum
_LENGTH: Final = 7
_ZLIB_COLUMN, _ZLIB_EVENT = 8, 8  # the method, in the upper four bits
_POST_HEADER: Final = 8  # table number and flags
LARGEST_EVENT: Final = 1 << 30
"""Bytes of an event: the most that ``max_allowed_packet`` can be."""


def column_reader(limit: int, where: str) -> Callable[[bytes], bytes]:
    """A COMPRESSED column's bytes. Raises Stop when they are more than ``limit``."""

    def read(raw: bytes) -> bytes:
        if not raw or not raw[0]:
            return raw[1:]  # stored as it is
        method, size = raw[0] >> 4, raw[0] & _LENGTH
        if method != _ZLIB_COLUMN:
            raise ValueError(f"a column compressed by an unknown method ({method})")
        length = int.from_bytes(raw[1 : 1 + size], "big")
        if length > limit:
            raise Stop(
                f"{where}: a value of {length} bytes is longer than max_value_bytes ({limit})",
                hint="raise max_value_bytes or leave the column out of the mapping",
            )
        bits = -zlib.MAX_WBITS if raw[0] & _RAW_DEFLATE else zlib.MAX_WBITS
        return _inflated(raw[1 + size :], length, bits)

    return read


def inflate(data: bytes) -> bytes:
    """The content of a compressed event (query or rows), behind its headers. Raises ValueError."""
    if not data or data[0] >> 4 != _ZLIB_EVENT:
        raise ValueError("an event compressed by an unknown method")
    size = data[0] & _LENGTH
    length = int.from_bytes(data[1 : 1 + size], "big")
    if length > LARGEST_EVENT:
        raise ValueError("a compressed event of more than an event's length")
    return _inflated(data[1 + size :], length, zlib.MAX_WBITS)


def inflate_rows(body: bytes, *, update: bool) -> bytes:
    """The body of the rows event that a compressed one stands for. Raises DecodeError."""
    cursor = Cursor(body, "compressed rows", _POST_HEADER)
    width = (cursor.packed() + 7) // 8
    cursor.take(2 * width if update else width)
    head = body[: cursor.offset]
    try:
        return head + inflate(body[cursor.offset :])
    except ValueError as exc:
        raise cursor.fail(str(exc)) from exc


def _inflated(data: bytes, length: int, bits: int) -> bytes:
    stream = zlib.decompressobj(bits)
    try:
        found = stream.decompress(data, length + 1)
    except zlib.error as exc:
        raise ValueError("damaged compression") from exc
    if len(found) != length or not stream.eof:
        raise ValueError("damaged compression: another length than it says")
    return found
