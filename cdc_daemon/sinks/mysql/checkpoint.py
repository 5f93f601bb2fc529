"""The checkpoint row: taking it, keeping it, moving it; fencing by its epoch.

The row names who holds the pipeline: instance, connection and when it was last seen. Whoever wants
to write must find the epoch it holds; so a holder that was taken over can only fail, however late
its statements arrive. That the holder's connection lives is told by a named lock of its epoch,
which the server frees when the connection ends: numbers of connections begin anew with a server.

Rows are told from those of an earlier copy by the moment at which they were written. So time must
not go back here though the server's clock does: ``updated_at`` is never before what any unit wrote,
a copy begins only after it, and no unit ends whose transaction began before its copy did.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from contextlib import suppress

import pymysql

from cdc_daemon.model.errors import ConfigurationError, Fenced, Problem, Retryable
from cdc_daemon.model.position import Checkpoint, Phase, SourceIdentity
from cdc_daemon.sinks.mysql.errors import number_of
from cdc_daemon.sinks.mysql.session import Result, Session
from cdc_daemon.sinks.mysql.values import literal
from cdc_daemon.sinks.versions import version_words

STALE_SECONDS = 30
"""A holder that was not seen for so long may be taken over, even if its connection lives."""

APPLY = "run cdc-daemon apply --admin-dsn …"
_CLOCK_HINT = (
    "it goes on by itself when the clock is past that moment; what to do when it is wrong, or was:"
    " docs/operations/clock-set-back.md"
)
_NAMES = (
    "pipeline",
    "phase",
    "epoch",
    "system",
    "timeline",
    "database",
    "publication",
    "slot",
    "generation",
    "generation_started",
    "position",
    "commit_time",
    "transactions",
    "changes",
    "holder",
    "backend_pid",
    "seen_at",
    "updated_at",
)
_COLUMNS = ", ".join(f"`{name}`" for name in _NAMES)
_ROW = f"SELECT {_COLUMNS} FROM cdc_checkpoint WHERE pipeline = %s"
_NOW = "UTC_TIMESTAMP(6)"
_FRESH = f"seen_at > {_NOW} - INTERVAL {STALE_SECONDS} SECOND"
_HELD = f"""
    SELECT holder, backend_pid, epoch, {_FRESH}, TIMESTAMPDIFF(SECOND, seen_at, {_NOW})
      FROM cdc_checkpoint WHERE pipeline = %s"""
_HOLDERS = f"SELECT pipeline, epoch, backend_pid, holder FROM cdc_checkpoint WHERE {_FRESH}"
_TAKE = f"""
    UPDATE cdc_checkpoint
       SET epoch = epoch + 1, holder = %s, backend_pid = CONNECTION_ID(), seen_at = {_NOW},
           updated_at = GREATEST(updated_at, {_NOW})
     WHERE pipeline = %s AND epoch = %s"""
_RELEASE = """
    UPDATE cdc_checkpoint SET holder = '', backend_pid = NULL, seen_at = NULL
     WHERE pipeline = %s AND epoch = %s"""
_SEEN = f"UPDATE cdc_checkpoint SET seen_at = {_NOW} WHERE pipeline = %s AND epoch = %s"
_BEGIN_GENERATION = f"""
    UPDATE cdc_checkpoint
       SET phase = 'snapshotting', generation = generation + 1,
           generation_started = GREATEST({_NOW}, updated_at + INTERVAL 1 MICROSECOND),
           slot = %s, `system` = %s, timeline = %s, `database` = %s, publication = %s,
           position = NULL, seen_at = {_NOW}, updated_at = GREATEST(updated_at, {_NOW})
     WHERE pipeline = %s AND epoch = %s"""
_BEHIND = """
    SELECT TIMESTAMPDIFF(MICROSECOND, {}, generation_started) FROM cdc_checkpoint
     WHERE pipeline = %s"""
_IDENTIFY = f"""
    UPDATE cdc_checkpoint
       SET `system` = %s, timeline = %s, `database` = %s, publication = %s, seen_at = {_NOW}
     WHERE pipeline = %s AND epoch = %s"""
_END = f"""
    UPDATE cdc_checkpoint
       SET {{}}seen_at = {_NOW}, updated_at = GREATEST(updated_at, %s, {_NOW})
     WHERE pipeline = %s AND epoch = %s
       AND (generation_started IS NULL OR generation_started <= %s)"""
_SAVE = _END.format(
    "position = %s, transactions = transactions + %s, changes = changes + %s,"
    " commit_time = COALESCE(%s, commit_time), "
)
_FINISH = _END.format(
    "phase = 'streaming', `system` = %s, timeline = %s, `database` = %s, publication = %s,"
    " position = %s, "
)
_HOLD = _END.format("")
_UNKNOWN_THREAD, _NOT_OURS = 1094, 1095
_NO_TABLE, _NO_RIGHT = 1146, 1142
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Lease:
    """Our hold on a pipeline: its name, who we are, the epoch that is ours.

    ``started``: when the present generation began, as the ledger has it.
    """

    def __init__(self, pipeline: str, holder: str) -> None:
        self.pipeline = pipeline
        self.holder = holder
        self.epoch = 0
        self.started: str | None = None

    def acquire(self, session: Session) -> Checkpoint:
        """Take the pipeline, or raise Fenced naming the holder."""
        check_version(session)
        session.run("INSERT IGNORE INTO cdc_checkpoint (pipeline) VALUES (%s)", self.pipeline)
        holder, number, epoch, fresh, age = session.run(_HELD, self.pipeline).rows[0]
        held = int(epoch or b"0")
        alive = _holding(session, self.pipeline, held, number)
        if alive and fresh == b"1":
            raise Fenced(
                f"Pipeline {self.pipeline} is held by {(holder or b'').decode()} (connection"
                f" {alive}, seen {max(int(age or b'0'), 0)} s ago)."
            )
        return self._take(session, held, alive)

    def recover(self, session: Session) -> Checkpoint:
        """Raise our own epoch after a lost connection; the row's lock waits the old one out."""
        former = session.run(f"SELECT IS_USED_LOCK({self._lock(session, self.epoch)})").text()
        return self._take(session, self.epoch, int(former or 0))

    def release(self, session: Session) -> None:
        """Clear the holder's mark, so that the next start need not wait."""
        session.run(_RELEASE, *self._ours)

    def seen(self, session: Session) -> None:
        """Attest that we live. Raises Fenced when the epoch is not ours."""
        self._found(session.run(_SEEN, *self._ours))

    def begin_generation(self, session: Session, slot: str, identity: SourceIdentity) -> Checkpoint:
        """Set the row to snapshotting with the next generation; the caller's transaction.

        Raises Retryable where the clock stands before what was written: nothing would be swept.
        """
        self._found(
            session.run(_BEGIN_GENERATION, slot, *_identity(identity), *self._ours),
        )
        behind = int(session.run(_BEHIND.format(_NOW), self.pipeline).text() or 0)
        if behind > 0:
            raise self._clock_behind(behind, "the pipeline last wrote")
        return self.row(session)

    def generation(self, session: Session) -> int:
        """The number of the present generation. Raises Fenced."""
        found = self.row(session)
        if found.epoch != self.epoch:
            raise self.fenced()
        return found.generation

    def identify(self, session: Session, identity: SourceIdentity) -> Checkpoint:
        """Note what the source is by now: a checked new timeline, or fewer tables."""
        self._found(session.run(_IDENTIFY, *_identity(identity), *self._ours))
        return self.row(session)

    # --- what a unit ends with: (SQL, parameters) -------------------------------------------------

    def hold(self, moment: str) -> str:
        """The end of a unit which does not move the checkpoint. ``moment``: the unit's own."""
        return self._ending(_HOLD, (), moment)

    def save(
        self,
        position: str,
        moment: str,
        *,
        commit_time: int | None,
        transactions: int,
        changes: int,
    ) -> str:
        """The end of a unit that moves the checkpoint."""
        time = None if commit_time is None else moment_of(commit_time)
        return self._ending(_SAVE, (position, transactions, changes, time), moment)

    def finish(self, identity: SourceIdentity, position: str, moment: str) -> str:
        """The end of a first copy's last unit: the row says streaming."""
        return self._ending(_FINISH, (*_identity(identity), position), moment)

    def refusal(self, session: Session, moment: str) -> Fenced | Retryable:
        """Why such an end found no row: the epoch is not ours, or the copy began after the unit."""
        if self.row(session).epoch != self.epoch:
            return self.fenced()
        behind = session.run(_BEHIND.format(literal(moment)), self.pipeline).text()
        return self._clock_behind(max(int(behind or 0), 0), "its copy began")

    def row(self, session: Session) -> Checkpoint:
        """The checkpoint as it stands. Raises Fenced when there is none."""
        found = session.run(_ROW, self.pipeline).rows
        if not found:
            raise self.fenced()
        started = found[0][_NAMES.index("generation_started")]
        self.started = None if started is None else started.decode()
        return checkpoint_of(found[0])

    def fenced(self) -> Fenced:
        """The error of a holder that was taken over."""
        return Fenced(
            f"Pipeline {self.pipeline} was taken over: epoch {self.epoch} is not current."
        )

    # --- parts ------------------------------------------------------------------------------------

    @property
    def _ours(self) -> tuple[str, int]:
        return self.pipeline, self.epoch

    def _ending(self, sql: str, values: Sequence[object], moment: str) -> str:
        return sql % tuple(map(literal, (*values, moment, *self._ours, moment)))

    def _take(self, session: Session, epoch: int, former: int) -> Checkpoint:
        """Raise the epoch from that one; it is ours from then on, and not before."""
        if former and former != session.number:
            _end(session, former)
        if session.run(_TAKE, self.holder, self.pipeline, epoch).affected == 0:
            raise self.fenced()
        self.epoch = epoch + 1
        session.run(f"SELECT GET_LOCK({self._lock(session, self.epoch)}, 0)")
        return self.row(session)

    def _lock(self, session: Session, epoch: int) -> str:
        return literal(lock_name(session.database, self.pipeline, epoch))

    def _found(self, done: Result) -> None:
        if done.affected == 0:
            raise self.fenced()

    def _clock_behind(self, microseconds: int, event: str) -> Retryable:
        return Retryable(
            f"Not now: the control database's clock stands {microseconds / 1e6:.1f} s before the"
            f" moment at which {event} (pipeline {self.pipeline}).",
            hint=_CLOCK_HINT,
        )


