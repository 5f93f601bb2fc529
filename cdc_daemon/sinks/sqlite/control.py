"""``Control`` on SQLite: what a command line or a page reads, and how it reaches a worker.

Reads go on while a unit of work is open; a command waits for its end, as far as the lock's timeout.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from cdc_daemon.model.errors import Stop
from cdc_daemon.model.ports import Command, CopiedMapping, Verification, VerifiedMapping
from cdc_daemon.model.position import Checkpoint
from cdc_daemon.model.queue import PARKED, Edit, Failure, Kept
from cdc_daemon.model.selection import Selection, Tally
from cdc_daemon.sinks.sqlite import commands, copied, edits, failures, kept, queue, verifications
from cdc_daemon.sinks.sqlite.checkpoint import check_version, checkpoints, moment_text
from cdc_daemon.sinks.sqlite.database import Connection, connect, translated
from cdc_daemon.sinks.sqlite.holder import sign_of

_PARKED = """
    SELECT pipeline, count(*) FROM cdc_failure WHERE state = 'parked' GROUP BY pipeline"""
_COPIED = """
    SELECT b.pipeline, b.mapping, sum(b.rows)
      FROM cdc_backfill_chunk b JOIN cdc_checkpoint c USING (pipeline, generation)
     GROUP BY b.pipeline, b.mapping ORDER BY b.pipeline, b.mapping"""


class SqliteControl:
    """The control database seen from outside the worker. Connects at first use; one thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._connected: Connection | None = None

    def checkpoints(self) -> list[Checkpoint]:
        """Every pipeline's checkpoint."""
        with self._connection() as connection:
            return checkpoints(connection, self._path)

    def failures(self, selection: Selection = PARKED, limit: int | None = None) -> list[Failure]:
        """The changes that are meant, in source order; so many at most."""
        with self._connection() as connection:
            return failures.select(connection, selection, limit)

    def tallies(self, selection: Selection = PARKED) -> list[Tally]:
        """How many changes are meant, by pipeline, entity, error and state."""
        with self._connection() as connection:
            return queue.tallies(connection, selection)

    def blocked(self) -> dict[str, int]:
        """How many lanes parked changes block, by pipeline where there are any."""
        with self._connection() as connection:
            return queue.blocked(connection)

    def kept_payloads(self, after: int, most: int) -> list[Kept]:
        """Payloads of changes behind an id, of so many changes at most, and of their edits."""
        with self._connection() as connection:
            return kept.read(connection, None, after, most)

    def edits(self, failure: int) -> list[Edit]:
        """What was edited in a change, oldest first."""
        with self._connection() as connection:
            return edits.read(connection, failure)

    def holder_alive(self, pipeline: str) -> bool:
        """Whether a worker holds the pipeline now."""
        sign = sign_of(self._path)
        return sign is not None and sign.alive and sign.pipeline == pipeline

    def submit(self, pipeline: str, verb: str, arguments: dict[str, object], actor: str) -> int:
        """Queue a command; its id."""
        with self._connection() as connection:
            return commands.submit(connection, pipeline, verb, arguments, actor, _now())

    def command(self, number: int) -> Command:
        """A command with its state and result. Raises Stop when there is none."""
        with self._connection() as connection:
            found = commands.get(connection, number)
        if found is None:
            raise Stop(f"There is no command {number}.")
        return found

    def withdraw(self, number: int, reason: str) -> bool:
        """Let a command that still waits fail; whether it still waited."""
        with self._connection() as connection:
            return commands.withdraw(connection, number, reason, _now())

    def begin_verification(self, pipeline: str, origin: str, actor: str, *, whole: bool) -> int:
        """Note that a verification begins; its number."""
        with self._connection() as connection:
            return verifications.begin(connection, pipeline, origin, actor, whole=whole)

    def finish_verification(
        self, number: int, state: str, error: str | None, mappings: Sequence[VerifiedMapping]
    ) -> None:
        """Note what it found."""
        with self._connection() as connection:
            verifications.finish(connection, number, state, error, mappings)

    def verification(self, pipeline: str) -> Verification | None:
        """How the pipeline's newest verification went; None: there was none."""
        with self._connection() as connection:
            return verifications.latest(connection, pipeline)

    def parked(self) -> dict[str, int]:
        """How many changes stand in the failure queue, by pipeline where there are any."""
        with self._connection() as connection:
            return dict(connection.execute(_PARKED).fetchall())

    def copied(self) -> dict[str, dict[str, int]]:
        """Rows that the present generation's snapshot has committed, by pipeline and mapping."""
        found: dict[str, dict[str, int]] = {}
        with self._connection() as connection:
            for pipeline, mapping, rows in connection.execute(_COPIED):
                found.setdefault(pipeline, {})[mapping] = rows
        return found

    def copied_mappings(self, pipeline: str) -> dict[str, CopiedMapping]:
        """By which mappings the pipeline's rows were copied; empty: nothing was ever noted."""
        with self._connection() as connection:
            return copied.read(connection, pipeline)

    def close(self) -> None:
        """Close the connection; never raises."""
        with suppress(Exception):
            if self._connected is not None:
                self._connected.close()
        self._connected = None

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        try:
            with translated():
                if self._connected is None:
                    self._connected = connect(self._path)
                    check_version(self._connected)
                yield self._connected
        except Exception:
            self.close()
            raise


def _now() -> str:
    return moment_text(dt.datetime.now(dt.UTC))
