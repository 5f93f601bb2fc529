"""Lanes: what waits behind a parked change (DESIGN section 1).

A lane is (mapping, source row identity), joined to (entity, entity key) when known. Blocked lanes
are held as 16-byte digests; with none blocked and nothing rejected :meth:`Lanes.divide` returns the
runs untouched. A change whose lane is blocked is held, and every other lane it touches is blocked
with it (a rename blocked on either key blocks both).
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field

from cdc_daemon.model.changes import Invalid, Operation, Row, Run
from cdc_daemon.model.effects import EntityRun, Key, Layout, Rejected
from cdc_daemon.model.errors import DataError

WAITING = "waiting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One change that goes to the failure queue, and the lanes it blocks there."""

    layout: Layout
    source: Run
    sequence: int
    error: DataError
    lanes: tuple[bytes, ...]


def digest(kind: str, name: str, key: Sequence[bytes]) -> bytes:
    """16 bytes for one lane; ``kind`` is ``row`` (mapping, identity) or ``key`` (entity, key)."""
    state = hashlib.blake2b(f"{kind}\0{name}".encode(), digest_size=16)
    for value in key:
        state.update(len(value).to_bytes(4, "big"))
        state.update(value)
    return state.digest()


def entity_lane(entity: str, key: Key) -> bytes:
    """The lane of an entity key."""
    return digest("key", entity, key)


def source_lane(mapping: str, identity: Iterable[object]) -> bytes:
    """The lane of a source row; values that are no text (a null identity) count as empty, INVALID
    as its bytes, which are no text's."""
    raw = (v.raw if isinstance(v, Invalid) else v for v in identity)
    return digest("row", mapping, [v if isinstance(v, bytes) else b"" for v in raw])


def lanes_of_source(layout: Layout, source: Run, sequence: int) -> tuple[bytes, ...]:
    """The source-row lanes of one change, from its images in the log."""
    rows = _identities(source, sequence)
    return tuple(dict.fromkeys(source_lane(layout.mapping, values) for values in rows))


def identities_of(source: Run, sequence: int) -> list[Key]:
    """The identities of one change's row, before and after it, as far as they are texts."""
    rows = _identities(source, sequence)
    whole = [row for row in rows if all(isinstance(value, bytes) for value in row)]
    return list(dict.fromkeys(whole))  # type: ignore[arg-type]


def _identities(source: Run, sequence: int) -> list[Row]:
    i = sequence - source.sequence
    identity = source.relation.identity
    found: list[Row] = []
    if source.operation in (Operation.INSERT, Operation.UPDATE):
        row = source.new_rows[i]
        found.append(tuple([row[j] for j in identity]))
    if source.old_rows is not None:
        old = source.old_rows[i]
        found.append(tuple([old[j] for j in identity]) if source.old_full else old)
    return found


def lanes_of(run: EntityRun, i: int) -> tuple[bytes, ...]:
    """Every lane that change i of a mapped run touches: its source rows' and its entity keys'."""
    found = list(lanes_of_source(run.layout, run.source, run.sequences[i]))
    entity = run.layout.entity.name
    if run.rows:
        found.append(entity_lane(entity, run.layout.key_of(run.rows[i])))
    if run.old_keys is not None:
        old = run.old_keys[i]
        if old is not None:
            found.append(entity_lane(entity, old))
    return tuple(dict.fromkeys(found))


@dataclass(slots=True)
class Division:
    """What may go on and what is held, both in source order per lane.

    ``superseded``: mappings whose parked changes a truncate in this batch has undone.
    """

    ready: list[EntityRun]
    held: list[Held] = field(default_factory=list)
    superseded: set[str] = field(default_factory=set)


class Lanes:
    """The blocked lanes of one pipeline, as the failure queue holds them after the last commit."""

    def __init__(self, blocked: dict[bytes, str] | None = None) -> None:
        self._blocked = blocked or {}
        self._pending: dict[bytes, str] = {}
        self._freed: set[str] = set()

    def __len__(self) -> int:
        return len(self._blocked)

    def __contains__(self, lane: bytes) -> bool:
        return lane in self._blocked

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
        if not self._blocked and not self._pending and not rejected and not condemned:
            return Division(list(runs))
        divider = _Divider(self._blocked, self._pending, self._freed, condemned or {})
        return divider.divide(runs, rejected)

    def block(self, division: Division) -> None:
        """Remember what was parked in the open unit; memory follows the commit at settle."""
        for mapping in division.superseded:
            self._freed.add(mapping)
            self._pending = {k: v for k, v in self._pending.items() if v != mapping}
        for one in division.held:
            self._pending.update(dict.fromkeys(one.lanes, one.layout.mapping))

    def settle(self) -> None:
        """The unit that parked them has committed."""
        if self._freed:
            self._blocked = {k: v for k, v in self._blocked.items() if v not in self._freed}
        self._blocked.update(self._pending)
        self.forget()

    def forget(self) -> None:
        """The unit that parked them was rolled back."""
        self._pending, self._freed = {}, set()

    def reload(self, blocked: dict[bytes, str]) -> None:
        """Take the failure queue's word after a replay or a restart."""
        self._blocked = blocked
        self.forget()


