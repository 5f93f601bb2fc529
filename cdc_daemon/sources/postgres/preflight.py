"""Every state in which going on would skip changes in silence, refused at start with its cure.

Here: server, slot, checkpoint, identity. What must hold for publication and tables stands in
``requirements.py``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from cdc_daemon.model.errors import ConfigurationError, Problem
from cdc_daemon.model.ports import SlotState
from cdc_daemon.model.position import Checkpoint, Phase, SourceIdentity
from cdc_daemon.sources.postgres.catalog import read_tables
from cdc_daemon.sources.postgres.connection import Connection, Server
from cdc_daemon.sources.postgres.lsn import format_lsn, parse_lsn
from cdc_daemon.sources.postgres.publication import compare, fingerprint, read_publication
from cdc_daemon.sources.postgres.requirements import Asked, table_problems

OLDEST: Final = 140000
_RESNAPSHOT: Final = "take a new snapshot: cdc-daemon snapshot start"

_SLOT: Final = """
SELECT plugin::text, slot_type, database::text, temporary, active_pid, wal_status,
       confirmed_flush_lsn::text, COALESCE(pg_catalog.to_jsonb(s) ->> 'invalidation_reason', '')
FROM pg_catalog.pg_replication_slots s WHERE slot_name = %s
"""
_STATE: Final = """
SELECT s.active, COALESCE(s.wal_status, 'lost'),
       pg_catalog.pg_wal_lsn_diff(log.position, s.restart_lsn)::bigint, s.safe_wal_size,
       pg_catalog.pg_wal_lsn_diff(log.position, %s::pg_lsn)::bigint
FROM pg_catalog.pg_replication_slots s,
     (SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
                  ELSE pg_catalog.pg_current_wal_lsn() END AS position) log
WHERE s.slot_name = %s
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A row of ``pg_replication_slots``."""

    plugin: str
    kind: str
    database: str
    temporary: bool
    active_pid: int | None
    wal_status: str
    confirmed: int
    invalidation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """What ``IDENTIFY_SYSTEM`` says, and where earlier timelines ended."""

    system: str
    timeline: int
    position: int
    switches: dict[int, int]


def check(
    server: Server, connection: Connection, asked: Asked, checkpoint: Checkpoint | None
) -> list[Problem]:
    """Every problem. A slot in use is none: opening the stream says so, and is tried again."""
    problems = _server_problems(server, connection)
    if problems:
        return problems
    try:
        system = identify_system(server)
    except ConfigurationError as exc:
        return [*exc.problems]
    slot = read_slot(connection, asked.slot)
    problems += table_problems(server.where, connection, asked)
    if slot is not None:
        problems += _slot_problems(server, asked, slot, replaced=_is_replaced(asked, checkpoint))
    if checkpoint is None:
        return problems
    problems += _identity_problems(server, connection, asked, checkpoint, system)
    problems += _position_problems(server, asked, checkpoint, slot, system)
    return problems


def recheck(
    server: Server, connection: Connection, asked: Asked, identity: SourceIdentity
) -> list[Problem]:
    """Whether the publication has changed since ``identity`` was taken."""
    return _publication_problems(server, asked, identity, _fingerprint(connection, asked))


def compare_identities(
    server: Server, asked: Asked, then: SourceIdentity, now: SourceIdentity
) -> list[Problem]:
    """Whether ``now`` may take the place of ``then``: only timeline and vanished tables differ."""
    if (then.system, then.database) != (now.system, now.database):
        what = "another server or database answers than the checkpoint belongs to"
        cure = f"correct the connection, or {_RESNAPSHOT}"
        return [Problem(what=what, where=server.where, cure=cure)]
    return _publication_problems(server, asked, then, now.publication)


def identify(server: Server, connection: Connection, asked: Asked) -> SourceIdentity:
    """The identity that a checkpoint taken now belongs to."""
    system = identify_system(server, history=False)
    return SourceIdentity(
        system=system.system,
        timeline=system.timeline,
        database=server.database,
        publication=_fingerprint(connection, asked),
    )


def identify_system(server: Server, *, history: bool = True) -> System:
    """System identifier, timeline and end of the log, from a replication connection."""
    with server.connect_for_replication() as walsender:
        row = walsender.execute("IDENTIFY_SYSTEM").fetchone()
        assert row is not None
        timeline = int(row[1])
        switches = _history(walsender, timeline) if history and timeline > 1 else {}
    return System(
        system=str(row[0]), timeline=timeline, position=parse_lsn(row[2]), switches=switches
    )


def _history(walsender: Connection, timeline: int) -> dict[int, int]:
    """Where each earlier timeline ended: the lines of the timeline history file."""
    with walsender.cursor(binary=False) as cursor:
        row = cursor.execute(f"TIMELINE_HISTORY {timeline}".encode()).fetchone()
    content: Any = row[1] if row else b""
    text = content if isinstance(content, str) else bytes(content).decode(errors="replace")
    found = re.findall(r"^(\d+)\s+([0-9A-F]+/[0-9A-F]+)", text, re.MULTILINE)
    return {int(number): parse_lsn(switch) for number, switch in found}


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
    )


def slot_state(connection: Connection, name: str, position: str) -> SlotState | None:
    """What the slot keeps, and how far the server's log is past that position."""
    row = connection.execute(_STATE, (position, name)).fetchone()
    if row is None:
        return None
    active, status, retained, safe, behind = row
    return SlotState(
        active=active,
        status=status,
        retained_bytes=retained,
        safe_bytes=safe,
        behind_bytes=None if behind is None else max(0, behind),
    )


