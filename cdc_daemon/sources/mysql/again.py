"""A prepared XA transaction's group, read from the log once more. Pure.

Rows of a transaction that is only prepared are not held for ever: when its XA COMMIT comes, its
group is looked for from its place on, in a reading of the log of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cdc_daemon.model.errors import RESNAPSHOT, PreflightRefusal, Problem
from cdc_daemon.sources.mysql.events import TYPE, Framing, Kind
from cdc_daemon.sources.mysql.groups import (
    parse_gtid_event,
    parse_mariadb_gtid,
    parse_tagged_event,
)
from cdc_daemon.sources.mysql.gtid import Gtid, Triple
from cdc_daemon.sources.mysql.payload import nested_events
from cdc_daemon.sources.mysql.tables import ROWS
from cdc_daemon.sources.mysql.xid import Xid

_BEGINS: Final = frozenset(
    {Kind.GTID, Kind.GTID_TAGGED, Kind.ANONYMOUS_GTID, Kind.MARIADB_GTID, Kind.PREVIOUS_GTIDS}
)
_ROWS: Final = frozenset({Kind.TABLE_MAP, *ROWS})


def group_again(
    events: Iterator[bytes], framing: Framing, wanted: Gtid | Triple | None, xid: Xid
) -> Iterator[tuple[bytes, int]]:
    """Table maps and rows of the wanted group, each with its body's end.

    ``wanted`` None: the first group that there is. Raises PreflightRefusal where it is not in the
    log any more.
    """
    inside = False
    for event in events:
        kind = event[TYPE]
        if kind == Kind.FORMAT_DESCRIPTION:
            framing.describe(event)
        elif kind == Kind.ROTATE:
            framing.rotate(event)
        elif kind in _BEGINS:
            if inside:
                break
            inside = _is_wanted(event, framing.end(event), wanted)
        elif inside and kind == Kind.XA_PREPARE:
            return
        elif inside and kind == Kind.TRANSACTION_PAYLOAD:
            yield from _nested(event, framing.end(event))
            return
        elif inside and kind in _ROWS:
            yield event, framing.end(event)
    what = f"the rows of the prepared XA transaction {xid} are not in the log any more"
    cure = f"keep the log for as long as transactions are prepared; now {RESNAPSHOT}"
    raise PreflightRefusal([Problem(what=what, cure=cure)])


def _nested(event: bytes, end: int) -> Iterator[tuple[bytes, int]]:
    for inner in nested_events(event, end):
        if inner[TYPE] in _ROWS:
            yield inner, len(inner)


def _is_wanted(event: bytes, end: int, wanted: Gtid | Triple | None) -> bool:
    kind = event[TYPE]
    if kind == Kind.PREVIOUS_GTIDS:
        return False
    if kind == Kind.MARIADB_GTID:
        return parse_mariadb_gtid(event, end).gtid == wanted
    if kind == Kind.GTID_TAGGED:
        return parse_tagged_event(event, end).gtid == wanted
    return parse_gtid_event(event, end).gtid == wanted
