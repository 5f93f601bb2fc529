"""Commands from administrators, carried out by the worker that holds the epoch, between units.

``retry``: parked changes are applied again, oldest first, each in a unit of its own; a change goes
only when nothing before it in any of its lanes is still parked. ``skip``: a parked change is given
up, by id and with a reason. ``snapshot``: the checkpoint begins a new generation, and the first
copy is taken again by whoever streams next. Without a running daemon the command line takes the
epoch itself and runs the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cdc_daemon.engine.applying import Applier
from cdc_daemon.engine.lanes import Lanes
from cdc_daemon.engine.payload import run_of
from cdc_daemon.mapping.compile import CompiledMapping
from cdc_daemon.mapping.mapper import Mapper
from cdc_daemon.model.changes import Batch, Relation
from cdc_daemon.model.errors import CdcError, DataError, Disposition, disposition_of
from cdc_daemon.model.ports import Command, Failure, Sink
from cdc_daemon.model.position import Checkpoint, Phase, SourceIdentity

MakeApplier = Callable[[Mapper, Lanes], Applier]
"""An applier like the pipeline's own, over another mapper and other lanes."""


@dataclass(slots=True)
class Replayed:
    """What a retry came to: ids by fate."""

    applied: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)

    def as_result(self) -> dict[str, object]:
        """For the command's row."""
        return {"applied": self.applied, "failed": self.failed, "waiting": self.waiting}


class Repairs:
    """Carries out the commands of one pipeline."""

    def __init__(
        self,
        *,
        sink: Sink,
        lanes: Lanes,
        compile_relation: Callable[[Relation], Sequence[CompiledMapping]],
        relations: Callable[[], list[Relation]],
        identify: Callable[[], SourceIdentity],
        applier: MakeApplier,
    ) -> None:
        self._sink = sink
        self._lanes = lanes
        self._compile = compile_relation
        self._relations = relations
        self._identify = identify
        self._applier = applier

    def run_commands(self, checkpoint: Checkpoint, *, only: str | None = None) -> Checkpoint:
        """Carry out every pending command (of the verb ``only``); the checkpoint after them.

        ``checkpoint``: the one that the pipeline is held under. Raises what must be retried.
        """
        commands = [one for one in self._sink.commands() if only in (None, one.verb)]
        for command in commands:
            try:
                checkpoint, result = self._run(command, checkpoint)
            except CdcError as error:
                if disposition_of(error) is Disposition.RETRY:
                    raise
                self._sink.finish_command(command.id, ok=False, result={"error": str(error)})
            else:
                self._sink.finish_command(command.id, ok=True, result=result)
        if commands:
            self._lanes.reload(self._sink.lanes())
        return checkpoint

    def _run(
        self, command: Command, checkpoint: Checkpoint
    ) -> tuple[Checkpoint, dict[str, object]]:
        if command.verb == "snapshot":
            checkpoint = self._copy_again(command, checkpoint)
            return checkpoint, {"generation": checkpoint.generation}
        return checkpoint, self._settle(command)

    def _copy_again(self, command: Command, checkpoint: Checkpoint) -> Checkpoint:
        """Begin a new generation, unless one has begun since it was asked for.

        The slot stays the checkpoint's: whether another one may be replaced is decided at the
        start of the copy.
        """
        asked = command.arguments.get("after")
        if isinstance(asked, int) and checkpoint.generation > asked:
            return checkpoint
        match checkpoint.phase:
            case Phase.NEW:
                raise CdcError("nothing was copied yet", hint="cdc-daemon run takes the first copy")
            case Phase.SNAPSHOTTING:
                return checkpoint
            case Phase.STREAMING:
                return self._sink.begin_generation(checkpoint.slot or "", self._identify())

    def _settle(self, command: Command) -> dict[str, object]:
        match command.verb:
            case "retry":
                return self.retry(_ids(command), actor=command.actor).as_result()
            case "skip":
                reason = str(command.arguments.get("reason", ""))
                return self.skip(_ids(command) or [], actor=command.actor, reason=reason)
            case _:
                raise CdcError(f"unknown command {command.verb!r}")

    def retry(self, ids: Sequence[int] | None, *, actor: str) -> Replayed:
        """Apply parked changes again; None: all of them."""
        wanted = None if ids is None else set(ids)
        relations = {relation.name: relation for relation in self._relations()}
        closed: set[bytes] = set()
        replayed = Replayed()
        for failure in self._sink.failures():
            asked = wanted is None or failure.id in wanted
            if any(lane in closed for lane in failure.lanes) or not asked:
                closed.update(failure.lanes)
                if asked:
                    replayed.waiting.append(failure.id)
            elif self._replay(failure, relations.get(failure.table), actor):
                replayed.applied.append(failure.id)
            else:
                closed.update(failure.lanes)
                replayed.failed.append(failure.id)
        return replayed

    def _replay(self, failure: Failure, relation: Relation | None, actor: str) -> bool:
        """One parked change in a unit of its own; whether it took effect."""
        error = self._attempt(failure, relation, actor)
        if error is None:
            return True
        with self._sink.begin() as unit:
            unit.attempted(failure.id, code=error.code, message=error.message)
        return False

    def _attempt(self, failure: Failure, relation: Relation | None, actor: str) -> DataError | None:
        if relation is None:
            return DataError(f"no mapping reads table {failure.table} any longer", code="unmapped")
        applier = self._applier(Mapper(lambda found: self._only(found, failure.mapping)), Lanes())
        run = run_of(failure.payload, relation, sequence=0)
        when = failure.commit_time
        batch = Batch(runs=[run], begins=[(0, 0, int(when.timestamp() * 1e6) if when else 0)])
        try:
            with self._sink.begin() as unit:
                held = applier.apply(batch, unit, final=True).division.held
                if held:
                    raise held[0].error
                unit.replayed(failure.id, actor=actor)
        except DataError as error:
            return error
        return None

    def _only(self, relation: Relation, mapping: str) -> list[CompiledMapping]:
        return [one for one in self._compile(relation) if one.layout.mapping == mapping]

    def skip(self, ids: Sequence[int], *, actor: str, reason: str) -> dict[str, object]:
        """Give parked changes up."""
        if not reason.strip():
            raise CdcError("a reason is required", hint="pass --reason")
        known = {failure.id for failure in self._sink.failures(ids)} if ids else set()
        with self._sink.begin() as unit:
            for number in sorted(known):
                unit.skipped(number, actor=actor, reason=reason)
        return {"skipped": sorted(known), "unknown": sorted(set(ids) - known)}


def _ids(command: Command) -> list[int] | None:
    ids = command.arguments.get("ids")
    return [int(number) for number in ids] if isinstance(ids, list) else None
