"""The lanes that are blocked, in memory, and what of a batch has to do with them.

Looked at one by one are only the changes that have to do with a blocked lane, with a rejected
change or with a truncate.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from cdc_daemon.engine.dividing import Divider
from cdc_daemon.engine.lanes import Division
from cdc_daemon.engine.touched import (
    Part,
    Place,
    Touches,
    digests,
    identities_in,
    identity_of,
    part,
    together,
    touches_of,
)
from cdc_daemon.model.changes import Operation
from cdc_daemon.model.effects import EntityRun, Rejected
from cdc_daemon.model.errors import DataError

_MARKS = 100_000  # beside two for each lane


class Lanes:
    """The blocked lanes of one pipeline, as the failure queue holds them after the last commit.

    With none blocked and nothing rejected, dividing returns the runs untouched. Else keys are
    compared with lanes by their ``mark`` first, which is quick; only lanes that a process before
    this one has parked have none, and while there are such, every key is digested. ``blocked``: by
    lane, the mapping that blocks it.
    """

    def __init__(self, blocked: dict[bytes, str] | None = None) -> None:
        self.blocked = blocked or {}
        self._pending: dict[bytes, str] = {}
        self._freed: set[str] = set()
        self._marks: set[int] = set()  # of lanes that are or were blocked; of all but ...
        self._unmarked = set(self.blocked)  # ... those that are blocked since before

    def __len__(self) -> int:
        return len(self.blocked)

    def __contains__(self, lane: bytes) -> bool:
        """Whether it is blocked, as seen from the open unit."""
        owner = self._pending.get(lane) or self.blocked.get(lane)
        return lane in self._pending or (owner is not None and owner not in self._freed)

    def divide(
        self,
        runs: Sequence[EntityRun],
        rejected: Sequence[Rejected] = (),
        condemned: Mapping[bytes, DataError] | None = None,
    ) -> Division:
        """Split off what is at fault or stands behind it.

        ``rejected``: changes that could not be mapped. ``condemned``: lanes whose next change is
        known to fail (found only after it was applied), with the error to park it with.
        """
        if not self.blocked and not self._pending and not rejected and not condemned:
            return Division(list(runs))
        runs = sorted(runs, key=lambda run: run.sequences[0])
        touches = [touches_of(run) for run in runs]
        concerned = self._concerned(runs, touches, rejected, condemned or {})
        if not rejected and not any(concerned):
            return Division(runs, touches=touches)
        divider = Divider(self.blocked, self._pending, self._freed, condemned or {})
        return divider.divide(runs, touches, concerned, rejected)

    def _concerned(
        self,
        runs: Sequence[EntityRun],
        touches: Sequence[Touches],
        rejected: Sequence[Rejected],
        condemned: Mapping[bytes, DataError],
    ) -> list[Collection[int]]:
        """For each run, the changes that are to be looked at one by one."""
        found: list[set[int]] | None = None
        if all(run.operation is not Operation.TRUNCATE for run in runs):
            seeds = self._closed_keys(touches, condemned)
            for one in rejected:
                _add_rejected(seeds, one)
            found = together(touches, seeds) if seeds else [set() for _ in runs]
        if found is None:
            return [range(len(run)) for run in runs]
        return [sorted(changes) for changes in found]

    def _closed_keys(
        self, runs: Sequence[Touches], condemned: Mapping[bytes, DataError]
    ) -> dict[Place, set[Part]]:
        """What the runs touch or read whose lane is blocked, or known to fail."""
        found: dict[Place, set[Part]] = {}
        marked = not self._unmarked and not condemned
        for column in (column for run in runs for column in run.all):
            keys = column.keys
            if marked:
                if self._marks.isdisjoint(map(hash, keys)):
                    continue
                keys = [key for key in keys if hash(key) in self._marks]
            whole = [key for key in keys if key is not None]
            lanes = digests(column.place, whole)
            for closed in (self.blocked, self._pending, condemned):
                if closed and not closed.keys().isdisjoint(lanes):
                    hit = [key for key, lane in zip(whole, lanes, strict=True) if lane in closed]
                    found.setdefault(column.place, set()).update(hit)
        return found

    def block(self, division: Division) -> None:
        """Remember what was parked in the open unit; memory follows the commit at settle."""
        for mapping in division.superseded:
            self._freed.add(mapping)
            self._pending = {k: v for k, v in self._pending.items() if v != mapping}
        for one in division.held:
            for lane in one.lanes:
                self._pending[bytes(lane)] = one.layout.mapping
                self._marks.add(lane.mark)

    def settle(self) -> None:
        """The unit that parked them has committed."""
        if self._freed:
            self.blocked = {k: v for k, v in self.blocked.items() if v not in self._freed}
            self._unmarked &= self.blocked.keys()
        self.blocked.update(self._pending)
        self.forget()
        self._forget_marks()

    def forget(self) -> None:
        """The unit that parked them was rolled back."""
        self._pending, self._freed = {}, set()

    def open(self, lanes: Iterable[bytes]) -> None:
        """Nothing is parked in these any longer."""
        for lane in lanes:
            self.blocked.pop(lane, None)
            self._unmarked.discard(lane)
        self._forget_marks()

    def reload(self, blocked: dict[bytes, str]) -> None:
        """Take the failure queue's word after a replay or a restart."""
        self._unmarked = {
            lane for lane in blocked if lane in self._unmarked or lane not in self.blocked
        }
        self.blocked = blocked
        self.forget()
        self._forget_marks()

    def _forget_marks(self) -> None:
        """A mark cannot be told to be out of use, so with too many of them all are given up; what
        is blocked is as if a process before this one had parked it. Between units only."""
        if len(self._marks) > (_MARKS + 2 * len(self.blocked) if self.blocked else 0):
            self._marks = set()
            self._unmarked = set(self.blocked)


def _add_rejected(seeds: dict[Place, set[Part]], one: Rejected) -> None:
    rows = (part(identity_of(row)) for row in identities_in(one.source, one.sequence))
    seeds.setdefault(("row", one.layout.mapping), set()).update(rows)
    for kind in ("key", "holder"):
        seeds.setdefault((kind, one.layout.entity.name), set()).update(map(part, one.keys))
