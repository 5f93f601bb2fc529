"""The checkpoint row: taking it, keeping it, moving it; fencing by its epoch.

Every unit begins with an UPDATE of this row where it has our epoch, under the write lock that it
keeps to its end: a holder that was taken over can only fail. A database has one pipeline, so one
row. Moments only go forward, whatever the clock does: each is later than the last one noted here.
"""

from __future__ import annotations

import datetime as dt
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from cdc_daemon.model.errors import ConfigurationError, Fenced, Problem, Stop, Unreachable
from cdc_daemon.model.position import Checkpoint, Phase, SourceIdentity
from cdc_daemon.sinks.sqlite.database import Connection, keep_log
from cdc_daemon.sinks.sqlite.holder import Mark, Sign, log_of, sign_of
from cdc_daemon.sinks.sqlite.identity import FileIdentity, file_identity
from cdc_daemon.sinks.versions import version_words

_COLUMNS = (
    "pipeline, phase, epoch, system, timeline, database, publication, slot, generation,"
    " generation_started, position, commit_time, transactions, changes, holder, holder_pid,"
    " updated_at"
)
_ROW = f"SELECT {_COLUMNS} FROM cdc_checkpoint WHERE pipeline = ?"
_TAKE = """
    UPDATE cdc_checkpoint
       SET epoch = epoch + 1, holder = ?, holder_pid = ?, updated_at = ? WHERE pipeline = ?"""
