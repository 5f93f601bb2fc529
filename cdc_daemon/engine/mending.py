"""Rows that a verification found different, made right through the pipeline's own way.

A command names source rows by their identity, never by values. Each is read again at the source and
applied like a change: present, as an update of the whole row; gone, as its delete. So mapping,
filters, references, owners of keys and lanes hold as ever: a row behind a parked change waits, and
nobody's row is deleted for another's.

Against the stream. What is read now may be newer than what the stream has applied, at position P,
and a newer row written early can stand in the way of an older change to come (a key that it takes,
another row of the log still has to leave). So a row is written only when nothing of it is under
way: it is read (R1), then the end of the log is asked for (M, behind R1), then the stream goes on
until P has passed M, and the row is read once more (R2). If R1 and R2 say the same, the row did not
change in between, its changes up to R1 are applied, and what is written is what the stream itself
would have left at P. If not, the stream was about to write it anyway: it is looked at again, and
after a few rounds left as moving. Only a row that changed and changed back between R1 and R2 goes
unnoticed; its changes come with the stream after P and end at the same row. Between R2 and the
commit nothing else writes: the unit ends by our epoch, and the worker does this between units.

A row is gone when the source has none by that identity, in whatever spelling (``Reread``): verify
knows the identity of a row that only the target has from its key, as the target spells it. One
whose bytes are no characters is named by replacements, and is never taken for gone.

Not in here: which rows differ (``verify``), who may ask (``cli``).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cdc_daemon.engine.applying import Applier
from cdc_daemon.engine.blocked import Lanes
from cdc_daemon.engine.lanes import WAITING
from cdc_daemon.mapping.compile import CompiledMapping
from cdc_daemon.mapping.mapper import Mapper
from cdc_daemon.model.changes import Batch, Invalid, Operation, Relation, Row, Run
from cdc_daemon.model.effects import Key
from cdc_daemon.model.errors import CdcError, DataError
from cdc_daemon.model.ports import Command, Repaired, Reread, Sink

ROUNDS = 5
"""How often a row that keeps changing is looked at."""

MOST = 1000
"""Rows that one command may name."""

UNNAMEABLE = (
    "unnameable: the row's identity holds bytes of no character, so it cannot be asked for; compare"
    " it by hand"
)
_REPLACED = "\ufffd"
_ESCAPED = re.compile(r"\\x[0-9a-f]{2}")  # as a field that keeps such bytes writes them


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One row that is to be made right, as the command names it."""

    kind: str
    key: tuple[str, ...]
    source_row: tuple[str, ...]

    @property
    def identity(self) -> Key:
        """Its identity in the source, as the log has it."""
        return tuple([text.encode() for text in self.source_row])

    def is_faithful(self, relation: Relation) -> bool:
        """Whether the words can be the identity itself. They cannot be known to be where some stand
        for bytes of no character: what is not found by them may live all the same."""
        escaped = relation.codec and any(_ESCAPED.search(text) for text in self.source_row)
        return not escaped and not any(_REPLACED in text for text in self.source_row)


