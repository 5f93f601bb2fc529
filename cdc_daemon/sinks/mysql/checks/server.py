"""Checks of the control database's server: version, durability, the session, the way to it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from cdc_daemon.config.mysql_address import is_local_mysql
from cdc_daemon.model.findings import Check, Note, clock_note, ok, problem, tls_note, warning
from cdc_daemon.sinks.mysql.checks.examined import Examined
from cdc_daemon.sinks.mysql.errors import LOG_ROWS
from cdc_daemon.sinks.mysql.session import SQL_MODE
from cdc_daemon.sinks.mysql.supported import unsupported, untested

_CIPHER: Final = "SHOW SESSION STATUS LIKE 'Ssl_cipher'"
_CLOCK: Final = "SELECT UNIX_TIMESTAMP(SYSDATE(6))"
_READ_ONLY: Final = ("read_only", "super_read_only", "innodb_read_only", "transaction_read_only")
_SMALL_PACKET: Final = 16 * 1024 * 1024


def _version(at: Examined) -> Iterator[Note]:
    said = at.session.server
    wrong = [problem(what, cure) for what, cure in unsupported(at.session)]
    if not wrong and untested(at.session):
        what = f"{said} is newer than any that was tested"
        yield warning(what, "see whether a newer cdc-daemon knows it")
    yield from wrong or [ok(said)]


def _writable(at: Examined) -> Iterator[Note]:
    for name in _READ_ONLY:
        if at.settings[name] in ("ON", "1") and not _may_write(at, name):
            cure = f"connect to the primary, or SET GLOBAL {name} = OFF"
            yield problem(f"{name} is on: it takes no writes", cure)
            return
    yield ok("it takes writes")


def _may_write(at: Examined, name: str) -> bool:
    """``read_only`` does not bind accounts that administer the server."""
    return name == "read_only" and bool(
        at.powers & {"SUPER", "CONNECTION_ADMIN", "READ_ONLY ADMIN"}
    )


def _session(at: Examined) -> Iterator[Note]:
    wanted = {
        "sql_mode": SQL_MODE,
        "time_zone": "+00:00",
        "character_set_client": "utf8mb4",
        "collation_connection": at.session.collation,
        "transaction_isolation": "READ-COMMITTED",
    }
    for name, value in wanted.items():
        if set((found := at.settings[name]).split(",")) != set(value.split(",")):
            what = f"the session has {name} = {found}, not {value}"
            yield problem(what, "let no proxy stand in between")


def _durability(at: Examined) -> Iterator[Note]:
    flush = at.settings["innodb_flush_log_at_trx_commit"]
    if flush != "1":
        what = f"innodb_flush_log_at_trx_commit is {flush}: a crash loses acknowledged changes"
        cure = "SET GLOBAL innodb_flush_log_at_trx_commit = 1, and in the configuration file"
        yield problem(what, cure)
    else:
        yield ok("every commit is written through")


def _binary_log(at: Examined) -> Iterator[Note]:
    form = at.settings["binlog_format"]
    if at.settings["log_bin"] not in ("ON", "1"):
        yield ok("there is none")
    elif form == "STATEMENT":
        what = "binlog_format is STATEMENT: at READ COMMITTED the server refuses every write"
        yield problem(what, LOG_ROWS)
    else:
        yield ok(form)


def _crash(at: Examined) -> Iterator[Note]:
    settings, found = at.settings, list[Note]()
    if settings["log_bin"] in ("ON", "1") and settings["sync_binlog"] != "1":
        what = (
            f"sync_binlog is {settings['sync_binlog']} and the binary log is on: a crash of the"
            " machine takes back commits that are not in it"
        )
        cure = "SET GLOBAL sync_binlog = 1, and in the configuration file"
        found.append(warning(what, cure))
    if settings["innodb_doublewrite"] in ("OFF", "0"):
        what = "innodb_doublewrite is off: a crash of the machine can tear pages"
        cure = "turn it on in the server's configuration file, and start it anew"
        found.append(warning(what, cure))
    yield from found or [ok("it keeps what it has committed")]


def _packet(at: Examined) -> Iterator[Note]:
    size = int(at.settings["max_allowed_packet"] or 0)
    if size < _SMALL_PACKET:
        what = f"max_allowed_packet is {size:,} bytes: a larger row parks"
        yield warning(what, f"SET GLOBAL max_allowed_packet = {4 * _SMALL_PACKET}")
    else:
        yield ok(f"{size:,} bytes")


def _role(at: Examined) -> Iterator[Note]:
    user = at.conninfo.get("user", "the user")
    if "SUPER" in at.powers:
        cure = "use an account with rights on the entity tables only: cdc-daemon plan shows how"
        yield warning(f"{user} administers the server", cure)
    else:
        yield ok(f"{user} does not administer the server")


def _tls(at: Examined) -> Iterator[Note]:
    row = at.session.run(_CIPHER).rows
    yield tls_note(
        encrypted=bool(row and row[0][1]),
        loopback=is_local_mysql(at.conninfo),
        mode=at.conninfo.get("sslmode", "prefer"),
    )


def _clock(at: Examined) -> Iterator[Note]:
    asked = time.time()
    said = float(at.session.run(_CLOCK).text() or 0)
    yield clock_note(asked, time.time(), said)


VERSION = Check(
    name="target.version",
    title="The control database's version is supported",
    why="older servers lack what the daemon builds upon",
    look=_version,
)
CHECKS = (
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
        why="values would be rounded or cut in silence, and moments be of another time zone",
        look=_session,
    ),
    Check(
        name="target.flush",
        title="A commit is on disk before it is acknowledged",
        why="what is lost here was acknowledged to the source and does not come again",
        look=_durability,
        watched=True,
    ),
    Check(
        name="target.durability",
        title="The server keeps through a crash what was committed",
        why="what is lost here was acknowledged to the source and does not come again",
        look=_crash,
        refuses=False,
        watched=True,
    ),
    Check(
        name="target.binlog",
        title="The binary log takes rows",
        why="every write is refused (error 1665)",
        look=_binary_log,
    ),
    Check(
        name="target.packet",
        title="The server takes large values",
        why="a statement larger than its limit ends the connection",
        look=_packet,
        refuses=False,
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
