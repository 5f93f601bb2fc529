"""``cdc.verification``: what each verification of a pipeline found, and the rows that differed.

Keys and names of attributes are kept, never values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.rows import dict_row

from cdc_daemon.model.ports import Verification, VerifiedMapping
from cdc_daemon.sinks.postgres.session import Connection

KEPT = 100
"""Runs of a pipeline that are kept."""

_ABANDON = """
    UPDATE cdc.verification
       SET state = 'failed', finished_at = clock_timestamp(), error = 'it was broken off'
     WHERE pipeline = %(pipeline)s AND state = 'running'
       AND (origin = 'schedule' AND %(origin)s = 'schedule'
            OR started_at < clock_timestamp() - interval '7 days')"""
_FORGET = """
    DELETE FROM cdc.verification
     WHERE pipeline = %(pipeline)s AND id <= (
           SELECT id FROM cdc.verification WHERE pipeline = %(pipeline)s
            ORDER BY id DESC OFFSET %(kept)s LIMIT 1)"""
_BEGIN = """
    INSERT INTO cdc.verification (pipeline, origin, actor, whole)
         VALUES (%(pipeline)s, %(origin)s, %(actor)s, %(whole)s) RETURNING id"""
_FINISH = """
    UPDATE cdc.verification SET state = %(state)s, error = %(error)s,
           finished_at = clock_timestamp() WHERE id = %(id)s AND state = 'running'"""
_MAPPING = """
    INSERT INTO cdc.verification_mapping
         VALUES (%(id)s, %(mapping)s, %(source_rows)s, %(target_rows)s, %(matching)s, %(missing)s,
                 %(extra)s, %(different)s, %(moving)s, %(parked)s, %(kept)s)"""
_DIFFERENCE = """
    INSERT INTO cdc.verification_difference
           (verification, mapping, number, kind, key, source_row, attributes, reason)
    VALUES (%(id)s, %(mapping)s, %(number)s, %(kind)s, %(key)s::jsonb, %(source_row)s::jsonb,
            %(attributes)s::jsonb, %(reason)s)"""
_LATEST = """
    SELECT v.*,
           (SELECT max(e.finished_at) FROM cdc.verification e
             WHERE e.pipeline = v.pipeline AND e.whole AND e.state = 'equal') AS last_equal
      FROM cdc.verification v
     WHERE (v.id = (SELECT max(id) FROM cdc.verification
                     WHERE pipeline = %(pipeline)s AND whole AND state IN ('equal', 'different'))
            OR v.id = (SELECT max(id) FROM cdc.verification
                        WHERE pipeline = %(pipeline)s AND whole AND state = 'failed'))
     ORDER BY v.id DESC"""
_ROWS = """
    SELECT mapping, source_rows, target_rows, matching, missing, extra, different, moving, parked,
           kept
      FROM cdc.verification_mapping WHERE verification = %(id)s ORDER BY mapping"""


def begin(connection: Connection, pipeline: str, origin: str, actor: str, *, whole: bool) -> int:
    """Note that a verification begins; its number. The oldest beyond those kept are forgotten."""
    params = {"pipeline": pipeline, "origin": origin, "actor": actor, "whole": whole, "kept": KEPT}
    with connection.transaction():
        connection.execute(_ABANDON, params)
        row = connection.execute(_BEGIN, params).fetchone()
        connection.execute(_FORGET, params)
    return int(row[0]) if row else 0


def finish(
    connection: Connection,
    number: int,
    state: str,
    error: str | None,
    mappings: Sequence[VerifiedMapping],
) -> None:
    """Note what it found."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(_FINISH, {"id": number, "state": state, "error": error})
        for one in mappings:
            cursor.execute(_MAPPING, {"id": number, "mapping": one.mapping, **one.rows})
            for n, found in enumerate(one.differences):
                lists = {name: json.dumps(found[name]) for name in ("key", "source_row")}
                lists["attributes"] = json.dumps(found["attributes"])
                more = {"kind": found["kind"], "reason": found["reason"], "number": n}
                cursor.execute(_DIFFERENCE, {"id": number, "mapping": one.mapping, **lists, **more})


def latest(connection: Connection, pipeline: str) -> Verification | None:
    """How the newest whole verification went, with the rows of the newest that did not fail."""
    with connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(_LATEST, {"pipeline": pipeline}).fetchall()
        if not found:
            return None
        last = next((row for row in found if row["state"] != "failed"), None)
        rows = cursor.execute(_ROWS, {"id": last["id"]}).fetchall() if last else []
    return _verification(pipeline, found[0], last, rows)


def _verification(
    pipeline: str,
    newest: Mapping[str, Any],
    last: Mapping[str, Any] | None,
    rows: Sequence[dict[str, Any]],
) -> Verification:
    return Verification(
        pipeline=pipeline,
        state=newest["state"],
        started_at=newest["started_at"],
        error=newest["error"] or "",
        last_started=last["started_at"] if last else None,
        last_finished=last["finished_at"] if last else None,
        last_equal=newest["last_equal"],
        mappings={row.pop("mapping"): row for row in rows},
    )
