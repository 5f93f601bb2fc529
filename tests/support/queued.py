"""The simulation with a failure queue: what was parked is released, retried and read again.

Queue and sink are made of dictionaries and follow ``model.queue`` and ``model.ports`` by the word;
what works on them is the engine's own. The source may be ahead of the stream.
"""

from __future__ import annotations

import copy
import datetime as dt
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any, Self, cast

from cdc_daemon import build
from cdc_daemon.config.load import load
from cdc_daemon.engine.applying import Applier
from cdc_daemon.engine.attempting import Attempting
from cdc_daemon.engine.awaiting import Awaited
from cdc_daemon.engine.blocked import Lanes
from cdc_daemon.engine.mending import Reading
from cdc_daemon.engine.payload import Parking
from cdc_daemon.engine.releasing import Releasing
from cdc_daemon.engine.replay import Replay
from cdc_daemon.engine.resolve import Resolver
from cdc_daemon.engine.resyncing import Resyncing
from cdc_daemon.engine.schedule import Schedule
from cdc_daemon.mapping.compile import CompiledMapping
from cdc_daemon.mapping.mapper import Mapper
from cdc_daemon.model.changes import Batch, Relation
from cdc_daemon.model.effects import Layout, Parked
from cdc_daemon.model.ports import Command, Repaired, Sink
from cdc_daemon.model.queue import PARKED, Failure
from cdc_daemon.model.selection import Selection
from tests.support import simulation
from tests.support.histories import History
from tests.support.simulation import CONFIGURATION, Change, Control, Simulation

LONG_AGO = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)


class QueuedControl(Control):
    """Models and a failure queue, changed and undone together."""

    def __init__(self, layouts: Sequence[Layout], *, tells: bool) -> None:
        super().__init__(layouts, tells=tells)
        self.failures: dict[int, Failure] = {}
        self._number = 0

    def copy(self) -> Any:
        return super().copy(), dict(self.failures)

    def restore(self, before: Any) -> None:
        super().restore(before[0])
        self.failures = dict(before[1])

    def audit(self, repaired: Sequence[Repaired]) -> None:
        del repaired

    # --- FailureQueue -------------------------------------------------------------------------

    @property
    def queue(self) -> Self:
        return self

    def parked(self) -> list[Failure]:
        return [one for _, one in sorted(self.failures.items()) if one.state == "parked"]

    def park(self, parked: Sequence[Parked]) -> None:
        for one in parked:
            self._number += 1
            self.failures[self._number] = Failure(
                id=self._number,
                pipeline=one.pipeline,
                mapping=one.mapping,
                entity=one.entity,
                table=one.table,
                operation=one.operation.value,
                position=one.position,
                sequence=one.sequence,
                commit_time=LONG_AGO,
                parked_at=LONG_AGO,
                error_code=one.error_code,
                error_message=one.error_message,
                attempts=1,
                state="parked",
                payload=copy.deepcopy(one.payload),
                mapping_version=one.mapping_version,
                lanes=one.lanes,
                awaits=one.awaits,
                retry_at=None
                if one.retry_at is None
                else dt.datetime.fromtimestamp(one.retry_at / 1e6, dt.UTC),
            )

    def _change(self, failure: int, **values: Any) -> None:
        one = self.failures[failure]
        if one.state == "parked":
            self.failures[failure] = replace(one, **values)

    def settle(self, failure: int, state: str, *, actor: str, reason: str | None = None) -> None:
        del actor, reason
        settled = self.failures[failure]
        self._change(failure, state=state, retry_at=None)
        for lane in settled.lanes:
            later = [f for f in self.parked() if f.id > failure and lane in f.lanes]
            waiting = [f for f in self.parked() if lane in f.awaits]
            for one in [*later[:1], *waiting]:
                self._change(one.id, retry_at=LONG_AGO)

    def attempted(
        self,
        failure: int,
        *,
        code: str,
        message: str,
        retry_at: dt.datetime | None = None,
        awaits: Sequence[bytes] = (),
        version: str | None = None,
    ) -> None:
        known = self.failures[failure].mapping_version
        self._change(
            failure,
            mapping_version=known if version is None else version,
            error_code=code,
            error_message=message,
            retry_at=retry_at,
            awaits=tuple(awaits),
        )

    def arrived(self, digests: Sequence[bytes]) -> None:
        for one in self.parked():
            if set(one.awaits) & set(digests):
                self._change(one.id, retry_at=LONG_AGO)

    def put_off(self, failures: Sequence[int]) -> None:
        for failure in failures:
            self._change(failure, retry_at=None)

    def due_by_mapping(self, mapping: str, version: str) -> int:
        """More than is asked for: also what stands behind others."""
        found = [f for f in self.parked() if f.mapping == mapping and f.mapping_version != version]
        for one in found:
            self._change(one.id, retry_at=LONG_AGO)
        return len(found)

    def supersede(self, mapping: str) -> int:
        found = [one for one in self.parked() if one.mapping == mapping]
        for one in found:
            self._change(one.id, state="skipped", retry_at=None)
        freed = {lane for one in found for lane in one.lanes}
        for one in self.parked():
            if freed & set(one.awaits):
                self._change(one.id, retry_at=LONG_AGO)
        return len(found)

    # --- Sink ---------------------------------------------------------------------------------

    @contextmanager
    def begin(self) -> Iterator[Self]:
        before = self.copy()
        try:
            yield self
        except BaseException:
            self.restore(before)
            raise

    def lanes(self) -> dict[bytes, str]:
        return {lane: one.mapping for one in self.parked() for lane in one.lanes}

    def awaited(self) -> set[bytes]:
        return {digest for one in self.parked() for digest in one.awaits}

    def due(self, limit: int) -> list[int]:
        now = dt.datetime.now(dt.UTC)
        return [f.id for f in self.parked() if f.retry_at is not None and f.retry_at <= now][:limit]

    def behind(self, failures: Sequence[int]) -> set[int]:
        found = set()
        for number in failures:
            lanes = {*self.failures[number].lanes, *self.failures[number].awaits}
            if any(one.id < number and lanes & set(one.lanes) for one in self.parked()):
                found.add(number)
        return found

    def selected(self, selection: Selection = PARKED) -> list[Failure]:
        found = self.parked()
        if selection.ids is not None:
            found = [one for one in found if one.id in selection.ids]
        if selection.lanes is not None:
            found = [one for one in found if set(one.lanes) & set(selection.lanes)]
        return [one for one in found if one.id > (selection.after or 0)]

    def still_blocked(self, lanes: Sequence[bytes], before: int | None = None) -> set[bytes]:
        parked = [one for one in self.parked() if before is None or one.id < before]
        return set(lanes) & {lane for one in parked for lane in one.lanes}


