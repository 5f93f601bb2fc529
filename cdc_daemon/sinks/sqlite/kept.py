"""Every payload that the failure queue keeps, for those who seal them again or count their keys."""

from __future__ import annotations

import json
from collections.abc import Mapping

from cdc_daemon.model.queue import Kept
from cdc_daemon.sinks.sqlite.database import Connection

_READ = """
    WITH page AS (
        SELECT id, pipeline, source_table, payload FROM cdc_failure
         WHERE id > ?1 AND (?2 IS NULL OR pipeline = ?2) ORDER BY id LIMIT ?3)
    SELECT pipeline, id, NULL AS edit, source_table, payload FROM page
     UNION ALL
    SELECT page.pipeline, page.id, e.id, page.source_table, e.payload
      FROM page JOIN cdc_failure_edit e ON e.failure = page.id
     ORDER BY id, edit"""
_CHANGE = "UPDATE cdc_failure SET payload = ? WHERE id = ?"
_EDIT = "UPDATE cdc_failure_edit SET payload = ? WHERE id = ?"


def read(connection: Connection, pipeline: str | None, after: int, most: int) -> list[Kept]:
    """Payloads of changes behind an id, of so many at most, each followed by those of its edits."""
    return [
        Kept(
            pipeline=name, failure=number, edit=edit, table=table, payload=json.loads(str(payload))
        )
        for name, number, edit, table, payload in connection.execute(
            _READ, (after, pipeline, most)
        ).fetchall()
    ]


def reseal(connection: Connection, kept: Kept, payload: Mapping[str, object]) -> None:
    """The same payload, its values sealed anew."""
    text = json.dumps(payload)
    if kept.edit is None:
        connection.execute(_CHANGE, (text, kept.failure))
    else:
        connection.execute(_EDIT, (text, kept.edit))
