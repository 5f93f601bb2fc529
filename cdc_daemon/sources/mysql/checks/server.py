"""Checks of the source's server: version, the account, the way to it, what a crash would do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cdc_daemon.model.findings import Check, Note, Verdict, clock_note, ok, problem, warning
from cdc_daemon.sources.mysql.asked import quoted
from cdc_daemon.sources.mysql.checks.examined import Examined
from cdc_daemon.sources.mysql.connection import SESSION

_OLDEST: Final = {False: (8, 0), True: (10, 6)}
_NEWEST: Final = {False: (9, 99), True: (11, 99)}
"""By whether it is MariaDB."""


def _version(at: Examined) -> Iterator[Note]:
    system, mariadb = at.system, at.system.mariadb
    oldest = ".".join(map(str, _OLDEST[mariadb]))
    if system.version[:2] < _OLDEST[mariadb]:
        yield problem(f"{system.title} is too old", f"{oldest} is the oldest supported")
    elif system.version[:2] > _NEWEST[mariadb]:
        what = f"{system.title} is newer than any that was tested"
        yield warning(what, "see whether a newer cdc-daemon knows it")
    else:
        yield ok(f"{system.title} ({system.shown})")


def _server_id(at: Examined) -> Iterator[Note]:
    theirs = int(at.system.number("server_id"))
    if theirs == 0:
        what = "server_id is 0: the server refuses everybody who would read its log"
        yield problem(what, "set server_id to a number of its own, in the server's option file too")
    elif theirs == at.asked.server_id:
        what = f"server_id is {theirs}, the number by which the daemon would read"
        yield problem(what, "give the source another server_id in the configuration")
    else:
        yield ok(f"{theirs}, and the daemon's is {at.asked.server_id}")


def _replica(at: Examined) -> Iterator[Note]:
    system = at.system
    if system.on("log_replica_updates", "log_slave_updates"):
        state = "it is read-only, and" if system.on("read_only", "super_read_only") else "it"
        yield ok(f"{state} logs what it replicates")
    elif at.sees_replication:
        yield from _unlogged(at, replicates=at.replicates)
    elif system.on("read_only", "super_read_only") or system.value("gtid_slave_pos"):
        what = "cannot look: whether the server is a replica is hidden from the daemon's account"
        cure = f"GRANT REPLICA MONITOR ON *.* TO {at.account}, or set log_slave_updates = ON"
        yield Note(verdict=Verdict.UNKNOWN, what=what, cure=cure)
    else:
        yield ok("it takes writes, and has replicated from nobody")


def _unlogged(at: Examined, *, replicates: bool) -> Iterator[Note]:
    if not replicates:
        yield ok("it is no replica")
        return
    name = "log_slave_updates" if at.system.mariadb else "log_replica_updates"
    yield problem(
        "it is a replica that does not log what it replicates: those changes never arrive",
        f"set {name} = ON in its option file, restart it, and take a new snapshot; or read from"
        " the server that it replicates",
    )


_LOST: Final = {
    "sync_binlog": "the log may lack its last transactions, which the target has, and their"
    " numbers are given out again",
    "innodb_flush_log_at_trx_commit": "tables may lack what log and target have",
}


def _durability(at: Examined) -> Iterator[Note]:
    lax = {name: at.system.value(name) for name in _LOST if at.system.value(name) != "1"}
    for name, value in lax.items():
        what = f"{name} is {value}: after a crash of the source's machine {_LOST[name]}"
        yield warning(what, f"SET GLOBAL {name} = 1, and in the server's option file")
    if not lax:
        yield ok("log and tables are synchronised at each commit")


def _session(at: Examined) -> Iterator[Note]:
    for name, wanted in SESSION.items():
        found = at.session.get(name, "")
        if wanted != "DEFAULT" and not _in_force(wanted.strip("'"), found):
            yield problem(
                f"the session has {name} = {found!r} although the daemon asks for {wanted}",
                "let no proxy stand in between that keeps or shares sessions",
            )


def _in_force(wanted: str, found: str) -> bool:
    return found.upper() in (wanted.upper(), {"0": "OFF", "1": "ON"}.get(wanted))


def _role(at: Examined) -> Iterator[Note]:
    if at.grants.everything:
        what = f"{at.account} may do everything"
        yield warning(what, "use an account with the rights that cdc-daemon plan shows")
    else:
        yield ok(f"{at.account} may not do everything")


def _replication(at: Examined) -> Iterator[Note]:
    monitor = "BINLOG MONITOR" if at.system.mariadb else "REPLICATION CLIENT"
    wanted = {"REPLICATION SLAVE": "REPLICATION SLAVE", "REPLICATION CLIENT": monitor}
    lacking = [name for right, name in wanted.items() if not at.grants.may(right)]
    if lacking:
        cure = f"GRANT {', '.join(lacking)} ON *.* TO {at.account}"
        yield problem(f"{at.account} lacks {' and '.join(lacking)}", cure)
    else:
        yield ok(f"{at.account} may read the log")


def _copying(at: Examined) -> Iterator[Note]:
    """A copy of MySQL begins under a lock of the tables that are read, held for a moment."""
    if at.streaming or at.system.mariadb:
        yield ok("the first copy is done" if at.streaming else "a copy of MariaDB locks nothing")
        return
    locked = [name for name in sorted(at.schemas) if not at.grants.may("LOCK TABLES", name)]
    if not locked:
        yield ok("it may lock the tables that are read for a moment")
        return
    what = f"{at.account} may not lock the tables of {', '.join(locked)}, which begins a copy"
    cure = "; ".join(f"GRANT LOCK TABLES ON {quoted(name)}.* TO {at.account}" for name in locked)
    yield problem(what, cure)


def _tls(at: Examined) -> Iterator[Note]:
    cure = "set tls.ca to the authority that signed the server's certificate"
    if at.loopback:
        yield ok("the connection stays on this machine")
    elif not at.encrypted:
        yield warning("the connection leaves this machine unencrypted", cure)
    elif not at.verified:
        yield warning("the connection is encrypted, but it is not checked whom it reaches", cure)
    else:
        yield ok("encrypted, and the server's certificate and name were checked")


def _clock(at: Examined) -> Iterator[Note]:
    yield clock_note(*at.clock)


VERSION = Check(
    name="source.version",
    title="The server's version is supported",
    why="others lack what the daemon needs, or log what it has never seen",
    look=_version,
)
CHECKS = (
    Check(
        name="source.server_id",
        title="Server and daemon have different server ids",
        why="a server sends its log to nobody who has no number, or its own",
        look=_server_id,
    ),
    Check(
        name="source.replica",
        title="A replica logs what it replicates",
        why="what a replica only applies is in no log of its own",
        look=_replica,
    ),
    Check(
        name="source.durability",
        title="A crash of the source takes back nothing that was streamed",
        why="the target would hold what the source has lost, or lack what it has kept",
        look=_durability,
        refuses=False,
    ),
    Check(
        name="source.session",
        title="The daemon's session settings are in force",
        why="they decide how values look in stream and copy, and that a long copy is not cut",
        look=_session,
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
        why="without its rights there is no stream",
        look=_replication,
    ),
    Check(
        name="source.copying",
        title="The daemon's role may begin a copy",
        why="position and rows of a copy belong together only if nobody commits between the two",
        look=_copying,
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
