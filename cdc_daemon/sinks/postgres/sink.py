"""``Sink`` on PostgreSQL: one pipeline's hold on the control database.

One session carries the units of work; the heartbeat has one of its own, so that it goes on while a
unit is busy. Only the heartbeat may come from another thread.
"""

from __future__ import annotations

import datetime as dt
import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

import psycopg

from cdc_daemon.model.effects import Layout
from cdc_daemon.model.entities import Entity
from cdc_daemon.model.errors import ConfigurationError, Problem, Unreachable
from cdc_daemon.model.findings import Finding, refusals
from cdc_daemon.model.ports import Command, CopiedMapping, Verification
from cdc_daemon.model.position import Checkpoint, SourceIdentity
from cdc_daemon.model.queue import PARKED, Failure, Kept
from cdc_daemon.model.selection import Selection
from cdc_daemon.sinks.postgres import (
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
from cdc_daemon.sinks.postgres.checkpoint import Lease
from cdc_daemon.sinks.postgres.dangling import References
from cdc_daemon.sinks.postgres.errors import translate
from cdc_daemon.sinks.postgres.session import Connection, Session, connect
from cdc_daemon.sinks.postgres.unit import PostgresUnit, Shapes

_HEARTBEAT = {"lock_timeout": "'5s'", "statement_timeout": "'10s'"}


class PostgresSink:
    """The control database, held by one pipeline's worker under its epoch.

    ``conninfo``: libpq keywords; never logged. ``entities``: all that tables are kept for.
    ``layouts``: the pipeline's mappings. Nothing connects before it is asked for.
    """

    def __init__(
        self,
        conninfo: Mapping[str, str],
        pipeline: str,
        entities: Mapping[str, Entity],
        layouts: Sequence[Layout],
        *,
        schema: str = "public",
        instance: str | None = None,
    ) -> None:
        self._conninfo = conninfo  # whose password may be read anew
        self._application = f"cdc_daemon:{pipeline}"
        self._entities = dict(entities)
        self._layouts = tuple(layouts)
        self._schema = schema
        self._lease = Lease(pipeline, instance or f"{socket.gethostname()}:{os.getpid()}")
        self._shapes = Shapes(schema, pipeline)
        self._references = References(self._entities, schema)
        self._session: Session | None = None
        self._pulse: Connection | None = None
        self._pulse_lock = threading.Lock()

    # --- holding ------------------------------------------------------------------------------

    def check(self) -> list[Problem]:
        """Why a worker must not start. Raises as :meth:`examine`."""
        return refusals(self.examine())

    def examine(self) -> list[Finding]:
        """The findings of every check. Raises Unreachable, and ConfigurationError for a wrong
        password or database."""
        connection = connect(self._conninfo, self._application)
        try:
            return checks.examine(self._examined(connection))
        finally:
            connection.close()

    def watch(self) -> list[Finding]:
        """The findings of the watched checks, over the session that writes."""
        return checks.watch(self._examined(self._live().connection))

    def _examined(self, connection: Connection) -> checks.Examined:
        return checks.Examined(
            connection, self._conninfo, self._entities, self._layouts, self._schema
        )

    def acquire(self) -> Checkpoint:
        """Take the pipeline (raise the epoch) or raise Fenced naming the holder."""
        self._drop_session()
        session = Session(connect(self._conninfo, self._application))
        try:
            checkpoint = self._lease.acquire(session.connection)
        except BaseException as exc:
            session.close()
            if isinstance(exc, psycopg.Error):
                raise translate(exc) from exc
            raise
        self._session = session
        return checkpoint

    def recover(self) -> Checkpoint:
        """After a lost connection: reconnect, raise our own epoch, read the checkpoint again.

        Raises Unreachable (also when the database refuses us now, for it did not before), Fenced.
        """
        self._drop_session()
        try:
            session = Session(connect(self._conninfo, self._application))
        except ConfigurationError as exc:
            raise Unreachable(str(exc)) from exc
        try:
            checkpoint = self._lease.recover(session.connection)
        except BaseException as exc:
            session.close()
            if isinstance(exc, psycopg.Error):
                raise translate(exc) from exc
            raise
        self._session = session
        return checkpoint

    def heartbeat(self) -> None:
        """Attest on a connection of its own that this holder lives; any thread. Raises Fenced."""
        with self._pulse_lock:
            if self._pulse is None or self._pulse.closed:
                self._pulse = connect(self._conninfo, f"{self._application}:heartbeat", _HEARTBEAT)
            try:
                self._lease.seen(self._pulse)
            except psycopg.Error as exc:
                self._pulse.close()
                raise translate(exc) from exc

    def close(self) -> None:
        """Release the epoch's holder mark and close; never raises."""
        session = self._session
        if session is not None and session.alive:
            with suppress(Exception):
                self._lease.release(session.connection)
        self._drop_session()
        with self._pulse_lock, suppress(Exception):
            if self._pulse is not None:
                self._pulse.close()

    # --- units of work ------------------------------------------------------------------------

    @contextmanager
    def begin(self) -> Iterator[PostgresUnit]:
        """Open a unit of work; leaving it commits, an exception rolls back.

        Raises Unreachable when the connection is lost: then only :meth:`recover` helps, for nobody
        knows whether a COMMIT under way took effect.
        """
        unit = PostgresUnit(self._live(), self._lease, self._shapes, self._references)
        try:
            yield unit
            unit.commit()
        except BaseException:
            unit.rollback()
            raise

    def begin_generation(self, slot: str, identity: SourceIdentity) -> Checkpoint:
        """Commit a ``snapshotting`` checkpoint that names slot and a new generation."""
        with self._connection() as connection, connection.transaction():
            before, _ = self._lease.generation(connection)
            by = f"snapshot generation {before + 1}"
            failures.supersede(connection, self._lease.pipeline, by)
            return self._lease.begin_generation(connection, slot, identity)

    def save_progress(self, position: str) -> None:
        """Checkpoint idle progress."""
        with self.begin() as unit:
            unit.save_checkpoint(position, commit_time=None, transactions=0, changes=0)

    def save_identity(self, identity: SourceIdentity) -> Checkpoint:
        """Note what the source is by now, after it was checked against the checkpoint."""
        with self._connection() as connection:
            return self._lease.identify(connection, identity)

    def copied_mappings(self) -> dict[str, CopiedMapping]:
        """What a unit noted last, by mapping."""
        with self._connection() as connection:
            return copied.read(connection, self._lease.pipeline)

    # --- reading ------------------------------------------------------------------------------

    def lanes(self) -> dict[bytes, str]:
        """Digest of every blocked lane of the pipeline, and the mapping it belongs to."""
        with self._connection() as connection:
            return failures.lanes(connection, self._lease.pipeline)

    def still_blocked(self, lanes: Sequence[bytes], before: int | None = None) -> set[bytes]:
        """Those of these lanes that some parked change (before that id) of the pipeline blocks."""
        with self._connection() as connection:
            return failures.still_blocked(connection, self._lease.pipeline, lanes, before)

    def tripped(self) -> str | None:
        """Why the breaker has stopped the pipeline; None: it has not."""
        with self._connection() as connection:
            return breaker.tripped(connection, self._lease.pipeline)

    def disarmed(self) -> float:
        """Seconds for which the breaker may not stop the pipeline again."""
        with self._connection() as connection:
            return breaker.left(connection, self._lease.pipeline)

    def awaited(self) -> set[bytes]:
        """Digests of the rows that the pipeline's parked changes wait for."""
        with self._connection() as connection:
            return awaiting.awaited(connection, self._lease.pipeline)

    def due(self, limit: int) -> list[int]:
        """Parked changes that are to be tried again by now, so many at most, in source order."""
        with self._connection() as connection:
            return awaiting.due(connection, self._lease.pipeline, limit)

    def behind(self, failures: Sequence[int]) -> set[int]:
        """Which of these have an earlier parked change in one of their lanes."""
        with self._connection() as connection:
            return awaiting.behind(connection, failures)

    def parked(self) -> dict[tuple[str, str], int]:
        """How many changes stand in the failure queue, by mapping and error."""
        with self._connection() as connection:
            return failures.parked(connection, self._lease.pipeline)

    def parked_since(self) -> dt.datetime | None:
        """When the oldest change of the failure queue was parked; None: it is empty."""
        with self._connection() as connection:
            return failures.parked_since(connection, self._lease.pipeline)

    def failures(self, selection: Selection = PARKED, limit: int | None = None) -> list[Failure]:
        """The changes of the pipeline that are meant, in source order; so many at most."""
        ours = replace(selection, pipeline=self._lease.pipeline)
        with self._connection() as connection:
            return failures.select(connection, ours, limit)

    def kept_payloads(self, after: int, most: int) -> list[Kept]:
        """Payloads of the pipeline's changes behind an id, of so many changes at most."""
        with self._connection() as connection:
            return kept.read(connection, self._lease.pipeline, after, most)

    def purge(self, selection: Selection, most: int) -> int:
        """Delete settled changes of the pipeline that are meant. Raises Fenced."""
        ours = replace(selection, pipeline=self._lease.pipeline)
        with self._connection() as connection, connection.transaction():
            done = queue.purge(connection, ours, most)
            self._lease.seen(connection)
            return done

    def verification(self) -> Verification | None:
        """How the pipeline's newest verification went; None: there was none."""
        with self._connection() as connection:
            return verifications.latest(connection, self._lease.pipeline)

    def commands(self) -> list[Command]:
        """Pending commands for the pipeline, oldest first."""
        with self._connection() as connection:
            return commands.pending(connection, self._lease.pipeline)

    def finish_command(self, command: int, *, ok: bool, result: dict[str, object]) -> None:
        """Note the result of a command that is still pending.

        Raises Fenced: then the new holder carries it out.
        """
        with self._connection() as connection, connection.transaction():
            commands.finish(connection, command, ok=ok, result=result)
            self._lease.seen(connection)

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        session = self._live()
        try:
            yield session.connection
        except psycopg.Error as exc:
            raise translate(exc) from exc

    def _live(self) -> Session:
        if self._session is None or not self._session.alive:
            raise Unreachable("The connection to the control database was lost.")
        return self._session

    def _drop_session(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None
