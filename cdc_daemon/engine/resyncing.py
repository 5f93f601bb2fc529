"""Rows of parked changes, read again at the source; their parked changes are settled with that.

The row is read as a repair reads it (``mending``): twice around the log's end, so that what is
written is what the stream itself would have left at its position. All changes of the row that are
parked by then are before that position: they are void, and settled as ``resynced`` in the unit that
writes the row. That is a state of its own, for nobody gave anything up: ``skipped`` says that data
was left out on purpose.

A row is held where its key is blocked by another row's parked changes, or the target refuses it:
then its own stay parked, and its lanes closed. An identity that is no text cannot be asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from cdc_daemon.engine.applying import Applier
from cdc_daemon.engine.blocked import Lanes
from cdc_daemon.engine.lanes import source_lane
from cdc_daemon.engine.mending import (
    MOST,
    ROUNDS,
    Reading,
    Wanted,
    batch_of_rows,
    fate_of,
    mapping_of,
)
from cdc_daemon.engine.parked_rows import in_pieces, rows_of, together
from cdc_daemon.engine.privacy import NOTHING, Privacy
from cdc_daemon.mapping.compile import CompiledMapping
from cdc_daemon.mapping.mapper import Mapper
from cdc_daemon.model.changes import Batch, Relation, Row
from cdc_daemon.model.effects import Key
from cdc_daemon.model.errors import CdcError, DataError
from cdc_daemon.model.ports import Command, Repaired, Sink
from cdc_daemon.model.queue import Failure
from cdc_daemon.model.selection import Selection, selection_of

KIND = "parked"
"""What the audit of repairs calls such a row."""

UNREADABLE = "unreadable: what names the row is no text, or the payload cannot be read; skip it"


@dataclass(slots=True, kw_only=True)
class _Look:
    """Rows of one mapping as they were read, and the log's end behind that."""

    mapping: str
    left: list[Wanted]
    rows: dict[Key, Row] = field(default_factory=dict)
    mark: str = ""
    round: int = 1


@dataclass(slots=True, kw_only=True)
class _Work:
    """What a command still has to do, and what it did."""

    command: Command
    reason: str
    meant: set[int]
    looks: list[_Look] = field(default_factory=list)
    resynced: list[int] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)

    def count(self, outcomes: Iterable[str]) -> None:
        """So many rows more had these outcomes."""
        for outcome in outcomes:
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1

    def line(self, mapping: str, one: Wanted, outcome: str, detail: str = "") -> Repaired:
        """A line for the audit of repairs."""
        return Repaired(
            command=self.command.id,
            mapping=mapping,
            actor=self.command.actor,
            reason=self.reason,
            kind=one.kind,
            key=one.key,
            source_row=one.source_row,
            outcome=outcome,
            detail=detail,
        )

    def result(self) -> dict[str, object]:
        """Ids by fate, and how many rows had which outcome."""
        left = sorted(self.meant - set(self.resynced))
        return {"resynced": sorted(self.resynced), "left": left, "rows": self.outcomes}


@dataclass(slots=True, kw_only=True)
class _Steady:
    """Rows that said the same twice: to be written now, as of ``position``.

    ``held``: those that cannot be, and why.
    """

    rows: list[Wanted]
    now: dict[Key, Row]
    position: str
    held: dict[Key, DataError] = field(default_factory=dict)

    def writing(self) -> list[Wanted]:
        """Those not held: present ones first, then those that are gone."""
        found = [one for one in self.rows if one.identity not in self.held]
        return sorted(found, key=lambda one: one.identity not in self.now)

    def fate(self, one: Wanted) -> tuple[str, str]:
        """What became of a row, and as of where, or why not."""
        outcome, detail = fate_of(one, self.held.get(one.identity), self.now)
        return outcome, detail or f"as of {self.position}"

    def batch(self, relation: Relation) -> Batch:
        """The rows that :meth:`writing` names, in that order."""
        writing, now = self.writing(), self.now
        present = [now[one.identity] for one in writing if one.identity in now]
        return batch_of_rows(relation, present, writing[len(present) :])


