"""Every check of a control database in an SQLite file, in the order in which they are shown.

Names and titles are those of the checks on PostgreSQL where they ask the same. There is no role, no
clock and no way to guard: who may write the file may do everything, and who may read it sees all.
"""

from __future__ import annotations

import os
import shlex
import sqlite3
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cdc_daemon.model.effects import Layout
from cdc_daemon.model.entities import Entity
from cdc_daemon.model.findings import Check, Finding, Note, ok, problem, problems, run, warning
from cdc_daemon.sinks.sqlite import ledger
from cdc_daemon.sinks.sqlite.checkpoint import version_problem
from cdc_daemon.sinks.sqlite.database import Connection, scalar, translated
from cdc_daemon.sinks.sqlite.names import PREFIX
from cdc_daemon.sinks.sqlite.plan import APPLY, reference_problems
from cdc_daemon.sinks.sqlite.tables import (
    differences,
    live_table,
    name_problems,
    trigger_problems,
)
from cdc_daemon.sinks.versions import LEDGER_VERSION

_FULL: Final = 2
"""``PRAGMA synchronous``: 2 is FULL, 3 EXTRA."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """A file that is being examined over an open connection."""

    path: str
    connection: Connection
    entities: Mapping[str, Entity]
    layouts: Sequence[Layout]

    @property
    def where(self) -> str:
        """The file, for messages."""
        return f"target ({self.path})"


def _version(at: Examined) -> Iterator[Note]:
    yield ok(f"SQLite {sqlite3.sqlite_version}")


def _writable(at: Examined) -> Iterator[Note]:
    home = Path(at.path).absolute().parent
    for place in (home, Path(at.path)):
        if not os.access(place, os.W_OK):
            cure = f"let the daemon's user write the file and its directory: chown … {home}"
            yield problem(f"the daemon's user must not write {place}", cure)


def _readers(at: Examined) -> Iterator[Note]:
    """Whether users beside owner and group get at the rows; not where a folder keeps them out."""
    file = Path(at.path).resolve()
    files = [file, *(file.with_name(file.name + end) for end in ("-wal", "-shm"))]
    read = [str(each) for each in files if _lets_others(each, stat.S_IROTH)]
    if read and all(_lets_others(place, stat.S_IXOTH) for place in file.parents):
        what = f"every user of this machine may read {' '.join(read)}"
        yield warning(what, f"chmod o-r {shlex.join(read)}")
    else:
        yield ok("its owner and its group, nobody else")


def _lets_others(place: Path, right: int) -> bool:
    try:
        return bool(place.stat().st_mode & right)
    except OSError:  # a log that is gone again, say
        return False


def _journal(at: Examined) -> Iterator[Note]:
    mode = scalar(at.connection, "PRAGMA journal_mode")
    level = scalar(at.connection, "PRAGMA synchronous")
    if mode != "wal":
        yield problem(f"journal mode is {mode}, not wal", APPLY)
    if not isinstance(level, int) or level < _FULL:
        what = f"the daemon's connection has synchronous = {level}, not FULL"
        yield problem(what, "report it: the daemon sets it itself")
    if mode == "wal" and level == _FULL:
        yield ok("a write-ahead log, synchronised at each commit")


def _ledger(at: Examined) -> Iterator[Note]:
    found = version_problem(at.connection)
    yield from problems([found]) if found else [ok(f"version {LEDGER_VERSION}")]


def _rights(at: Examined) -> Iterator[Note]:
    names = list(at.entities)
    if version_problem(at.connection) is None:
        names += [PREFIX + name for name in ledger.TABLES]
        names += [PREFIX + one.reference.name for one in at.layouts if one.reference is not None]
    found = [
        problem("the table does not exist", APPLY, where=name)
        for name in names
        if live_table(at.connection, name) is None
    ]
    yield from found or [ok(f"tables: {len(names)}")]


def _tables(at: Examined) -> Iterator[Note]:
    found = name_problems(at.entities)
    for layout in at.layouts:
        found += reference_problems(at.connection, layout)
    for entity in at.entities.values():
        live = live_table(at.connection, entity.name)
        if live is not None:
            found += differences(entity, live, at.entities) + trigger_problems(entity, live)
    yield from problems(found) or [ok(f"entities: {len(at.entities)}")]


CHECKS: Final[tuple[Check[Examined], ...]] = (
    Check(
        name="target.version",
        title="The control database's version is supported",
        why="older ones lack what the daemon builds upon",
        look=_version,
    ),
    Check(
        name="target.writable",
        title="The control database takes writes",
        why="every unit of work fails and is tried again",
        look=_writable,
        refuses=False,
        watched=True,
    ),
    Check(
        name="target.journal",
        title="The file is written through a log, and synchronised",
        why="a commit must survive a crash before it is acknowledged to the source",
        look=_journal,
    ),
    Check(
        name="target.readers",
        title="Nobody beside its owner and group may read the file",
        why="it holds every entity's rows, and parked rows as they are in the source",
        look=_readers,
        refuses=False,
    ),
    Check(
        name="target.ledger",
        title="The ledger is there, in this program's version",
        why="it holds the checkpoint, which is committed together with the rows",
        look=_ledger,
    ),
    Check(
        name="target.rights",
        title="Every table is there, and the daemon may read and write it",
        why="the daemon creates no tables",
        look=_rights,
    ),
    Check(
        name="target.tables",
        title="Entity tables have the columns, types and keys of the configuration",
        why="rows would be refused, rounded or written under another key",
        look=_tables,
    ),
)
WATCHED: Final = tuple(check for check in CHECKS if check.watched)


def examine(at: Examined) -> list[Finding]:
    """The findings of all checks."""
    return run(CHECKS, at, at.where, lambda _: translated())


def watch(at: Examined) -> list[Finding]:
    """The findings of the watched checks."""
    return run(WATCHED, at, at.where, lambda _: translated())
