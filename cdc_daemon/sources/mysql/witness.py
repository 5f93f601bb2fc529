"""The newest transaction that was applied before: it comes once more, and is only compared."""

from __future__ import annotations

from typing import Final

from cdc_daemon.sources.mysql.events import ARTIFICIAL, FLAGS, TIME, TYPE, Kind
from cdc_daemon.sources.mysql.group import Group
from cdc_daemon.sources.mysql.gtid import Gtid
from cdc_daemon.sources.mysql.position import FromFile, Witness

_NEUTRAL: Final = frozenset({Kind.PREVIOUS_GTIDS, Kind.HEARTBEAT, Kind.HEARTBEAT_V2})


class Expectation:
    """The witness, until it has come; None: nothing is expected."""

    def __init__(self, witness: Witness | None) -> None:
        self._witness = witness

    def is_group(self, group: Group) -> bool:
        """Whether the group that begins is the witness. Raises PreflightRefusal where it stands in
        the witness's place."""
        witness = self._witness
        if witness is None or group.gtid is None or isinstance(witness.place, FromFile):
            return False
        return witness.meets(group.gtid)

    def compare(self, group: Group) -> None:
        """At its end. Raises PreflightRefusal where it is another transaction."""
        witness, self._witness = self._witness, None
        assert witness is not None
        if isinstance(witness.place, Gtid):
            witness.confirm(group.time)
        else:
            witness.confirm(group.written, group.file)

    def is_event(self, event: bytes, at: FromFile) -> bool:
        """Whether it is the one event of the witness that is read from a file: the last of its
        transaction, which ends there. Raises PreflightRefusal where it is another."""
        witness = self._witness
        if witness is None or not isinstance(witness.place, FromFile):
            return False
        if event[FLAGS] & ARTIFICIAL or event[TYPE] in _NEUTRAL:
            return False
        self._witness = None
        witness.meets(at)
        witness.confirm(int.from_bytes(event[TIME], "little"))
        return True
