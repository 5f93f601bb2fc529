"""An open binlog stream: register, ask for the log, and take whole events from the socket.

The server's packets are cut here, out of a buffer of our own, because that costs half of what a
packet object of the driver does; large ones are joined. An event is the bytes of its packet, header
and checksum included. A server that is only silent sends heartbeats; one that does not even do that
is given up (M28). Nothing is ever reconnected in here (M3): a stream that ended is reopened by its
owner, from the checkpoint.

Packets: "Protocol Basics" of MySQL's documentation. How the log is asked for is in
``dump_request``.
"""

from __future__ import annotations

import select
import ssl
import threading
import time
from typing import Final

from cdc_daemon.model.errors import CdcError, Unreachable
from cdc_daemon.sources.mysql.connection import (
    Connection,
    Edition,
    Server,
    command,
    drop,
    socket_of,
)
from cdc_daemon.sources.mysql.coverage import check_server
from cdc_daemon.sources.mysql.dump_errors import DumpRefused, Reason, refusal_of
from cdc_daemon.sources.mysql.dump_request import REGISTER, ask, prepare, registration, server_id_of
from cdc_daemon.sources.mysql.position import Position, Start, Witness

__all__ = ["Dump", "open_dump", "resume", "server_id_of"]

_LARGEST: Final = (1 << 24) - 1  # a packet of this size is continued in the next one
_RECEIVE: Final = 1 << 18
_HEAD: Final = 4
_EOF, _ERROR = 0xFE, 0xFF
_SHORT: Final = 9  # an end of file is shorter
_HEARTBEAT: Final = 5.0
_SILENT: Final = 60.0
_HALT: Final = 2.0  # seconds between two reads after which the silence is our own


def open_dump(
    server: Server,
    start: Start,
    *,
    server_id: int,
    until_end: bool = False,
    silent: float = _SILENT,
    position: Position | None = None,
) -> Dump:
    """The log from there on. ``until_end``: only what is there, then ``read`` gives an empty list.

    ``silent``: seconds without a word after which the server is given up. ``position``: what the
    server must have, asked on the connection that reads: another one may lead to another server.
    Raises DumpRefused where the log does not begin or go on there, PreflightRefusal where the
    server does not have what was read, or no longer what follows, and whatever a connection raises.
    """
    connection = server.connect_for_replication(read_timeout=silent)
    try:
        edition = server.edition(connection)
        if position is not None:
            with server.placed():
                check_server(server, connection, position)
        with server.errors("asking for the binlog"):
            prepare(connection, edition, start, server_id, min(_HEARTBEAT, silent / 2))
            command(connection, REGISTER, registration(server_id))
            ask(connection, edition, start, server_id, until_end=until_end)
        dump = Dump(server, connection, edition, until_end=until_end, silent=silent)
        dump.await_first()
    except BaseException:
        drop(connection)
        raise
    return dump


def resume(server: Server, position: Position, *, server_id: int) -> tuple[Dump, Witness | None]:
    """The log behind a position, and the witness that must come in it.

    Where only the witness was purged, and nothing behind it, the log begins right behind it. Raises
    as ``open_dump``.
    """
    witness = position.witness
    start = position.start()
    try:
        return open_dump(server, start, server_id=server_id, position=position), witness
    except DumpRefused as refused:
        if witness is None or refused.reason is not Reason.PURGED:
            raise
    start = position.start(witness=False)
    return open_dump(server, start, server_id=server_id, position=position), None


# --- reading ------------------------------------------------------------------------------------


