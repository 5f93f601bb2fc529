"""``Sink`` on SQLite: one pipeline's hold on the control database.

One connection carries the units of work. The heartbeat touches the holder's file and no connection,
so it goes on while a unit is busy; only it may come from another thread.
"""

from __future__ import annotations

import datetime as dt
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace

from cdc_daemon.model.effects import Layout
from cdc_daemon.model.entities import Entity
from cdc_daemon.model.errors import ConfigurationError, PreflightRefusal, Unreachable
from cdc_daemon.model.findings import Finding
from cdc_daemon.model.ports import Command, CopiedMapping, Verification
from cdc_daemon.model.position import Checkpoint, SourceIdentity
from cdc_daemon.model.queue import PARKED, Failure, Kept
from cdc_daemon.model.selection import Selection
from cdc_daemon.sinks.sqlite import (
    awaiting,
    breaker,
    checks,
    commands,
    copied,
    failures,
    kept,
    queue,
    verifications,
)
from cdc_daemon.sinks.sqlite.checkpoint import Lease, moment_text, moved, writing
from cdc_daemon.sinks.sqlite.dangling import References
from cdc_daemon.sinks.sqlite.database import Connection, connect, translated
from cdc_daemon.sinks.sqlite.identity import FileIdentity, file_identity
from cdc_daemon.sinks.sqlite.unit import Shapes, SqliteUnit


