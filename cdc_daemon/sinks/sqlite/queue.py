"""The failure queue as a whole: how much is in it, and what is settled and leaves it."""

from __future__ import annotations

import datetime as dt

from cdc_daemon.model.selection import Selection, Tally
from cdc_daemon.sinks.sqlite.checkpoint import moment_in
from cdc_daemon.sinks.sqlite.database import Connection
from cdc_daemon.sinks.sqlite.failures import conditions

_TALLIES = """
    SELECT pipeline, entity, error_code, state, count(*), min(parked_at), max(id)
      FROM cdc_failure WHERE {} GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"""
_BLOCKED = """
    SELECT pipeline, count(DISTINCT digest) FROM cdc_failure_lane GROUP BY pipeline"""
_PURGE = """
    DELETE FROM cdc_failure WHERE id IN (
        SELECT id FROM cdc_failure WHERE {} AND state <> 'parked'
         ORDER BY resolved_at LIMIT ?)"""


def tallies(connection: Connection, selection: Selection) -> list[Tally]:
    """How many changes are meant, by pipeline, entity, error and state."""
    where, params = conditions(selection)
    rows = connection.execute(_TALLIES.format(where), params).fetchall()
    return [
        Tally(
            pipeline=pipeline,
            entity=entity,
            error=error,
            state=state,
            number=number,
            oldest=moment_in(oldest) or dt.datetime.now(dt.UTC),
            last=last,
        )
        for pipeline, entity, error, state, number, oldest, last in rows
    ]


def blocked(connection: Connection) -> dict[str, int]:
    """How many lanes are blocked, by pipeline."""
    return dict(connection.execute(_BLOCKED).fetchall())


def purge(connection: Connection, selection: Selection, most: int) -> int:
    """Delete settled changes with their edits; how many."""
    where, params = conditions(selection)
    return connection.execute(_PURGE.format(where), (*params, most)).rowcount
