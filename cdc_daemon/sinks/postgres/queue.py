"""The failure queue as a whole: how much is in it, and what is settled and leaves it."""

from __future__ import annotations

from cdc_daemon.model.selection import Selection, Tally
from cdc_daemon.sinks.postgres.failures import conditions
from cdc_daemon.sinks.postgres.session import Connection

_TALLIES = """
    SELECT pipeline, entity, error_code, state, count(*), min(parked_at), max(id)
      FROM cdc.failure WHERE {} GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"""
_BLOCKED = """
    SELECT pipeline, count(DISTINCT digest) FROM cdc.failure_lane GROUP BY pipeline"""
_PURGE = """
    DELETE FROM cdc.failure WHERE id IN (
        SELECT id FROM cdc.failure
         WHERE {} AND state <> 'parked'
         ORDER BY resolved_at LIMIT %(most)s)"""


def tallies(connection: Connection, selection: Selection) -> list[Tally]:
    """How many changes are meant, by pipeline, entity, error and state."""
    where, params = conditions(selection)
    return [
        Tally(
            pipeline=pipeline,
            entity=entity,
            error=error,
            state=state,
            number=number,
            oldest=oldest,
            last=last,
        )
        for pipeline, entity, error, state, number, oldest, last in connection.execute(
            _TALLIES.format(where), params
        )
    ]


def blocked(connection: Connection) -> dict[str, int]:
    """How many lanes are blocked, by pipeline."""
    return dict(connection.execute(_BLOCKED).fetchall())


def purge(connection: Connection, selection: Selection, most: int) -> int:
    """Delete settled changes with their edits; how many."""
    where, params = conditions(selection)
    return connection.execute(_PURGE.format(where), {**params, "most": most}).rowcount
