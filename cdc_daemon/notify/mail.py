"""Mail over SMTP, encrypted from the first command or the first byte on (RFC 3207, RFC 8314).

The server is the administrator's own and mostly inside, so that its address is not judged as those
of web channels are; nothing a message holds has any say in it. ``Message-ID`` is the same each time
that a message comes.
"""

from __future__ import annotations

import smtplib
import socket
import ssl
from contextlib import suppress
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime

from cdc_daemon.config.channels import EmailChannel
from cdc_daemon.notify.alert import Message, Severity
from cdc_daemon.notify.http import CONNECT_SECONDS, WHOLE_SECONDS, ended_after, tls_context, words
from cdc_daemon.notify.results import Deferred, Delivered, Refused, Result
from cdc_daemon.notify.texts import PLAIN, Manner, body, subject

LIMIT = 100_000  # bytes
GREETING = 220
PRIORITIES = {Severity.CRITICAL: "1", Severity.WARNING: "3", Severity.INFO: "5"}


def letter(channel: EmailChannel, message: Message, manner: Manner, now: float) -> EmailMessage:
    """The mail for a message; ``now``: seconds since 1970."""
    found = EmailMessage()
    found["From"] = _address(channel.from_, "cdc-daemon")
    found["To"] = [_address(one) for one in channel.to]
    found["Subject"] = subject(message, manner)
    found["Date"] = format_datetime(datetime.fromtimestamp(now, UTC))
    found["Message-ID"] = f"<{message.id}@{channel.from_.rpartition('@')[2]}>"
    found["Auto-Submitted"] = "auto-generated"  # RFC 3834: no automatic answer, please
    found["X-Priority"] = PRIORITIES[message.severity]
    found.set_content(body(message, manner, PLAIN, LIMIT) + "\n")
    return found


def _address(text: str, name: str = "") -> Address:
    return Address(display_name=name, addr_spec=text)


def send(channel: EmailChannel, mail: EmailMessage) -> Result:
    """Hand it to the server. Some receivers refused is delivered, and said."""
    context = tls_context(channel.ca)
    if isinstance(context, Refused):
        return context
    try:
        return _sent(channel, mail, context)
    except ssl.SSLCertVerificationError as error:
        return Refused(
            reason=f"{channel.host}: the certificate is refused: {error.verify_message}",
            cure="name the authority that signed it in ca",
        )
    except smtplib.SMTPNotSupportedError:
        return Refused(
            reason=f"{channel.host} does not offer what is asked of it",
            cure="check tls, user and port",
        )
    except smtplib.SMTPRecipientsRefused as error:
        return _by_code(channel.host, max(code for code, _ in error.recipients.values()))
    except smtplib.SMTPResponseException as error:
        return _by_code(channel.host, error.smtp_code)
    except (OSError, smtplib.SMTPException) as error:
        return Deferred(reason=f"{channel.host}: {words(error)}")


class _Server(smtplib.SMTP):
    """A server that is not yet connected to, known by the name that its certificate must bear."""

    def __init__(self, host: str) -> None:
        super().__init__(
            local_hostname=socket.gethostname() or "localhost", timeout=CONNECT_SECONDS
        )
        self._host = host


class _EncryptedServer(smtplib.SMTP_SSL):
    """The same, encrypted from the first byte on."""

    def __init__(self, host: str, context: ssl.SSLContext) -> None:
        name = socket.gethostname() or "localhost"
        super().__init__(local_hostname=name, timeout=CONNECT_SECONDS, context=context)
        self._host = host


def _sent(channel: EmailChannel, mail: EmailMessage, context: ssl.SSLContext) -> Result:
    implicit = channel.tls == "implicit"
    server = _EncryptedServer(channel.host, context) if implicit else _Server(channel.host)
    with ended_after(WHOLE_SECONDS, lambda: server.sock):
        try:
            return _conversed(server, channel, mail, context)
        finally:
            server.close()


def _conversed(
    server: smtplib.SMTP, channel: EmailChannel, mail: EmailMessage, context: ssl.SSLContext
) -> Result:
    code, _ = server.connect(channel.host, channel.effective_port)
    if code != GREETING:
        return _by_code(channel.host, code)
    if channel.tls == "starttls":
        server.starttls(context=context)
    if channel.user is not None and channel.password is not None:
        server.login(channel.user, channel.password.get_secret_value())
    refused = server.send_message(mail)
    with suppress(OSError, smtplib.SMTPException):
        server.quit()  # it has taken the mail, however it takes its leave
    return Delivered(answer=f"but for {len(refused)} receivers" if refused else "ok")


def _by_code(host: str, code: int) -> Result:
    """4xx: later; 5xx: not like this (RFC 5321). Texts are left out: they may quote."""
    if code < 500:
        return Deferred(reason=f"{host} answers {code}")
    cure = "check user and password" if code in {530, 534, 535, 538} else "check from and to"
    return Refused(reason=f"{host} answers {code}", cure=cure)
