"""A small real SMTP server (RFC 5321) with STARTTLS, TLS from the first byte, and AUTH PLAIN.

It takes every mail unless told otherwise, and notes what it was told, and whether encrypted.
"""

from __future__ import annotations

import base64
import email
import socketserver
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import default
from types import TracebackType
from typing import Self, cast

from tests.support.tls import Certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A mail with its envelope; ``user``: who logged in."""

    sender: str
    receivers: tuple[str, ...]
    mail: EmailMessage
    encrypted: bool
    user: str | None


@dataclass(slots=True, kw_only=True)
class Manners:
    """How the server behaves. ``codes``: answers to commands in place of its own."""

    certificate: Certificate | None = None
    implicit: bool = False
    passwords: dict[str, str] = field(default_factory=dict)
    codes: dict[str, str] = field(default_factory=dict)
    hang_up_after_data: bool = False


class SmtpServer(socketserver.ThreadingTCPServer):
    """Serves on a free port of 127.0.0.1 inside its context."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, manners: Manners | None = None) -> None:
        self.manners = manners or Manners()
        self.received: list[Received] = []
        self.commands: list[tuple[str, bool]] = []  # first word, and whether encrypted
        super().__init__(("127.0.0.1", 0), _Conversation)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def context(self) -> ssl.SSLContext:
        """What it shows to clients."""
        certificate = self.manners.certificate
        assert certificate is not None
        found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        found.load_cert_chain(certificate.path, certificate.key)
        return found

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


class _Conversation(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with suppress(OSError, EOFError):  # a client that goes away, or refuses our certificate
            self._converse()

    def _converse(self) -> None:
        self.site = cast(SmtpServer, self.server)
        self.line = self.request
        self.encrypted, self.user = False, cast(str | None, None)
        if self.site.manners.implicit:
            self._encrypt()
        self._forget()
        self._say(self.site.manners.codes.get("greeting", "220 test ESMTP"))
        while True:
            word, _, rest = self._hear().partition(" ")
            self.site.commands.append((word.upper(), self.encrypted))
            own = self.site.manners.codes.get(word.upper())
            if own is not None:
                self._say(own)
            elif not self._answer(word.upper(), rest):
                return

    def _answer(self, word: str, rest: str) -> bool:
        """Answer a command; False: the conversation is over."""
        match word:
            case "EHLO":
                self._say(*self._offers())
            case "STARTTLS":
                self._say("220 go ahead")
                self._encrypt()
            case "AUTH":
                self._say(self._log_in(rest))
            case "MAIL":
                self.sender = rest.partition("<")[2].partition(">")[0]
                self._say("250 ok")
            case "RCPT":
                self.receivers.append(rest.partition("<")[2].partition(">")[0])
                self._say("250 ok")
            case "DATA":
                return self._take()
            case "RSET":
                self._forget()
                self._say("250 ok")
            case "QUIT":
                self._say("221 bye")
                return False
            case _:
                self._say("502 unknown")
        return True

    def _offers(self) -> list[str]:
        offers = ["250-test"]
        if self.site.manners.certificate is not None and not self.encrypted:
            offers.append("250-STARTTLS")
        if self.site.manners.passwords and self.encrypted:
            offers.append("250-AUTH PLAIN")
        return [*offers, "250 8BITMIME"]

    def _log_in(self, rest: str) -> str:
        _, user, password = base64.b64decode(rest.rsplit(maxsplit=1)[-1]).decode().split("\0")
        if self.site.manners.passwords.get(user) != password:
            return f"535 {user} has not the password {password}"  # a rude one quotes it
        self.user = user
        return "235 welcome"

    def _take(self) -> bool:
        self._say("354 go on")
        lines = []
        while (line := self._hear()) != ".":
            lines.append(line.removeprefix(".") if line.startswith("..") else line)
        content = "\r\n".join(lines).encode("utf-8", "surrogateescape")
        self.site.received.append(
            Received(
                sender=self.sender,
                receivers=tuple(self.receivers),
                mail=email.message_from_bytes(content, policy=default),
                encrypted=self.encrypted,
                user=self.user,
            )
        )
        self._say("250 taken")
        return not self.site.manners.hang_up_after_data

    def _forget(self) -> None:
        self.sender, self.receivers = "", cast(list[str], [])

    def _encrypt(self) -> None:
        self.line = self.site.context().wrap_socket(self.line, server_side=True)
        self.encrypted = True

    def _say(self, *lines: str) -> None:
        self.line.sendall("".join(f"{line}\r\n" for line in lines).encode())

    def _hear(self) -> str:
        found = b""
        while not found.endswith(b"\r\n"):
            byte = self.line.recv(1)
            if not byte:
                raise EOFError
            found += byte
        return found[:-2].decode("utf-8", "surrogateescape")
