"""The group that is being read, and how a position moves at its end. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from cdc_daemon.model.changes import Run
from cdc_daemon.sources.mysql.groups import Alter
from cdc_daemon.sources.mysql.gtid import Gtid, Triple
from cdc_daemon.sources.mysql.position import Begun, FilePosition, FromFile, MysqlPosition, Position
from cdc_daemon.sources.mysql.xid import Xid

MICROSECONDS = 1_000_000
_NOWHERE = FromFile("", 0)


@dataclass(slots=True, kw_only=True)
class Group:
    """What stands in the log for one transaction, from its GTID event on.

    ``time``: of its commit, µs since 1970. ``begun``: it goes on until a commit; else its first
    statement ends it. ``xid``: its rows belong to this XA transaction. ``witness``: it was applied
    before. ``written``: header time of its last rows or statement, s since 1970. ``kept``: runs of
    an XA transaction, None where they are too large to be kept. ``from_``: where it begins;
    ``file``: who began that file, and when.
    """

    gtid: Gtid | Triple | None
    time: int
    begun: bool
    xid: Xid | None = None
    alter: Alter | None = None
    witness: bool = False
    written: int = 0
    kept: list[Run] | None = field(default_factory=list)
    kept_size: int = 0
    from_: FromFile = _NOWHERE
    file: Begun | None = None


def advance(position: Position, group: Group, at: FromFile, last: int, time: int) -> None:
    """The group was read to its end; ``at``: behind its last event, which begins at ``last`` and
    has that ``time`` in its header."""
    match position:
        case MysqlPosition():
            assert isinstance(group.gtid, Gtid)
            position.advance(group.gtid, group.time)
        case FilePosition():
            position.advance(at, last=last, time=time)
        case _:
            assert isinstance(group.gtid, Triple)
            position.advance(group.gtid, group.written, group.file)


def note_prepared(position: Position, group: Group, xid: Xid) -> None:
    """The group's transaction is prepared: from here its rows can be read again."""
    match position:
        case MysqlPosition():
            assert isinstance(group.gtid, Gtid)
            position.prepared[xid] = group.gtid
        case FilePosition():
            position.prepared[xid] = group.from_
        case _:
            assert isinstance(group.gtid, Triple)
            position.prepared[xid] = (group.gtid, position.domains.get(group.gtid.domain))


def wanted_again(position: Position, xid: Xid) -> Gtid | Triple | None:
    """The GTID of a prepared transaction's group; None where there are none."""
    match position:
        case MysqlPosition():
            return position.prepared[xid]
        case FilePosition():
            return None
        case _:
            return position.prepared[xid][0]
