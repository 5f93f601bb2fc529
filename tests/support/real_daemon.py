"""The daemon as an operator runs it: `cdc-daemon run` in processes of its own, to be killed.

What it says goes to a file as JSON lines, which the tests read back. A daemon that a test leaves
running dies with the test's process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cdc_daemon.demo.processes import children, die_with, lives
from tests.support.catalogue import note
from tests.support.cli import COMMAND
from tests.support.waiting import until


class RealDaemon:
    """One start of the daemon. Its context starts it and at the end leaves no process behind.

    `failpoint` is CDC_FAILPOINT for it and its workers. What it says goes to the file `log`.
    `under`: a command that starts it (`prlimit …`). `output`: a descriptor in place of the file.
    """

    def __init__(
        self,
        configuration: Path,
        log: Path,
        *,
        failpoint: str | None = None,
        environment: Mapping[str, str] | None = None,
        under: Sequence[str] = (),
        output: int | None = None,
    ) -> None:
        self.at = ""
        self._output = output
        self.log_path = log
        self._environment = {**os.environ, "NO_COLOR": "1", **(environment or {})}
        self._environment.pop("CDC_FAILPOINT", None)
        if failpoint is not None:
            self._environment["CDC_FAILPOINT"] = failpoint
        self._command = [*under, *COMMAND, "run", "--config", str(configuration)]
        self._process: subprocess.Popen[bytes] | None = None
        self._paused: list[int] = []

    def __enter__(self) -> Self:
        with self.log_path.open("xb") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log if self._output is None else self._output,
                stderr=log if self._output is None else self._output,
                env=self._environment,
                start_new_session=True,
                preexec_fn=die_with(os.getpid()),  # noqa: PLW1509 - one libc call, see there
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.running:
            self.kill()

    # --- its processes --------------------------------------------------------------------------

    @property
    def _started(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the daemon was not started"
        return self._process

    @property
    def running(self) -> bool:
        """Whether its supervisor lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def workers(self) -> list[int]:
        """Process ids of its workers."""
        return [pid for pid in children(self._started.pid) if lives(pid)]

    def kill(self) -> None:
        """SIGKILL supervisor and workers together: nobody drains, nobody restarts anybody."""
        victims = self._halted()
        for pid in victims:
            _signal(pid, signal.SIGKILL)
        self._started.wait()
        until(lambda: not any(map(lives, victims)), what="the killed processes are gone")

    def kill_worker(self) -> None:
        """SIGKILL the workers only; the supervisor is to start others."""
        for pid in self.workers:
            _signal(pid, signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP supervisor and workers."""
        self._paused = self._halted()
        for pid in self._paused[1:]:
            _signal(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT what `pause` halted."""
        for pid in reversed(self._paused):
            _signal(pid, signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM to the supervisor, as a service manager sends it."""
        self._started.send_signal(signal.SIGTERM)

    def signal(self, number: signal.Signals) -> None:
        """Any other signal to the supervisor."""
        self._started.send_signal(number)

    def stop(self, seconds: float = 30.0) -> int:
        """SIGTERM and wait; the exit code."""
        self.terminate()
        return self.wait(seconds)

    def wait(self, seconds: float = 30.0) -> int:
        """Wait until it has ended by itself; its exit code."""
        try:
            code = self._started.wait(seconds)
            note(f"exit {code}")
            return code
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the daemon runs still after {seconds} s\n{self.log}") from None

    def _halted(self) -> list[int]:
        """The supervisor, halted so that it starts nobody, and its workers."""
        _signal(self._started.pid, signal.SIGSTOP)
        return [self._started.pid, *self.workers]

    def hang_up(self) -> None:
        """SIGHUP: read the configuration again."""
        self._started.send_signal(signal.SIGHUP)

    def dump(self) -> None:
        """SIGUSR1: log the state."""
        self._started.send_signal(signal.SIGUSR1)

    # --- what it shows --------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where its pages are: `at`, or as its log says."""
        if self.at:
            return self.at
        self.said("admin server listens")
        return str(self.events("admin server listens")[-1]["url"])

    def status(self, pipeline: str = "erp") -> dict[str, Any]:
        """What its page `/status` says of a pipeline."""
        with urllib.request.urlopen(f"{self.url}/status", timeout=30) as answer:
            found: dict[str, dict[str, Any]] = {one["pipeline"]: one for one in json.load(answer)}
        return found[pipeline]

    def shows(
        self, *states: str, error: str = "", pipeline: str = "erp", seconds: float = 60.0
    ) -> dict[str, Any]:
        """Wait until it shows one of these states, with `error` in its words; the status."""

        def shown() -> dict[str, Any]:
            assert self.running, f"the daemon ended\n{self.log}"
            found = self.status(pipeline)
            return found if found["state"] in states and error in found["error"] else {}

        try:
            found = until(shown, seconds=seconds, what=f"it shows {states} {error}")
        except AssertionError as problem:
            raise AssertionError(f"{problem}\n{self.log}") from None
        note(str(found["state"]))
        return found

    # --- what it says ---------------------------------------------------------------------------

    @property
    def log(self) -> str:
        """Everything it has written since it was started."""
        return self.log_path.read_bytes().decode(errors="replace")

    def events(self, event: str) -> list[dict[str, Any]]:
        """Its log lines with that event."""
        found = []
        for line in self.log.splitlines():
            with suppress(ValueError):
                fields = json.loads(line)
                if isinstance(fields, dict) and fields.get("event") == event:
                    found.append(fields)
        return found

    def said(
        self, event: str, *, times: int = 1, seconds: float = 30.0, **fields: str
    ) -> list[str]:
        """Wait for that event; every value in `fields` stands in the field. The lines as text."""

        def matching() -> list[str]:
            found = [
                json.dumps(line, ensure_ascii=False)
                for line in self.events(event)
                if all(text in str(line.get(name, "")) for name, text in fields.items())
            ]
            if len(found) < times and not self.running:
                raise AssertionError(f"it ended without saying {event!r} {fields}\n{self.log}")
            return found if len(found) >= times else []

        try:
            return until(matching, seconds=seconds, what=f"it says {event!r} {fields}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log}") from None

    def worker_died(self, seconds: float = 30.0) -> None:
        """Wait until a worker was ended by SIGKILL, which a failpoint sends."""
        self.said("worker ended", how="signal 9", seconds=seconds)


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def seconds_of(begun: float) -> float:
    """Seconds since a time of the monotonic clock."""
    return time.monotonic() - begun
