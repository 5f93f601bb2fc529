"""Every payload that the failure queue keeps, for those who seal them again or count their keys."""

from __future__ import annotations

from collections.abc import Mapping

from cdc_daemon.model.queue import Kept
from cdc_daemon.sinks.postgres import failures
from cdc_daemon.sinks.postgres.session import Connection

_READ = """
    WITH page AS (
        SELECT id, pipeline, source_table, payload FROM cdc.failure
         WHERE id > %(after)s AND (%(pipeline)s::text IS NULL OR pipeline = %(pipeline)s)
         ORDER BY id LIMIT %(most)s)
    SELECT pipeline, id, NULL::bigint AS edit, source_table, payload FROM page
     UNION ALL
    SELECT page.pipeline, page.id, e.id, page.source_table, e.payload
      FROM page JOIN cdc.failure_edit e ON e.failure = page.id
     ORDER BY id, edit NULLS FIRST"""
_CHANGE = "UPDATE cdc.failure SET payload = %s::jsonb WHERE id = %s"
_EDIT = "UPDATE cdc.failure_edit SET payload = %s::jsonb WHERE id = %s"


def read(connection: Connection, pipeline: str | None, after: int, most: int) -> list[Kept]:
    """Payloads of changes behind an id, of so many at most, each followed by those of its edits."""
    params = {"pipeline": pipeline, "after": after, "most": most}
    return [
        Kept(
            pipeline=name,
            failure=number,
            edit=edit,
            table=table,
            payload=failures.restored(payload),
        )
        for name, number, edit, table, payload in connection.execute(_READ, params)
    ]


def reseal(connection: Connection, kept: Kept, payload: Mapping[str, object]) -> None:
    """The same payload, its values sealed anew."""
    text = failures.stored(payload)
    if kept.edit is None:
        connection.execute(_CHANGE, (text, kept.failure))
    else:
        connection.execute(_EDIT, (text, kept.edit))