class _Divider:
    """Walks the changes of a batch in source order, with lanes that close and open on the way."""

    def __init__(
        self,
        blocked: Mapping[bytes, str],
        pending: Mapping[bytes, str],
        freed: set[str],
        condemned: Mapping[bytes, DataError],
    ) -> None:
        self.blocked = blocked
        self.local = dict(pending)
        self.freed = set(freed)
        self.condemned = dict(condemned)
        self.passed: dict[bytes, tuple[bytes, ...]] = {}  # lane of a change that goes on -> all its
        self.division = Division([])

    def divide(self, runs: Sequence[EntityRun], rejected: Sequence[Rejected]) -> Division:
        todo = deque(sorted(rejected, key=lambda one: one.sequence))
        for run in sorted(runs, key=lambda run: run.sequences[0]):
            self._hold_rejected(todo, run.sequences[0])
            if run.operation is Operation.TRUNCATE:
                self._truncate(run)
            else:
                self._divide_run(run, todo)
        self._hold_rejected(todo, None)
        self.division.held.sort(key=lambda one: one.sequence)
        return self.division

    def _divide_run(self, run: EntityRun, todo: deque[Rejected]) -> None:
        kept: list[int] = []
        for i, sequence in enumerate(run.sequences):
            self._hold_rejected(todo, sequence)
            lanes = lanes_of(run, i)
            error = self._obstacle(lanes)
            if error is None:
                kept.append(i)
                self.passed.update(dict.fromkeys(lanes, lanes))
            else:
                self._hold(run.layout, run.source, sequence, error, lanes)
        if len(kept) == len(run.sequences):
            self.division.ready.append(run)
        elif kept:
            self.division.ready.append(pick(run, kept))

    def _hold_rejected(self, todo: deque[Rejected], before: int | None) -> None:
        """Hold the rejected changes that stand before a sequence (None: all that are left)."""
        while todo and (before is None or todo[0].sequence < before):
            one = todo.popleft()
            lanes = self._lanes_of_rejected(one)
            error = waiting() if self._closed(lanes) else one.error
            self._hold(one.layout, one.source, one.sequence, error, lanes)

    def _lanes_of_rejected(self, one: Rejected) -> tuple[bytes, ...]:
        """Its row's, and those of entity keys that it touches or that its row had in this batch."""
        rows = lanes_of_source(one.layout, one.source, one.sequence)
        keys = [entity_lane(one.layout.entity.name, key) for key in one.keys]
        before = [lane for row in rows for lane in self.passed.get(row, ())]
        return tuple(dict.fromkeys([*rows, *keys, *before]))

    def _obstacle(self, lanes: Sequence[bytes]) -> DataError | None:
        if self._closed(lanes):
            return waiting()
        return next((self.condemned[lane] for lane in lanes if lane in self.condemned), None)

    def _closed(self, lanes: Sequence[bytes]) -> bool:
        blocked, local = self.blocked, self.local
        return any(
            lane in local or (lane in blocked and blocked[lane] not in self.freed) for lane in lanes
        )

    def _hold(
        self, layout: Layout, source: Run, sequence: int, error: DataError, lanes: tuple[bytes, ...]
    ) -> None:
        self.local.update(dict.fromkeys(lanes, layout.mapping))
        self.division.held.append(
            Held(layout=layout, source=source, sequence=sequence, error=error, lanes=lanes)
        )

    def _truncate(self, run: EntityRun) -> None:
        """It undoes the mapping's changes before it, the parked ones too: their lanes open."""
        mapping = run.layout.mapping
        self.division.ready.append(run)
        self.division.superseded.add(mapping)
        self.freed.add(mapping)
        self.local = {k: v for k, v in self.local.items() if v != mapping}
        self.division.held = [one for one in self.division.held if one.layout.mapping != mapping]


def pick(run: EntityRun, indices: Sequence[int]) -> EntityRun:
    """The changes of a run at these indices, as a run of their own."""
    return EntityRun(
        layout=run.layout,
        operation=run.operation,
        source=run.source,
        sequences=[run.sequences[i] for i in indices],
        rows=[run.rows[i] for i in indices] if run.rows else [],
        old_keys=None if run.old_keys is None else [run.old_keys[i] for i in indices],
        source_keys=None if run.source_keys is None else [run.source_keys[i] for i in indices],
        old_source_keys=(
            None if run.old_source_keys is None else [run.old_source_keys[i] for i in indices]
        ),
        partial=run.partial,
    )


def apart(runs: Sequence[EntityRun], lanes: Set[bytes]) -> tuple[list[EntityRun], list[EntityRun]]:
    """Runs cut into the changes that have nothing to do with these lanes, and those that have.

    A change has to do with a lane that it touches, and with every lane that such a change touches.
    With a truncate among them nothing is independent: all of them have.
    """
    if not lanes:
        return list(runs), []
    if any(run.operation is Operation.TRUNCATE for run in runs):
        return [], list(runs)
    touched = [[lanes_of(run, i) for i in range(len(run))] for run in runs]
    joined, before = set(lanes), -1
    while len(joined) > before:
        before = len(joined)
        for found in touched:
            joined.update(*(each for each in found if not joined.isdisjoint(each)))
    kept: list[EntityRun] = []
    others: list[EntityRun] = []
    for run, found in zip(runs, touched, strict=True):
        for into, meets in ((kept, False), (others, True)):
            indices = [i for i, each in enumerate(found) if joined.isdisjoint(each) is not meets]
            if indices:
                into.append(run if len(indices) == len(run) else pick(run, indices))
    return kept, others


def waiting() -> DataError:
    """The error of a change that only waits behind an earlier one."""
    return DataError("an earlier change of this row is parked", code=WAITING)