class SqliteSink:
    """The control database, held by one pipeline's worker under its epoch.

    ``path``: the database's file. ``entities``: all that tables are kept for. ``layouts``: the
    pipeline's mappings. Nothing is opened before it is asked for.
    """

    def __init__(
        self,
        path: str,
        pipeline: str,
        entities: Mapping[str, Entity],
        layouts: Sequence[Layout],
        *,
        instance: str | None = None,
    ) -> None:
        self._path = path
        self._entities = dict(entities)
        self._layouts = tuple(layouts)
        self._lease = Lease(path, pipeline, instance or f"{socket.gethostname()}:{os.getpid()}")
        self._shapes = Shapes()
        self._references = References(self._entities)
        self._connected: Connection | None = None

    # --- holding ------------------------------------------------------------------------------

    def examine(self) -> list[Finding]:
        """The findings of every check. Raises Unreachable, or ConfigurationError for a file that is
        not there."""
        with closing(connect(self._path, read_only=True)) as connection:
            return checks.examine(self._examined(connection))

    def watch(self) -> list[Finding]:
        """The findings of the watched checks."""
        return checks.watch(self._examined(self._live()))

    def _examined(self, connection: Connection) -> checks.Examined:
        return checks.Examined(
            path=self._path,
            connection=connection,
            entities=self._entities,
            layouts=self._layouts,
        )

    def acquire(self) -> Checkpoint:
        """Take the pipeline (raise the epoch) or raise Fenced naming the holder."""
        self._drop_connection()
        file = file_identity(self._path)
        connection = self._opened(file)
        try:
            with translated():
                checkpoint = self._lease.acquire(connection, file)
        except BaseException:
            connection.close()
            self._lease.forget()
            raise
        self._connected = connection
        return checkpoint

    def recover(self) -> Checkpoint:
        """After an error: open the file again, raise our own epoch, read the checkpoint again.

        Raises Unreachable (also when the file is not there now, for it was before), Fenced, and
        Stop when another file lies at its place.
        """
        self._drop_connection()
        file = file_identity(self._path)
        self._lease.check_file(file)
        try:
            connection = self._opened(file)
        except PreflightRefusal:
            raise
        except ConfigurationError as exc:
            raise Unreachable(str(exc)) from exc
        try:
            with translated():
                checkpoint = self._lease.recover(connection)
        except BaseException:
            connection.close()
            raise
        self._connected = connection
        return checkpoint

    def heartbeat(self) -> None:
        """Attest that this holder lives; any thread. Raises Fenced."""
        self._lease.seen()

    def close(self) -> None:
        """Release the epoch's holder mark and close; never raises."""
        if self._connected is not None:
            with suppress(Exception):
                self._lease.release(self._connected)
        self._drop_connection()  # first: where nobody reads, the log goes with it
        self._lease.forget()

    # --- units of work ------------------------------------------------------------------------

    @contextmanager
    def begin(self) -> Iterator[SqliteUnit]:
        """Open a unit of work; leaving it commits, an exception rolls back."""
        unit = SqliteUnit(self._live(), self._lease, self._shapes, self._references)
        try:
            yield unit
            unit.commit()
        except BaseException:
            unit.rollback()
            raise

    def begin_generation(self, slot: str, identity: SourceIdentity) -> Checkpoint:
        """Commit a ``snapshotting`` checkpoint that names slot and a new generation."""
        with self._writing() as (connection, moment):
            found = self._lease.begin_generation(connection, slot, identity, moment)
            by = f"snapshot generation {found.generation}"
            failures.supersede(connection, self._lease.pipeline, by, moment)
            return found

    def save_progress(self, position: str) -> None:
        """Checkpoint idle progress."""
        with self.begin() as unit:
            unit.save_checkpoint(position, commit_time=None, transactions=0, changes=0)

    def save_identity(self, identity: SourceIdentity) -> Checkpoint:
        """Note what the source is by now, after it was checked against the checkpoint."""
        with self._writing() as (connection, _):
            return self._lease.identify(connection, identity)

    def copied_mappings(self) -> dict[str, CopiedMapping]:
        """What a unit noted last, by mapping."""
        with translated():
            return copied.read(self._live(), self._lease.pipeline)

    # --- reading ------------------------------------------------------------------------------

    def lanes(self) -> dict[bytes, str]:
        """Digest of every blocked lane of the pipeline, and the mapping it belongs to."""
        with translated():
            return failures.lanes(self._live(), self._lease.pipeline)

    def still_blocked(self, lanes: Sequence[bytes], before: int | None = None) -> set[bytes]:
        """Those of these lanes that some parked change (before that id) of the pipeline blocks."""
        with translated():
            return failures.still_blocked(self._live(), self._lease.pipeline, lanes, before)

    def tripped(self) -> str | None:
        """Why the breaker has stopped the pipeline; None: it has not."""
        with translated():
            return breaker.tripped(self._live(), self._lease.pipeline)

    def disarmed(self) -> float:
        """Seconds for which the breaker may not stop the pipeline again."""
        with translated():
            return breaker.left(self._live(), self._lease.pipeline)

    def awaited(self) -> set[bytes]:
        """Digests of the rows that the pipeline's parked changes wait for."""
        with translated():
            return awaiting.awaited(self._live(), self._lease.pipeline)

    def due(self, limit: int) -> list[int]:
        """Parked changes that are to be tried again by now, so many at most, in source order."""
        with translated():
            return awaiting.due(
                self._live(), self._lease.pipeline, moment_text(dt.datetime.now(dt.UTC)), limit
            )

    def behind(self, failures: Sequence[int]) -> set[int]:
        """Which of these have an earlier parked change in one of their lanes."""
        with translated():
            return awaiting.behind(self._live(), failures)

    def parked(self) -> dict[tuple[str, str], int]:
        """How many changes stand in the failure queue, by mapping and error."""
        with translated():
            return failures.parked(self._live(), self._lease.pipeline)

    def parked_since(self) -> dt.datetime | None:
        """When the oldest change of the failure queue was parked; None: it is empty."""
        with translated():
            return failures.parked_since(self._live(), self._lease.pipeline)

    def failures(self, selection: Selection = PARKED, limit: int | None = None) -> list[Failure]:
        """The changes of the pipeline that are meant, in source order; so many at most."""
        ours = replace(selection, pipeline=self._lease.pipeline)
        with translated():
            return failures.select(self._live(), ours, limit)

    def kept_payloads(self, after: int, most: int) -> list[Kept]:
        """Payloads of the pipeline's changes behind an id, of so many changes at most."""
        with translated():
            return kept.read(self._live(), self._lease.pipeline, after, most)

    def purge(self, selection: Selection, most: int) -> int:
        """Delete settled changes of the pipeline that are meant. Raises Fenced."""
        ours = replace(selection, pipeline=self._lease.pipeline)
        with self._writing() as (connection, _):
            return queue.purge(connection, ours, most)

    def verification(self) -> Verification | None:
        """How the pipeline's newest verification went; None: there was none."""
        with translated():
            return verifications.latest(self._live(), self._lease.pipeline)

    def commands(self) -> list[Command]:
        """Pending commands for the pipeline, oldest first."""
        with translated():
            return commands.pending(self._live(), self._lease.pipeline)

    def finish_command(self, command: int, *, ok: bool, result: dict[str, object]) -> None:
        """Note the result of a command that is still pending.

        Raises Fenced: then the new holder carries it out.
        """
        with self._writing() as (connection, moment):
            commands.finish(connection, command, ok=ok, result=result, moment=moment)

    @contextmanager
    def _writing(self) -> Iterator[tuple[Connection, str]]:
        """A transaction under our epoch, and its moment."""
        connection, moment = self._live(), self._lease.moment()
        with translated(), writing(connection):
            self._lease.hold(connection, moment)
            yield connection, moment

    def _opened(self, file: FileIdentity | None) -> Connection:
        """A connection to this very file. Raises Unreachable where another one came meanwhile."""
        connection = connect(self._path)
        if file_identity(self._path) != file:
            connection.close()
            raise moved()
        return connection

    def _live(self) -> Connection:
        if self._connected is None:
            raise Unreachable("The control database is not open.")
        return self._connected

    def _drop_connection(self) -> None:
        connection, self._connected = self._connected, None
        if connection is not None:
            with suppress(Exception):
                connection.close()
