"""What a server answers to somebody who wants to connect, before any password: one SQLSTATE.

libpq tells why a connection failed only in the server's own language; the wire protocol tells it in
five letters. A server that is shutting down answers 57P03 to everybody. Nothing secret is sent.
Format: StartupMessage and ErrorResponse of the PostgreSQL documentation, "Message Formats".
"""

from __future__ import annotations

import socket
import struct

CANNOT_CONNECT_NOW = "57P03"
_VERSION = 3 << 16


def refusal(host: str, port: int, *, user: str, database: str, timeout: float = 2.0) -> str | None:
    """The SQLSTATE that a new connection is refused with; None: it may go on to authenticate.

    A host that begins with ``/`` is the folder of a Unix socket. OSError: nobody answers.
    """
    with _connect(host, port, timeout) as connection:
        names = [b"user", user.encode(), b"database", database.encode(), b"", b""]
        body = struct.pack(">I", _VERSION) + b"\0".join(names)
        connection.sendall(struct.pack(">I", len(body) + 4) + body)
        kind, length = struct.unpack(">cI", _receive(connection, 5))
        if kind != b"E":
            return None
        fields = _receive(connection, min(length - 4, 1 << 16)).split(b"\0")
    return next((field[1:].decode() for field in fields if field[:1] == b"C"), None)


def _connect(host: str, port: int, timeout: float) -> socket.socket:
    if not host.startswith("/"):
        return socket.create_connection((host, port), timeout)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(timeout)
    try:
        connection.connect(f"{host}/.s.PGSQL.{port}")
    except OSError:
        connection.close()
        raise
    return connection


def _receive(connection: socket.socket, count: int) -> bytes:
    """So many bytes, or ConnectionError at an early end."""
    received = b""
    while len(received) < count:
        piece = connection.recv(count - len(received))
        if not piece:
            raise ConnectionError("the server closed the connection")
        received += piece
    return received
