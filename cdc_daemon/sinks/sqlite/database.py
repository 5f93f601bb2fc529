"""The database file: where it is, and connections to it with settings that make it safe.

Every connection: write-ahead log, full synchronisation, foreign keys on. Transactions are begun by
us alone. Not in here: what is in the database.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from cdc_daemon.model.errors import CdcError, ConfigurationError, Problem
from cdc_daemon.sinks.sqlite.errors import translate

OLDEST = (3, 38, 0)
"""The first SQLite with STRICT tables, ``RETURNING`` and JSON always on."""

BUSY_SECONDS = 10
"""How long a statement waits for somebody else's write lock."""

PAGE_BYTES = 8192
_CACHE_KIB = 32 * 1024
_CHECKPOINT_PAGES = 2000
_STATEMENTS = 1024  # kept prepared: a handful for each mapping
_APPLY = "run cdc-daemon apply"

Connection = sqlite3.Connection
FileIdentity = tuple[int, int]


def connect(path: str, *, create: bool = False, read_only: bool = False) -> Connection:
    """A connection in autocommit with our settings.

    Raises ConfigurationError for a file that is not there (or whose directory is not), and what
    ``translate`` makes of everything else.
    """
    if sqlite3.sqlite_version_info < OLDEST:
        needed = ".".join(map(str, OLDEST))
        raise ConfigurationError(
            f"SQLite {sqlite3.sqlite_version} is too old: {needed} or later is needed"
        )
    _check_place(path, create=create)
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
            _settle(connection, create=create, read_only=read_only)
        except BaseException:
            connection.close()
            raise
    return connection


def file_identity(path: str) -> FileIdentity | None:
    """Which file is at a path now: device and inode; None: none."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


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


def _settle(connection: Connection, *, create: bool, read_only: bool) -> None:
    run = connection.execute
    if create:
        run(f"PRAGMA page_size = {PAGE_BYTES}")
        run("PRAGMA journal_mode = WAL")
    run("PRAGMA synchronous = FULL")
    run("PRAGMA foreign_keys = ON")
    run("PRAGMA temp_store = MEMORY")
    run(f"PRAGMA cache_size = -{_CACHE_KIB}")
    run(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    run("PRAGMA journal_size_limit = 67108864")
    if read_only:
        run("PRAGMA query_only = ON")
    run("SELECT count(*) FROM sqlite_schema")  # is it a database?


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
