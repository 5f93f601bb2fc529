"""Commands from administrators, carried out by the worker that holds the epoch, between units.

``retry``: parked changes are applied again (``replay``). ``skip``: they are given up, with a
reason. ``edit``: they get other values (``editing``). ``purge``: what is settled leaves the queue
(``purging``). ``rotate``: what is kept is sealed with the key that seals now (``rotating``).
``reveal``: somebody was shown values in clear, which only is to be noted. ``snapshot``: the
checkpoint begins a new generation, and the first copy is taken again by whoever streams next.
``repair``: rows that a verification found different are made right (``mending``), over several
turns. ``resync``: so are rows of parked changes, which are settled with that (``resyncing``).
Without a running daemon the command line takes the epoch itself and runs the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

from cdc_daemon.engine.blocked import Lanes
from cdc_daemon.engine.editing import Editing
from cdc_daemon.engine.mending import Mending
from cdc_daemon.engine.replay import Replay
from cdc_daemon.engine.resyncing import Resyncing
from cdc_daemon.model.errors import CdcError, Disposition, Fenced, disposition_of
from cdc_daemon.model.ports import Command, Sink
from cdc_daemon.model.position import Checkpoint, Phase, SourceIdentity
from cdc_daemon.model.queue import PARKED
from cdc_daemon.model.selection import Selection, selection_of

_LONGEST = 7 * 86_400.0
AT_ONCE = 1000
"""Changes that are given up in one unit of work."""


class Standing(NamedTuple):
    """Where a pipeline stands: which source it is, and the position that was applied last."""

    identify: Callable[[], SourceIdentity]
    position: Callable[[], str | None]


CarryOut = Callable[[Command], dict[str, object]]
"""Carries out a command whose result comes at once."""


class Repairs:
    """Carries out the commands of one pipeline."""

    def __init__(
        self,
        *,
        sink: Sink,
        lanes: Lanes,
        standing: Standing,
        replay: Replay,
        editing: Editing,
        keeping: Mapping[str, CarryOut],
        mending: Mending,
        resyncing: Resyncing,
        resumed: Callable[[float], None],
        progressed: Callable[[], None],
    ) -> None:
        """``keeping``: what carries out the verbs about what is kept (purge, rotate). ``resumed``:
        told for how many seconds the breaker is to let everything pass."""
        self._resumed = resumed
        self._mending = mending
        self._resyncing = resyncing
        self._position = standing.position
        self._progressed = progressed
        self._sink = sink
        self._lanes = lanes
        self._identify = standing.identify
        self._replay = replay
        self._editing = editing
        self._keeping = keeping
        self._hurried = True
        self.carried_out = 0  # commands so far

    def run_commands(
        self, checkpoint: Checkpoint, *, only: str | None = None, hurried: bool = True
    ) -> Checkpoint:
        """Carry out every pending command (of the verb ``only``); the checkpoint after them.

        ``checkpoint``: the one that the pipeline is held under. ``hurried``: the stream waits, so
        what takes long goes on when this is called again. Raises what must be retried.
        """
        self._hurried = hurried
        pending = self._sink.commands()
        for reader in (self._mending, self._resyncing, self._replay):
            reader.keep({one.id for one in pending})
        commands = [one for one in pending if only in (None, one.verb)]
        finished = 0
        for command in commands:
            try:
                checkpoint, result = self._run(command, checkpoint)
                if result is None:  # it goes on another time
                    self._reload_after(command)
                    continue
            except Exception as error:
                if isinstance(error, Fenced) or disposition_of(error) is Disposition.RETRY:
                    raise
                self._sink.finish_command(command.id, ok=False, result={"error": _words(error)})
            else:
                self._sink.finish_command(command.id, ok=True, result=result)
            finished += 1
        self.carried_out += finished
        if finished:
            self._lanes.reload(self._sink.lanes())
        return checkpoint

    def _reload_after(self, command: Command) -> None:
        """Lanes that a part of a command opened must not hold what comes meanwhile."""
        if command.verb == "resync":
            self._lanes.reload(self._sink.lanes())

    def _run(
        self, command: Command, checkpoint: Checkpoint
    ) -> tuple[Checkpoint, dict[str, object] | None]:
        if command.verb == "snapshot":
            checkpoint = self._copy_again(command, checkpoint)
            return checkpoint, {"generation": checkpoint.generation}
        if command.verb == "resume":
            return checkpoint, self._resume(command)
        if command.verb == "retry":
            return checkpoint, self._replay.turn(command, hurried=self._hurried)
        if command.verb in ("resync", "repair"):
            return checkpoint, self._read_again(command)
        return checkpoint, self._settle(command)

    def _read_again(self, command: Command) -> dict[str, object] | None:
        """A turn of what waits for the log. Raises CdcError where the log is not followed."""
        if self._sink.tripped() is not None:
            raise CdcError(
                "the breaker has stopped the pipeline, and rows can be read again only while it"
                " follows its log",
                hint=f"cdc-daemon failures resume {command.pipeline}",
            )
        if command.verb == "resync":
            return self._resyncing.turn(command, reason_of(command), self._position())
        return self._mending.turn(command, self._position())

    def _resume(self, command: Command) -> dict[str, object]:
        """Let a pipeline go on that the breaker has stopped."""
        seconds = command.arguments.get("seconds")
        if not isinstance(seconds, int | float) or not 0 < seconds <= _LONGEST:
            raise CdcError(f"seconds must be a number up to {_LONGEST:g}")
        with self._sink.begin() as unit:
            stopped = unit.queue.resume(seconds)
        self._resumed(seconds)
        return {"resumed": stopped}

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
            case "skip":
                meant = selection_of(command.arguments)
                return self.skip(meant, actor=command.actor, reason=reason_of(command))
            case "edit":
                return self._editing.carry_out(command, reason_of(command))
            case verb if verb in self._keeping:
                return self._keeping[verb](command)
            case "reveal":
                return {"noted": True}
            case _:
                raise CdcError(f"unknown command {command.verb!r}")

    def skip(self, selection: Selection, *, actor: str, reason: str) -> dict[str, object]:
        """Give the parked changes that are meant up. Raises CdcError where none are named."""
        if selection == PARKED:
            raise CdcError("which changes to give up is not said", hint="name them by their ids")
        skipped: list[int] = []
        some = self._sink.failures(selection, AT_ONCE)
        while some:
            with self._sink.begin() as unit:
                for failure in some:
                    unit.queue.settle(failure.id, "skipped", actor=actor, reason=reason)
            skipped += [failure.id for failure in some]
            self._progressed()
            some = self._sink.failures(replace(selection, after=skipped[-1]), AT_ONCE)
        unknown = sorted(set(selection.ids or ()) - set(skipped))
        return {"skipped": skipped, "unknown": unknown}


def _words(error: Exception) -> str:
    """What is told of an error: of one that nobody expected its kind, for it may quote values."""
    if isinstance(error, CdcError):
        return str(error)
    return f"the command could not be carried out: unexpected {type(error).__name__}"


def reason_of(command: Command) -> str:
    """Why it was asked for. Raises CdcError where nobody said."""
    reason = str(command.arguments.get("reason", ""))
    if not reason.strip():
        raise CdcError("a reason is required", hint="pass --reason")
    return reason
