"""Edits of parked changes: the payload that is tried next, and each one that was there before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psycopg.rows import dict_row

from cdc_daemon.model.queue import Edit
from cdc_daemon.sinks.postgres import failures
from cdc_daemon.sinks.postgres.session import Connection

_EDIT = """
    WITH before AS (
        SELECT id, pipeline, payload FROM cdc.failure
         WHERE id = %(id)s AND state = 'parked' FOR UPDATE),
    kept AS (
        INSERT INTO cdc.failure_edit (failure, actor, reason, payload)
        SELECT id, %(actor)s, %(reason)s, payload FROM before),
    blocked AS (
        INSERT INTO cdc.failure_lane (pipeline, digest, failure)
        SELECT DISTINCT before.pipeline, lane, before.id
          FROM before, unnest(%(lanes)s::bytea[]) AS lane
            ON CONFLICT DO NOTHING)
    UPDATE cdc.failure f SET payload = %(payload)s::jsonb, lanes = %(lanes)s::bytea[]
      FROM before WHERE f.id = before.id"""
_READ = """
    SELECT failure, edited_at, actor, reason, payload FROM cdc.failure_edit
     WHERE failure = %s ORDER BY id"""


def edit(
    connection: Connection,
    failure: int,
    payload: Mapping[str, object],
    lanes: Sequence[bytes],
    *,
    actor: str,
    reason: str,
) -> None:
    """Give a parked change another payload, and block the lanes that it has with it too."""
    params = {
        "id": failure,
        "payload": failures.stored(payload),
        "lanes": list(lanes),
        "actor": actor,
        "reason": reason,
    }
    connection.execute(_EDIT, params)


def read(connection: Connection, failure: int) -> list[Edit]:
    """What was edited in a change, oldest first."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(_READ, (failure,)).fetchall()
    return [Edit(**{**row, "payload": failures.restored(row["payload"])}) for row in rows]
