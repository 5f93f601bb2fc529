"""The file of the spool itself: its tables, its lock, and what is said when it cannot be used."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cdc_daemon.model.errors import CdcError

VERSION = 1
_MODE = 0o640
_SCHEMA = """
CREATE TABLE waiting (
  id TEXT PRIMARY KEY, channel TEXT NOT NULL, created REAL NOT NULL, due REAL NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '', notices TEXT NOT NULL);
CREATE INDEX waiting_due ON waiting (channel, due);
CREATE TABLE log (
  number INTEGER PRIMARY KEY, id TEXT NOT NULL, channel TEXT NOT NULL, created REAL NOT NULL,
  ended REAL NOT NULL, result TEXT NOT NULL, attempts INTEGER NOT NULL, answer TEXT NOT NULL,
  notices TEXT NOT NULL);
CREATE INDEX log_ended ON log (ended);
CREATE TABLE told (channel TEXT NOT NULL, key TEXT NOT NULL, told TEXT NOT NULL,
  PRIMARY KEY (channel, key));
CREATE TABLE pause (channel TEXT PRIMARY KEY, until REAL NOT NULL);
CREATE TABLE attempt (channel TEXT NOT NULL, time REAL NOT NULL);
"""


class Unusable(CdcError):
    """The file in which notifications wait cannot be used."""


def hold(path: Path) -> int:
    """A descriptor that holds the lock. Raises OSError, or Unusable where another daemon has it."""
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    held = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        raise Unusable(
            f"another daemon keeps its notifications in {path}",
            hint="give each its own folder: notifications.directory",
        ) from None
    return held


def opened(path: Path) -> sqlite3.Connection:
    """The database, with its tables. Raises sqlite3.Error, or Unusable for a newer version's."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE))
    db = sqlite3.connect(path, check_same_thread=False, timeout=5.0)
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            db.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version = {VERSION};COMMIT;")
        elif version != VERSION:
            raise Unusable(
                f"{path} was written by another version of the daemon",
                hint="move it away; what waits in it is then not sent",
            )
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """SQLite's and the system's errors inside become Unusable, with the cure."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise Unusable(f"{path}: {error}", hint=_cure(path, error)) from error
    except OSError as error:
        hint = f"let the daemon's account write in {path.parent}, or set notifications.directory"
        raise Unusable(f"{path}: {error.strerror}", hint=hint) from error


def _cure(path: Path, error: sqlite3.DatabaseError) -> str:
    if isinstance(error, sqlite3.OperationalError):
        return f"see that there is room, and that the daemon's account may write in {path.parent}"
    return "the file is damaged: move it away; what waits in it is then not sent"
