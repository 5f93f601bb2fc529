"""``Sink`` on MySQL: one pipeline's hold on the control database.

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

from cdc_daemon.model.effects import Layout
from cdc_daemon.model.entities import Entity
from cdc_daemon.model.errors import ConfigurationError, Unreachable
from cdc_daemon.model.findings import Finding
from cdc_daemon.model.ports import Command, CopiedMapping, Verification
from cdc_daemon.model.position import Checkpoint, SourceIdentity
from cdc_daemon.model.queue import PARKED, Failure, Kept
from cdc_daemon.model.selection import Selection
from cdc_daemon.sinks.mysql import (
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
from cdc_daemon.sinks.mysql.checkpoint import Lease
from cdc_daemon.sinks.mysql.dangling import References
from cdc_daemon.sinks.mysql.session import Session, connect, translated
from cdc_daemon.sinks.mysql.unit import MysqlUnit, Shapes

_HEARTBEAT = {"innodb_lock_wait_timeout": "5", "lock_wait_timeout": "5"}


class MysqlSink:
    """The control database, held by one pipeline's worker under its epoch.

    ``conninfo``: keywords of ``config.mysql_address``; never logged. ``entities``: all that tables
    are kept for. ``layouts``: the pipeline's mappings. Nothing connects before it is asked for.
    """

    def __init__(
        self,
        conninfo: Mapping[str, str],
        pipeline: str,
        entities: Mapping[str, Entity],
        layouts: Sequence[Layout],
        *,
        instance: str | None = None,
    ) -> None:
        self._conninfo = conninfo  # whose password may be read anew
        self._application = f"cdc_daemon:{pipeline}"
        self._entities = dict(entities)
        self._layouts = tuple(layouts)
        self._lease = Lease(pipeline, instance or f"{socket.gethostname()}:{os.getpid()}")
        self._shapes = Shapes()
        self._references = References(self._entities)
        self._session: Session | None = None
        self._pulse: Session | None = None
        self._pulse_lock = threading.Lock()

    # --- holding ------------------------------------------------------------------------------

    def examine(self) -> list[Finding]:
        """The findings of every check. Raises Unreachable, and ConfigurationError for a wrong
        password or database."""
        session = connect(self._conninfo, self._application)
        try:
            return checks.examine(self._examined(session))
        finally:
            session.close()

    def watch(self) -> list[Finding]:
        """The findings of the watched checks, over the session that writes."""
        return checks.watch(self._examined(self._live()))

    def _examined(self, session: Session) -> checks.Examined:
        return checks.Examined(session, self._conninfo, self._entities, self._layouts)

    def acquire(self) -> Checkpoint:
        """Take the pipeline (raise the epoch) or raise Fenced naming the holder."""
        self._drop_session()
        session = connect(self._conninfo, self._application)
        try:
            with translated():
                checkpoint = self._lease.acquire(session)
        except BaseException:
            session.close()
            raise
        self._session = session
        return checkpoint

    def recover(self) -> Checkpoint:
        """After a lost connection: reconnect, raise our own epoch, read the checkpoint again.

        Raises Unreachable (also when the database refuses us now, for it did not before), Fenced.
        """
        self._drop_session()
        try:
            session = connect(self._conninfo, self._application)
        except ConfigurationError as exc:
            raise Unreachable(str(exc)) from exc
        try:
            with translated():
                checkpoint = self._lease.recover(session)
        except BaseException:
            session.close()
            raise
        self._session = session
        return checkpoint

    def heartbeat(self) -> None:
        """Attest on a connection of its own that this holder lives; any thread. Raises Fenced."""
        with self._pulse_lock:
            if self._pulse is None or not self._pulse.alive:
                self._pulse = connect(self._conninfo, f"{self._application}:heartbeat", _HEARTBEAT)
            try:
                with translated():
                    self._lease.seen(self._pulse)
            except Unreachable:
                self._pulse.close()
                raise

    def close(self) -> None:
        """Release the epoch's holder mark and close; never raises."""
        session = self._session
        if session is not None and session.alive:
            with suppress(Exception):
                self._lease.release(session)
        self._drop_session()
        with self._pulse_lock:
            if self._pulse is not None:
                self._pulse.close()

    # --- units of work ------------------------------------------------------------------------

    @contextmanager
    def begin(self) -> Iterator[MysqlUnit]:
        """Open a unit of work; leaving it commits, an exception rolls back.

        Raises Unreachable when the connection is lost: then only :meth:`recover` helps, for nobody
        knows whether a COMMIT under way took effect.
        """
        unit = MysqlUnit(self._live(), self._lease, self._shapes, self._references)
        try:
            yield unit
            unit.commit()
        except BaseException:
            unit.rollback()
            raise

    def begin_generation(self, slot: str, identity: SourceIdentity) -> Checkpoint:
        """Commit a ``snapshotting`` checkpoint that names slot and a new generation."""
        with self._writing() as session:
            before = self._lease.generation(session)
            by = f"snapshot generation {before + 1}"
            failures.supersede(session.run, self._lease.pipeline, by)
            return self._lease.begin_generation(session, slot, identity)

    def save_progress(self, position: str) -> None:
        """Checkpoint idle progress."""
        with self.begin() as unit:
            unit.save_checkpoint(position, commit_time=None, transactions=0, changes=0)

    def save_identity(self, identity: SourceIdentity) -> Checkpoint:
        """Note what the source is by now, after it was checked against the checkpoint."""
        with translated():
            return self._lease.identify(self._live(), identity)

    def copied_mappings(self) -> dict[str, CopiedMapping]:
        """What a unit noted last, by mapping."""
        with translated():
            return copied.read(self._live().run, self._lease.pipeline)

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
            return awaiting.due(self._live(), self._lease.pipeline, limit)

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
            return kept.read(self._live().run, self._lease.pipeline, after, most)

    def purge(self, selection: Selection, most: int) -> int:
        """Delete settled changes of the pipeline that are meant. Raises Fenced."""
        ours = replace(selection, pipeline=self._lease.pipeline)
        with self._writing() as session:
            done = queue.purge(session, ours, most)
            self._lease.seen(session)
            return done

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
        with self._writing() as session:
            commands.finish(session, command, ok=ok, result=result)
            self._lease.seen(session)

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        """The session with a transaction around what is done."""
        session = self._live()
        with translated(), session.transaction():
            yield session

    def _live(self) -> Session:
        if self._session is None or not self._session.alive:
            raise Unreachable("The connection to the control database was lost.")
        return self._session

    def _drop_session(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None
