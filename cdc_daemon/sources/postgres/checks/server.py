"""Checks of the source's server: version, settings, the session, the role, the way to it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from cdc_daemon.config.conninfo import is_loopback
from cdc_daemon.model.errors import ConfigurationError, Unreachable
from cdc_daemon.model.findings import (
    Check,
    Note,
    Verdict,
    clock_note,
    ok,
    problem,
    problems,
    tls_note,
    warning,
)
from cdc_daemon.sources.postgres.checks.examined import Examined
from cdc_daemon.sources.postgres.connection import SESSION
from cdc_daemon.sources.postgres.system import System

OLDEST: Final = 14
NEWEST: Final = 18
_DECODES_ON_STANDBY: Final = 16
_IMPATIENT_MS: Final = 10_000
"""A shorter wal_sender_timeout ends streams that only wait for a busy machine."""
_SHORT_IDLE_MS: Final = 60_000

_WALSENDERS: Final = "SELECT count(*) FROM pg_catalog.pg_stat_replication"
_SLOTS: Final = "SELECT count(*) FROM pg_catalog.pg_replication_slots"
_SUPERUSER: Final = "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user"
_REPLICATION: Final = """
SELECT rolsuper OR rolreplication FROM pg_catalog.pg_roles WHERE rolname = current_user
"""
_ENCRYPTED: Final = "SELECT ssl FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid()"
_CLOCK: Final = "SELECT extract(epoch FROM pg_catalog.clock_timestamp())::float8"
_OVERRIDES: Final = """
SELECT DISTINCT split_part(c, '=', 1) FROM pg_catalog.pg_db_role_setting s
JOIN pg_catalog.pg_roles r ON r.rolname = current_user, pg_catalog.unnest(s.setconfig) AS c
WHERE s.setrole IN (0, r.oid) AND s.setdatabase IN (0, (
    SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()))