@dataclass(slots=True, kw_only=True)
class _Look:
    """What a command still has to do: the rows as they were read, and the log's end behind that."""

    mapping: str
    reason: str
    left: list[Wanted]
    rows: dict[Key, Row]
    mark: str
    round: int = 1
    done: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What is asked of the source."""

    relations: Callable[[], list[Relation]]
    reread: Reread
    mark: Callable[[], str]
    passed: Callable[[str, str], bool]


class Mending:
    """Carries out the repairs of one pipeline; each takes several turns of its loop."""

    def __init__(
        self,
        *,
        sink: Sink,
        reading: Reading,
        compile_relation: Callable[[Relation], Sequence[CompiledMapping]],
        applier: Callable[[Mapper, Lanes], Applier],
    ) -> None:
        self._sink = sink
        self._reading = reading
        self._compile = compile_relation
        self._applier = applier
        self._looks: dict[int, _Look] = {}

    def keep(self, commands: Collection[int]) -> None:
        """Forget what was read for others than these: they were withdrawn."""
        self._looks = {number: look for number, look in self._looks.items() if number in commands}

    def turn(self, command: Command, position: str | None) -> dict[str, object] | None:
        """Do what can be done at this position; the result, or None: there is more to come.

        Raises CdcError for a command that cannot be carried out.
        """
        look = self._looks.get(command.id)
        if look is None:
            self._looks[command.id] = self._first_look(command)
            return None
        if position is None or not self._reading.passed(position, look.mark):
            return None
        del self._looks[command.id]
        relation, compiled = self._mapping(look.mapping)
        self._carry_out(command, look, relation, compiled)
        if look.left and look.round < ROUNDS:
            look.round += 1
            self._read(look, relation)
            self._looks[command.id] = look
            return None
        if look.left:
            outcomes = [_line(command, look, one, "moving") for one in look.left]
            with self._sink.begin() as unit:
                unit.audit(outcomes)
            look.done["moving"] = len(outcomes)
        return dict(look.done)

    # --- looking --------------------------------------------------------------------------------

    def _first_look(self, command: Command) -> _Look:
        arguments = command.arguments
        look = _Look(
            mapping=str(arguments.get("mapping")),
            reason=str(arguments.get("reason", "")),
            left=_wanted(arguments.get("rows")),
            rows={},
            mark="",
        )
        relation, _ = self._mapping(look.mapping)
        if any(len(one.source_row) != len(relation.identity) for one in look.left):
            raise CdcError(f"{look.mapping}: a row is named by another identity than the table's")
        self._read(look, relation)
        return look

    def _read(self, look: _Look, relation: Relation) -> None:
        look.rows = self._reading.reread(relation, [one.identity for one in look.left])
        look.mark = self._reading.mark()

    def _mapping(self, name: str) -> tuple[Relation, CompiledMapping]:
        return mapping_of(name, self._reading, self._compile)

    # --- writing --------------------------------------------------------------------------------

    def _carry_out(
        self, command: Command, look: _Look, relation: Relation, compiled: CompiledMapping
    ) -> None:
        """Write the rows that say what they said; the others stay in ``left``."""
        now = self._reading.reread(relation, [one.identity for one in look.left])
        steady = [one for one in look.left if now.get(one.identity) == look.rows.get(one.identity)]
        if not steady:
            return
        present = [one for one in steady if one.identity in now]
        absent = [one for one in steady if one.identity not in now]
        gone = [one for one in absent if one.is_faithful(relation)]
        batch = batch_of_rows(relation, [now[one.identity] for one in present], gone)
        applier = self._applier(Mapper(lambda _: [compiled]), Lanes(self._sink.lanes()))
        with self._sink.begin() as unit:
            held = applier.apply(batch, unit, final=True).division.held
            errors = {one.sequence: one.error for one in held}
            lines = [
                _line(command, look, one, *fate_of(one, errors.get(n), now))
                for n, one in enumerate([*present, *gone])
            ]
            lines += [
                _line(command, look, one, "failed", UNNAMEABLE)
                for one in absent
                if not one.is_faithful(relation)
            ]
            unit.audit(lines)
        for line in lines:
            look.done[line.outcome] = look.done.get(line.outcome, 0) + 1
        finished = {one.identity for one in steady}
        look.left = [one for one in look.left if one.identity not in finished]


def mapping_of(
    name: str, reading: Reading, compile_relation: Callable[[Relation], Sequence[CompiledMapping]]
) -> tuple[Relation, CompiledMapping]:
    """The mapping of that name, and its table as it is now. Raises CdcError where it is gone."""
    for relation in reading.relations():
        for compiled in compile_relation(relation):
            if compiled.layout.mapping == name:
                return relation, compiled
    raise CdcError(f"there is no mapping {name!r} in this pipeline")


def fate_of(one: Wanted, error: DataError | None, now: Mapping[Key, Row]) -> tuple[str, str]:
    """What became of a row, and why."""
    if error is None:
        return ("written" if one.identity in now else "deleted"), ""
    return ("waiting" if error.code == WAITING else "failed"), f"{error.code}: {error.message}"


def _line(command: Command, look: _Look, one: Wanted, outcome: str, detail: str = "") -> Repaired:
    return Repaired(
        command=command.id,
        mapping=look.mapping,
        actor=command.actor,
        reason=look.reason,
        kind=one.kind,
        key=one.key,
        source_row=one.source_row,
        outcome=outcome,
        detail=detail,
    )


def batch_of_rows(relation: Relation, rows: Sequence[Row], gone: Sequence[Wanted]) -> Batch:
    """Rows as they are as updates, and deletes of those that are gone, in one transaction."""
    runs = []
    if rows:
        runs.append(
            Run(
                relation=relation,
                operation=Operation.UPDATE,
                new_rows=list(rows),
                partial=any(isinstance(value, Invalid) for row in rows for value in row),
            )
        )
    if gone:
        identities: list[Row] = [one.identity for one in gone]
        runs.append(
            Run(
                relation=relation,
                operation=Operation.DELETE,
                old_rows=identities,
                sequence=len(rows),
            )
        )
    return Batch(runs=runs, begins=[(0, 0, time.time_ns() // 1000)])


def _wanted(rows: Any) -> list[Wanted]:
    """The rows that a command names. Raises CdcError for anything else."""
    try:
        found = [
            Wanted(
                kind=str(row["kind"]),
                key=tuple(map(str, row["key"])),
                source_row=tuple(map(str, row["source_row"])),
            )
            for row in rows
        ]
    except (TypeError, KeyError) as error:
        raise CdcError("rows must be a list of kind, key and source_row") from error
    if not 0 < len(found) <= MOST:
        raise CdcError(f"a repair names 1 to {MOST} rows")
    return list({one.identity: one for one in found}.values())
