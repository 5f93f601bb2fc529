"""libpq connection strings: URI or keywords, parsed without a driver.

What is refused here never quotes the string: it may hold a password.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from cdc_daemon.config.scalars import Complaint
from cdc_daemon.model.errors import suggest

KEYWORDS = frozenset(
    [
        "host",
        "hostaddr",
        "port",
        "dbname",
        "user",
        "password",
        "passfile",
        "connect_timeout",
        "application_name",
        "fallback_application_name",
        "keepalives",
        "keepalives_idle",
        "keepalives_interval",
        "keepalives_count",
        "tcp_user_timeout",
        "sslmode",
        "sslnegotiation",
        "sslcert",
        "sslkey",
        "sslcertmode",
        "sslrootcert",
        "sslcrl",
        "sslcrldir",
        "sslsni",
        "requirepeer",
        "require_auth",
        "ssl_min_protocol_version",
        "ssl_max_protocol_version",
        "gssencmode",
        "krbsrvname",
        "gsslib",
        "gssdelegation",
        "channel_binding",
        "service",
        "target_session_attrs",
        "load_balance_hosts",
        "min_protocol_version",
        "max_protocol_version",
    ]
)
SET_BY_DAEMON = frozenset({"replication", "client_encoding", "options"})
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
VERIFIED = frozenset({"verify-ca", "verify-full"})
ENCRYPTED = VERIFIED | {"require"}
_SCHEMES = ("postgresql", "postgres")
_PAIR = re.compile(
    r"\s*([A-Za-z_]+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s'\\]|\\.)*))(?=\s|$)", re.S
)


def parse_conninfo(text: str) -> dict[str, str]:
    """Keywords and values of a libpq URI or keyword string. Raises Complaint."""
    scheme, colon, _ = text.partition("://")
    if colon and re.fullmatch(r"[A-Za-z0-9+.]+", scheme):
        if scheme not in _SCHEMES:
            raise Complaint(
                f"a connection of scheme {scheme!r} is not supported", "write postgresql://…"
            )
        found = _parse_uri(text)
    else:
        found = _parse_keywords(text)
    for keyword in found:
        _check_keyword(keyword)
    mode = found.get("sslmode")
    if mode is not None and mode not in SSL_MODES:
        raise Complaint("unknown sslmode", f"sslmode is one of {', '.join(SSL_MODES)}")
    if not found.get("dbname") and "service" not in found:
        raise Complaint("the connection names no database", "write postgresql://user@host/database")
    return found


def _check_keyword(keyword: str) -> None:
    if keyword in SET_BY_DAEMON:
        raise Complaint(f"{keyword!r} is set by the daemon", "take it out of the connection")
    if keyword not in KEYWORDS:
        raise Complaint(f"unknown connection keyword {keyword!r}{suggest(keyword, KEYWORDS)}")


def _parse_uri(text: str) -> dict[str, str]:
    malformed = Complaint(
        "the connection is not a valid URI",
        "write postgresql://user@host:port/database; percent-encode special characters",
    )
    try:
        parts = urlsplit(text)
    except ValueError:
        raise malformed from None
    found: dict[str, str] = {}
    user_info, at, hosts = parts.netloc.rpartition("@")
    if at:
        user, colon, password = user_info.partition(":")
        found["user"] = unquote(user)
        if colon:
            found["password"] = unquote(password)
    names, ports = _split_hosts(hosts, malformed)
    if any(names):
        found["host"] = ",".join(names)
    if any(ports):
        found["port"] = ",".join(ports)
    if parts.path.strip("/"):
        found["dbname"] = unquote(parts.path[1:])
    if parts.fragment or "/" in parts.path[1:]:
        raise malformed
    for pair in filter(None, parts.query.split("&")):
        keyword, equals, value = pair.partition("=")
        if not equals:
            raise malformed
        found[unquote(keyword)] = unquote(value)
    return {keyword: value for keyword, value in found.items() if value}


def _split_hosts(hosts: str, malformed: Complaint) -> tuple[list[str], list[str]]:
    names: list[str] = []
    ports: list[str] = []
    for host in hosts.split(","):
        found = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[^:\[\]]*)(?::([0-9]*))?", host)
        if found is None:
            raise malformed
        names.append(unquote(found[1]).strip("[]"))
        ports.append(found[2] or "")
    return names, ports


def _parse_keywords(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    offset = 0
    text = text.strip()
    while offset < len(text):
        pair = _PAIR.match(text, offset)
        if pair is None:
            raise Complaint(
                "the connection is not valid",
                "write postgresql://user@host/database or host=… dbname=… user=…",
            )
        value = pair[2] if pair[2] is not None else pair[3]
        found[pair[1]] = re.sub(r"\\(.)", r"\1", value, flags=re.S)
        offset = pair.end()
    return {keyword: value for keyword, value in found.items() if value}


def render_uri(conninfo: dict[str, str]) -> str:
    """The connection as a URI for messages and dumps; without any password."""
    from urllib.parse import quote

    hosts = conninfo.get("host", "").split(",")
    ports = conninfo.get("port", "").split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    places = [
        (f"[{host}]" if ":" in host else quote(host, safe="")) + (f":{port}" if port else "")
        for host, port in zip(hosts, ports, strict=False)
    ]
    user = quote(conninfo["user"], safe="") + "@" if "user" in conninfo else ""
    rest = "&".join(
        f"{keyword}={quote(value, safe='')}"
        for keyword, value in conninfo.items()
        if keyword not in {"host", "port", "user", "password", "dbname"}
    )
    database = quote(conninfo.get("dbname", ""), safe="")
    return f"postgresql://{user}{','.join(places)}/{database}{'?' + rest if rest else ''}"


def is_loopback(conninfo: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the connection stays on this machine: sockets, localhost, 127.0.0.0/8, ::1.

    Where no host is given, libpq asks ``environ``; what a service file says is not known here, so
    a connection by service counts as leaving.
    """
    hosts = conninfo.get("hostaddr") or conninfo.get("host")
    if hosts is None and (conninfo.get("service") or environ.get("PGSERVICE")):
        return False
    hosts = hosts or environ.get("PGHOSTADDR") or environ.get("PGHOST") or ""
    return all(is_local_host(host) for host in hosts.split(","))


def secured(conninfo: Mapping[str, str]) -> dict[str, str]:
    """The keywords with what holds beyond this machine, unless they say otherwise.

    The server's certificate and name are checked. Where a password logs in, only an exchange bound
    to that TLS channel is taken part in: so nobody in between, not even with a certificate that
    some authority gave away, gets the password or the session.
    """
    found = dict(conninfo)
    if is_loopback(found):
        return found
    mode = found.setdefault("sslmode", "verify-full")
    if mode in ENCRYPTED and "password" in found and "sslcert" not in found:
        found.setdefault("channel_binding", "require")
    return found


def is_local_host(host: str) -> bool:
    """Whether a host is this machine: none, a socket, localhost, 127.0.0.0/8, ::1."""
    if not host or host.startswith(("/", "@")) or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