_MICROSECOND = dt.timedelta(microseconds=1)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Lease:
    """Our hold on a pipeline: its name, who we are, the epoch that is ours.

    ``started``: when the present generation began, as the ledger has it.
    """

    def __init__(self, path: str, pipeline: str, holder: str) -> None:
        self.pipeline = pipeline
        self.holder = holder
        self.epoch = 0
        self.started: str | None = None
        self._path = path
        self._mark = Mark(path)
        self._last = _EPOCH
        self._file: FileIdentity | None = None
        self._tried: Checkpoint | None = None  # committed, or not: nobody knows

    # --- holding ------------------------------------------------------------------------------

    def acquire(self, connection: Connection, file: FileIdentity | None) -> Checkpoint:
        """Take the pipeline, or raise Fenced naming the holder. ``file``: what is open."""
        self._file = file
        self._check_open(connection)
        self._check_free(sign_of(self._path))
        with writing(connection):
            self._check_only(connection)
            self._check_free(sign_of(self._path))
            connection.execute(
                "INSERT INTO cdc_checkpoint (pipeline) VALUES (?) ON CONFLICT DO NOTHING",
                (self.pipeline,),
            )
            row = self._row(connection)
            self._mark.put(self.pipeline, self.holder)
            taken = self._take(connection, row)
        return self._taken(taken)

    def recover(self, connection: Connection) -> Checkpoint:
        """Raise our own epoch after a lost connection. Raises Fenced where it is not current."""
        self._check_open(connection)
        with writing(connection):
            row = self._row(connection)
            if not self._is_ours(row):
                raise self.fenced()
            if not self._mark.ours:
                self._check_free(sign_of(self._path))
                self._mark.put(self.pipeline, self.holder)
            taken = self._tried = self._take(connection, row)
        return self._taken(taken)

    def check_file(self, file: FileIdentity | None) -> None:
        """Refuse to go on in another file than the one that was taken. Raises Stop."""
        held = self._file
        if file is not None and held is not None and not file.is_same(held):
            log = log_of(self._path)
            raise Stop(
                f"The control database's file was replaced: another file lies at its place"
                f" ({self._path}).",
                hint=f"stop the daemon, move {log} and its -shm away together with the file that"
                " they belong to, and start: docs/sqlite.md",
            )

    def release(self, connection: Connection) -> None:
        """Clear the row's holder, so that whoever looks sees that nobody has it."""
        connection.execute(
            "UPDATE cdc_checkpoint SET holder = '', holder_pid = NULL"
            " WHERE pipeline = ? AND epoch = ?",
            (self.pipeline, self.epoch),
        )

    def forget(self) -> None:
        """Hold nothing any longer: take the holder's file away; never raises."""
        self.epoch = 0
        self._mark.drop()

    def seen(self) -> None:
        """Attest that we live; any thread. Raises Fenced when somebody else's file is there."""
        if not self._mark.ours:
            raise self.fenced()
        self._mark.touch()

    def fenced(self) -> Fenced:
        """The error of a holder that was taken over."""
        return Fenced(
            f"Pipeline {self.pipeline} was taken over: epoch {self.epoch} is not current."
        )

    def moment(self) -> str:
        """Now, and later than every moment before."""
        self._last = max(dt.datetime.now(dt.UTC), self._last + _MICROSECOND)
        return moment_text(self._last)

    # --- writing, inside a transaction ------------------------------------------------------------

    def hold(self, connection: Connection, moment: str) -> None:
        """What a transaction begins with.

        Raises Fenced when the epoch is not ours, and Unreachable when the file that is open is not
        the one at its place any longer. With the write lock and the epoch ours, nobody else holds
        the pipeline: a holder's file that somebody removed is put there again.
        """
        here = file_identity(self._path)
        if here is None or self._file is None or not here.is_same(self._file):
            raise moved()
        done = connection.execute(
            "UPDATE cdc_checkpoint SET updated_at = ? WHERE pipeline = ? AND epoch = ?",
            (moment, self.pipeline, self.epoch),
        )
        if done.rowcount == 0:
            raise self.fenced()
        if not self._mark.ours:
            self._mark.put(self.pipeline, self.holder)

    def save(
        self,
        connection: Connection,
        position: str,
        *,
        commit_time: int | None,
        transactions: int,
        changes: int,
    ) -> None:
        """Move the checkpoint; counters are added. Raises Fenced when the epoch is not ours."""
        time = None if commit_time is None else moment_of(commit_time)
        done = connection.execute(
            "UPDATE cdc_checkpoint SET position = ?, commit_time = coalesce(?, commit_time),"
            " transactions = transactions + ?, changes = changes + ?"
            " WHERE pipeline = ? AND epoch = ?",
            (position, time, transactions, changes, self.pipeline, self.epoch),
        )
        if done.rowcount == 0:
            raise self.fenced()

    def begin_generation(
        self, connection: Connection, slot: str, identity: SourceIdentity, moment: str
    ) -> Checkpoint:
        """Set the row to snapshotting with the next generation."""
        connection.execute(
            "UPDATE cdc_checkpoint SET phase = 'snapshotting', generation = generation + 1,"
            " generation_started = ?, slot = ?, position = NULL WHERE pipeline = ?",
            (moment, slot, self.pipeline),
        )
        return self.identify(connection, identity)

    def identify(self, connection: Connection, identity: SourceIdentity) -> Checkpoint:
        """Note what the source is by now."""
        connection.execute(
            "UPDATE cdc_checkpoint SET system = ?, timeline = ?, database = ?, publication = ?"
            " WHERE pipeline = ?",
            (*_identity(identity), self.pipeline),
        )
        return self._row(connection)

    def finish(self, connection: Connection, identity: SourceIdentity, position: str) -> None:
        """The first copy is whole: the row says streaming. Raises Fenced as for ``save``."""
        done = connection.execute(
            "UPDATE cdc_checkpoint SET phase = 'streaming', position = ?"
            " WHERE pipeline = ? AND epoch = ?",
            (position, self.pipeline, self.epoch),
        )
        if done.rowcount == 0:
            raise self.fenced()
        self.identify(connection, identity)

    # --- parts ------------------------------------------------------------------------------------

    def _check_open(self, connection: Connection) -> None:
        """A ledger of our version, and a write-ahead log. Raises ConfigurationError."""
        check_version(connection)
        keep_log(connection, self._path)

    def _check_free(self, sign: Sign | None) -> None:
        if sign is not None and sign.alive:
            raise Fenced(
                f"Pipeline {sign.pipeline} is held by {sign.holder} (process {sign.pid},"
                f" seen {sign.age:.0f} s ago)."
            )

    def _check_only(self, connection: Connection) -> None:
        """One database, one pipeline."""
        other = connection.execute(
            "SELECT pipeline FROM cdc_checkpoint WHERE pipeline <> ?", (self.pipeline,)
        ).fetchone()
        if other is not None:
            what = f"the control database belongs to pipeline {other[0]}, not to {self.pipeline}"
            cure = "an SQLite control database has one pipeline: give each its own"
            raise ConfigurationError([Problem(what=what, where="target", cure=cure)])

    def _take(self, connection: Connection, row: Checkpoint) -> Checkpoint:
        """Raise the epoch; it is ours once the transaction has committed."""
        self._last = max(self._last, row.updated_at or _EPOCH, row.generation_started or _EPOCH)
        connection.execute(_TAKE, (self.holder, os.getpid(), self.moment(), self.pipeline))
        return self._row(connection)

    def _taken(self, row: Checkpoint) -> Checkpoint:
        self.epoch = row.epoch
        self._tried = None
        return row

    def _is_ours(self, row: Checkpoint) -> bool:
        """Whether the epoch is the one we have, or tried to have by a COMMIT that raised: its
        moment tells it from somebody else's of the same number."""
        tried = self._tried
        ours = tried and (row.epoch, row.updated_at) == (tried.epoch, tried.updated_at)
        return bool(self.epoch and (row.epoch == self.epoch or ours))

    def _row(self, connection: Connection) -> Checkpoint:
        """The checkpoint as it stands. Raises Fenced when there is none."""
        row = connection.execute(_ROW, (self.pipeline,)).fetchone()
        if row is None:
            raise self.fenced()
        self.started = row[9]
        return checkpoint_of(row, sign_of(self._path))