def lock_name(database: str, pipeline: str, epoch: int) -> str:
    """The named lock that a holder's connection has: of this server, so it names the database."""
    digest = hashlib.sha256(f"{database}\0{pipeline}".encode()).hexdigest()[:32]
    return f"cdc_daemon_{digest}_{epoch}"


def check_version(session: Session) -> None:
    """Refuse a ledger that is missing or of another version. Raises ConfigurationError."""
    problem = version_problem(session)
    if problem is not None:
        raise ConfigurationError([problem])


def version_problem(session: Session) -> Problem | None:
    """What is wrong with the ledger as a whole."""
    try:
        version = ledger_version(session)
    except pymysql.Error as exc:
        if number_of(exc) != _NO_RIGHT:
            raise
        return Problem(what="no right to read the ledger", where="cdc_meta", cure=APPLY)
    if version is None:
        return Problem(what="the control database has no ledger", where="cdc_meta", cure=APPLY)
    words = version_words(version)
    return Problem(what=words[0], where="cdc_meta", cure=words[1]) if words else None


def ledger_version(session: Session) -> int | None:
    """The version that the ledger notes; None: there is no ledger, or none that was finished."""
    try:
        version = session.run("SELECT version FROM cdc_meta").text()
    except pymysql.Error as exc:
        if number_of(exc) != _NO_TABLE:
            raise
        return None
    return None if version is None else int(version)


