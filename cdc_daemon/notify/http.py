"""One POST, guarded: the only way from a channel to the web.

The name is resolved once, the address judged, and that very address connected to, so that a second
answer of DNS changes nothing; the certificate is checked against the name. No redirect is followed,
no proxy of the environment used; the answer's size and the whole exchange's time are bounded.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from cdc_daemon.notify.addresses import Address, refusal
from cdc_daemon.notify.results import Deferred, Refused, quoted

CONNECT_SECONDS = 10.0
WHOLE_SECONDS = 30.0
MOST_BYTES = 64 << 10
AGENT = "cdc-daemon"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A POST. ``url`` is secret."""

    url: str = field(repr=False)
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the server said; ``headers`` by lower-case name, ``body`` cut to ``MOST_BYTES``."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def retry_after(self) -> float | None:
        """Seconds, where it said any; a date counts as not said."""
        text = self.headers.get("retry-after", "")
        return float(text) if text.isdecimal() else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What a channel allows: private addresses of these hosts, and http; its authority."""

    private: frozenset[str] = frozenset()
    plain: bool = False
    ca: str | None = None


def post(request: Request, guard: Guard) -> Answer | Deferred | Refused:
    """Send it. What went wrong is told by host, never by address or token."""
    parts = urlsplit(request.url)
    host, tls = parts.hostname or "", parts.scheme == "https"
    if not tls and not guard.plain:
        return Refused(reason=f"{host}: the address is not encrypted", cure="write https")
    port = parts.port or (443 if tls else 80)
    try:
        addresses = resolved(host, port)
    except (OSError, UnicodeError) as error:
        return Deferred(reason=f"{host}: the name cannot be resolved: {words(error)}")
    allowed, why = _allowed(addresses, private=host.lower() in guard.private)
    if not allowed:
        cure = f"if that is meant, name {host} under allow_private"
        return Refused(reason=f"{host} has {why}, to which nothing is sent", cure=cure)
    path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    return _exchange(host, port, allowed, path, request, tls_context(guard.ca) if tls else None)


def tls_context(ca: str | None) -> ssl.SSLContext | Refused:
    """One that checks certificates and names; ``ca``: a file in place of the system's."""
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        return Refused(
            reason=f"the authority's file {ca} cannot be used: {words(error)}",
            cure="name a PEM file that the daemon may read in ca",
        )


def resolved(host: str, port: int) -> list[Address]:
    """Its addresses, as the system knows them. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    texts = dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found)
    return [ipaddress.ip_address(text) for text in texts]


def _allowed(addresses: list[Address], *, private: bool) -> tuple[list[Address], str]:
    """Those that may be sent to; why not the others."""
    reasons = {one: refusal(one, private=private) for one in addresses}
    why = next((reason for reason in reasons.values() if reason), "no address")
    return [one for one, reason in reasons.items() if reason is None], why


class _Connection(http.client.HTTPConnection):
    """One that connects to addresses that were judged, and shows the name only."""

    def __init__(
        self, host: str, port: int, addresses: list[Address], tls: ssl.SSLContext | None
    ) -> None:
        super().__init__(host, port, timeout=CONNECT_SECONDS)
        self.default_port = 443 if tls else 80  # what the Host header leaves out
        self._addresses = addresses
        self._tls = tls

    def connect(self) -> None:
        self.sock = dial(self._addresses, self.port)
        if self._tls is not None:
            self.sock = shaken = self._tls.wrap_socket(
                self.sock, server_hostname=self.host, do_handshake_on_connect=False
            )
            shaken.do_handshake()  # with the socket where whoever ends it finds it


def dial(addresses: list[Address], port: int) -> socket.socket:
    """Connect to the first that answers. Raises OSError."""
    for address in addresses[:-1]:
        with suppress(OSError):
            return socket.create_connection((str(address), port), CONNECT_SECONDS)
    return socket.create_connection((str(addresses[-1]), port), CONNECT_SECONDS)


def _exchange(
    host: str,
    port: int,
    addresses: list[Address],
    path: str,
    request: Request,
    tls: ssl.SSLContext | Refused | None,
) -> Answer | Deferred | Refused:
    if isinstance(tls, Refused):
        return tls
    connection = _Connection(host, port, addresses, tls)
    headers = {"User-Agent": AGENT, "Connection": "close", **request.headers}
    try:
        with ended_after(WHOLE_SECONDS, lambda: connection.sock):
            connection.connect()
            connection.request("POST", path, request.body, headers)
            answer = connection.getresponse()
            body = answer.read(MOST_BYTES)
        return _read(host, answer, body)
    except ssl.SSLCertVerificationError as error:
        return Refused(
            reason=f"{host}: the certificate is refused: {error.verify_message}",
            cure="name the authority that signed it in ca",
        )
    except (OSError, http.client.HTTPException) as error:
        return Deferred(reason=f"{host}: {words(error)}")
    finally:
        connection.close()


def _read(host: str, answer: http.client.HTTPResponse, body: bytes) -> Answer | Refused:
    if 300 <= answer.status < 400:
        return Refused(
            reason=f"{host} answers with a redirect ({answer.status}), which is not followed",
            cure="write the address that it leads to, if you trust it",
        )
    headers = {name.lower(): value for name, value in answer.getheaders()}
    return Answer(status=answer.status, body=body, headers=headers)


@contextmanager
def ended_after(seconds: float, where: Callable[[], socket.socket | None]) -> Iterator[None]:
    """Whatever goes on inside ends by then: the socket is shut under it. Raises TimeoutError, for a
    connection that ends looks to many a library like an answer that does.
    """
    passed = threading.Event()

    def end() -> None:
        passed.set()
        found = where()
        if found is not None:
            with suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
    if passed.is_set():
        raise TimeoutError


def words(error: BaseException) -> str:
    """What went wrong, in the system's words; never the message of a library that may quote."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLError):
        return f"TLS fails: {quoted(error.reason or 'unknown reason').replace('_', ' ').lower()}"
    if isinstance(error, OSError) and error.strerror:
        return quoted(error.strerror).lower()
    return "the answer is no HTTP" if isinstance(error, http.client.HTTPException) else "no answer"


def by_status(answer: Answer, host: str) -> Deferred | Refused | None:
    """What a status says by itself; None: that it went well."""
    status = answer.status
    if 200 <= status < 300:
        return None
    if status == 429:
        return Deferred(reason=f"{host} wants fewer messages (429)", after=answer.retry_after)
    if status >= 500 or status in {408, 425}:
        return Deferred(reason=f"{host} answers {status}", after=answer.retry_after)
    return Refused(reason=f"{host} answers {status}", cure="check address, token and secret")
