"""The holder's file beside the database: who holds the pipeline, and whether it lives.

``<database>-holder`` carries an ``flock`` for as long as its maker lives, and the time it was last
touched is the holder's last sign of life. Attesting life in a file of its own goes on while a unit
of work keeps the database's only write lock. Whoever takes over puts another file in its place, so
a former holder finds that the file there is not its own. The epoch in the database is what fences;
this file says whether there is somebody to be fenced.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cdc_daemon.model.errors import CdcError, Retryable

STALE_SECONDS = 30
"""A holder that was not seen for so long may be taken over, even if its process lives."""


def path_of(database: str) -> Path:
    """Where the holder's file of a database is; the same for all names of one database."""
    found = Path(database).resolve()
    return found.with_name(found.name + "-holder")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """A holder as others see it. ``present``: its process lives; ``seen``: seconds since 1970."""

    pipeline: str
    holder: str
    pid: int
    seen: float
    present: bool

    @property
    def age(self) -> float:
        """Seconds since the last sign of life."""
        return max(time.time() - self.seen, 0.0)

    @property
    def alive(self) -> bool:
        """Whether it lives and was seen lately."""
        return self.present and self.age < STALE_SECONDS


def sign_of(database: str) -> Sign | None:
    """Who holds the database's pipeline, if anybody ever said so."""
    try:
        file = os.open(path_of(database), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            present = False
        except BlockingIOError:
            present = True
        found = json.loads(os.pread(file, 4096, 0) or b"{}")
        return Sign(
            pipeline=str(found.get("pipeline", "")),
            holder=str(found.get("holder", "")),
            pid=int(found.get("pid", 0)),
            seen=os.fstat(file).st_mtime,
            present=present,
        )
    except ValueError:
        return None
    finally:
        os.close(file)


class Mark:
    """Our own holder's file."""

    def __init__(self, database: str) -> None:
        self._path = path_of(database)
        self._file: int | None = None

    def put(self, pipeline: str, holder: str) -> None:
        """Put our file in the place of whatever is there. Raises Retryable."""
        self.drop()
        beside = self._path.with_name(f"{self._path.name}.{secrets.token_hex(4)}")
        told = {"pipeline": pipeline, "holder": holder, "pid": os.getpid()}
        with _errors(self._path):
            file = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.write(file, json.dumps(told).encode() + b"\n")
                beside.rename(self._path)
            except BaseException:
                os.close(file)
                with contextlib.suppress(OSError):
                    beside.unlink()
                raise
        self._file = file

    @property
    def ours(self) -> bool:
        """Whether the file in its place is the one we put there."""
        if self._file is None:
            return False
        try:
            there, here = self._path.stat(), os.fstat(self._file)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)

    def touch(self) -> None:
        """Attest that we live. Raises Retryable where the file cannot be touched."""
        if self._file is not None:
            with _errors(self._path):
                os.utime(self._file)

    def drop(self) -> None:
        """Take our file away; never raises."""
        file, ours = self._file, self.ours
        self._file = None
        if file is not None:
            with contextlib.suppress(OSError):
                if ours:
                    self._path.unlink()
            with contextlib.suppress(OSError):
                os.close(file)


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        error: CdcError = Retryable(
            f"Not now: the holder's file {path} cannot be written ({exc.strerror}).",
            hint="the daemon's user must be able to write the database's directory",
        )
        raise error from exc
