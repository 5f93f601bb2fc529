"""The newest transaction that was applied before: the log must begin with it, as it was.

A server that was reset, or made from a dump, gives the same numbers to other transactions; the time
of this one tells. What is its text is in position.py.
"""

from __future__ import annotations

from typing import Final

from cdc_daemon.model.errors import PreflightRefusal, Problem
from cdc_daemon.sources.mysql.events import TYPE, Kind
from cdc_daemon.sources.mysql.group import Group, is_witness, witnessed_time
from cdc_daemon.sources.mysql.position import FilePosition, Position
from cdc_daemon.sources.mysql.relations import NEW_COPY

_ARTIFICIAL: Final = 0x20
_NEUTRAL: Final = frozenset({Kind.PREVIOUS_GTIDS, Kind.HEARTBEAT, Kind.HEARTBEAT_V2})


class Witness:
    """``expected``: whether it has still to come."""

    def __init__(self, position: Position, *, expected: bool) -> None:
        self._position = position
        self.expected = expected and position.last is not None

    def is_group(self, group: Group) -> bool:
        """Whether the group that begins is the witness."""
        return self.expected and is_witness(self._position, group.gtid)

    def compare(self, group: Group) -> None:
        """At its end. Raises PreflightRefusal where it is another transaction."""
        self.expected = False
        if witnessed_time(self._position, group) != self._position.time:
            raise self._another()

    def is_event(self, event: bytes, offset: int) -> bool:
        """Whether it is the one event of the witness that is read from a file: the last of its
        transaction, which ends at that offset. Raises PreflightRefusal where it is another."""
        if not self.expected or not isinstance(self._position, FilePosition):
            return False
        if event[17] & _ARTIFICIAL or event[TYPE] in _NEUTRAL:
            return False
        self.expected = False
        time = int.from_bytes(event[:4], "little")
        if (offset, time) != (self._position.at.offset, self._position.time):
            raise self._another()
        return True

    def _another(self) -> PreflightRefusal:
        what = (
            f"transaction {self._position.last} of the server is not the one that was read: the "
            "server was reset or restored, and gave its numbers to other transactions"
        )
        return PreflightRefusal([Problem(what=what, where="the log", cure=NEW_COPY)])