ORDER BY 1
"""


def _version(at: Examined) -> Iterator[Note]:
    said = at.settings["server_version"]
    if at.version < OLDEST:
        yield problem(f"PostgreSQL {at.version} is too old", f"{OLDEST} is the oldest supported")
    elif at.version > NEWEST:
        what = f"PostgreSQL {said} is newer than any that was tested ({NEWEST})"
        yield warning(what, "see whether a newer cdc-daemon knows it")
    else:
        yield ok(f"PostgreSQL {said}")


def _wal_level(at: Examined) -> Iterator[Note]:
    level = at.settings["wal_level"]
    if level == "logical":
        yield ok("wal_level is logical")
    else:
        cure = "ALTER SYSTEM SET wal_level = 'logical', then restart the server"
        yield problem(f"wal_level is {level}", cure)


def _encoding(at: Examined) -> Iterator[Note]:
    encoding = at.connection.info.parameter_status("server_encoding")
    if encoding == "SQL_ASCII":
        yield warning(
            "the database has encoding SQL_ASCII: it takes any bytes as text, and a row with bytes "
            "that are not UTF-8 is parked",
            "move it into a database with encoding UTF8",
        )
    else:
        yield ok(f"{encoding}")


def _walsenders(at: Examined) -> Iterator[Note]:
    allowed, used = at.number("max_wal_senders"), _count(at, _WALSENDERS)
    raised = max(10, 2 * allowed)
    cure = f"ALTER SYSTEM SET max_wal_senders = {raised}, then restart the server"
    if used >= allowed:
        yield problem(f"all {allowed} of max_wal_senders are in use", cure)
    elif used + 1 == allowed:
        yield warning(f"one of {allowed} of max_wal_senders is free; a reconnect needs two", cure)
    else:
        yield ok(f"{allowed - used} of {allowed} are free")


def _slots(at: Examined) -> Iterator[Note]:
    allowed, used = at.number("max_replication_slots"), _count(at, _SLOTS)
    if at.slot is None and used >= allowed:
        raised = max(10, 2 * allowed)
        cure = (
            f"drop slots that nobody uses, or ALTER SYSTEM SET max_replication_slots = {raised},"
            " then restart the server"
        )
        yield problem(f"all {allowed} of max_replication_slots are in use, and ours is none", cure)
    else:
        yield ok(f"{max(0, allowed - used)} of {allowed} are free")


def _sender_timeout(at: Examined) -> Iterator[Note]:
    timeout, shown = at.number("wal_sender_timeout"), at.settings["wal_sender_timeout"]
    cure = "ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf()"
    if timeout == 0:
        what = "wal_sender_timeout is 0: a connection that broke keeps the slot occupied"
        yield warning(what, cure)
    elif timeout < _IMPATIENT_MS:
        yield warning(f"wal_sender_timeout is {shown}: a short pause already ends the stream", cure)
    else:
        yield ok(f"wal_sender_timeout is {shown}")


def _recovery(at: Examined) -> Iterator[Note]:
    if not at.in_recovery:
        yield ok("it is a primary")
    elif at.version < _DECODES_ON_STANDBY:
        what = f"it is a standby, from which PostgreSQL {at.version} streams no changes"
        yield problem(what, "connect to the primary, or promote this server")
    elif at.settings["hot_standby_feedback"] != "on":
        what = "it is a standby without hot_standby_feedback: its slot can be lost to a vacuum"
        yield warning(what, "ALTER SYSTEM SET hot_standby_feedback = on, or connect to the primary")
    else:
        yield ok("it is a standby that holds the primary's vacuum back")


def _session(at: Examined) -> Iterator[Note]:
    for name, wanted in SESSION.items():
        found = at.settings[name]
        if found.strip('"') != wanted and not found.startswith(f"{wanted}, "):
            yield problem(
                f"the session has {name} = {found!r} although the daemon asks for {wanted!r}",
                "let no pooler stand in between, and no login trigger set it",
            )
    if at.number("transaction_timeout"):
        what = f"transaction_timeout is {at.settings['transaction_timeout']}: it ends a longer copy"
        yield warning(what, f"ALTER ROLE {at.role} SET transaction_timeout = 0")
    if 0 < at.number("idle_session_timeout") < _SHORT_IDLE_MS:
        what = f"idle_session_timeout is {at.settings['idle_session_timeout']}"
        yield warning(what, f"ALTER ROLE {at.role} SET idle_session_timeout = 0")


def _overrides(at: Examined) -> Iterator[Note]:
    set_for_us = [row[0] for row in at.connection.execute(_OVERRIDES)]
    forced = {name.lower() for name in SESSION}
    overridden = [name for name in set_for_us if name.lower() in forced]
    left = [name for name in set_for_us if name.lower() not in forced]
    said = [f"overridden: {', '.join(overridden)}"] if overridden else []
    said += [f"in force: {', '.join(left)}"] if left else []
    yield ok("; ".join(said) or "none")


def _role(at: Examined) -> Iterator[Note]:
    row = at.connection.execute(_SUPERUSER).fetchone()
    if row and row[0]:
        yield warning(
            f"{at.server.user or 'the role'} is a superuser",
            "use a role with LOGIN, REPLICATION and SELECT: cdc-daemon plan shows how to make it",
        )
    else:
        yield ok(f"{at.server.user} is no superuser")


def _replication(at: Examined) -> Iterator[Note]:
    match at.identified:
        case System():
            yield ok(f"{at.server.user or 'the role'} may read the log")
        case ConfigurationError() as error if _may_replicate(at):
            yield from problems(error.problems, error)
        case ConfigurationError() as error:
            what = f"role {at.server.user} lacks REPLICATION"
            yield problem(what, f"ALTER ROLE {at.role} REPLICATION", error=error)
        case Unreachable() as error:
            cure = "see source.walsenders and the server's log"
            yield Note(verdict=Verdict.UNREACHABLE, what=error.message, cure=cure)
        case error:
            raise error


def _may_replicate(at: Examined) -> bool:
    row = at.connection.execute(_REPLICATION).fetchone()
    return bool(row and row[0])


def _tls(at: Examined) -> Iterator[Note]:
    row = at.connection.execute(_ENCRYPTED).fetchone()
    yield tls_note(
        encrypted=bool(row and row[0]),
        loopback=is_loopback(at.server.address),
        mode=at.server.address.get("sslmode", "prefer"),
    )


def _clock(at: Examined) -> Iterator[Note]:
    asked = time.time()
    row = at.connection.execute(_CLOCK).fetchone()
    assert row is not None
    yield clock_note(asked, time.time(), row[0])


def _count(at: Examined, query: str) -> int:
    row = at.connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


VERSION = Check(
    name="source.version",
    title="The server's version is supported",
    why="older servers lack what the daemon builds upon",
    look=_version,
)
CHECKS = (
    Check(
        name="source.wal_level",
        title="The server writes a logical log",
        why="without wal_level logical, the log does not hold rows",
        look=_wal_level,
    ),
    Check(
        name="source.encoding",
        title="The database has an encoding",
        why="without one nobody knows what bytes mean that are not UTF-8: such rows are parked",
        look=_encoding,
    ),
    Check(
        name="source.walsenders",
        title="There are free walsenders",
        why="each stream takes one of max_wal_senders, and each start another for a moment",
        look=_walsenders,
        refuses=False,
    ),
    Check(
        name="source.slots",
        title="There is a free replication slot for the first copy",
        why="the first copy creates the slot",
        look=_slots,
        refuses=False,
    ),
    Check(
        name="source.sender_timeout",
        title="wal_sender_timeout is long enough, and not infinite",
        why="the server ends a stream that does not answer for that long",
        look=_sender_timeout,
        refuses=False,
    ),
    Check(
        name="source.recovery",
        title="The server can decode its log",
        why="a standby decodes only from PostgreSQL 16 on, and can lose the slot to a vacuum",
        look=_recovery,
        refuses=False,
    ),
    Check(
        name="source.session",
        title="The daemon's session settings are in force",
        why="they decide how values look in stream and copy, and that a long copy is not cut",
        look=_session,
    ),
    Check(
        name="source.overrides",
        title="What is set for the daemon's role or database",
        why="settings made there hold for the daemon too, unless it overrides them",
        look=_overrides,
        refuses=False,
    ),
    Check(
        name="source.role",
        title="The daemon's role is not a superuser",
        why="whoever has the daemon's password could change the source",
        look=_role,
        refuses=False,
    ),
    Check(
        name="source.replication",
        title="The daemon's role may read the log",
        why="without REPLICATION and an entry in pg_hba.conf there is no stream",
        look=_replication,
    ),
    Check(
        name="source.tls",
        title="The way to the source is encrypted and checked",
        why="rows and password could be read or changed on the way",
        look=_tls,
        refuses=False,
    ),
    Check(
        name="source.clock",
        title="The source's clock agrees with the daemon's",
        why="lag and latency are the difference of the two",
        look=_clock,
        refuses=False,
    ),
)
