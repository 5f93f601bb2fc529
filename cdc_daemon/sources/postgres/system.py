"""Which server answers: system identifier, timeline and its forks, end of the log."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from cdc_daemon.sources.postgres.connection import Connection, Server
from cdc_daemon.sources.postgres.lsn import parse_lsn

_MAY_ASK: Final = (
    "SELECT pg_catalog.has_function_privilege('pg_catalog.pg_control_checkpoint()', 'EXECUTE')"
)
_CONTROL: Final = "SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()"


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """What ``IDENTIFY_SYSTEM`` says, and where earlier timelines ended."""

    system: str
    timeline: int
    position: int
    switches: dict[int, int]


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


def timeline_of_last_checkpoint(connection: Connection) -> int:
    """The timeline as an SQL connection sees it; after a promotion it may lag behind. 0: unseen."""
    may = connection.execute(_MAY_ASK).fetchone()
    row = connection.execute(_CONTROL).fetchone() if may and may[0] else None
    return int(row[0]) if row else 0


def _history(walsender: Connection, timeline: int) -> dict[int, int]:
    """Where each earlier timeline ended: the lines of the timeline history file."""
    with walsender.cursor(binary=False) as cursor:
        row = cursor.execute(f"TIMELINE_HISTORY {timeline}".encode()).fetchone()
    content: Any = row[1] if row else b""
    text = content if isinstance(content, str) else bytes(content).decode(errors="replace")
    found = re.findall(r"^(\d+)\s+([0-9A-F]+/[0-9A-F]+)", text, re.MULTILINE)
    return {int(number): parse_lsn(switch) for number, switch in found}
