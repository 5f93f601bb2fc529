"""Prepared XA transactions: their rows are kept until they take effect, or read again then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from cdc_daemon.model.changes import Run
from cdc_daemon.model.errors import RESNAPSHOT, PreflightRefusal, Problem
from cdc_daemon.sources.mysql.again import group_again
from cdc_daemon.sources.mysql.events import Framing
from cdc_daemon.sources.mysql.group import Group, note_prepared, wanted_again
from cdc_daemon.sources.mysql.gtid import Gtid, Triple
from cdc_daemon.sources.mysql.position import FilePosition, MariadbPosition, Position, Start
from cdc_daemon.sources.mysql.xid import Xid

KEPT_BYTES: Final = 16 << 20
"""What of prepared transactions is kept in memory, all of them together."""

Fetch = Callable[[Start], Iterator[bytes]]
"""Opens the log once more and reads what there is."""

Located = tuple[bytes, int]
"""An event, and where its body ends."""


class Prepared:
    """The prepared transactions of one reading of the log; which there are, the position says."""

    def __init__(self, position: Position, fetch: Fetch) -> None:
        self._position = position
        self._fetch = fetch
        self._kept: dict[Xid, tuple[list[Run], int]] = {}
        self._size = 0

    def keep(self, group: Group, runs: list[Run], size: int) -> None:
        """Rows of an XA transaction that has not ended; too many are let go."""
        if group.kept is None:
            return
        group.kept += runs
        group.kept_size += size
        if self._size + group.kept_size > KEPT_BYTES:
            group.kept = None

    def prepared(self, group: Group, xid: Xid) -> None:
        """The group's end: its rows wait."""
        note_prepared(self._position, group, xid)
        if group.kept is not None:
            self._kept[xid] = (group.kept, group.kept_size)
            self._size += group.kept_size

    def forget(self, xid: Xid) -> None:
        """The transaction is over."""
        self._position.prepared.pop(xid, None)
        _, size = self._kept.pop(xid, ((), 0))
        self._size -= size

    def effective(self, xid: Xid) -> tuple[list[Run], int] | Iterator[Located]:
        """What takes effect: the runs and their size, or the events, which are read again.

        MySQL's copy begins under a lock that waits for whoever has prepared changes of the tables:
        what is not known there has none. On MariaDB that is a PreflightRefusal.
        """
        if xid not in self._position.prepared:
            if not isinstance(self._position, MariadbPosition):
                return [], 0
            what = (
                f"the XA transaction {xid} takes effect, which was prepared before the copy was "
                "taken: its rows are not known"
            )
            raise PreflightRefusal([Problem(what=what, where="the log", cure=RESNAPSHOT)])
        if xid in self._kept:
            return self._kept[xid]
        return self._again(self._position.again(xid), wanted_again(self._position, xid), xid)

    def effective_at_once(
        self, group: Group, xid: Xid
    ) -> tuple[list[Run], int] | Iterator[Located]:
        """The same for a group that is committed in one phase."""
        if group.kept is not None:
            return group.kept, group.kept_size
        if isinstance(self._position, FilePosition):
            return self._again(group.from_, None, xid)
        return self._again(self._position.start(witness=False), group.gtid, xid)

    def _again(self, start: Start, wanted: Gtid | Triple | None, xid: Xid) -> Iterator[Located]:
        return group_again(self._fetch(start), Framing(), wanted, xid)