def check_opened(server: Server, connection: Connection, asked: Asked, after: str) -> list[Problem]:
    """Whether a stream that was just opened begins after that position, or silently further on.

    From then on nobody else can move the slot, and we have not yet confirmed anything.
    """
    slot = read_slot(connection, asked.slot)
    return [] if slot is None else _advanced(server, asked, slot, parse_lsn(after))


def _advanced(server: Server, asked: Asked, slot: Slot, position: int) -> list[Problem]:
    """A slot that somebody has moved past the checkpoint."""
    if slot.confirmed <= position:
        return []
    what = (
        f"the slot was advanced to {format_lsn(slot.confirmed)}, past the checkpoint at "
        f"{format_lsn(position)}: the changes between are lost"
    )
    where = f"{server.where}, slot {asked.slot}"
    return [Problem(what=what, where=where, cure=_RESNAPSHOT)]


def _fingerprint(connection: Connection, asked: Asked) -> str:
    facts = read_tables(connection, asked.tables)
    publication = read_publication(connection, asked.publication)
    return fingerprint(connection, publication, asked.tables, facts)


# --- the checks --------------------------------------------------------------------------------


def _server_problems(server: Server, connection: Connection) -> list[Problem]:
    """Version, wal_level and encoding."""
    problems = []
    version = connection.info.server_version
    if version < OLDEST:
        what = f"PostgreSQL {version // 10000} is too old"
        return [Problem(what=what, where=server.where, cure="14 is the oldest supported version")]
    row = connection.execute("SELECT pg_catalog.current_setting('wal_level')").fetchone()
    if row and row[0] != "logical":
        cure = "ALTER SYSTEM SET wal_level = 'logical', then restart the server"
        problems.append(Problem(what=f"wal_level is {row[0]}", where=server.where, cure=cure))
    return problems


def _is_replaced(asked: Asked, checkpoint: Checkpoint | None) -> bool:
    """Whether the copy that comes next drops the slot and creates it anew."""
    return (
        checkpoint is not None
        and checkpoint.phase is Phase.SNAPSHOTTING
        and checkpoint.slot == asked.slot
    )


def _slot_problems(server: Server, asked: Asked, slot: Slot, *, replaced: bool) -> list[Problem]:
    """A slot of that name that is not ours to use, or of no use any more."""
    where = f"{server.where}, slot {asked.slot}"
    other = "choose another slot name"
    problems = []
    if slot.kind != "logical" or slot.plugin != "pgoutput":
        what = f"it is a {slot.kind} slot with plugin {slot.plugin or 'none'}, not pgoutput"
        problems.append(Problem(what=what, where=where, cure=other))
    elif slot.database != server.database:
        what = f"it belongs to database {slot.database}"
        problems.append(Problem(what=what, where=where, cure=other))
    elif slot.temporary:
        problems.append(Problem(what="it is temporary", where=where, cure=other))
    elif not replaced and (slot.wal_status == "lost" or slot.invalidation):
        reason = f" ({slot.invalidation})" if slot.invalidation else ""
        what = f"the server has removed the log that it needs{reason}: changes are lost"
        cure = f"raise max_slot_wal_keep_size, and {_RESNAPSHOT}"
        problems.append(Problem(what=what, where=where, cure=cure))
    return problems


