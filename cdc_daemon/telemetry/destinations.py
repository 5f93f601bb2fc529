"""Where lines go: a descriptor, a stream of a test's, or a file that logrotate may move away.

Nothing in here knows of queues (``outlet``); the journal has a module of its own.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from cdc_daemon.model.errors import ConfigurationError

_MODE = 0o640


class Descriptor:
    """Lines to an open descriptor, such as stderr. After a failure in the midst of a line the next
    one begins on a line of its own.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._torn = False

    def write(self, line: bytes) -> None:
        left = b"\n" + line if self._torn else line
        while left:
            written = os.write(self._fd, left)
            left = left[written:]
            self._torn = bool(left) if written else self._torn

    def close(self) -> None:
        """The descriptor is somebody else's."""


class Text:
    """Lines to a text stream without a descriptor."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: bytes) -> None:
        self._stream.write(line.decode())
        self._stream.flush()

    def close(self) -> None:
        """The stream is somebody else's."""


class RotatedFile:
    """Lines appended to a file, which is opened anew as soon as its name stands for another one.

    So ``logrotate`` may rename it without a signal, and several processes may write to it. The
    first failure of an episode (a full disk) is told on ``complain_to``, a descriptor.
    """

    def __init__(self, path: Path, complain_to: int) -> None:
        self._path = path
        self._complaints = Descriptor(complain_to)
        self._complained = False
        self._fd: int | None = None
        self._identity: tuple[int, int] | None = None
        self._open = Descriptor(-1)

    def write(self, line: bytes) -> None:
        try:
            self._follow()
            self._open.write(line)
        except OSError as error:
            self._complain(error)
            raise
        self._complained = False

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _follow(self) -> None:
        """Have the file open that the name stands for now."""
        with suppress(FileNotFoundError):
            found = self._path.stat()
            if self._fd is not None and self._identity == (found.st_dev, found.st_ino):
                return
        self.close()
        self._fd = open_log(self._path)
        found = os.fstat(self._fd)
        self._identity = (found.st_dev, found.st_ino)
        self._open = Descriptor(self._fd)

    def _complain(self, error: OSError) -> None:
        if not self._complained:
            self._complained = True
            text = f"cannot write to {self._path}: {error.strerror}; log lines are dropped\n"
            with suppress(OSError):
                self._complaints.write(text.encode())


def open_log(path: Path) -> int:
    """A descriptor that appends to the file, which is created where it is missing."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)


def check_log_file(name: str | None) -> None:
    """Raises ConfigurationError where lines cannot be appended to the file; None: there is none."""
    if name is None:
        return
    path = Path(name)
    try:
        os.close(open_log(path))
    except OSError as error:
        raise ConfigurationError(
            f"daemon.log_file: cannot write to {path}: {error.strerror}",
            hint=f"let the daemon's account write in {path.parent}, or leave log_file out",
        ) from error
