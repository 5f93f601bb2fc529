"""A place in an event's bytes that moves on as they are read, with every check.

For what is read once an event or once a table; row images have code of their own. Formats: "Basic
Data Types" of MySQL's internals manual (little-endian integers, length-encoded integers).
"""

from __future__ import annotations

from cdc_daemon.model.errors import DecodeError

_NULL, _MORE = 251, {252: 2, 253: 3, 254: 8}


class Cursor:
    """``data`` from ``offset`` on; ``kind`` names the event in a DecodeError."""

    __slots__ = ("data", "kind", "offset")

    def __init__(self, data: bytes, kind: str, offset: int = 0) -> None:
        self.data = data
        self.kind = kind
        self.offset = offset

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return len(self.data) - self.offset

    def fail(self, message: str) -> DecodeError:
        """The error for what stands here; to be raised."""
        return DecodeError(message, kind=self.kind, offset=self.offset)

    def take(self, length: int) -> bytes:
        """So many bytes. Raises DecodeError when there are fewer."""
        end = self.offset + length
        if end > len(self.data):
            raise self.fail(f"{length} bytes expected, {self.left} left")
        start, self.offset = self.offset, end
        return self.data[start:end]

    def number(self, length: int) -> int:
        """A little-endian number of so many bytes."""
        return int.from_bytes(self.take(length), "little")

    def packed(self) -> int:
        """A length-encoded number."""
        first = self.number(1)
        if first < _NULL:
            return first
        if first not in _MORE:
            raise self.fail(f"{first} does not begin a length-encoded number")
        return self.number(_MORE[first])

    def text(self) -> bytes:
        """A string after its length-encoded length."""
        return self.take(self.packed())
