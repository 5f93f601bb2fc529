"""One pipeline over time: its worker is started, watched, restarted, drained, given up.

Called from the supervisor's loop with the current monotonic time; never waits. Not in here:
signals, and the process itself (``child``).
"""

from __future__ import annotations

import dataclasses
import enum
import math
import selectors
import time
from collections.abc import Mapping, Sequence

from cdc_daemon.admin.board import Board, PipelineView
from cdc_daemon.daemon.child import Child
from cdc_daemon.daemon.restarts import Limits, Restarts
from cdc_daemon.daemon.verdicts import Verdicts
from cdc_daemon.engine.status import State, WorkerStatus
from cdc_daemon.model.errors import EXIT_FAILED
from cdc_daemon.telemetry import get_logger

log = get_logger(__name__)

OWN_HALT = 10.0  # seconds between two turns after which it was the supervisor that stood still

Document = Mapping[str, object]
"""What a worker needs to know, JSON-ready, secrets included. Equal documents: nothing changed."""


class Goal(enum.Enum):
    """What the supervisor wants of a pipeline."""

    RUN = "run"
    REPLACE = "replace"  # drain, then run with the new document
    STOP = "stop"  # drain, then never again


class Pipeline:
    """``ended`` is the exit code it ended with for good; None while it runs or will run again."""

    def __init__(
        self,
        name: str,
        document: Document,
        *,
        command: Sequence[str],
        limits: Limits,
        selector: selectors.BaseSelector,
        board: Board,
    ) -> None:
        self.name = name
        self.document = document
        self.ended: int | None = None
        self._command = command
        self._limits = limits
        self._selector = selector
        self._board = board
        self._verdicts = Verdicts(name, board)
        self._goal = Goal.RUN
        self._child: Child | None = None
        self._start_at = self._tended = time.monotonic()
        self._restarts = Restarts(limits)
        self._restarted = 0
        self._settled = False
        self._reason = ""  # why the last worker ended
        self._heard: WorkerStatus | None = None
        self._show(WorkerStatus(pipeline=name, time=time.time()))

    # --- what the supervisor asks for ---------------------------------------------------------

    def tend(self, now: float) -> None:
        """Do whatever has become due."""
        child = self._child
        halted, self._tended = now - self._tended > OWN_HALT, now
        if child is None:
            if self._goal is not Goal.STOP and self.ended is None and now >= self._start_at:
                self._start(now)
            return
        code = child.poll()
        if code is not None:
            child.close()
            self._child = None
            self._exited(child, code, now)
            return
        if child.status is not None and child.status is not self._heard:
            self._heard = child.status
            self._reported(child.status)
        if halted:  # nobody listened, so the worker's silence says nothing
            child.heard = child.turned = now
        hang = None if child.ending else self._hang(child, now)
        if hang is not None:
            log.error("worker hangs", pipeline=self.name, pid=child.pid, reason=hang)
            child.hung = True
            child.terminate(now, self._limits.hang_seconds)
        child.escalate(now)

    def stop(self, now: float) -> None:
        """Drain for good."""
        self._goal = Goal.STOP
        if self._child is not None:
            self._child.drain(now, self._limits)

    def hasten(self, now: float) -> None:
        """Do not wait for the drain any longer; a second time not at all."""
        if self._child is not None:
            self._child.terminate(now, self._limits.kill_seconds)

    def replace(self, document: Document, now: float) -> None:
        """Run with another document from now on, also after having been given up."""
        self.document = document
        self.ended = None
        self._restarts.forget()
        self._goal = Goal.REPLACE
        if self._child is not None:
            self._child.drain(now, self._limits)
        else:
            self._start_at = now

    def keep(self, document: Document, logs: Mapping[str, object] | None) -> None:
        """Go on, for this document means the same; only logs may go by other settings."""
        self.document = document
        if self._child is not None and logs is not None:
            self._child.send({"logs": logs})

    def limit(self, limits: Limits) -> None:
        """Other limits from now on."""
        self._limits = limits
        self._restarts.limit(limits)

    def dump(self) -> None:
        """The state to the log, and the same asked of the worker."""
        view = self._view()
        status = view.status
        log.info(
            "pipeline state",
            pipeline=self.name,
            pid=self._child.pid if self._child else None,
            state=status.state.value,
            position=status.position,
            lag_seconds=status.lag_seconds,
            applied_transactions=status.applied_transactions,
            parked=status.parked_rows,
            queue_bytes=status.queue_bytes,
            restarts=view.restarts,
            error=status.error or None,
        )
        if self._child is not None:
            self._child.send({"dump": True})

    # --- what the supervisor wants to know ----------------------------------------------------

    @property
    def gone(self) -> bool:
        """Whether no process is left and none will be started."""
        return self._child is None and (self._goal is Goal.STOP or self.ended is not None)

    @property
    def settled(self) -> bool:
        """Whether its start-up has been decided: it works, or has failed at least once."""
        return self._settled

    @property
    def state(self) -> State:
        """What it does, as shown."""
        return self._view().status.state

    def healthy(self) -> bool:
        """Whether its worker, if there is one, is not hung."""
        return self._child is None or not self._child.hung

    def deadline(self) -> float:
        """When ``tend`` has something to do though nothing happened (monotonic)."""
        if self._child is None:
            return math.inf if self.gone else self._start_at
        return self._child.deadline()

    # --- its life -----------------------------------------------------------------------------

    def _start(self, now: float) -> None:
        self._goal = Goal.RUN
        try:
            self._child = Child(self.name, self._command, self.document, self._selector)
        except OSError as exc:
            log.error("worker cannot be started", pipeline=self.name, error=str(exc))
            self._again(EXIT_FAILED, None, f"worker cannot be started: {exc}", now)
            return
        log.info("worker started", pipeline=self.name, pid=self._child.pid)

    def _hang(self, child: Child, now: float) -> str | None:
        """Why the worker must be taken for hung; None: it is not."""
        silence = now - child.heard
        if silence > self._limits.silence_seconds:
            return f"no status for {silence:.0f} s"
        patience = child.status.patience if child.status is not None else 0.0
        stillness = now - child.turned
        if stillness > self._limits.watchdog_seconds + patience:
            return f"no progress for {stillness:.0f} s"
        return None

    def _reported(self, status: WorkerStatus) -> None:
        """A worker that starts again goes on showing why the one before it ended."""
        if status.state is not State.STARTING:
            self._settled = True
            self._reason = ""
        elif not status.error:
            status = dataclasses.replace(status, error=self._reason)
        self._verdicts.take(status.verification)
        self._show(status)

    def _exited(self, child: Child, code: int, now: float) -> None:
        status = child.status or WorkerStatus(pipeline=self.name)
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        log.info("worker ended", pipeline=self.name, pid=child.pid, how=how)
        said = status.error if code > 0 else ""  # else it is an older one, which it had survived
        reason = said or f"worker ended with {how}"
        if self._goal is Goal.STOP:
            self._show(dataclasses.replace(status, state=State.STOPPED))
        elif self._goal is Goal.REPLACE:
            self._start_at = now
            self._show(dataclasses.replace(status, state=State.STARTING))
        else:
            self._again(code, status, reason, now)

    def _again(self, code: int, status: WorkerStatus | None, reason: str, now: float) -> None:
        """Plan the next start, or give up."""
        last = status or WorkerStatus(pipeline=self.name)
        pause = self._restarts.delay(now, code, last.position)
        self._settled = True
        if pause is None:
            self.ended = code if code > 0 else EXIT_FAILED
            log.error("pipeline stopped", pipeline=self.name, exit_code=self.ended, error=reason)
            self._show(dataclasses.replace(last, state=State.STOPPED, error=reason))
            return
        self._restarted += 1
        self._reason = reason
        self._start_at = now + pause
        log.warning("worker restarts", pipeline=self.name, seconds=round(pause, 1), error=reason)
        self._show(dataclasses.replace(last, state=State.BLOCKED, error=reason))

    def _show(self, status: WorkerStatus) -> None:
        self._shown = status
        self._board.publish(self._view())

    def _view(self) -> PipelineView:
        alive = self._child is not None and self._child.status is not None
        return PipelineView(status=self._shown, alive=alive, restarts=self._restarted)