class Dump:
    """Events as they come. One thread reads; any thread may close.

    ``heard``: how often anything came.
    """

    def __init__(
        self,
        server: Server,
        connection: Connection,
        edition: Edition,
        *,
        until_end: bool,
        silent: float,
    ) -> None:
        self.edition = edition
        self.heard = 0
        self._server = server
        self._connection = connection
        self._socket = socket_of(connection)
        self._socket.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._until_end = until_end
        self._silent = silent
        self._sequence = 1
        self._pieces: list[bytes] = []  # what was received and is no whole packet yet
        self._have = self._need = 0
        self._long: list[bytes] = []  # the packets of an event that is larger than one
        self._first: list[bytes] | None = None
        self._end: CdcError | None = None  # why nothing comes any more
        self._ended = False
        self._closed = threading.Event()
        self._read_at = self._heard_at = time.monotonic()

    def await_first(self) -> None:
        """Wait for what the server sends first, be it its refusal, which is raised."""
        first = self.read(self._silent)
        if first is None:
            raise self._silence()
        self._first = first

    def read(self, timeout: float) -> list[bytes] | None:
        """Events in order; None: nothing came for so many seconds; empty: the end is reached.

        Raises Unreachable when the connection ends or the server is silent, DumpRefused and Stop
        for what the server says.
        """
        if self._first is not None:
            found, self._first = self._first, None
            return found
        deadline = time.monotonic() + timeout
        self._excuse(deadline - timeout)
        while True:
            if self._end is not None:
                raise self._end
            if self._ended:
                return []
            if not self._wait(deadline):
                return None
            if events := self._split(self._receive()):
                return events

    def _excuse(self, now: float) -> None:
        """Silence while nobody read is not the server's."""
        if now - self._read_at > _HALT:
            self._heard_at = now

    def _wait(self, deadline: float) -> bool:
        """Whether something can be received before the deadline."""
        waiting = isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0
        now = time.monotonic()
        found = waiting or bool(self._poll.poll(max(0.0, 1000 * (deadline - now))))
        self._read_at = time.monotonic()
        if found:
            self._heard_at = self._read_at
            self.heard += 1
        elif self._read_at - self._heard_at > self._silent:
            raise self._silence()
        return found

    def _silence(self) -> Unreachable:
        return Unreachable(f"{self._server.where}: the server is silent for {self._silent:g} s")

    def _receive(self) -> bytes:
        try:
            piece = self._socket.recv(_RECEIVE)
        except (BlockingIOError, ssl.SSLWantReadError):
            return b""  # only a part of a TLS record
        except (OSError, ValueError) as exc:
            raise self._lost(getattr(exc, "strerror", None)) from exc
        if not piece:
            raise self._lost(None)
        return piece

    def _lost(self, why: str | None) -> Unreachable:
        if self._closed.is_set():
            return Unreachable(f"{self._server.where}: the stream was closed")
        return Unreachable(f"{self._server.where}: reading the binlog: {why or 'connection lost'}")

    def _split(self, piece: bytes) -> list[bytes]:
        """The events that are whole; the rest is kept for the next piece."""
        self._pieces.append(piece)
        self._have += len(piece)
        if self._have < self._need:
            return []
        data = b"".join(self._pieces) if len(self._pieces) > 1 else piece
        events: list[bytes] = []
        offset, end, sequence = 0, len(data), self._sequence
        self._need = _HEAD
        while end - offset >= _HEAD:
            size = data[offset] | data[offset + 1] << 8 | data[offset + 2] << 16
            after = offset + _HEAD + size
            if after > end:
                self._need = _HEAD + size
                break
            in_order = data[offset + 3] == sequence
            if in_order and 0 < size < _LARGEST and not data[offset + 4] and not self._long:
                events.append(data[offset + 5 : after])
            else:
                self._other(data[offset + 4 : after], in_order, events)
            sequence = sequence + 1 & 0xFF
            offset = after
        self._sequence = sequence
        self._pieces = [data[offset:]] if offset < end else []
        self._have = end - offset
        return events

    def _other(self, payload: bytes, in_order: bool, events: list[bytes]) -> None:
        """A packet that is no event of its own: a part of one, an error, the end."""
        if not self._long and payload[:1] == bytes((_ERROR,)):
            self._end = refusal_of(self._server, payload)
        elif not in_order:
            self._end = self._lost("packets out of order")
        elif len(payload) == _LARGEST:
            self._long.append(payload)
        elif self._long:
            events.append(b"".join((*self._long, payload))[1:])
            self._long = []
        elif payload[:1] == bytes((_EOF,)) and len(payload) < _SHORT:
            self._finish()
        else:
            self._end = self._lost("a packet that is no event")

    def _finish(self) -> None:
        if self._until_end:
            self._ended = True
        else:
            self._end = self._lost("the server ended the stream")

    def close(self) -> None:
        """End the stream, also while another thread reads; never raises."""
        self._closed.set()
        drop(self._connection)
