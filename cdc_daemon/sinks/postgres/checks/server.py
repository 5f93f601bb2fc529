"""Checks of the control database's server: version, durability, the session, the way to it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from cdc_daemon.config.conninfo import is_loopback
from cdc_daemon.model.findings import Check, Note, clock_note, ok, problem, tls_note, warning
from cdc_daemon.sinks.postgres.checks.examined import Examined

OLDEST: Final = 14
NEWEST: Final = 18

_RECOVERY: Final = "SELECT pg_catalog.pg_is_in_recovery()"
_SUPERUSER: Final = "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user"
_ENCRYPTED: Final = "SELECT ssl FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid()"
_CLOCK: Final = "SELECT extract(epoch FROM pg_catalog.clock_timestamp())::float8"


def _version(at: Examined) -> Iterator[Note]:
    major, said = at.connection.info.server_version // 10000, at.settings["server_version"]
    if major < OLDEST:
        yield problem(f"PostgreSQL {OLDEST} or later is needed", "upgrade the server")
    elif major > NEWEST:
        what = f"PostgreSQL {said} is newer than any that was tested ({NEWEST})"
        yield warning(what, "see whether a newer cdc-daemon knows it")
    else:
        yield ok(f"PostgreSQL {said}")


def _encoding(at: Examined) -> Iterator[Note]:
    encoding = at.settings["server_encoding"]
    if encoding == "UTF8":
        yield ok("UTF8")
    else:
        what = (
            f"the database has encoding {encoding}, which does not hold every text of the sources"
        )
        yield problem(what, "create the control database anew with ENCODING 'UTF8'")


def _writable(at: Examined) -> Iterator[Note]:
    row = at.connection.execute(_RECOVERY).fetchone()
    if row and row[0]:
        yield problem("it is a standby", "connect to the primary, or promote this server")
    elif at.settings["default_transaction_read_only"] == "on":
        cure = "set default_transaction_read_only = off for server, database and role"
        yield problem("default_transaction_read_only is on", cure)
    else:
        yield ok("it takes writes")


def _session(at: Examined) -> Iterator[Note]:
    level = at.settings["synchronous_commit"]
    wanted = {"search_path": '""', "statement_timeout": "0", "client_encoding": "UTF8"}
    pooler = "let no pooler stand in between"
    if level not in ("on", "remote_apply"):
        what = f"the session has synchronous_commit = {level}: a crash loses acknowledged changes"
        yield problem(what, pooler)
    for name, value in wanted.items():
        if (found := at.settings[name]) != value:
            yield problem(f"the session has {name} = {found}, not {value}", pooler)
    isolation = at.settings["default_transaction_isolation"]
    if isolation != "read committed":
        what = (
            f"default_transaction_isolation is {isolation}: units of work may have to be repeated"
        )
        yield warning(
            what, f"ALTER ROLE {at.role} SET default_transaction_isolation = 'read committed'"
        )
    if at.settings["transaction_timeout"] not in ("", "0"):
        what = f"transaction_timeout is {at.settings['transaction_timeout']}"
        yield warning(what, f"ALTER ROLE {at.role} SET transaction_timeout = 0")


def _durability(at: Examined) -> Iterator[Note]:
    for name, what in (
        ("fsync", "a crash of the machine can lose or destroy what was committed"),
        ("full_page_writes", "a crash of the machine can tear pages"),
    ):
        if at.settings[name] == "off":
            yield warning(
                f"{name} is off: {what}", f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf()"
            )
    yield ok(f"synchronous_commit is {at.settings['synchronous_commit']} in the daemon's session")


def _role(at: Examined) -> Iterator[Note]:
    row = at.connection.execute(_SUPERUSER).fetchone()
    user = at.conninfo.get("user", "the role")
    if row and row[0]:
        cure = "use a role with rights on the entity tables only: cdc-daemon plan shows how"
        yield warning(f"{user} is a superuser", cure)
    else:
        yield ok(f"{user} is no superuser")


def _tls(at: Examined) -> Iterator[Note]:
    row = at.connection.execute(_ENCRYPTED).fetchone()
    yield tls_note(
        encrypted=bool(row and row[0]),
        loopback=is_loopback(at.conninfo),
        mode=at.conninfo.get("sslmode", "prefer"),
    )


def _clock(at: Examined) -> Iterator[Note]:
    asked = time.time()
    row = at.connection.execute(_CLOCK).fetchone()
    assert row is not None
    yield clock_note(asked, time.time(), row[0])


VERSION = Check(
    name="target.version",
    title="The control database's version is supported",
    why="older servers lack what the daemon builds upon",
    look=_version,
)
CHECKS = (
    Check(
        name="target.encoding",
        title="The control database holds every text",
        why="texts of the sources would fail, or be stored as bytes of an unknown meaning",
        look=_encoding,
    ),
    Check(
        name="target.writable",
        title="The control database takes writes",
        why="every unit of work fails and is tried again",
        look=_writable,
        refuses=False,
        watched=True,
    ),
    Check(
        name="target.session",
        title="The daemon's session settings are in force",
        why="a commit must be durable before it is acknowledged, and a unit must not be cut short",
        look=_session,
    ),
    Check(
        name="target.durability",
        title="The server keeps through a crash what was committed",
        why="what is lost here was acknowledged to the source and does not come again",
        look=_durability,
        refuses=False,
        watched=True,
    ),
    Check(
        name="target.role",
        title="The daemon's role is not a superuser",
        why="the daemon needs no right to alter anything, and what it lacks cannot be misused",
        look=_role,
        refuses=False,
    ),
    Check(
        name="target.tls",
        title="The way to the control database is encrypted and checked",
        why="rows and password could be read or changed on the way",
        look=_tls,
        refuses=False,
    ),
    Check(
        name="target.clock",
        title="The control database's clock agrees with the daemon's",
        why="it stamps last_sync_time and says when a holder was last seen",
        look=_clock,
        refuses=False,
    ),
)
