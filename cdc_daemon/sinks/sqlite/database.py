"""The database file: where it is, and connections to it with settings that make it safe.

Every connection: write-ahead log, full synchronisation, foreign keys on. Transactions are begun by
us alone. Not in here: what is in the database.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from cdc_daemon.model.errors import CdcError, ConfigurationError, PreflightRefusal, Problem
from cdc_daemon.sinks.sqlite.errors import translate
from cdc_daemon.sinks.sqlite.holder import foreign_log, path_of

OLDEST = (3, 38, 0)
"""The first SQLite with STRICT tables, ``RETURNING`` and JSON always on."""

BUSY_SECONDS = 10
"""How long a statement waits for somebody else's write lock."""

MODE = 0o640
"""Of a file that is made here, less the umask: it holds what the tables do, and parked rows."""

PAGE_BYTES = 8192
_CACHE_KIB = 32 * 1024
_CHECKPOINT_PAGES = 2000
_STATEMENTS = 1024  # kept prepared: a handful for each mapping
_APPLY = "run cdc-daemon apply"
_TEMPORARY = ("/var/tmp", "/usr/tmp", "/tmp", ".")  # noqa: S108 - where SQLite itself looks

Connection = sqlite3.Connection


def connect(path: str, *, create: bool = False, read_only: bool = False) -> Connection:
    """A connection in autocommit with our settings.

    Raises ConfigurationError for a file that is not there (or whose directory is not) and for a
    created one that cannot have a write-ahead log, PreflightRefusal for one whose log is another
    file's, and what ``translate`` makes of everything else.
    """
    if sqlite3.sqlite_version_info < OLDEST:
        needed = ".".join(map(str, OLDEST))
        raise ConfigurationError(
            f"SQLite {sqlite3.sqlite_version} is too old: {needed} or later is needed"
        )
    _check_place(path, create=create)
    _check_log(path)
    if create:
        _make(path)
    mode = "rwc" if create else "rw"
    uri = f"file:{quote(str(Path(path).absolute()))}?mode={mode}"
    with translated():
        connection = sqlite3.connect(
            uri,
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=_STATEMENTS,
        )
        try:
            if create:
                keep_log(connection, path)
            _settle(connection, read_only=read_only)
        except BaseException:
            connection.close()
            raise
    return connection


def missing(path: str) -> bool:
    """Whether there is no such file, or an empty one."""
    try:
        return Path(path).stat().st_size == 0
    except OSError:
        return True


def _check_place(path: str, *, create: bool) -> None:
    home = Path(path).absolute().parent
    if not home.is_dir():
        cure = f"create it: mkdir -p {home}"
        raise ConfigurationError(
            [Problem(what="the database's directory does not exist", where=path, cure=cure)]
        )
    if not create and not Path(path).exists():
        raise ConfigurationError(
            [Problem(what="the database does not exist", where=path, cure=_APPLY)]
        )


def _make(path: str) -> None:
    """An empty file that others may not read; SQLite gives log and index the file's mode.

    What hinders this hinders SQLite too, which says so.
    """
    with suppress(OSError):
        os.close(os.open(os.path.realpath(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE))


def _check_log(path: str) -> None:
    """SQLite would play whatever log lies beside a file into it, and mix two databases."""
    log = foreign_log(path)
    if log is None:
        return
    index = str(log).removesuffix("-wal") + "-shm"
    cure = (
        f"stop the daemon, move {log} and {index} away, to the file that was here before if it is"
        f" still wanted, and start; if they do belong to this file, delete {path_of(path)}"
    )
    what = "the file was replaced, and the log beside it belongs to another file"
    raise PreflightRefusal([Problem(what=what, where=path, cure=cure)])


def keep_log(connection: Connection, path: str) -> None:
    """Write-ahead from here on, whatever somebody set the file to. Raises ConfigurationError."""
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    mode = scalar(connection, "PRAGMA journal_mode = WAL")
    if mode != "wal":
        cure = "put it on a local disk, and close whatever else has it open"
        what = f"its journal mode is {mode}, not wal, and cannot be changed"
        raise ConfigurationError([Problem(what=what, where=path, cure=cure)])


def _settle(connection: Connection, *, read_only: bool) -> None:
    run = connection.execute
    run("PRAGMA synchronous = FULL")
    run("PRAGMA foreign_keys = ON")
    run(f"PRAGMA cache_size = -{_CACHE_KIB}")
    run(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    run("PRAGMA journal_size_limit = 67108864")
    if not _has_temporary_files():
        run("PRAGMA temp_store = MEMORY")
    if read_only:
        run("PRAGMA query_only = ON")
    run("SELECT count(*) FROM sqlite_schema")  # is it a database?


def _has_temporary_files() -> bool:
    """Whether SQLite finds a directory for what outgrows memory: journals, sorters."""
    named = (os.environ.get("SQLITE_TMPDIR"), os.environ.get("TMPDIR"))
    places = [place for place in (*named, *_TEMPORARY) if place]
    return any(Path(place).is_dir() and os.access(place, os.W_OK | os.X_OK) for place in places)


@contextmanager
def translated(known: Collection[str] = ()) -> Iterator[None]:
    """The driver's errors in our words."""
    try:
        yield
    except sqlite3.Error as exc:
        raise translate(exc, known=known) from exc
    except sqlite3.Warning as exc:
        raise CdcError(f"The control database's driver failed: {type(exc).__name__}.") from exc


def scalar(connection: Connection, sql: str, *params: object) -> object:
    """The first value of a query, or None."""
    row = connection.execute(sql, params).fetchone()
    return row[0] if row else None