def held_pipelines(session: Session) -> dict[str, str]:
    """Pipelines that a worker holds now, and who it is."""
    found: dict[str, str] = {}
    for pipeline, epoch, number, holder in session.run(_HOLDERS).rows:
        name = (pipeline or b"").decode()
        if _holding(session, name, int(epoch or b"0"), number):
            found[name] = (holder or b"").decode()
    return found


def checkpoints(session: Session) -> list[Checkpoint]:
    """Every checkpoint of the database."""
    rows = session.run(f"SELECT {_COLUMNS} FROM cdc_checkpoint ORDER BY pipeline").rows
    return [checkpoint_of(row) for row in rows]


def checkpoint_of(row: Sequence[bytes | None]) -> Checkpoint:
    """A checkpoint from its row."""
    texts = [None if value is None else value.decode() for value in row]
    found = dict(zip(_NAMES, texts, strict=True))
    identity = None
    if found["system"] is not None:
        identity = SourceIdentity(
            system=found["system"],
            timeline=int(found["timeline"] or 0),
            database=found["database"] or "",
            publication=found["publication"] or "",
        )
    return Checkpoint(
        pipeline=found["pipeline"] or "",
        phase=Phase(found["phase"]),
        epoch=int(found["epoch"] or 0),
        identity=identity,
        slot=found["slot"],
        generation=int(found["generation"] or 0),
        generation_started=moment_in(found["generation_started"]),
        position=found["position"],
        commit_time=moment_in(found["commit_time"]),
        transactions=int(found["transactions"] or 0),
        changes=int(found["changes"] or 0),
        holder=found["holder"] or "",
        backend_pid=None if found["backend_pid"] is None else int(found["backend_pid"]),
        seen_at=moment_in(found["seen_at"]),
        updated_at=moment_in(found["updated_at"]),
    )


def moment_of(microseconds: int) -> str:
    """A number of microseconds since 1970 as the ledger keeps it."""
    return f"{_EPOCH + dt.timedelta(microseconds=microseconds):%Y-%m-%d %H:%M:%S.%f}"


def moment_in(text: str | None) -> dt.datetime | None:
    """A moment of the ledger."""
    return None if text is None else dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def _holding(session: Session, pipeline: str, epoch: int, number: bytes | None) -> int:
    """The connection that has this epoch's lock, if it is the one that the row names; else 0."""
    name = literal(lock_name(session.database, pipeline, epoch))
    found = int(session.run(f"SELECT IS_USED_LOCK({name})").text() or 0)
    return found if number is not None and found == int(number) else 0


def _end(session: Session, number: int) -> None:
    """End a former holder's connection, where we may: the epoch fences it off all the same."""
    with suppress(pymysql.OperationalError, pymysql.InternalError, pymysql.ProgrammingError):
        session.run(f"KILL {number}")


def _identity(identity: SourceIdentity) -> tuple[object, ...]:
    return identity.system, identity.timeline, identity.database, identity.publication
