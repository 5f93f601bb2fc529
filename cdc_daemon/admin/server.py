"""HTTP on loopback: ``/metrics``, ``/healthz``, ``/readyz``, ``/status``; GET and HEAD only.

Answers come from the :class:`Board` alone, so they are instant and work while databases are down.
Not in here: what the figures mean (``metrics``), and anything that changes the daemon.
"""

from __future__ import annotations

import ipaddress
import selectors
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

from cdc_daemon.admin.answers import Answer, health, readiness
from cdc_daemon.admin.board import Board
from cdc_daemon.admin.metrics import FRESH, MetricsPage
from cdc_daemon.model.errors import ConfigurationError
from cdc_daemon.telemetry import get_logger

log = get_logger(__name__)

MOST_REQUESTS = 16  # at a time
MOST_FIELDS = 10  # in a query
SLOWEST_CLIENT = 10.0  # seconds for a request to arrive


class AdminServer:
    """Serves a board from a thread of its own, between ``start`` and ``close``."""

    def __init__(
        self, board: Board, host: str = "127.0.0.1", port: int = 9464, *, fresh: float = FRESH
    ) -> None:
        """Bind. Raises ConfigurationError for an address that is taken or is not loopback.

        ``fresh``: seconds for which metrics are not rendered anew.
        """
        try:
            self._server = _Server(board, host, port, MetricsPage(board, fresh))
        except OSError as exc:
            raise ConfigurationError(
                f"cannot listen on {host}:{port}: {exc.strerror}",
                hint="choose another port for metrics and health",
            ) from exc
        self._ending, self._end = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="admin", daemon=True)

    @property
    def url(self) -> str:
        """Where it listens; with port 0 this tells which port was found."""
        host, port = self._server.server_address[:2]
        shown = f"[{host!s}]" if ":" in str(host) else str(host)
        return f"http://{shown}:{port}"

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()
        log.info("admin server listens", url=self.url)

    def close(self) -> None:
        """Stop answering."""
        self._end.close()
        if self._thread.is_alive():
            self._thread.join()
        self._ending.close()
        self._server.server_close()

    def _serve(self) -> None:
        """Hand each request to a thread; wait without polling."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._server, selectors.EVENT_READ)
            selector.register(self._ending, selectors.EVENT_READ)
            while all(key.fileobj is self._server for key, _ in selector.select()):
                self._server.handle_request()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 32
    timeout = 0  # handle_request is called when somebody has knocked

    def __init__(self, board: Board, host: str, port: int, page: MetricsPage) -> None:
        try:
            address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
        except ValueError as exc:
            raise ConfigurationError(f"{host!r} is not an IP address or localhost") from exc
        if not address.is_loopback:
            raise ConfigurationError(
                f"{host} is not a loopback address",
                hint="metrics and health are served to this machine only; use a proxy",
            )
        if address.version == 6:
            self.address_family = socket.AF_INET6
        self.board = board
        self.page = page
        self._slots = threading.BoundedSemaphore(MOST_REQUESTS)
        super().__init__((str(address), port), _Handler)

    def server_bind(self) -> None:
        # Not HTTPServer's: that one asks the resolver for this machine's name.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread to be had
            self._slots.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up or dawdles is its own problem."""
        log.debug("admin request failed", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    timeout = SLOWEST_CLIENT
    server_version = "cdc-daemon"
    sys_version = ""

    def do_GET(self) -> None:
        target = urlsplit(self.path)
        route = _ROUTES.get(target.path)
        if route is None:
            self._reply(Answer(HTTPStatus.NOT_FOUND, {"error": "no such page"}))
            return
        try:
            query = parse_qs(target.query, max_num_fields=MOST_FIELDS)
        except ValueError:
            self._reply(Answer(HTTPStatus.BAD_REQUEST, {"error": "too many fields"}))
        else:
            self._reply(route(self, query))

    do_HEAD = do_GET

    def refuse(self) -> None:
        self._reply(Answer(HTTPStatus.METHOD_NOT_ALLOWED, {"error": "GET or HEAD"}))

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = refuse

    @property
    def board(self) -> Board:
        return cast(_Server, self.server).board

    def metrics(self, query: dict[str, list[str]]) -> Answer:
        page = cast(_Server, self.server).page.render(self.headers.get("Accept", ""))
        return Answer(HTTPStatus.OK, page.body, page.content_type)

    def health(self, query: dict[str, list[str]]) -> Answer:
        return health(self.board)

    def readiness(self, query: dict[str, list[str]]) -> Answer:
        return readiness(self.board, query)

    def status(self, query: dict[str, list[str]]) -> Answer:
        return Answer(HTTPStatus.OK, [view.to_dict() for view in self.board.pipelines()])

    def _reply(self, answer: Answer) -> None:
        body = answer.encoded()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        if answer.status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        log.debug("admin request", line=format % args)


_ROUTES: dict[str, Callable[[_Handler, dict[str, list[str]]], Answer]] = {
    "/metrics": _Handler.metrics,
    "/healthz": _Handler.health,
    "/-/healthy": _Handler.health,
    "/readyz": _Handler.readiness,
    "/-/ready": _Handler.readiness,
    "/status": _Handler.status,
}
