"""A program at a terminal of its own, for what only happens at one."""

import os
import pty
import select
import signal
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self


class Terminal:
    """Its context starts the program and ends it."""

    def __init__(self, command: Sequence[str], **environment: str) -> None:
        self._command = list(command)
        self._environment = {"TERM": "dumb", "LC_ALL": "C.UTF-8", **environment}
        self._screen = ""

    def __enter__(self) -> Self:
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            os.execvpe(self._command[0], self._command, self._environment)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._fd)

    def type(self, keys: str) -> None:
        """Press these keys."""
        os.write(self._fd, keys.encode())

    def sees(self, text: str, seconds: float = 30.0) -> None:
        """Wait until the screen shows the text."""
        deadline = time.monotonic() + seconds
        while text not in self._screen:
            ready, _, _ = select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{text!r} does not appear: {self._screen!r}"
            self._screen += os.read(self._fd, 4096).decode(errors="replace")
