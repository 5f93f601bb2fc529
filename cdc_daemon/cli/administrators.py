"""``--admin-dsn [NAME=]DSN``: with whose rights each server is set up.

NAME is a source or ``target``; without it the target is meant. A server without one is reached as
configured. A certificate is checked by the authority that is configured for the server, unless the
connection names one. No message quotes a connection: it may hold a password.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cdc_daemon.config.configuration import Configuration

    F = TypeVar("F", bound=Callable[..., Any])

TARGET = "target"
VARIABLE = "CDC_DAEMON_ADMIN_DSN"


def admin_option(command: F) -> F:
    """Decorator: the repeatable option, as ``admin_dsns``."""
    option = click.option(
        "--admin-dsn",
        "admin_dsns",
        multiple=True,
        metavar="[NAME=]DSN",
        envvar=VARIABLE,
        help="Connection with the rights to create things, for the source NAME or for the target;"
        f" repeatable. Default: ${VARIABLE} (divided by blanks), else as configured. Keep passwords"
        f" out of arguments: use PGPASSFILE, or for MySQL {VARIABLE} or a socket.",
    )
    return option(command)


def connections(
    configuration: Configuration, admin_dsns: Sequence[str]
) -> dict[str, Mapping[str, str]]:
    """Connection keywords of every source and of ``target``. Raises UsageError."""
    found: dict[str, Mapping[str, str]] = {}
    for given in admin_dsns:
        name, dsn = _divided(configuration, given)
        if name == TARGET and configuration.target.kind == "sqlite":
            raise click.UsageError("--admin-dsn: the target is an SQLite file, which has no roles")
        if name in found:
            raise click.UsageError(f"--admin-dsn is given twice for {name}")
        found[name] = _conninfo(configuration, name, dsn)
    return {
        **{name: source.conninfo for name, source in configuration.sources.items()},
        TARGET: configuration.target.conninfo,
        **found,
    }


def _divided(configuration: Configuration, given: str) -> tuple[str, str]:
    name, equals, dsn = given.partition("=")
    if equals and (name == TARGET or name in configuration.sources):
        return name, dsn
    return TARGET, given


def _conninfo(configuration: Configuration, name: str, dsn: str) -> Mapping[str, str]:
    from cdc_daemon.config.conninfo import VERIFIED, parse_conninfo, secured
    from cdc_daemon.config.mysql_address import SCHEMES, parse_mysql, secured_mysql
    from cdc_daemon.config.scalars import Complaint

    configured = configuration.target if name == TARGET else configuration.sources[name]
    mysql = configured.kind in SCHEMES
    try:
        found = parse_mysql(dsn, database=name == TARGET) if mysql else parse_conninfo(dsn)
    except Complaint as complaint:
        cure = f" ({complaint.cure})" if complaint.cure else ""
        raise click.UsageError(f"--admin-dsn for {name}: {complaint.what}{cure}") from None
    wanted = configured.conninfo.get("dbname")
    if wanted and found.get("dbname") not in (None, wanted):
        raise click.UsageError(
            f"--admin-dsn for {name} names database {found['dbname']!r}, not {wanted!r}"
        )
    found = secured_mysql(found) if mysql else secured(found)
    authority = configured.tls.ca if configured.tls is not None else None
    if authority is not None and found.get("sslmode") in VERIFIED:
        found.setdefault("sslrootcert", authority)
    return found
