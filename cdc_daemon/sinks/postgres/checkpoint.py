"""The checkpoint row: taking it, keeping it, moving it; fencing by its epoch.

The row names who holds the pipeline: instance, backend and when it was last seen. Whoever wants to
write must find the epoch it holds; so a holder that was taken over can only fail, however late its
statements arrive.

Rows are told from those of an earlier copy by the moment at which they were written. So time must
not go back here though the server's clock does: ``updated_at`` is never before what any unit wrote,
a copy begins only after it, and no unit ends whose transaction began before its copy did.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.rows import dict_row

from cdc_daemon.model.errors import ConfigurationError, Fenced, Problem, Retryable
from cdc_daemon.model.position import Checkpoint, Phase, SourceIdentity
from cdc_daemon.sinks.postgres.session import Connection
from cdc_daemon.sinks.postgres.wire import Call, Param, Statement
from cdc_daemon.sinks.versions import version_words

STALE_SECONDS = 30
"""A holder that was not seen for so long may be taken over, even if its backend lives."""

FENCED = "22012"
"""What the end of a unit fails with when the epoch is not ours: it divides by the rows it found."""

CLOCK_BEHIND = "2201F"
"""What it fails with when the unit began before its copy did: the root of a negative time."""

_CLOCK_HINT = (
    "it goes on by itself when the clock is past that moment; what to do when it is wrong, or was:"
    " docs/operations/clock-set-back.md"
)

_HELD = """
    SELECT c.holder, c.backend_pid, c.backend_start, c.epoch,
           a.pid IS NOT NULL AND c.backend_pid <> pg_backend_pid() AS present,
           c.seen_at > clock_timestamp() - make_interval(secs => %(stale)s) AS fresh,
           extract(epoch FROM clock_timestamp() - c.seen_at)::float8 AS age
      FROM cdc.checkpoint c
      LEFT JOIN pg_stat_activity a
        ON a.pid = c.backend_pid
       AND (a.backend_start = c.backend_start OR a.backend_start IS NULL)
     WHERE c.pipeline = %(pipeline)s"""
_HOLDERS = """
    SELECT c.pipeline, c.holder
      FROM cdc.checkpoint c
      JOIN pg_stat_activity a
        ON a.pid = c.backend_pid
       AND (a.backend_start = c.backend_start OR a.backend_start IS NULL)
     WHERE c.seen_at > clock_timestamp() - make_interval(secs => %(stale)s)
     ORDER BY c.pipeline"""
_TAKE = """
    UPDATE cdc.checkpoint
       SET epoch = epoch + 1, holder = %(holder)s, backend_pid = pg_backend_pid(),
           backend_start = (SELECT a.backend_start FROM pg_stat_activity a
                             WHERE a.pid = pg_backend_pid()),
           seen_at = clock_timestamp(), updated_at = greatest(updated_at, clock_timestamp())
     WHERE pipeline = %(pipeline)s AND epoch = %(epoch)s
    RETURNING *"""
_TERMINATE = """
    SELECT pg_terminate_backend(a.pid)
      FROM cdc.checkpoint c JOIN pg_stat_activity a
        ON a.pid = c.backend_pid AND a.backend_start = c.backend_start
     WHERE c.pipeline = %(pipeline)s AND c.epoch = %(epoch)s AND a.pid <> pg_backend_pid()"""
_RELEASE = """
    UPDATE cdc.checkpoint SET holder = '', backend_pid = NULL, backend_start = NULL, seen_at = NULL
     WHERE pipeline = %(pipeline)s AND epoch = %(epoch)s"""
_SEEN = """
    UPDATE cdc.checkpoint SET seen_at = clock_timestamp()
     WHERE pipeline = %(pipeline)s AND epoch = %(epoch)s"""
_BEGIN_GENERATION = """
    UPDATE cdc.checkpoint
       SET phase = 'snapshotting', generation = generation + 1,
           generation_started = greatest(now(), updated_at + interval '1 microsecond'),
           slot = %(slot)s, system = %(system)s, timeline = %(timeline)s, database = %(database)s,
           publication = %(publication)s, position = NULL, seen_at = clock_timestamp(),
           updated_at = greatest(updated_at, clock_timestamp())
     WHERE pipeline = %(pipeline)s AND epoch = %(epoch)s
    RETURNING *, extract(epoch FROM generation_started - now())::float8 AS behind"""
_STARTED = """
    SELECT generation, generation_started FROM cdc.checkpoint
     WHERE pipeline = %(pipeline)s AND epoch = %(epoch)s"""
_BEHIND = """
    SELECT extract(epoch FROM generation_started - now())::float8 AS behind FROM cdc.checkpoint
     WHERE pipeline = %(pipeline)s"""
_IDENTIFY = """
    UPDATE cdc.checkpoint
       SET system = %(system)s, timeline = %(timeline)s, database = %(database)s,
           publication = %(publication)s, seen_at = clock_timestamp()
     WHERE pipeline = %(pipeline)s AND epoch = %(epoch)s
    RETURNING *"""


def _ending(name: bytes, assignments: bytes) -> Statement:
    """What a unit ends with.

    It fails with :data:`FENCED` unless the epoch is ours, and with :data:`CLOCK_BEHIND` when what
    it wrote would count as left behind by its copy.
    """
    return Statement(
        name,
        b"WITH held AS (UPDATE cdc.checkpoint SET " + assignments + b"seen_at = clock_timestamp(),"
        b" updated_at = greatest(updated_at, now(), clock_timestamp())"
        b" WHERE pipeline = $1 AND epoch = $2::bigint"
        b" RETURNING extract(epoch FROM now() - generation_started)::float8 AS since)"
        b" SELECT 1 / count(*), sqrt(min(since)) FROM held",
    )


_HOLD = _ending(b"cdc_hold", b"")
_SAVE = _ending(
    b"cdc_save",
    b"position = $3, transactions = transactions + $5::bigint, changes = changes + $6::bigint,"
    b" commit_time = coalesce("
    b"timestamptz 'epoch' + $4::bigint * interval '1 microsecond', commit_time), ",
)
_FINISH = _ending(
    b"cdc_finish",
    b"phase = 'streaming', system = $3, timeline = $4::integer, database = $5, publication = $6,"
    b" position = $7, ",
)


class Lease:
    """Our hold on a pipeline: its name, who we are, the epoch that is ours."""

    def __init__(self, pipeline: str, holder: str) -> None:
        self.pipeline = pipeline
        self.holder = holder
        self.epoch = 0

    @property
    def params(self) -> dict[str, object]:
        """Parameters that every statement here takes."""
        return {
            "pipeline": self.pipeline,
            "holder": self.holder,
            "epoch": self.epoch,
            "stale": STALE_SECONDS,
        }

    def acquire(self, connection: Connection) -> Checkpoint:
        """Take the pipeline, or raise Fenced naming the holder."""
        check_version(connection)
        connection.execute(
            "INSERT INTO cdc.checkpoint (pipeline) VALUES (%s) ON CONFLICT DO NOTHING",
            (self.pipeline,),
        )
        held = one(connection, _HELD, self.params)
        assert held is not None
        if held["present"] and held["fresh"]:
            raise Fenced(
                f"Pipeline {self.pipeline} is held by {held['holder']} (backend"
                f" {held['backend_pid']}, seen {max(held['age'], 0):.0f} s ago)."
            )
        return self._take(connection, held["epoch"])

    def recover(self, connection: Connection) -> Checkpoint:
        """Raise our own epoch after a lost connection; the row's lock waits the old one out."""
        return self._take(connection, self.epoch)

    def release(self, connection: Connection) -> None:
        """Clear the holder's mark, so that the next start need not wait."""
        connection.execute(_RELEASE, self.params)

    def seen(self, connection: Connection) -> None:
        """Attest that we live. Raises Fenced when the epoch is not ours."""
        if connection.execute(_SEEN, self.params).rowcount == 0:
            raise self.fenced()

    def begin_generation(
        self, connection: Connection, slot: str, identity: SourceIdentity
    ) -> Checkpoint:
        """Set the row to snapshotting with the next generation.

        Raises Retryable where the clock stands before what was written: nothing would be swept.
        """
        row = one(
            connection, _BEGIN_GENERATION, {**self.params, **_identity(identity), "slot": slot}
        )
        if row is None:
            raise self.fenced()
        if row["behind"] > 0:
            raise self._clock_behind(row["behind"], "the pipeline last wrote")
        return checkpoint_of(row)

    def generation(self, connection: Connection) -> tuple[int, Any]:
        """The present generation and when it began. The row stays free. Raises Fenced."""
        row = one(connection, _STARTED, self.params)
        if row is None:
            raise self.fenced()
        return row["generation"], row["generation_started"]

    def identify(self, connection: Connection, identity: SourceIdentity) -> Checkpoint:
        """Note what the source is by now: a checked new timeline, or fewer tables."""
        row = one(connection, _IDENTIFY, {**self.params, **_identity(identity)})
        if row is None:
            raise self.fenced()
        return checkpoint_of(row)

    def hold(self) -> Call:
        """The call that ends a unit which does not move the checkpoint."""
        return _HOLD, self._ours

    def save(
        self, position: str, *, commit_time: int | None, transactions: int, changes: int
    ) -> Call:
        """The call that ends a unit and moves the checkpoint."""
        return _SAVE, [
            *self._ours,
            position.encode(),
            None if commit_time is None else b"%d" % commit_time,
            b"%d" % transactions,
            b"%d" % changes,
        ]

    def finish(self, identity: SourceIdentity, position: str) -> Call:
        """The call that ends a first copy's last unit: the row says streaming."""
        values = [*_identity(identity).values(), position]
        texts = [None if value is None else str(value).encode() for value in values]
        return _FINISH, [*self._ours, *texts]

    @property
    def _ours(self) -> list[Param]:
        return [self.pipeline.encode(), b"%d" % self.epoch]

    def fenced(self) -> Fenced:
        """The error of a holder that was taken over."""
        return Fenced(
            f"Pipeline {self.pipeline} was taken over: epoch {self.epoch} is not current."
        )

    def began_early(self, connection: Connection) -> Retryable:
        """The error of a unit that began before its copy did, by the clock."""
        row = one(connection, _BEHIND, self.params)
        behind = row["behind"] if row else None
        return self._clock_behind(max(behind or 0.0, 0.0), "its copy began")

    def _clock_behind(self, seconds: float, event: str) -> Retryable:
        return Retryable(
            f"Not now: the control database's clock stands {seconds:.1f} s before the moment at"
            f" which {event} (pipeline {self.pipeline}).",
            hint=_CLOCK_HINT,
        )

    def _take(self, connection: Connection, epoch: int) -> Checkpoint:
        """Raise the epoch from that one; it is ours from then on, and not before."""
        params = {**self.params, "epoch": epoch}
        connection.execute(_TERMINATE, params)
        row = one(connection, _TAKE, params)
        if row is None:
            raise self.fenced()
        self.epoch = row["epoch"]
        return checkpoint_of(row)


