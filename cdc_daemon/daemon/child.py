"""One worker process and the two pipes to it. Nothing in here ever blocks.

The worker gets its document (configuration and secrets) as the first line on stdin; later lines are
messages; the end of the pipe means: drain and exit. It reports on a pipe whose descriptor its
``--status-fd`` argument names, one :class:`WorkerStatus` a line; its stderr is ours. Not in here:
whether it should live (``pipeline``).
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress

from cdc_daemon.daemon.restarts import Limits
from cdc_daemon.engine.status import WorkerStatus
from cdc_daemon.systemd import PRIVATE_VARIABLES
from cdc_daemon.telemetry import get_logger

log = get_logger(__name__)

_CHUNK = 1 << 16
_LONGEST_LINE = 4 << 20
_STDERR = 2


class Child:
    """A running worker. ``status`` is the last it reported; ``heard``: when it last reported
    anything, ``turned``: when it last reported that its loop had turned (monotonic seconds).
    """

    def __init__(
        self,
        pipeline: str,
        command: Sequence[str],
        document: Mapping[str, object],
        selector: selectors.BaseSelector,
    ) -> None:
        """Start it. Raises OSError when the system cannot."""
        self.pipeline = pipeline
        self.status: WorkerStatus | None = None
        self.heard = self.turned = time.monotonic()
        self.ending = False
        self.hung = False  # said by who watches it
        self._selector = selector
        self._inbox = bytearray()
        self._outbox = bytearray()
        self._wants_end = False
        self._writing = False
        self._escalation: deque[tuple[float, signal.Signals]] = deque()
        self._status_fd, theirs = os.pipe()
        try:
            self._process = subprocess.Popen(
                [*command, "--pipeline", pipeline, "--status-fd", str(theirs)],
                stdin=subprocess.PIPE,
                stdout=_STDERR,  # a stray print is a log line
                pass_fds=(theirs,),
                env={k: v for k, v in os.environ.items() if k not in PRIVATE_VARIABLES},
                bufsize=0,
                process_group=0,  # Ctrl-C in a terminal is the supervisor's to handle
            )
        except OSError:
            os.close(self._status_fd)
            raise
        finally:
            os.close(theirs)
        assert self._process.stdin is not None
        self._stdin_fd: int | None = self._process.stdin.fileno()
        os.set_blocking(self._stdin_fd, False)
        os.set_blocking(self._status_fd, False)
        selector.register(self._status_fd, selectors.EVENT_READ, self._read)
        self.send(document)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def send(self, message: Mapping[str, object]) -> None:
        """Queue one line for its stdin."""
        if self._stdin_fd is not None and not self._wants_end:
            self._outbox += json.dumps(message, ensure_ascii=False).encode() + b"\n"
            self._write()

    # --- ending it ----------------------------------------------------------------------------

    def drain(self, now: float, limits: Limits) -> None:
        """Ask it to finish what it does, with force to follow when it takes too long."""
        if self.ending:
            return
        self.ending = True
        patience = now + limits.drain_seconds + limits.drain_margin
        self._escalation += [
            (patience, signal.SIGTERM),
            (patience + limits.kill_seconds, signal.SIGKILL),
        ]
        self._wants_end = True
        self._write()

    def terminate(self, now: float, patience: float) -> None:
        """SIGTERM now, SIGKILL after ``patience`` seconds; a second time SIGKILL now."""
        again = self.ending and len(self._escalation) == 1
        self.ending = True
        self._escalation.clear()
        if again:
            self._signal(signal.SIGKILL)
            return
        self._escalation.append((now + patience, signal.SIGKILL))
        self._signal(signal.SIGTERM)

    def escalate(self, now: float) -> None:
        """Use the force that has become due."""
        while self._escalation and self._escalation[0][0] <= now:
            self._signal(self._escalation.popleft()[1])

    def deadline(self) -> float:
        """When ``escalate`` has something to do (monotonic); infinity for never."""
        return self._escalation[0][0] if self._escalation else float("inf")

    def close(self) -> None:
        """Read what it said last and release the pipes; after it has ended."""
        self._read()
        self._stop_reading()
        os.close(self._status_fd)
        self._close_stdin()

    def _signal(self, number: signal.Signals) -> None:
        log.warning("worker signalled", pipeline=self.pipeline, pid=self.pid, signal=number.name)
        self._process.send_signal(number)

    # --- pipes --------------------------------------------------------------------------------

    def _read(self) -> None:
        """Take in status lines: each says what is new since the one before."""
        while True:
            try:
                data = os.read(self._status_fd, _CHUNK)
            except BlockingIOError:
                break
            if not data:
                self._stop_reading()
                break
            self._inbox += data
            if len(data) < _CHUNK:
                break
        *lines, rest = self._inbox.split(b"\n")
        self._inbox = rest if len(rest) < _LONGEST_LINE else bytearray()
        for line in lines:
            self._understand(bytes(line))

    def _stop_reading(self) -> None:
        with suppress(KeyError):  # at its end the pipe would be readable for ever
            self._selector.unregister(self._status_fd)

    def _understand(self, line: bytes) -> None:
        try:
            status = WorkerStatus.from_json(line)
        except ValueError:
            log.warning("worker status not understood", pipeline=self.pipeline, bytes=len(line))
            return
        self.heard = time.monotonic()
        if self.status is None or status.turns != self.status.turns:
            self.turned = self.heard
        self.status = status.after(self.status)

    def _write(self) -> None:
        """Push out what fits; the rest when the selector says so; then perhaps the end."""
        if self._stdin_fd is None:
            return
        try:
            while self._outbox:
                del self._outbox[: os.write(self._stdin_fd, self._outbox)]
        except BlockingIOError:
            if not self._writing:
                self._selector.register(self._stdin_fd, selectors.EVENT_WRITE, self._write)
                self._writing = True
            return
        except BrokenPipeError:  # it is ending by itself; its exit code will tell
            self._outbox.clear()
            self._wants_end = True
        if self._writing:
            self._selector.unregister(self._stdin_fd)
            self._writing = False
        if self._wants_end:
            self._close_stdin()

    def _close_stdin(self) -> None:
        if self._stdin_fd is None:
            return
        if self._writing:
            self._selector.unregister(self._stdin_fd)
            self._writing = False
        self._stdin_fd = None
        assert self._process.stdin is not None
        self._process.stdin.close()