class _Sink:
    """The same as a sink: there ``failures`` is a question."""

    def __init__(self, control: QueuedControl) -> None:
        self._control = control

    def failures(self, selection: Selection = PARKED, limit: int | None = None) -> list[Failure]:
        return self._control.selected(selection)[:limit]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._control, name)


class QueuedSimulation(Simulation):
    """``cure``: what was refused is taken from now on, by the mapping and by the database."""

    def __post_init__(self) -> None:
        super().__post_init__()
        layouts = [one.layout for one in self.compiled]
        self.control = QueuedControl(layouts, tells=self.tells)
        self.position = 0
        self.source_position = 0
        self.resyncs: list[Command] = []
        self.done: list[str] = []
        self.cured = self._cured()
        self._known = {one.relation: [one] for one in self.compiled}
        self.restart()

    def _cured(self) -> list[CompiledMapping]:
        path = Path(self.folder) / f"{self.delete}-cured.yaml"
        text = dedent(CONFIGURATION) % {"delete": self.delete}
        path.write_text(text.replace("name: string(4)", "name: string(40)"), "utf-8")
        compile_relation = build.compiler(load([path], environ={}), "erp")
        return [one for r in self.relations.values() for one in compile_relation(r)]

    def cure(self, *, cured: bool) -> None:
        """Another mapping, which comes with a new worker, and another mind of the database."""
        self.queue.cured = cured
        self._known = {one.relation: [one] for one in (self.cured if cured else self.compiled)}
        self.restart()

    @property
    def queue(self) -> QueuedControl:
        return cast(QueuedControl, self.control)

    def restart(self) -> None:
        """A worker begins: what it remembers comes from the queue; an altered mapping makes due."""
        layouts = [one.layout for one in self.compiled]
        sink = cast(Sink, _Sink(self.queue))
        awaited = Awaited()
        self.lanes = Lanes()

        def compile_relation(relation: Relation) -> list[CompiledMapping]:
            return self._known[relation]

        def make_applier(mapper: Mapper, lanes: Lanes) -> Applier:
            return Applier(
                mapper=mapper,
                resolver=Resolver({layout.mapping: layout for layout in layouts}),
                awaited=awaited,
                lanes=lanes,
                reread=self._reread,
                rank=build.entity_rank(self.configuration),
                linked=build.linked_entities(self.configuration),
            )

        self.applier = make_applier(Mapper(compile_relation), self.lanes)
        tables = list(self.relations.values())
        schedule = Schedule(dice=lambda: 0.0)
        version = "cured" if self.queue.cured else "ill"
        versions = {layout.mapping: version for layout in layouts}
        attempting = Attempting(
            sink=sink,
            compile_relation=compile_relation,
            applier=make_applier,
            awaited=awaited,
            schedule=schedule,
            versions=versions,
        )
        self.replay = Replay(
            sink=sink,
            attempting=attempting,
            relations=lambda: tables,
            lanes=self.lanes,
            progressed=lambda: None,
        )
        self.releasing = Releasing(
            sink=sink,
            lanes=self.lanes,
            awaited=awaited,
            relations=lambda: tables,
            trying=attempting,
            versions=versions,
            progressed=lambda: None,
        )
        self.releasing.begin()
        self.resyncing = Resyncing(
            sink=sink,
            reading=Reading(
                relations=lambda: tables,
                reread=self._reread,
                mark=lambda: str(self.source_position),
                passed=lambda position, mark: int(position) >= int(mark),
            ),
            compile_relation=compile_relation,
            applier=make_applier,
        )
        self._parking = Parking(pipeline="erp", versions=versions, schedule=schedule)

    def _unit(self, pieces: Sequence[Sequence[Change]]) -> list[Any]:
        first = self._sequence
        for n, piece in enumerate(pieces):
            final = n == len(pieces) - 1
            runs = simulation.runs_of(piece, first, self.relations)
            batch = Batch(runs=runs, begins=[(self._sequence, 1, 1)])
            first += len(piece)
            applied = self.applier.apply(batch, self.control, final=final)  # type: ignore[arg-type]
            self.queue.park([self._parking.parked(h, batch, "0") for h in applied.division.held])
        return []

    # --- what happens between units -----------------------------------------------------------

    def release(self) -> None:
        self.releasing.turn()

    def time_passes(self) -> None:
        for one in self.queue.parked():
            if one.retry_at is not None:
                self.queue._change(one.id, retry_at=LONG_AGO)

    def retry(self, ids: Sequence[int] | None) -> None:
        """A command, in turns of one change each, and what comes by itself between them."""
        arguments: dict[str, object] = {} if ids is None else {"ids": list(ids)}
        command = Command(
            id=len(self.done), pipeline="erp", verb="retry", arguments=arguments, actor="ann"
        )
        while self.replay.turn(command, hurried=True) is None:
            self.releasing.turn()

    def resync(self, ids: Sequence[int]) -> None:
        arguments: dict[str, object] = {"ids": list(ids)}
        self.resyncs.append(
            Command(
                id=len(self.done), pipeline="erp", verb="resync", arguments=arguments, actor="ann"
            )
        )

    def turn(self) -> None:
        """Resyncs go on."""
        for command in list(self.resyncs):
            if self.resyncing.turn(command, "r", str(self.position)) is not None:
                self.resyncs.remove(command)
            self.lanes.reload(self.queue.lanes())


