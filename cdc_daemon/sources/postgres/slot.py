"""A replication slot as the server has it: whose it is, what log it keeps, how much is left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cdc_daemon.model.ports import SlotState
from cdc_daemon.model.position import Checkpoint, Phase
from cdc_daemon.sources.postgres.connection import Connection
from cdc_daemon.sources.postgres.lsn import is_lsn, parse_lsn

# Columns that only later versions have are taken out of the row as JSON.
_SLOT: Final = """
SELECT s.plugin::text, s.slot_type, s.database::text, s.temporary, s.active_pid, s.wal_status,
       s.confirmed_flush_lsn::text, COALESCE(j.all ->> 'invalidation_reason', ''), s.two_phase,
       (j.all ->> 'failover')::boolean, s.safe_wal_size,
       extract(epoch FROM pg_catalog.clock_timestamp()
                          - (j.all ->> 'inactive_since')::timestamptz)::float8,
       COALESCE(r.total_txns, 0)
FROM pg_catalog.pg_replication_slots s
LEFT JOIN pg_catalog.pg_stat_replication_slots r USING (slot_name)
CROSS JOIN LATERAL (SELECT pg_catalog.to_jsonb(s)) AS j ("all")
WHERE slot_name = %s
"""
_LOG_END: Final = """
SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
            ELSE pg_catalog.pg_current_wal_lsn() END"""
_STATE: Final = f"""
SELECT s.active, COALESCE(s.wal_status, 'lost'),
       pg_catalog.pg_wal_lsn_diff(log.position, s.restart_lsn)::bigint, s.safe_wal_size,
       pg_catalog.pg_wal_lsn_diff(log.position, %s::pg_lsn)::bigint,
       pg_catalog.pg_wal_lsn_diff(log.position, '0/0')::bigint
FROM pg_catalog.pg_replication_slots s, ({_LOG_END} AS position) log
WHERE s.slot_name = %s
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A row of ``pg_replication_slots``.

    ``failover``: None before PostgreSQL 17. ``safe_bytes``: log that may be written before the slot
    is lost; None without a bound. ``idle_seconds``: since nobody reads it; None: read, or not told.
    ``read``: transactions were read from it, since the server's statistics began.
    """

    plugin: str
    kind: str
    database: str
    temporary: bool
    active_pid: int | None
    wal_status: str
    confirmed: int
    invalidation: str
    two_phase: bool
    failover: bool | None
    safe_bytes: int | None
    idle_seconds: float | None
    read: bool


def read_slot(connection: Connection, name: str) -> Slot | None:
    """The slot, or None."""
    row = connection.execute(_SLOT, (name,)).fetchone()
    if row is None:
        return None
    return Slot(
        plugin=row[0] or "",
        kind=row[1],
        database=row[2] or "",
        temporary=row[3],
        active_pid=row[4],
        wal_status=row[5] or "lost",
        confirmed=parse_lsn(row[6]) if row[6] else 0,
        invalidation=row[7],
        two_phase=bool(row[8]),
        failover=row[9],
        safe_bytes=row[10],
        idle_seconds=row[11],
        read=row[12] > 0,
    )


def left_behind(slot: Slot, name: str, known: Checkpoint | None) -> bool:
    """Whether the next copy may drop the slot.

    A copy that was asked for may. What a copy that broke off left stands still at the position that
    the checkpoint notes; where it broke off before that note, nobody has read from the slot.
    """
    if known is None or known.phase is not Phase.SNAPSHOTTING or known.slot != name:
        return False
    if known.position is not None:
        return is_lsn(known.position) and slot.confirmed == parse_lsn(known.position)
    return known.slot_noted or not slot.read


def slot_state(connection: Connection, name: str, position: str) -> SlotState | None:
    """What the slot keeps, and how far the server's log is past that position."""
    row = connection.execute(_STATE, (position, name)).fetchone()
    if row is None:
        return None
    active, status, retained, safe, behind, written = row
    return SlotState(
        active=active,
        status=status,
        retained_bytes=retained,
        safe_bytes=safe,
        behind_bytes=None if behind is None else max(0, behind),
        written_bytes=written,
    )


def log_end(connection: Connection) -> int:
    """Where the server's log ends."""
    row = connection.execute(f"SELECT ({_LOG_END})::text".encode()).fetchone()
    return parse_lsn(row[0]) if row and row[0] else 0
