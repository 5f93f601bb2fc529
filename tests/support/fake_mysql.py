"""A server that speaks as much of MySQL's protocol as a test of refusals needs."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_CAPABILITIES = 0x0008_8201  # 4.1 protocol, long password, secure connection, plugins
_CAPABILITIES |= 0x0000_0008  # with database


class FakeMysql:
    """Greets, takes the client's answer, says `reply`, and keeps what comes after that."""

    def __init__(self, reply: bytes, *, greeting: bytes | None = None) -> None:
        self._reply = reply
        self._greeting = _greeting() if greeting is None else greeting
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.heard = b""

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def serve(self) -> None:
        """One connection."""
        with suppress(OSError), self._listener.accept()[0] as client:
            client.settimeout(5)
            client.sendall(self._greeting)
            client.recv(1 << 16)
            client.sendall(self._reply)
            while piece := client.recv(1 << 16):
                self.heard += piece

    def close(self) -> None:
        self._listener.close()


@contextmanager
def answering(reply: bytes, *, greeting: bytes | None = None) -> Iterator[FakeMysql]:
    """Such a server."""
    fake = FakeMysql(reply, greeting=greeting)
    thread = threading.Thread(target=fake.serve, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        fake.close()
        thread.join(5)


def packet(number: int, body: bytes) -> bytes:
    return struct.pack("<I", len(body))[:3] + bytes((number,)) + body


def refusal(code: int, said: str, *, number: int = 2) -> bytes:
    """An error packet."""
    return packet(number, b"\xff" + struct.pack("<H", code) + b"#HY000" + said.encode())


def _greeting() -> bytes:
    low, high = _CAPABILITIES & 0xFFFF, _CAPABILITIES >> 16
    body = b"\x0a" + b"8.4.0\0" + struct.pack("<I", 9) + b"12345678\0"
    body += struct.pack("<HBHHB", low, 45, 2, high, 21) + bytes(10) + b"123456789012\0"
    return packet(0, body + b"mysql_native_password\0")
