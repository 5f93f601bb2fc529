"""Checks of the replication slot: whose it is, where it stands, how long its log is safe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cdc_daemon.model.errors import RESNAPSHOT
from cdc_daemon.model.findings import Check, Note, duration, ok, problem, warning
from cdc_daemon.model.position import Phase
from cdc_daemon.sources.postgres.checks.examined import Examined
from cdc_daemon.sources.postgres.lsn import format_lsn, parse_lsn
from cdc_daemon.sources.postgres.slot import Slot

_KNOWS_FAILOVER: Final = 17
_MB: Final = 1 << 20
_HOUR: Final = 3600.0
_DAY: Final = 24 * _HOUR

_READER: Final = """
SELECT a.application_name, a.usename::text FROM pg_catalog.pg_stat_replication a WHERE a.pid = %s
"""
_STANDBYS: Final = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE slot_type = 'physical')
    OR EXISTS (SELECT FROM pg_catalog.pg_stat_replication r
               WHERE r.state = 'streaming' AND NOT EXISTS (
                   SELECT FROM pg_catalog.pg_replication_slots s
                   WHERE s.slot_type = 'logical' AND s.active_pid = r.pid))
"""


def _kind(at: Examined) -> Iterator[Note]:
    """A slot of that name that is not ours to use."""
    slot = at.slot
    if slot is None:
        yield ok("there is no slot yet")
    elif what := _foreign(slot, at.server.database):
        yield problem(what, "choose another slot name", where=at.at_slot)
    else:
        yield ok(f"{at.asked.slot}: pgoutput on database {slot.database}")


def _foreign(slot: Slot, database: str) -> str:
    if slot.kind != "logical" or slot.plugin != "pgoutput":
        return f"it is a {slot.kind} slot with plugin {slot.plugin or 'none'}, not pgoutput"
    if slot.database != database:
        return f"it belongs to database {slot.database}"
    if slot.temporary:
        return "it is temporary"
    return "it decodes transactions when they are prepared (two_phase)" if slot.two_phase else ""


def _checkpoint(at: Examined) -> Iterator[Note]:
    """Whether slot and checkpoint belong together."""
    slot, known = at.slot, at.checkpoint
    if known is None:
        yield ok("the checkpoint is not known")
    elif known.phase is Phase.STREAMING and slot is None:
        what = "the slot is gone: changes since the checkpoint are lost"
        yield problem(what, RESNAPSHOT, where=at.at_slot)
    elif known.phase is Phase.STREAMING:
        yield ok("the checkpoint's slot is there")
    elif slot is None or at.replaced:
        yield ok("the first copy creates the slot")
    else:
        cure = f"if nobody else uses it: SELECT pg_drop_replication_slot('{at.asked.slot}')"
        yield problem("the slot exists, but no checkpoint belongs to it", cure, where=at.at_slot)


def _reader(at: Examined) -> Iterator[Note]:
    if at.slot is None or at.slot.active_pid is None:
        yield ok("nobody reads it now")
        return
    pid = at.slot.active_pid
    row = at.connection.execute(_READER, (pid,)).fetchone()
    application, user = row if row else (None, None)
    if at.held and application == f"cdc_daemon:{at.server.source}":
        yield ok(f"the pipeline's worker reads it (process {pid} of the server)")
        return
    what = f"process {pid} of the server reads it: {application or 'not told'}, user {user}"
    cure = (
        "stop whoever that is; what he confirms is lost to the daemon"
        f" (SELECT pg_terminate_backend({pid}))"
    )
    yield problem(what, cure, where=at.at_slot)


def _log(at: Examined) -> Iterator[Note]:
    slot = at.slot
    if slot is None or at.replaced or _foreign(slot, at.server.database):
        yield ok("there is no slot of ours yet")
    elif slot.wal_status == "lost" or slot.invalidation:
        reason = f" ({slot.invalidation})" if slot.invalidation else ""
        what = f"the server has removed the log that it needs{reason}: changes are lost"
        cure = f"raise max_slot_wal_keep_size, and {RESNAPSHOT}"
        yield problem(what, cure, where=at.at_slot)
    elif slot.wal_status == "unreserved":
        what = "its log is past max_slot_wal_keep_size: the server's next checkpoint may remove it"
        cure = f"at once: {_more_room(at)}"
        yield warning(what, cure, where=at.at_slot)
    else:
        yield ok(f"its log is {slot.wal_status}")


def _position(at: Examined) -> Iterator[Note]:
    """Slot and server against the checkpoint's position."""
    known, slot = at.checkpoint, at.slot
    if known is None or known.phase is not Phase.STREAMING:
        yield ok("nothing was streamed yet")
        return
    if known.position is None:
        yield problem("the checkpoint has no position", RESNAPSHOT, where=at.at_slot)
        return
    position = parse_lsn(known.position)
    # In use: who opens the slot looks again when it is his.
    idle = slot if slot is not None and slot.active_pid is None and not at.held else None
    note = advanced(at.at_slot, idle, position) if idle else None
    if note:
        yield note
        return
    if position > at.system.position:
        what = (
            f"the checkpoint at {known.position} is ahead of the server's log, which ends at "
            f"{format_lsn(at.system.position)}: the server was restored to an earlier state"
        )
        yield problem(what, RESNAPSHOT, where=at.at_slot)
    else:
        yield ok(f"the checkpoint at {known.position} is within the server's log")


