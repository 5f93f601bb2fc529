"""A TCP proxy on loopback that breaks connections the way networks do.

Stands between the daemon and a PostgreSQL server; a test turns faults on and off while it runs.
Bytes are passed on as they come: it knows of the protocol only the request for TLS, and the bytes
that :meth:`FaultProxy.break_at` is told to look for. Its own kernel acknowledges what it received,
so a frozen connection looks healthy to TCP: only its silence gives it away.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Final, Self

_CHUNK: Final = 1 << 16
_OPENING: Final = 1 << 12
_LOOK: Final = 0.05  # seconds between two looks at what has been turned on or off
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: close at once, with RST
_TLS_REQUEST: Final = struct.pack("!ii", 8, 80877103)


class FaultProxy:
    """Forwards to `host`:`port`; its own port is `port` of the instance. A context manager.

    `latency`: seconds that every chunk is late. `rate`: bytes a second in each direction, 0 for all
    there are. `sliced`: one byte for each packet. `refusing`: new connections are reset at once.
    `stripping`: a request for TLS is answered with "N" without asking the server.
    """

    def __init__(
        self, port: int, *, host: str = "127.0.0.1", listen: tuple[str, int] = ("127.0.0.1", 0)
    ) -> None:
        self._goal = (host, port)
        self._listener = socket.create_server(listen)
        self._links: list[_Link] = []
        self._lock = threading.Lock()
        self._ending = False
        self.latency = 0.0
        self.rate = 0
        self.sliced = False
        self.refusing = False
        self.stripping = False
        self.accepted = 0
        self.sights = 0  # how often the bytes of `break_at` broke a connection
        self.trigger: tuple[bytes, bool, bool] | None = None
        self._thread = threading.Thread(target=self._accept, name="fault-proxy", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()
        self._thread.join(5)

    # --- faults ---------------------------------------------------------------------------------

    def cut(self) -> None:
        """End every connection in both directions, in order (FIN)."""
        for link in self._take():
            link.close()

    def reset(self) -> None:
        """End every connection in both directions, out of order (RST)."""
        for link in self._take():
            link.close(reset=True)

    def freeze(self, said: bytes = b"") -> None:
        """Forward nothing more on the connections that are open; neither end is told, ever.

        `said`: only those whose client has begun with such words.
        """
        for link in self._take():
            link.frozen = link.frozen or said in link.opening

    def break_at(self, sight: bytes, *, forward: bool, reset: bool = True) -> None:
        """Reset the next connection in which the client sends these bytes, or end it in order.

        `forward`: the server gets them, and the connection breaks when it begins to answer.
        """
        self.trigger = (sight, forward, reset)

    def lead_to(self, port: int) -> None:
        """Another server takes the place of the one behind; who is connected is reset."""
        self._goal = (self._goal[0], port)
        self.reset()

    @contextmanager
    def down(self) -> Iterator[None]:
        """Nobody gets through."""
        self.refusing = True
        self.reset()
        try:
            yield
        finally:
            self.refusing = False

    def heal(self) -> None:
        """No faults for new connections; what is frozen stays so."""
        self.latency, self.rate, self.sliced = 0.0, 0, False
        self.refusing, self.stripping, self.trigger = False, False, None

    # --- connections ----------------------------------------------------------------------------

    def _take(self) -> list[_Link]:
        with self._lock:
            return list(self._links)

    def _accept(self) -> None:
        while not self._ending:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        if self.refusing or self._ending:
            _close(client, reset=True)
            return
        try:
            first = self._tls_refused(client) if self.stripping else b""
            server = socket.create_connection(self._goal, 10)
        except OSError:
            _close(client, reset=True)
            return
        server.settimeout(None)
        link = _Link(self, client, server)
        with self._lock:
            self._links.append(link)
        link.run(first)
        with self._lock:
            self._links.remove(link)

    def _tls_refused(self, client: socket.socket) -> bytes:
        """Say that there is no TLS; the bytes that came instead of the request, if it was none."""
        first = client.recv(len(_TLS_REQUEST), socket.MSG_WAITALL)
        if first != _TLS_REQUEST:
            return first
        client.sendall(b"N")
        return b""


class _Link:
    """One connection and its way on."""

    def __init__(self, proxy: FaultProxy, client: socket.socket, server: socket.socket) -> None:
        self.frozen = False
        self.opening = b""  # what the client said first
        self._proxy = proxy
        self._client = client
        self._server = server
        self._closed = threading.Event()
        self._muted = False  # the server's answer is the moment to break
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def run(self, first: bytes) -> None:
        """Forward both ways until either end is closed."""
        back = threading.Thread(target=self._forward, args=(self._server, self._client, b""))
        back.daemon = True
        back.start()
        self._forward(self._client, self._server, first)
        back.join()
        self.close()

    def close(self, *, reset: bool = False) -> None:
        """Close both ends."""
        self._closed.set()
        _close(self._client, reset=reset)
        _close(self._server, reset=reset)

    def _forward(self, source: socket.socket, goal: socket.socket, data: bytes) -> None:
        upwards = source is self._client
        seen = b""
        try:
            while not self._closed.is_set():
                data = data or source.recv(1 if self._proxy.sliced else _CHUNK)
                self._wait_while_frozen()
                if not data:
                    break
                if upwards and len(self.opening) < _OPENING:
                    self.opening += data
                if upwards and self._breaks(seen + data):
                    return
                seen = (seen + data)[-64:]
                if self._muted and not upwards:
                    self.close(reset=True)
                    return
                self._delay(len(data))
                goal.sendall(data)
                data = b""
        except OSError:
            pass  # either end is gone, and the other is told below
        if not self.frozen:
            self.close()

    def _wait_while_frozen(self) -> None:
        while self.frozen and not self._closed.is_set():
            self._closed.wait(_LOOK)

    def _breaks(self, data: bytes) -> bool:
        """Whether the connection ends here, because of what the client says."""
        trigger = self._proxy.trigger
        if trigger is None or trigger[0] not in data:
            return False
        self._proxy.trigger = None
        self._proxy.sights += 1
        if trigger[1]:
            self._muted = True
            return False
        self.close(reset=trigger[2])
        return True

    def _delay(self, size: int) -> None:
        pause = self._proxy.latency + (size / self._proxy.rate if self._proxy.rate else 0.0)
        if pause:
            time.sleep(pause)


def _close(end: socket.socket, *, reset: bool = False) -> None:
    """Close a socket that another thread may wait on: it is woken first, else it would hold it."""
    with suppress(OSError):
        if reset:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        end.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)
    with suppress(OSError):
        end.close()
