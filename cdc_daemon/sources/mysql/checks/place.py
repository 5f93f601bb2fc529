"""Checks of the checkpoint's place in the server's log: whose it is, and whether it is there."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Final

from cdc_daemon.model.errors import RESNAPSHOT, Stop
from cdc_daemon.model.findings import Check, Note, duration, ok, problem, warning
from cdc_daemon.model.position import Phase
from cdc_daemon.sources.mysql.checks.examined import Examined
from cdc_daemon.sources.mysql.gtid import format_domains
from cdc_daemon.sources.mysql.position import (
    FilePosition,
    MariadbPosition,
    MysqlPosition,
    Position,
    parse_position,
)

_CORRECT: Final = f"correct the connection, or {RESNAPSHOT}"
_RESTORE: Final = f"restore the row as it was, or {RESNAPSHOT}"
_NOTHING: Final = "nothing was streamed yet"
_HOUR: Final = 3600.0
_DAY: Final = 24 * _HOUR
_MOST: Final = 200
"""Characters of a GTID set in a message."""


def _checkpoint(at: Examined) -> Iterator[Note]:
    known = at.checkpoint
    if known is None or known.phase is not Phase.STREAMING:
        yield ok("its checkpoint is whole" if known else "none yet")
    elif known.position is None:
        yield problem("the position is missing", _RESTORE)
    elif known.identity is None or not known.identity.system:
        yield problem("it does not say which server it belongs to", _RESTORE)
    else:
        yield _parsed(known.position)


def _parsed(position: str) -> Note:
    try:
        parse_position(position)
    except Stop as error:
        return problem(error.message, _RESTORE)
    return ok("its checkpoint is whole")


def _identity(at: Examined) -> Iterator[Note]:
    then, now = at.identity, at.system.identity
    if then is None:
        yield ok(f"{now}, and no checkpoint to compare it with")
    elif then.system == now:
        yield ok(f"{now}, as the checkpoint's")
    elif isinstance(at.position, FilePosition):
        what = f"this server ({now}) is not the one that the checkpoint belongs to ({then.system})"
        yield problem(f"{what}, and a file and a position mean nothing here", _CORRECT)
    else:
        yield warning(
            f"another server ({now}) answers than before ({then.system}), and its log goes on from"
            " the checkpoint's GTIDs: what the former published but never replicated may stand in"
            " the target",
            "if it was no fail-over: correct the connection; compare: cdc-daemon verify",
        )


def _kind(at: Examined, position: Position) -> Note | None:
    """A position that means nothing on a server of this kind."""
    system = at.system
    match position:
        case MysqlPosition() if system.mariadb:
            kind = "of a MySQL server"
        case MariadbPosition() if not system.mariadb:
            kind = "of a MariaDB server"
        case FilePosition() if system.mariadb:
            kind = "a file and an offset, which the daemon does not use on MariaDB"
        case MysqlPosition() if not system.gtids:
            kind = "a set of GTIDs, and gtid_mode is not ON any more"
        case FilePosition() if system.gtids:
            kind = "a file and an offset, and the server has GTIDs now"
        case _:
            return None
    return problem(f"the checkpoint's position is {kind}", _CORRECT)


def _position(at: Examined) -> Iterator[Note]:
    """Whether the server's log has come to where the checkpoint stands."""
    position = at.position
    if position is None:
        yield ok(_NOTHING)
    elif wrong := _kind(at, position):
        yield wrong
    elif ahead := _ahead(at, position):
        yield problem(
            f"the checkpoint is ahead of the server's log by {ahead}: the server was reset, or"
            " restored to an earlier state",
            RESNAPSHOT,
        )
    else:
        yield ok("the checkpoint's position is within the server's log")


def _ahead(at: Examined, position: Position) -> str:
    """What was read and the server does not have; empty: nothing."""
    match position:
        case MysqlPosition():
            return str(position.beyond(at.executed))[:_MOST]
        case MariadbPosition():
            return format_domains(position.beyond(at.last_of_domains))[:_MOST]
        case FilePosition():
            beyond = position.beyond(at.end.place)
            return str(beyond) if beyond else ""


def _kept(at: Examined) -> Iterator[Note]:
    """Whether the server still has what comes behind the checkpoint."""
    position = at.position
    if position is None or _kind(at, position):
        yield ok(_NOTHING if position is None else "the position is not of this log")
    elif gone := _gone(at, position):
        yield problem(
            f"the server has removed log that was not read yet ({gone}): changes are lost",
            f"raise binlog_expire_logs_seconds, and {RESNAPSHOT}",
        )
    else:
        yield ok("it is all there")


