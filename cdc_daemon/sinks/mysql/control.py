"""``Control`` on MySQL: what a command line or a page reads, and how it reaches a worker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from cdc_daemon.model.errors import Stop
from cdc_daemon.model.ports import Command, CopiedMapping, Verification, VerifiedMapping
from cdc_daemon.model.position import Checkpoint
from cdc_daemon.model.queue import PARKED, Edit, Failure, Kept
from cdc_daemon.model.selection import Selection, Tally
from cdc_daemon.sinks.mysql import commands, copied, edits, failures, kept, queue, verifications
from cdc_daemon.sinks.mysql.checkpoint import check_version, checkpoints, held_pipelines
from cdc_daemon.sinks.mysql.session import Session, connect, translated

_PARKED = """
    SELECT pipeline, COUNT(*) FROM cdc_failure WHERE state = 'parked' GROUP BY pipeline"""
_COPIED = """
    SELECT b.pipeline, b.mapping, SUM(b.`rows`)
      FROM cdc_backfill_chunk b JOIN cdc_checkpoint c USING (pipeline, generation)
     GROUP BY b.pipeline, b.mapping ORDER BY b.pipeline, b.mapping"""


class MysqlControl:
    """The control database seen from outside the worker. Connects at first use; one thread."""

    def __init__(self, conninfo: Mapping[str, str]) -> None:
        self._conninfo = conninfo  # whose password may be read anew
        self._connected: Session | None = None

    def checkpoints(self) -> list[Checkpoint]:
        """Every pipeline's checkpoint."""
        with self._session() as session:
            return checkpoints(session)

    def failures(self, selection: Selection = PARKED, limit: int | None = None) -> list[Failure]:
        """The changes that are meant, in source order; so many at most."""
        with self._session() as session:
            return failures.select(session, selection, limit)

    def tallies(self, selection: Selection = PARKED) -> list[Tally]:
        """How many changes are meant, by pipeline, entity, error and state."""
        with self._session() as session:
            return queue.tallies(session, selection)

    def blocked(self) -> dict[str, int]:
        """How many lanes parked changes block, by pipeline where there are any."""
        with self._session() as session:
            return queue.blocked(session)

    def kept_payloads(self, after: int, most: int) -> list[Kept]:
        """Payloads of changes behind an id, of so many changes at most, and of their edits."""
        with self._session() as session:
            return kept.read(session.run, None, after, most)

    def edits(self, failure: int) -> list[Edit]:
        """What was edited in a change, oldest first."""
        with self._session() as session:
            return edits.read(session.run, failure)

    def holder_alive(self, pipeline: str) -> bool:
        """Whether a worker holds the pipeline now."""
        with self._session() as session:
            return pipeline in held_pipelines(session)

    def submit(self, pipeline: str, verb: str, arguments: dict[str, object], actor: str) -> int:
        """Queue a command; its id."""
        with self._session() as session:
            return commands.submit(session, pipeline, verb, arguments, actor)

    def command(self, number: int) -> Command:
        """A command with its state and result. Raises Stop when there is none."""
        with self._session() as session:
            found = commands.get(session, number)
        if found is None:
            raise Stop(f"There is no command {number}.")
        return found

    def withdraw(self, number: int, reason: str) -> bool:
        """Let a command that still waits fail; whether it still waited."""
        with self._session() as session:
            return commands.withdraw(session, number, reason)

    def begin_verification(self, pipeline: str, origin: str, actor: str, *, whole: bool) -> int:
        """Note that a verification begins; its number."""
        with self._session() as session, session.transaction():
            return verifications.begin(session, pipeline, origin, actor, whole=whole)

    def finish_verification(
        self, number: int, state: str, error: str | None, mappings: Sequence[VerifiedMapping]
    ) -> None:
        """Note what it found."""
        with self._session() as session, session.transaction():
            verifications.finish(session, number, state, error, mappings)

    def verification(self, pipeline: str) -> Verification | None:
        """How the pipeline's newest verification went; None: there was none."""
        with self._session() as session:
            return verifications.latest(session, pipeline)

    def parked(self) -> dict[str, int]:
        """How many changes stand in the failure queue, by pipeline where there are any."""
        with self._session() as session:
            rows = session.run(_PARKED).rows
        return {(pipeline or b"").decode(): int(number or b"0") for pipeline, number in rows}

    def copied(self) -> dict[str, dict[str, int]]:
        """Rows that the present generation's snapshot has committed, by pipeline and mapping."""
        found: dict[str, dict[str, int]] = {}
        with self._session() as session:
            for row in session.run(_COPIED).rows:
                pipeline, mapping, rows = [(one or b"").decode() for one in row]
                found.setdefault(pipeline, {})[mapping] = int(rows)
        return found

    def copied_mappings(self, pipeline: str) -> dict[str, CopiedMapping]:
        """By which mappings the pipeline's rows were copied; empty: nothing was ever noted."""
        with self._session() as session:
            return copied.read(session.run, pipeline)

    def close(self) -> None:
        """Close the connection; never raises."""
        if self._connected is not None:
            self._connected.close()
        self._connected = None

    @contextmanager
    def _session(self) -> Iterator[Session]:
        try:
            with translated():
                if self._connected is None or not self._connected.alive:
                    self._connected = connect(self._conninfo, "cdc_daemon:control")
                    check_version(self._connected)
                yield self._connected
        except Exception:
            self.close()
            raise
