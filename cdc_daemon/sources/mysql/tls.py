"""TLS of connections to MySQL and MariaDB: asked for by mode, and never less than that.

PyMySQL's own default takes what the server offers and trusts everybody, also with ``ssl_ca``; so
the context is made here. ``disable``: none. ``require``: encrypted, whoever it is. ``verify-ca``:
signed by the authority. ``verify-full``: and for the name that was connected to; the default
beyond loopback and sockets. There is no mode that goes on without where the server has none.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Final

from cdc_daemon.config.conninfo import is_loopback
from cdc_daemon.config.handshake import certificate_problem
from cdc_daemon.model.errors import NotAdmitted, Problem

MODES: Final = ("disable", "require", "verify-ca", "verify-full")
_SYSTEM: Final = "system"


def mode_of(settings: Mapping[str, str]) -> str:
    """The mode that counts: the one that is set, else by where the server is."""
    if settings.get("socket"):
        return "disable"  # a file's rights protect it
    local = is_loopback({"host": settings.get("host", "")}, {})
    return settings.get("sslmode") or ("disable" if local else "verify-full")


def context_of(settings: Mapping[str, str], where: str) -> ssl.SSLContext | None:
    """The context of a connection; None: no TLS. Raises NotAdmitted where a file is not usable."""
    mode = mode_of(settings)
    if mode not in MODES:
        raise _unusable(where, "unknown sslmode", f"sslmode is one of {', '.join(MODES)}")
    if mode == "disable":
        return None
    context = _trusting(settings, where)
    context.check_hostname = mode == "verify-full"
    context.verify_mode = ssl.CERT_NONE if mode == "require" else ssl.CERT_REQUIRED
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # the servers' own authorities do not pass it
    if settings.get("cert"):
        _show_certificate(context, settings, where)
    return context


def _trusting(settings: Mapping[str, str], where: str) -> ssl.SSLContext:
    authority = settings.get("ca")
    try:
        return ssl.create_default_context(cafile=None if authority == _SYSTEM else authority)
    except (OSError, ValueError):
        what = "there is no readable file with the authority that signed the server's certificate"
        raise _unusable(where, what, "correct tls.ca (system: the system's own)") from None


def _show_certificate(context: ssl.SSLContext, settings: Mapping[str, str], where: str) -> None:
    try:
        context.load_cert_chain(settings["cert"], settings.get("key"), password="")
    except (OSError, ValueError):
        what = "the client's certificate or private key cannot be read"
        raise _unusable(where, what, "correct tls.cert and tls.key") from None


def tls_words(error: object) -> tuple[str, str] | None:
    """What is wrong with the encryption, and the cure; None: it is something else."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return certificate_problem(error.verify_code)
    if isinstance(error, ssl.SSLError):
        return (
            "the TLS handshake failed",
            "see which versions of TLS the server speaks: 1.2 or later",
        )
    return None


def _unusable(where: str, what: str, cure: str) -> NotAdmitted:
    return NotAdmitted([Problem(what=what, where=where, cure=cure)])
