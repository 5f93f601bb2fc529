"""A real HTTP or HTTPS server that answers as it is told and notes what it got."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self, cast

from tests.support.tls import Certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class Got:
    """A request; ``headers`` by lower-case name."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Says:
    """An answer; or, where ``raw`` is given, what is done with the connection."""

    status: int = 200
    body: bytes = b"ok"
    headers: dict[str, str] = field(default_factory=dict)
    raw: Callable[[Any], None] | None = None


class WebServer(ThreadingHTTPServer):
    """Serves on 127.0.0.1 inside its context; ``answers`` in order, the last one stays."""

    daemon_threads = True

    def __init__(
        self, *answers: Says, certificate: Certificate | None = None, port: int = 0
    ) -> None:
        self.got: list[Got] = []
        self.answers = list(answers or [Says()])
        super().__init__(("127.0.0.1", port), _Handler)
        self.scheme = "https" if certificate else "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.path, certificate.key)
            self.socket = context.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

    def server_bind(self) -> None:
        # Not HTTPServer's: that one asks the resolver for this machine's name.
        self.socket.setsockopt(1, 2, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "localhost", int(self.server_address[1])

    @property
    def url(self) -> str:
        """By its name, which a certificate bears."""
        return f"{self.scheme}://localhost:{self.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client may refuse our certificate, or hang up."""


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        site = cast(WebServer, self.server)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        site.got.append(Got(path=self.path, headers=headers, body=body))
        says = site.answers.pop(0) if len(site.answers) > 1 else site.answers[0]
        if says.raw is not None:
            with suppress(OSError):
                says.raw(self)
            return
        self.send_response(says.status)
        for name, value in says.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(says.body)))
        self.end_headers()
        self.wfile.write(says.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""