def _gone(at: Examined, position: Position) -> str:
    match position:
        case MysqlPosition():
            return str(position.missing(at.purged))[:_MOST]
        case MariadbPosition():
            purged = at.purged_of_domains
            return "" if position.covers(purged) else f"up to {format_domains(purged)[:_MOST]}"
        case FilePosition():
            return "" if position.at.file in at.files else position.at.file


def _reader(at: Examined) -> Iterator[Note]:
    ours = at.asked.server_id
    right = "REPLICATION MASTER ADMIN" if at.system.mariadb else "REPLICATION SLAVE"
    if not (at.grants.everything or at.grants.may(right)):
        yield ok(f"not asked: only who has {right} sees the readers of the log")
    elif ours not in at.readers:
        yield ok(f"nobody reads as server {ours} now")
    elif at.held:
        yield ok(f"the pipeline's worker reads as server {ours}")
    else:
        yield problem(
            f"somebody reads the log as server {ours}, the daemon's number: the server ends the"
            " one when the other comes",
            "if a daemon of this source has just ended, look again in ten seconds; else stop the"
            " other one, or give the source another server_id in the configuration",
        )


def _retention(at: Examined) -> Iterator[Note]:
    yield _expiry(at)
    if (most := at.system.number("max_binlog_total_size")) > 0:
        yield _size(at, most)


def _expiry(at: Examined) -> Note:
    """For how long the server keeps a file of its log, and how much of that is over."""
    kept = _expires(at)
    cure = f"SET GLOBAL binlog_expire_logs_seconds = {max(7 * _DAY, 2 * kept):.0f}"
    cure += ", and in the server's option file"
    if not kept:
        return ok("the server removes no file of its log by age: watch its disk")
    said = f"the server removes its log after {duration(kept)}"
    left = kept - _behind(at)
    if left < _HOUR:
        what = f"{said}, and the oldest change that is not read is {duration(kept - left)} old"
        return warning(what, f"{cure}; and let the daemon catch up")
    if kept < _DAY:
        return warning(f"{said}: a daemon that is stopped for longer must copy anew", cure)
    return ok(said)


def _expires(at: Examined) -> float:
    """Seconds after which a file is removed; 0: never."""
    system = at.system
    if system.value("binlog_expire_logs_auto_purge").upper() == "OFF":
        return 0.0
    seconds = system.number("binlog_expire_logs_seconds")
    return seconds or system.number("expire_logs_days") * _DAY


def _behind(at: Examined) -> float:
    """Seconds since the checkpoint's last commit, if the log has more; else 0."""
    known, position = at.checkpoint, at.position
    if known is None or known.commit_time is None or position is None or _covered(at, position):
        return 0.0
    return max(0.0, (dt.datetime.now(dt.UTC) - known.commit_time).total_seconds())


def _covered(at: Examined, position: Position) -> bool:
    """Whether everything that the server has was read, or nobody can tell."""
    if _kind(at, position):
        return True
    match position:
        case MysqlPosition():
            return position.covers(at.executed)
        case MariadbPosition():
            return position.covers(at.last_of_domains)
        case FilePosition():
            return position.covers(at.end.place)


def _size(at: Examined, most: float) -> Note:
    """MariaDB 11.4: for how long the log may grow as it does now."""
    said = f"max_binlog_total_size is {most:,.0f} bytes"
    rate = at.rate()
    if not rate:
        return ok(said)
    said += f", at {rate:,.0f} bytes a second {duration(most / rate)}"
    if most / rate < _HOUR:
        cure = f"SET GLOBAL max_binlog_total_size = {4 * most:.0f}, and in the option file"
        return warning(said, cure)
    return ok(said)


CHECKPOINT = Check(
    name="source.checkpoint",
    title="The checkpoint is one that a daemon wrote",
    why="what is missing in it would leave out the comparison that it is for",
    look=_checkpoint,
)
CHECKS = (
    Check(
        name="source.identity",
        title="It is the server and database that the checkpoint belongs to",
        why="a position of another server's log means nothing here",
        look=_identity,
    ),
    Check(
        name="log.kept",
        title="The server still has the log behind the checkpoint",
        why="log that was removed cannot be read again",
        look=_kept,
        watched=True,
    ),
    Check(
        name="log.position",
        title="The checkpoint's position is within the server's log",
        why="a server that was reset gives the same numbers to other changes",
        look=_position,
        watched=True,  # the stream of a server that is reset under it falls silent
    ),
    Check(
        name="log.reader",
        title="Nobody else reads with the daemon's server id",
        why="the server has one reader of a number, and ends the other",
        look=_reader,
        refuses=False,
    ),
    Check(
        name="log.retention",
        title="There is time left until the server removes its log",
        why="a daemon that is stopped or slow for longer than that must copy everything again",
        look=_retention,
        refuses=False,
        watched=True,
    ),
)
