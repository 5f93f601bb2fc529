"""Verification on a schedule: one child process at a time, one pipeline after the other.

The child gets its pipeline's document through memory that no other process can see, and says in the
control database what it found (``cli.scheduled``); a worker reports it from there. It has a process
and connections of its own at the lowest priority, so the pipelines go on beside it. What is due
while a run goes on is left out, and said.

A run that takes too long is told so by SIGALRM and one that ends with the daemon by SIGTERM, so
that it can note why it broke off; SIGKILL follows for one that does not.
Called from the supervisor's loop; never waits, except at the very end. Not in here: what is
compared (``verify``).
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cdc_daemon.daemon.pipeline import Document
from cdc_daemon.systemd import PRIVATE_VARIABLES
from cdc_daemon.telemetry import get_logger

log = get_logger(__name__)

COMMAND = (sys.executable, "-m", "cdc_daemon.cli.scheduled")
_STDERR = 2
_FAREWELL = 2.0  # seconds that a run may take to end when the daemon does
_PUT_BACK = 60.0  # seconds that the clock goes back before the schedule is made anew
_GRACE = 10.0  # seconds that a run may take to end when it took too long


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """``next_after``: when the first run after a moment is due (seconds since 1970; None: never).
    ``max_seconds``: how long a run of one pipeline may take."""

    next_after: Callable[[float], float | None]
    max_seconds: float


@dataclass(slots=True, kw_only=True)
class _Run:
    """A child and when (monotonic) it is to be ended; ``told``: it was asked to."""

    pipeline: str
    process: subprocess.Popen[bytes]
    until: float
    told: bool = False


class Verifications:
    """Starts runs when they are due, and ends those that take too long."""

    def __init__(
        self,
        schedule: Schedule | None,
        documents: Mapping[str, Document],
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._command = tuple(command)
        self._waiting: deque[str] = deque()
        self._running: _Run | None = None
        self._ended = False
        self.plan(schedule, documents)

    def plan(self, schedule: Schedule | None, documents: Mapping[str, Document]) -> None:
        """Go by these from now on."""
        self._schedule = schedule
        self._documents = documents
        clock = time.time()
        self._due = self._next(clock)
        self._ahead = clock - time.monotonic()

    def tend(self, now: float, clock: float) -> None:
        """Do whatever has become due. ``now``: monotonic, ``clock``: since 1970."""
        if self._ended:
            return
        if clock - now < self._ahead - _PUT_BACK:  # a clock that was wrong when the machine began
            self._due = self._next(clock)
        self._ahead = clock - now
        if self._due is not None and clock >= self._due:
            if self._running is not None or self._waiting:
                log.warning("verification left out", reason="the one before it still runs")
            else:
                self._waiting.extend(self._documents)
            self._due = self._next(clock)
        self._watch(now)
        if self._running is None and self._waiting:
            self._start(self._waiting.popleft(), now)

    def deadline(self, now: float, clock: float) -> float:
        """When ``tend`` has something to do (monotonic); infinity for never."""
        due = math.inf if self._due is None or self._ended else now + max(0.0, self._due - clock)
        return min(due, self._running.until if self._running else math.inf)

    def stop(self) -> None:
        """End the run and start no other."""
        self._ended = True
        if self._running is not None:
            self._running.process.terminate()

    def close(self) -> None:
        """See to it that no child is left."""
        self.stop()
        if self._running is None:
            return
        process = self._running.process
        try:
            process.wait(_FAREWELL)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _next(self, clock: float) -> float | None:
        return self._schedule.next_after(clock) if self._schedule is not None else None

    def _watch(self, now: float) -> None:
        """Whether the run has ended, or must be ended."""
        if self._running is None:
            return
        run = self._running
        code = run.process.poll()
        if code is not None:
            self._running = None
            log.info("verification ended", pipeline=run.pipeline, exit_code=code)
        elif now >= run.until and not run.told:
            log.error("verification takes too long", pipeline=run.pipeline)
            run.process.send_signal(signal.SIGALRM)
            run.told, run.until = True, now + _GRACE
        elif now >= run.until:
            run.process.kill()
            run.until = math.inf

    def _start(self, name: str, now: float) -> None:
        document = self._documents.get(name)
        if document is None or self._schedule is None:
            return  # no longer configured
        stdin = os.memfd_create("document", os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(stdin), "wb") as file:
                file.write(json.dumps(document, ensure_ascii=False).encode() + b"\n")
            os.lseek(stdin, 0, os.SEEK_SET)
            process = subprocess.Popen(
                [*self._command, "--parent", str(os.getpid()), "--pipeline", name],
                stdin=stdin,
                stdout=_STDERR,
                env={k: v for k, v in os.environ.items() if k not in PRIVATE_VARIABLES},
                process_group=0,
            )
        except OSError as error:
            log.error("verification cannot be started", pipeline=name, error=str(error))
            return
        finally:
            os.close(stdin)
        self._running = _Run(pipeline=name, process=process, until=now + self._schedule.max_seconds)
        log.info("verification begins", pipeline=name, pid=process.pid)