def advanced(where: str, slot: Slot, position: int) -> Note | None:
    """A slot that somebody has moved past the checkpoint."""
    if slot.confirmed <= position:
        return None
    what = (
        f"the slot was advanced to {format_lsn(slot.confirmed)}, past the checkpoint at "
        f"{format_lsn(position)}: the changes between are lost"
    )
    return problem(what, RESNAPSHOT, where=where)


def _failover(at: Examined) -> Iterator[Note]:
    row = at.connection.execute(_STANDBYS).fetchone()
    named = at.settings["synchronous_standby_names"]
    if not (row and row[0]) and not named:
        yield ok("the server has no standby")
    elif at.version < _KNOWS_FAILOVER:
        what = f"a standby of PostgreSQL {at.version} does not take the slot over"
        yield warning(what, f"after a fail-over {RESNAPSHOT}; from 17 on slots can fail over")
    elif at.slot is None:
        yield ok("there is no slot yet")
    elif not at.slot.failover:
        what = "the server has standbys, but the slot is not a failover slot"
        cure = (
            f"with the daemon stopped, on a replication connection: ALTER_REPLICATION_SLOT"
            f" {at.asked.slot} (FAILOVER true); and sync_replication_slots on the standby"
        )
        yield warning(what, cure, where=at.at_slot)
    elif not at.settings["synchronized_standby_slots"]:
        what = "changes are published before any standby has them (synchronized_standby_slots)"
        yield warning(what, "name the standby's physical slot in synchronized_standby_slots")
    else:
        yield ok("the slot fails over to the standbys")


def _retention(at: Examined) -> Iterator[Note]:
    yield from _bound(at)
    yield from _idle_timeout(at)


def _bound(at: Examined) -> Iterator[Note]:
    """Room for log until the slot is lost, and for how long that is enough."""
    bound = at.number("max_slot_wal_keep_size") * _MB
    if bound < 0:
        yield ok("max_slot_wal_keep_size sets no bound: watch the server's disk")
        return
    cure = _more_room(at)
    shown = at.settings["max_slot_wal_keep_size"]
    usual = at.number("max_wal_size") * _MB
    slot = _ours(at)
    left = slot.safe_bytes if slot is not None else None
    said = f"max_slot_wal_keep_size is {shown}{_time_left(at, left)}"
    if left is not None and (seconds := _seconds(at, left)) is not None and seconds < _HOUR:
        yield warning(said, f"{cure}; and let the daemon catch up", where=at.at_slot)
    elif bound < usual:
        what = f"{said}: less than the log between two checkpoints of a busy server (max_wal_size)"
        yield warning(what, cure)
    else:
        yield ok(said)


def _more_room(at: Examined) -> str:
    """The SQL that gives the slot twice the room; whether the disk has it, nobody here can see."""
    present, usual = at.number("max_slot_wal_keep_size"), at.number("max_wal_size")
    size = max(2 * present, 2 * usual)
    return f"ALTER SYSTEM SET max_slot_wal_keep_size = '{size}MB'; SELECT pg_reload_conf()"


def _ours(at: Examined) -> Slot | None:
    slot = at.slot
    return slot if slot is not None and not _foreign(slot, at.server.database) else None


def _time_left(at: Examined, left: int | None) -> str:
    if left is None:
        return ""
    text = f", {max(0, left) / _MB:,.1f} MB of it are left"
    seconds = _seconds(at, left)
    if seconds is None:
        return text
    return f"{text}, at {at.rate() or 0:,.0f} bytes a second {duration(seconds)}"


def _seconds(at: Examined, left: int) -> float | None:
    """How long the log may grow as it does now; None: it does not grow, or nobody knows."""
    rate = at.rate()
    return max(0, left) / rate if rate else None


def _idle_timeout(at: Examined) -> Iterator[Note]:
    """PostgreSQL 18: a slot that nobody reads for so long is lost."""
    timeout = at.number("idle_replication_slot_timeout")
    if not timeout:
        return
    slot = _ours(at)
    idle = slot.idle_seconds if slot is not None else None
    left = timeout - (idle or 0.0)
    shown = at.settings["idle_replication_slot_timeout"]
    what = f"idle_replication_slot_timeout is {shown}: with the daemon stopped, the slot is lost"
    what += f" in {duration(max(0.0, left))}" if idle is not None else " after that"
    if left < _DAY:
        cure = "ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf()"
        yield warning(what, cure, where=at.at_slot)
    else:
        yield ok(what)


CHECKS = (
    Check(
        name="slot.kind",
        title="The slot is a permanent pgoutput slot of this database",
        why="another slot's log is another program's",
        look=_kind,
    ),
    Check(
        name="slot.checkpoint",
        title="Slot and checkpoint belong together",
        why="a slot that is gone, or was made by somebody else, leaves a gap",
        look=_checkpoint,
    ),
    Check(
        name="slot.reader",
        title="Nobody else reads the slot",
        why="a slot has one reader, and what it confirms nobody gets again",
        look=_reader,
        refuses=False,
    ),
    Check(
        name="slot.log",
        title="The server still has the slot's log",
        why="log that was removed cannot be read again",
        look=_log,
        watched=True,
    ),
    Check(
        name="slot.position",
        title="The checkpoint's position is one that the slot can go on from",
        why="the server goes on from the slot's own position without a word",
        look=_position,
    ),
    Check(
        name="slot.failover",
        title="The slot survives a fail-over",
        why="a promoted standby without the slot has no way to tell what is missing",
        look=_failover,
        refuses=False,
    ),
    Check(
        name="slot.retention",
        title="There is time left until the server drops the slot's log",
        why="a daemon that is stopped or slow for longer than that must copy everything again",
        look=_retention,
        refuses=False,
        watched=True,
    ),
)
