"""``Control`` on PostgreSQL: what a command line or a page reads, and how it reaches a worker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import psycopg
from psycopg.rows import dict_row

from cdc_daemon.model.errors import Stop
from cdc_daemon.model.ports import Command, CopiedMapping, Verification, VerifiedMapping
from cdc_daemon.model.position import Checkpoint
from cdc_daemon.model.queue import PARKED, Edit, Failure, Kept
from cdc_daemon.model.selection import Selection, Tally
from cdc_daemon.sinks.postgres import commands, copied, edits, failures, kept, queue, verifications
from cdc_daemon.sinks.postgres.checkpoint import STALE_SECONDS, check_version, checkpoint_of
from cdc_daemon.sinks.postgres.errors import translate
from cdc_daemon.sinks.postgres.session import Connection, connect

_ALIVE = """
    SELECT EXISTS (
        SELECT FROM cdc.checkpoint c JOIN pg_stat_activity a
            ON a.pid = c.backend_pid
           AND (a.backend_start = c.backend_start OR a.backend_start IS NULL)
         WHERE c.pipeline = %(pipeline)s
           AND c.seen_at > clock_timestamp() - make_interval(secs => %(stale)s))"""

_PARKED = """
    SELECT pipeline, count(*) FROM cdc.failure WHERE state = 'parked' GROUP BY pipeline"""
_COPIED = """
    SELECT b.pipeline, b.mapping, sum(b.rows)::bigint
      FROM cdc.backfill_chunk b JOIN cdc.checkpoint c USING (pipeline, generation)
     GROUP BY b.pipeline, b.mapping ORDER BY b.pipeline, b.mapping"""


class PostgresControl:
    """The control database seen from outside the worker. Connects at first use; one thread."""

    def __init__(self, conninfo: Mapping[str, str], schema: str = "public") -> None:
        self._conninfo = conninfo  # whose password may be read anew
        self._schema = schema
        self._connected: Connection | None = None

    def checkpoints(self) -> list[Checkpoint]:
        """Every pipeline's checkpoint."""
        with self._connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute("SELECT * FROM cdc.checkpoint ORDER BY pipeline")
            return [checkpoint_of(row) for row in rows]

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
        params = {"pipeline": pipeline, "stale": STALE_SECONDS}
        with self._connection() as connection:
            row = connection.execute(_ALIVE, params).fetchone()
        return bool(row and row[0])

    def submit(self, pipeline: str, verb: str, arguments: dict[str, object], actor: str) -> int:
        """Queue a command; its id."""
        with self._connection() as connection:
            return commands.submit(connection, pipeline, verb, arguments, actor)

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
            return commands.withdraw(connection, number, reason)

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

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        try:
            if self._connected is None or self._connected.closed:
                self._connected = connect(self._conninfo, "cdc_daemon:control")
                check_version(self._connected)
            yield self._connected
        except psycopg.Error as exc:
            self.close()
            raise translate(exc) from exc
