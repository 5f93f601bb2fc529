"""Addresses of MySQL and MariaDB: ``mysql://user@host:3306/database``, and the TLS that goes along.

They become the keywords that libpq has for the same things (``host``, ``dbname``, ``sslmode``,
``sslrootcert`` ...), so that what is said once about encryption holds for every server. ``socket``
names a socket's file. What is refused here never quotes the address: it may hold a password.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from cdc_daemon.config.conninfo import SSL_MODES, VERIFIED, is_local_host
from cdc_daemon.config.scalars import Complaint
from cdc_daemon.model.errors import NotAdmitted, Problem, suggest

SCHEMES = ("mysql", "mariadb")
DEFAULT_PORT = 3306
_OPTIONS = ("connect_timeout", "socket", "sslcert", "sslkey", "sslmode", "sslrootcert")
_WRITE = "write mysql://user@host:port/database; percent-encode special characters"


def is_mysql(text: str) -> bool:
    """Whether an address is meant for MySQL or MariaDB."""
    return text.partition("://")[0].lower() in SCHEMES


def parse_mysql(text: str, *, database: bool = True) -> dict[str, str]:
    """Keywords and values of an address. Raises Complaint; where ``database``, also for none."""
    malformed = Complaint("the connection is not a valid address", _WRITE)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise malformed from None
    if not is_mysql(text) or parts.fragment or "/" in parts.path[1:] or "," in parts.netloc:
        raise malformed
    given = {
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "host": unquote(parts.hostname or ""),
        "port": str(port or ""),
        "dbname": unquote(parts.path[1:]),
        **_options(parts.query, malformed),
    }
    found = {keyword: value for keyword, value in given.items() if value}
    if any("\0" in value for value in found.values()):
        raise malformed
    _check(found, database=database)
    return found


def _options(query: str, malformed: Complaint) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        keyword, equals, value = pair.partition("=")
        if not equals:
            raise malformed
        if keyword not in _OPTIONS:
            raise Complaint(f"unknown connection keyword {keyword!r}{suggest(keyword, _OPTIONS)}")
        found[keyword] = unquote(value)
    return found


def _check(found: Mapping[str, str], *, database: bool) -> None:
    mode = found.get("sslmode")
    if mode is not None and mode not in SSL_MODES:
        raise Complaint("unknown sslmode", f"sslmode is one of {', '.join(SSL_MODES)}")
    if database and not found.get("dbname"):
        raise Complaint("the connection names no database", "write mysql://user@host/database")
    if not found.get("connect_timeout", "1").isdecimal():
        raise Complaint("connect_timeout is no number of seconds", _WRITE)


def render_mysql(conninfo: Mapping[str, str]) -> str:
    """The connection as an address for messages and dumps; without any password."""
    host = conninfo.get("host", "")
    place = f"[{host}]" if ":" in host else quote(host, safe="")
    place += f":{conninfo['port']}" if "port" in conninfo else ""
    user = quote(conninfo["user"], safe="") + "@" if "user" in conninfo else ""
    rest = "&".join(
        f"{keyword}={quote(conninfo[keyword], safe='')}"
        for keyword in _OPTIONS
        if keyword in conninfo
    )
    database = quote(conninfo.get("dbname", ""), safe="")
    return f"mysql://{user}{place}/{database}{'?' + rest if rest else ''}"


def mysql_place(conninfo: Mapping[str, str]) -> str:
    """Host and database, for messages."""
    host = conninfo.get("host") or conninfo.get("socket") or "localhost"
    return f"{host}:{conninfo.get('port', DEFAULT_PORT)}/{conninfo.get('dbname', '')}"


def is_local_mysql(conninfo: Mapping[str, str]) -> bool:
    """Whether the connection stays on this machine; with no host it does."""
    return "socket" in conninfo or is_local_host(conninfo.get("host", ""))


def secured_mysql(conninfo: Mapping[str, str]) -> dict[str, str]:
    """The keywords with what holds beyond this machine unless they say otherwise: the server's
    certificate and name are checked. On this machine TLS is used where the server has it."""
    found = dict(conninfo)
    found.setdefault("sslmode", "prefer" if is_local_mysql(found) else "verify-full")
    return found


# --- TLS --------------------------------------------------------------------------------------


def tls_keywords(conninfo: Mapping[str, str]) -> dict[str, Any]:
    """How PyMySQL is told: no TLS, TLS where the server has it, or TLS with this context only.

    Its own keywords are not used: with ``ssl_ca`` alone it would check nothing.
    """
    if "socket" in conninfo:
        return {"ssl_disabled": True}  # a file's rights protect it
    mode = secured_mysql(conninfo)["sslmode"]
    context = tls_context(
        mode,
        conninfo.get("sslrootcert"),
        conninfo.get("sslcert"),
        conninfo.get("sslkey"),
        conninfo.get("host"),
    )
    if context is not None:
        return {"ssl": context}
    return {"ssl_disabled": True} if mode == "disable" else {}


def tls_context(
    sslmode: str, ca: str | None, cert: str | None, key: str | None, host: str | None = None
) -> ssl.SSLContext | None:
    """The context of a connection that must be encrypted; None: it need not be, or must not.

    ``ca``: a file, or ``system``, which None stands for. As with libpq, ``require`` checks the
    certificate only where an authority is given. ``host``: told in errors.
    Raises NotAdmitted for files that cannot be read.
    """
    if sslmode not in VERIFIED and sslmode != "require":
        return None
    checked = sslmode in VERIFIED or ca not in (None, "system")
    try:
        context = ssl.create_default_context(cafile=None if ca in (None, "system") else ca)
        # MySQL's own authorities lack extensions that OpenSSL's strict mode asks for.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.check_hostname = sslmode == "verify-full"
        context.verify_mode = ssl.CERT_REQUIRED if checked else ssl.CERT_NONE
        if cert is not None:
            context.load_cert_chain(cert, keyfile=key, password="")  # nobody is asked for one
    except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
        files = ", ".join(path for path in (ca, cert, key) if path is not None)
        what = f"a certificate or key for {host or 'localhost'} cannot be read ({files})"
        cure = "correct tls.ca, tls.cert and tls.key"
        raise NotAdmitted([Problem(what=what, where="tls", cure=cure)]) from exc
    return context