def moved() -> Unreachable:
    """The error of a file that is not at its place, or not the one there."""
    return Unreachable(
        "The control database's file was moved or replaced.",
        hint="what is open is no longer what target.url names: it is opened again",
    )


def check_version(connection: Connection) -> None:
    """Refuse a ledger that is missing or of another version. Raises ConfigurationError."""
    problem = version_problem(connection)
    if problem is not None:
        raise ConfigurationError([problem])


def version_problem(connection: Connection) -> Problem | None:
    """What is wrong with the ledger as a whole."""
    cure = "run cdc-daemon apply"
    try:
        row = connection.execute("SELECT version FROM cdc_meta").fetchone()
    except sqlite3.OperationalError as exc:
        if "no such table" not in str(exc):
            raise
        row = None
    if row is None:
        return Problem(what="the control database has no ledger", where="cdc_meta", cure=cure)
    words = version_words(row[0])
    return Problem(what=words[0], where="cdc_meta", cure=words[1]) if words else None


def checkpoints(connection: Connection, path: str) -> list[Checkpoint]:
    """Every checkpoint of the database."""
    sign = sign_of(path)
    rows = connection.execute(f"SELECT {_COLUMNS} FROM cdc_checkpoint ORDER BY pipeline")
    return [checkpoint_of(row, sign) for row in rows]


def checkpoint_of(row: tuple[object, ...], sign: Sign | None) -> Checkpoint:
    """A checkpoint from its row; ``sign``: who holds the database."""
    found = dict(zip(_COLUMNS.replace(" ", "").split(","), row, strict=True))
    identity = None
    if found["system"] is not None:
        identity = SourceIdentity(
            system=str(found["system"]),
            timeline=int(str(found["timeline"])),
            database=str(found["database"]),
            publication=str(found["publication"]),
        )
    seen = sign is not None and sign.present and sign.pipeline == found["pipeline"]
    return Checkpoint(
        pipeline=str(found["pipeline"]),
        phase=Phase(found["phase"]),
        epoch=int(str(found["epoch"])),
        identity=identity,
        slot=_text(found["slot"]),
        generation=int(str(found["generation"])),
        generation_started=moment_in(found["generation_started"]),
        position=_text(found["position"]),
        commit_time=moment_in(found["commit_time"]),
        transactions=int(str(found["transactions"])),
        changes=int(str(found["changes"])),
        holder=str(found["holder"]),
        backend_pid=None if found["holder_pid"] is None else int(str(found["holder_pid"])),
        seen_at=dt.datetime.fromtimestamp(sign.seen, dt.UTC) if sign and seen else None,
        updated_at=moment_in(found["updated_at"] or None),
    )


def moment_text(moment: dt.datetime) -> str:
    """A moment as the ledger keeps it."""
    return f"{moment:%Y-%m-%d %H:%M:%S.%f}+00"


def moment_of(microseconds: int) -> str:
    """A number of microseconds since 1970 as the ledger keeps it."""
    return moment_text(_EPOCH + dt.timedelta(microseconds=microseconds))


def moment_in(text: object) -> dt.datetime | None:
    """A moment of the ledger."""
    return None if text is None else dt.datetime.fromisoformat(str(text))


@contextmanager
def writing(connection: Connection) -> Iterator[None]:
    """One write transaction, rolled back where an exception leaves it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _identity(identity: SourceIdentity) -> tuple[object, ...]:
    return identity.system, identity.timeline, identity.database, identity.publication


def _text(value: object) -> str | None:
    return None if value is None else str(value)
