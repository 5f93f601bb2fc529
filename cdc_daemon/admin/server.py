"""HTTP on loopback: ``/metrics``, ``/healthz``, ``/readyz``, ``/status``; GET and HEAD only.

Answers come from the :class:`Board` alone, so they are instant and work while databases are down.
Not in here: what the figures mean (``metrics``), and anything that changes the daemon.
"""

from __future__ import annotations

import ipaddress
import json
import re
import selectors
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from cdc_daemon.admin.board import LATE_AFTER, Board, PipelineView
from cdc_daemon.admin.metrics import registry
from cdc_daemon.engine.status import State
from cdc_daemon.model.errors import ConfigurationError
from cdc_daemon.telemetry import get_logger

log = get_logger(__name__)

READY_STATES = frozenset({State.STREAMING, State.IDLE, State.DEGRADED})
MOST_REQUESTS = 16  # at a time
MOST_FIELDS = 10  # in a query
SLOWEST_CLIENT = 10.0  # seconds for a request to arrive
_DURATION = re.compile(r"(?P<number>\d{1,9}(\.\d{1,3})?)(?P<unit>ms|s|m|h|)")
_SECONDS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a path says; ``body`` is JSON-ready or finished bytes."""

    status: HTTPStatus
    body: object
    content_type: str = "application/json"

    def encoded(self) -> bytes:
        """The bytes that go over the wire."""
        if isinstance(self.body, bytes):
            return self.body
        return json.dumps(self.body, ensure_ascii=False).encode() + b"\n"


class AdminServer:
    """Serves a board from a thread of its own, between ``start`` and ``close``."""

    def __init__(self, board: Board, host: str = "127.0.0.1", port: int = 9187) -> None:
        """Bind. Raises ConfigurationError for an address that is taken or is not loopback."""
        try:
            self._server = _Server(board, host, port)
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


def health(board: Board) -> Answer:
    """Whether the process and its loop live; says nothing about databases."""
    late = board.lateness()
    alive = late <= LATE_AFTER
    status = HTTPStatus.OK if alive else HTTPStatus.SERVICE_UNAVAILABLE
    return Answer(status, {"status": "ok" if alive else "late", "late_seconds": round(late, 3)})


def readiness(board: Board, query: dict[str, list[str]]) -> Answer:
    """Whether all pipelines (or ``source``) stream and their lag is within ``lag``.

    Parked changes hold nobody back but their own keys, so they are told and make nothing unready.
    """
    most = _duration(query["lag"][0]) if "lag" in query else None
    if "lag" in query and most is None:
        return Answer(HTTPStatus.BAD_REQUEST, {"error": "lag must look like 500ms, 60s, 5m or 1h"})
    wanted = query.get("source", [])
    views = [view for view in board.pipelines() if not wanted or view.status.pipeline in wanted]
    if wanted and not views:
        return Answer(HTTPStatus.NOT_FOUND, {"error": "no such source"})
    reasons = {view.status.pipeline: _unready(view, most) for view in views}
    ready = bool(views) and not any(reasons.values()) and board.lateness() <= LATE_AFTER
    return Answer(
        HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE,
        {
            "ready": ready,
            "sources": {
                view.status.pipeline: {
                    "state": view.status.state.value,
                    "lag_seconds": view.status.lag_seconds,
                    "reason": reasons[view.status.pipeline] or _remark(view),
                }
                for view in views
            },
        },
    )


def _unready(view: PipelineView, most: float | None) -> str | None:
    """Why this pipeline is not ready; None when it is."""
    status = view.status
    if not view.alive:
        return status.error or "no worker runs"
    if status.state not in READY_STATES:
        return f"state is {status.state.value}"
    if most is not None and (status.lag_seconds is None or status.lag_seconds > most):
        return "lag is not known" if status.lag_seconds is None else "lag is too large"
    return None


def _remark(view: PipelineView) -> str | None:
    """What is to be said of a pipeline that is ready."""
    rows = view.status.parked_rows
    return f"changes are parked: {rows}" if rows else None


def _duration(text: str) -> float | None:
    found = _DURATION.fullmatch(text.strip())
    return float(found["number"]) * _SECONDS[found["unit"]] if found else None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 32
    timeout = 0  # handle_request is called when somebody has knocked

    def __init__(self, board: Board, host: str, port: int) -> None:
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
        self.registry: CollectorRegistry = registry(board)
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
        encode, content_type = choose_encoder(self.headers.get("Accept", ""))
        page = encode(cast(_Server, self.server).registry)
        return Answer(HTTPStatus.OK, page, content_type)

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
