"""The holder's file beside the database: who holds the pipeline, and whether it lives.

``<database>-holder`` carries an ``flock`` for as long as its maker lives, and the time it was last
touched is the holder's last sign of life. Attesting life in a file of its own goes on while a unit
of work keeps the database's only write lock. Whoever takes over puts another file in its place, so
a former holder finds that the file there is not its own. The epoch in the database is what fences;
this file says whether there is somebody to be fenced.

It also notes which file it was made for, and stays as long as that one's write-ahead log does: so a
log can be told from one that another file, which lay here before, left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cdc_daemon.model.errors import CdcError, Retryable
from cdc_daemon.sinks.sqlite.identity import file_identity

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
    except (ValueError, TypeError, AttributeError):  # somebody wrote into it
        return None
    finally:
        os.close(file)


def foreign_log(database: str) -> Path | None:
    """The write-ahead log beside a database, where it is known to be another file's.

    Where there is no database it is of the one that was: SQLite would delete it.
    """
    log, found = log_of(database), file_identity(database)
    if not _filled(log):
        return None
    if found is None:
        return log
    try:
        noted = json.loads(path_of(database).read_bytes() or b"{}")
        inode, born = int(noted["inode"]), int(noted["born"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if found.lasts_as(inode, born) else log


def log_of(database: str) -> Path:
    """Where the write-ahead log of a database is."""
    found = Path(database).resolve()
    return found.with_name(found.name + "-wal")


class Mark:
    """Our own holder's file. One thread puts and drops it, any may attest life."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._path = path_of(database)
        self._file: int | None = None
        self._lock = threading.Lock()  # what is at the path and what is open change together

    def put(self, pipeline: str, holder: str) -> None:
        """Put our file in the place of whatever is there. Raises Retryable."""
        beside = self._path.with_name(f"{self._path.name}.{secrets.token_hex(4)}")
        told = json.dumps(self._told(pipeline, holder)).encode() + b"\n"
        with _errors(self._path):
            file = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, self._mode())
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.write(file, told)
                with self._lock:
                    beside.rename(self._path)
                    former, self._file = self._file, file
            except BaseException:
                os.close(file)
                with contextlib.suppress(OSError):
                    beside.unlink()
                raise
        _close(former)

    @property
    def ours(self) -> bool:
        """Whether the file in its place is the one we put there."""
        with self._lock:
            return self._is_ours(self._file)

    def touch(self) -> None:
        """Attest that we live. Raises Retryable where the file cannot be touched."""
        with self._lock, _errors(self._path):
            if self._file is not None:
                os.utime(self._file)

    def drop(self) -> None:
        """Take our file away, or leave it as nobody's where a log is left; never raises."""
        with self._lock:
            file, self._file = self._file, None
            if self._is_ours(file) and not _filled(log_of(self._database)):
                with contextlib.suppress(OSError):
                    self._path.unlink()
        _close(file)

    def _is_ours(self, file: int | None) -> bool:
        if file is None:
            return False
        try:
            there, here = self._path.stat(), os.fstat(file)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)

    def _mode(self) -> int:
        """Who may read the database may see who holds it."""
        try:
            return 0o600 | (Path(self._database).stat().st_mode & 0o044)
        except OSError:
            return 0o600

    def _told(self, pipeline: str, holder: str) -> dict[str, object]:
        found = file_identity(self._database)
        told: dict[str, object] = {"pipeline": pipeline, "holder": holder, "pid": os.getpid()}
        return told | ({"inode": found.inode, "born": found.born} if found else {})


def _filled(log: Path) -> bool:
    """Whether there is a log, and something in it."""
    try:
        return log.stat().st_size > 0
    except OSError:
        return False


def _close(file: int | None) -> None:
    if file is not None:
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