def played(history: History, simulated: QueuedSimulation, seed: int, *, ahead: bool) -> None:
    """The history, with random work at the queue between its transactions; then all is cured.

    ``ahead``: the source is further than the stream, as much as it likes.
    """
    draw = random.Random(seed)
    number = len(history.transactions)
    for here, transaction in enumerate(history.transactions):
        least = max(here + 1, simulated.source_position)
        simulated.source_position = draw.randint(least, number) if ahead else least
        simulated.tables = history.states[simulated.source_position - 1]
        simulated.done.append(f"commit {here}, source at {simulated.source_position}")
        simulated.commit(transaction)
        simulated.position = here + 1
        for _ in range(draw.randint(0, 3)):
            _work(simulated, draw)
        simulated.turn()
    simulated.turn()
    simulated.cure(cured=True)
    simulated.release()
    simulated.turn()


def _work(simulated: QueuedSimulation, draw: random.Random) -> None:
    ids = [one.id for one in simulated.queue.parked()]
    some = sorted(draw.sample(ids, draw.randint(0, len(ids))))
    kinds = ("cure", "ill", "release", "time", "retry all", "retry some", "restart", "resync")
    kind = draw.choice(kinds)
    simulated.done.append(f"{kind} {some}")
    match kind:
        case "cure" | "ill":
            simulated.cure(cured=kind == "cure")
        case "release":
            simulated.release()
        case "time":
            simulated.time_passes()
        case "retry all":
            simulated.retry(None)
        case "retry some":
            simulated.retry(some)
        case "restart":
            simulated.restart()
        case _:
            simulated.resync(some)