class Resyncing:
    """Reads rows of one pipeline again; each command takes several turns of its loop."""

    def __init__(
        self,
        *,
        sink: Sink,
        reading: Reading,
        compile_relation: Callable[[Relation], Sequence[CompiledMapping]],
        applier: Callable[[Mapper, Lanes], Applier],
        privacy: Privacy = NOTHING,
    ) -> None:
        self._privacy = privacy
        self._sink = sink
        self._reading = reading
        self._compile = compile_relation
        self._applier = applier
        self._works: dict[int, _Work] = {}

    def keep(self, commands: Collection[int]) -> None:
        """Forget what was read for others than these: they were withdrawn."""
        self._works = {number: work for number, work in self._works.items() if number in commands}

    def turn(self, command: Command, reason: str, position: str | None) -> dict[str, object] | None:
        """Do what can be done at this position; the result, or None: there is more to come.

        Raises CdcError for a command that cannot be carried out.
        """
        work = self._works.get(command.id)
        if work is None:
            work = self._works[command.id] = self._begin(command, reason)
        elif work.looks:
            look = work.looks[0]
            if position is None or not self._reading.passed(position, look.mark):
                return None
            self._carry_out(work, look, position)
        if work.looks:
            return None
        del self._works[command.id]
        return work.result()

    # --- what is meant --------------------------------------------------------------------------

    def _begin(self, command: Command, reason: str) -> _Work:
        failures = self._sink.failures(selection_of(command.arguments))
        work = _Work(command=command, reason=reason, meant={one.id for one in failures})
        parked = self._sink.failures() if failures else []
        for mapping in dict.fromkeys(failure.mapping for failure in failures):
            try:
                relation, _ = self._mapping(mapping)
            except CdcError:
                work.count(["unmapped"])
                continue
            for rows in self._rows(work, mapping, parked, relation):
                work.looks.append(_Look(mapping=mapping, left=rows))
        self._read_first(work)
        return work

    def _rows(
        self, work: _Work, mapping: str, parked: Sequence[Failure], relation: Relation
    ) -> Iterator[list[Wanted]]:
        """The rows of one mapping's changes that are meant, and of others that moved such a row."""
        ours = {one.id: self._identities(one, relation) for one in parked if one.mapping == mapping}
        nameless = [number for number, rows in ours.items() if number in work.meant and not rows]
        nothing = Wanted(kind=KIND, key=(), source_row=())
        self._audit(work, [work.line(mapping, nothing, "failed", UNREADABLE) for _ in nameless])
        meant = {row for number in work.meant for row in ours.get(number, ())}
        groups = [group for group in together(ours.values()) if not meant.isdisjoint(group)]
        for piece in in_pieces(groups, MOST):
            texts = [tuple(value.decode() for value in row) for row in sorted(piece)]
            yield [Wanted(kind=KIND, key=(), source_row=row) for row in texts]

    def _read_first(self, work: _Work) -> None:
        if work.looks:
            self._read(work.looks[0], self._mapping(work.looks[0].mapping)[0])

    def _read(self, look: _Look, relation: Relation) -> None:
        look.rows = self._reading.reread(relation, [one.identity for one in look.left])
        look.mark = self._reading.mark()

    def _mapping(self, name: str) -> tuple[Relation, CompiledMapping]:
        return mapping_of(name, self._reading, self._compile)

    # --- writing --------------------------------------------------------------------------------

    def _carry_out(self, work: _Work, look: _Look, position: str) -> None:
        """Write the rows that say what they said, as of a position; the others stay in ``left``."""
        relation, compiled = self._mapping(look.mapping)
        now = self._reading.reread(relation, [one.identity for one in look.left])
        rows = [one for one in look.left if now.get(one.identity) == look.rows.get(one.identity)]
        steady = _Steady(rows=rows, now=now, position=position)
        while not self._write(work, compiled, steady):
            pass  # with what was held left out, until nothing more is
        finished = {one.identity for one in rows}
        look.left = [one for one in look.left if one.identity not in finished]
        if look.left and look.round < ROUNDS:
            look.round += 1
            self._read(look, relation)
            return
        self._audit(work, [work.line(look.mapping, one, "moving") for one in look.left])
        work.looks.remove(look)
        self._read_first(work)

    def _write(self, work: _Work, compiled: CompiledMapping, steady: _Steady) -> bool:
        """Write all rows but those held, and settle their changes, in one unit.

        False: more are held by now, nothing was done. What is held keeps its lanes, and may be in
        the way of another one.
        """
        mapping, writing = compiled.layout.mapping, steady.writing()
        closing, blocked = self._settled(compiled, {one.identity for one in writing})
        applier = self._applier(Mapper(lambda _: [compiled]), Lanes(blocked))
        try:
            with self._sink.begin() as unit:
                division = applier.apply(steady.batch(compiled.relation), unit, final=True).division
                if division.held:
                    raise _Held
                for failure in closing:
                    unit.queue.settle(
                        failure.id, "resynced", actor=work.command.actor, reason=work.reason
                    )
                lines = [work.line(mapping, one, *steady.fate(one)) for one in steady.rows]
                unit.audit(lines)
        except _Held:
            steady.held |= {writing[one.sequence].identity: one.error for one in division.held}
            return False
        work.resynced += [failure.id for failure in closing]
        work.count(line.outcome for line in lines)
        return True

    def _settled(
        self, compiled: CompiledMapping, rows: set[Key]
    ) -> tuple[list[Failure], dict[bytes, str]]:
        """The parked changes of these rows alone, and the lanes that all others block."""
        mapping = compiled.layout.mapping
        closing = [
            failure
            for failure in self._touching({source_lane(mapping, row) for row in rows})
            if failure.mapping == mapping
            and (found := self._identities(failure, compiled.relation))
            and rows.issuperset(found)
        ]
        ids = {failure.id for failure in closing}
        theirs = {lane for failure in closing for lane in failure.lanes}
        others = [one for one in self._touching(theirs) if one.id not in ids]
        opened = theirs.difference(*(one.lanes for one in others))
        blocked = self._sink.lanes()
        return closing, {lane: owner for lane, owner in blocked.items() if lane not in opened}

    def _touching(self, lanes: set[bytes]) -> list[Failure]:
        return self._sink.failures(Selection(lanes=tuple(lanes))) if lanes else []

    def _identities(self, failure: Failure, relation: Relation) -> list[Key]:
        """The identities of a change's row; what is sealed with a key that lacks is not looked at,
        for the row is read again."""
        try:
            payload = self._privacy.opened(failure.table, failure.payload)
        except DataError:
            payload = self._privacy.without_sealed(failure.payload)
        return rows_of(replace(failure, payload=payload), relation)

    def _audit(self, work: _Work, lines: Sequence[Repaired]) -> None:
        if lines:
            with self._sink.begin() as unit:
                unit.audit(lines)
            work.count(line.outcome for line in lines)


class _Held(Exception):
    """Leaves a unit whose work is not to stay."""
