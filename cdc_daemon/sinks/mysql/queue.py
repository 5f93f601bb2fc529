"""The failure queue as a whole: how much is in it, and what is settled and leaves it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from cdc_daemon.model.selection import Selection, Tally
from cdc_daemon.sinks.mysql.checkpoint import moment_in
from cdc_daemon.sinks.mysql.failures import conditions
from cdc_daemon.sinks.mysql.session import Session

_TALLIES = """
    SELECT pipeline, entity, error_code, state, COUNT(*), MIN(parked_at), MAX(id)
      FROM cdc_failure WHERE {} GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"""
_BLOCKED = """
    SELECT pipeline, COUNT(DISTINCT digest) FROM cdc_failure_lane GROUP BY pipeline"""
_SETTLED = """
    SELECT id FROM cdc_failure WHERE {} AND state <> 'parked'
     ORDER BY resolved_at LIMIT {}"""
_PURGE = (
    "DELETE FROM cdc_failure_edit WHERE failure IN ({0})",
    "DELETE FROM cdc_failure WHERE id IN ({0})",
)


def tallies(session: Session, selection: Selection) -> list[Tally]:
    """How many changes are meant, by pipeline, entity, error and state."""
    where, params = conditions(selection)
    return [_tally(row) for row in session.run(_TALLIES.format(where), *params).rows]


def _tally(row: Sequence[bytes | None]) -> Tally:
    pipeline, entity, error, state, number, oldest, last = [(one or b"").decode() for one in row]
    return Tally(
        pipeline=pipeline,
        entity=entity,
        error=error,
        state=state,
        number=int(number),
        oldest=moment_in(oldest) or dt.datetime.now(dt.UTC),
        last=int(last),
    )


def blocked(session: Session) -> dict[str, int]:
    """How many lanes are blocked, by pipeline."""
    rows = session.run(_BLOCKED).rows
    return {(pipeline or b"").decode(): int(number or b"0") for pipeline, number in rows}


def purge(session: Session, selection: Selection, most: int) -> int:
    """Delete settled changes with their edits; how many."""
    where, params = conditions(selection)
    found = session.run(_SETTLED.format(where, int(most)), *params).rows
    if found:
        ids = ", ".join((number or b"").decode() for (number,) in found)
        session.script([sql.format(ids) for sql in _PURGE])
    return len(found)