def check_version(connection: Connection) -> None:
    """Refuse a ledger that is missing or of another version. Raises ConfigurationError."""
    problem = version_problem(connection)
    if problem is not None:
        raise ConfigurationError([problem])


def version_problem(connection: Connection) -> Problem | None:
    """What is wrong with the ledger as a whole."""
    cure = "run cdc-daemon apply --admin-dsn …"
    try:
        row = connection.execute("SELECT version FROM cdc.meta").fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        row = None
    except psycopg.errors.InsufficientPrivilege:
        return Problem(what="no right to read the ledger", where="cdc.meta", cure=cure)
    if row is None:
        return Problem(what="the control database has no ledger", where="cdc.meta", cure=cure)
    words = version_words(row[0])
    return Problem(what=words[0], where="cdc.meta", cure=words[1]) if words else None


def held_pipelines(connection: Connection) -> list[Problem]:
    """Pipelines that a worker holds now: the ledger must not change under it."""
    rows = connection.execute(_HOLDERS, {"stale": STALE_SECONDS}).fetchall()
    return [
        Problem(
            what=f"the ledger cannot be migrated while {holder} holds the pipeline",
            where=f"pipeline {pipeline}",
            cure="stop the daemon first",
        )
        for pipeline, holder in rows
    ]


def checkpoint_of(row: Mapping[str, Any]) -> Checkpoint:
    """A checkpoint from its row."""
    identity = None
    if row["system"] is not None:
        identity = SourceIdentity(
            system=row["system"],
            timeline=row["timeline"],
            database=row["database"],
            publication=row["publication"],
        )
    return Checkpoint(
        pipeline=row["pipeline"],
        phase=Phase(row["phase"]),
        epoch=row["epoch"],
        identity=identity,
        slot=row["slot"],
        generation=row["generation"],
        generation_started=row["generation_started"],
        position=row["position"],
        commit_time=row["commit_time"],
        transactions=row["transactions"],
        changes=row["changes"],
        holder=row["holder"],
        backend_pid=row["backend_pid"],
        seen_at=row["seen_at"],
        updated_at=row["updated_at"],
    )


def one(connection: Connection, sql: str, params: Mapping[str, object]) -> dict[str, Any] | None:
    """The first row of a query, by column name."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(sql.encode(), params).fetchone()


def _identity(identity: SourceIdentity) -> dict[str, object]:
    return {
        "system": identity.system,
        "timeline": identity.timeline,
        "database": identity.database,
        "publication": identity.publication,
    }