def _identity_problems(
    server: Server, connection: Connection, asked: Asked, checkpoint: Checkpoint, system: System
) -> list[Problem]:
    """Another server, database, timeline or publication than the checkpoint's."""
    identity = checkpoint.identity
    if checkpoint.phase is not Phase.STREAMING or identity is None:
        return []
    if identity.system != system.system:
        what = (
            f"this server (system identifier {system.system}) is not the one that the checkpoint "
            f"belongs to ({identity.system})"
        )
        cure = f"correct the connection, or {_RESNAPSHOT}"
        return [Problem(what=what, where=server.where, cure=cure)]
    if identity.database != server.database:
        what = f"the checkpoint belongs to database {identity.database}"
        cure = f"correct the connection, or {_RESNAPSHOT}"
        return [Problem(what=what, where=server.where, cure=cure)]
    return _timeline_problems(server, checkpoint, identity, system) + _publication_problems(
        server, asked, identity, _fingerprint(connection, asked)
    )


def _timeline_problems(
    server: Server, checkpoint: Checkpoint, identity: SourceIdentity, system: System
) -> list[Problem]:
    """After a fail-over or restore: fine only if the checkpoint lies before the fork."""
    if identity.timeline == system.timeline or checkpoint.position is None:
        return []
    switch = system.switches.get(identity.timeline)
    if switch is not None and parse_lsn(checkpoint.position) <= switch:
        return []
    end = format_lsn(switch) if switch is not None else "never"
    what = (
        f"the server is on timeline {system.timeline}, which left timeline {identity.timeline} at "
        f"{end}; the checkpoint at {checkpoint.position} is not part of its history"
    )
    return [Problem(what=what, where=server.where, cure=_RESNAPSHOT)]


def _publication_problems(
    server: Server, asked: Asked, identity: SourceIdentity, now: str
) -> list[Problem]:
    """The publication, or a table's place in it, is not what it was: a gap without a trace."""
    difference = compare(identity.publication, now, asked.tables)
    where = f"{server.where}, publication {asked.publication}"
    problems = []
    if difference.publication:
        what = "it was dropped, created again or altered, so that changes may have been skipped"
        problems.append(Problem(what=what, where=where, cure=_RESNAPSHOT))
    for table in difference.changed:
        what = (
            f"table {table.schema}.{table.name} was taken out, put back or created again, or its "
            "replica identity changed, so that changes may have been skipped"
        )
        problems.append(Problem(what=what, where=where, cure=_RESNAPSHOT))
    for table in difference.added:
        what = f"table {table.schema}.{table.name} is mapped now but was never copied"
        problems.append(Problem(what=what, where=where, cure=_RESNAPSHOT))
    return problems


def _position_problems(
    server: Server, asked: Asked, checkpoint: Checkpoint, slot: Slot | None, system: System
) -> list[Problem]:
    """Slot and checkpoint against each other."""
    where = f"{server.where}, slot {asked.slot}"
    if checkpoint.phase is not Phase.STREAMING:
        if slot is None or _is_replaced(asked, checkpoint):
            return []
        what = "the slot exists, but no checkpoint belongs to it"
        cure = f"if nobody else uses it: SELECT pg_drop_replication_slot('{asked.slot}')"
        return [Problem(what=what, where=where, cure=cure)]
    if slot is None:
        what = "the slot is gone: changes since the checkpoint are lost"
        return [Problem(what=what, where=where, cure=_RESNAPSHOT)]
    if checkpoint.position is None:
        return [Problem(what="the checkpoint has no position", where=where, cure=_RESNAPSHOT)]
    position = parse_lsn(checkpoint.position)
    problems = _advanced(server, asked, slot, position)
    if problems and slot.active_pid is None:  # in use: who opens it looks again when it is his
        return problems
    if position > system.position:
        what = (
            f"the checkpoint at {checkpoint.position} is ahead of the server's log, which ends at "
            f"{format_lsn(system.position)}: the server was restored to an earlier state"
        )
        return [Problem(what=what, where=where, cure=_RESNAPSHOT)]
    return []
