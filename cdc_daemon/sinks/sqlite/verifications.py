"""``cdc_verification``: what each verification of a pipeline found, and the rows that differed;
``cdc_repair``: what was put right. Keys and names of attributes are kept, never values.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence

from cdc_daemon.model.ports import Repaired, Verification, VerifiedMapping
from cdc_daemon.sinks.sqlite.checkpoint import moment_text, writing
from cdc_daemon.sinks.sqlite.database import Connection

KEPT = 100
"""Runs of a pipeline that are kept."""

_OLD = dt.timedelta(days=7)
_ABANDON = """
    UPDATE cdc_verification SET state = 'failed', finished_at = ?, error = 'it was broken off'
     WHERE pipeline = ? AND state = 'running'
       AND (origin = 'schedule' AND ? = 'schedule' OR started_at < ?)"""
_BEGIN = """
    INSERT INTO cdc_verification (pipeline, origin, actor, whole, started_at)
         VALUES (?, ?, ?, ?, ?)"""
_FORGET = """
    DELETE FROM cdc_verification WHERE pipeline = ? AND id <= (
           SELECT id FROM cdc_verification WHERE pipeline = ?
            ORDER BY id DESC LIMIT 1 OFFSET ?)"""
_FINISH = """
    UPDATE cdc_verification SET state = ?, error = ?, finished_at = ?
     WHERE id = ? AND state = 'running'"""
_FIGURES = (
    "source_rows",
    "target_rows",
    "matching",
    "missing",
    "extra",
    "different",
    "moving",
    "parked",
    "kept",
)
_MAPPING = f"""
    INSERT INTO cdc_verification_mapping (verification, mapping, {", ".join(_FIGURES)})
         VALUES (?, ?{", ?" * len(_FIGURES)})"""
_DIFFERENCE = """
    INSERT INTO cdc_verification_difference
           (verification, mapping, number, kind, key, source_row, attributes, reason)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
_NEWEST = """
    SELECT id, state, started_at, finished_at, error FROM cdc_verification
     WHERE pipeline = ? AND whole AND state IN ({}) ORDER BY id DESC LIMIT 1"""
_AUDIT = """
    INSERT INTO cdc_repair (pipeline, mapping, command, actor, reason, kind, key, source_row,
                            outcome, detail, repaired_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""


def begin(connection: Connection, pipeline: str, origin: str, actor: str, *, whole: bool) -> int:
    """Note that a verification begins; its number. The oldest beyond those kept are forgotten."""
    now = dt.datetime.now(dt.UTC)
    moment = moment_text(now)
    with writing(connection):
        connection.execute(_ABANDON, (moment, pipeline, origin, moment_text(now - _OLD)))
        made = connection.execute(_BEGIN, (pipeline, origin, actor, int(whole), moment))
        connection.execute(_FORGET, (pipeline, pipeline, KEPT))
    return made.lastrowid or 0


def finish(
    connection: Connection,
    number: int,
    state: str,
    error: str | None,
    mappings: Sequence[VerifiedMapping],
) -> None:
    """Note what it found."""
    moment = moment_text(dt.datetime.now(dt.UTC))
    with writing(connection):
        connection.execute(_FINISH, (state, error, moment, number))
        for one in mappings:
            figures = [one.rows[name] for name in _FIGURES]
            connection.execute(_MAPPING, (number, one.mapping, *figures))
            for n, found in enumerate(one.differences):
                key, source_row, attributes = (
                    json.dumps(found[name]) for name in ("key", "source_row", "attributes")
                )
                row = (number, one.mapping, n, found["kind"], key, source_row, attributes)
                connection.execute(_DIFFERENCE, (*row, found["reason"]))


def latest(connection: Connection, pipeline: str) -> Verification | None:
    """How the newest whole verification went, with the rows of the newest that did not fail."""
    newest = _newest(connection, pipeline, "equal", "different", "failed")
    if newest is None:
        return None
    last = _newest(connection, pipeline, "equal", "different")
    equal = _newest(connection, pipeline, "equal")
    return Verification(
        pipeline=pipeline,
        state=str(newest[1]),
        started_at=dt.datetime.fromisoformat(str(newest[2])),
        error=str(newest[4] or ""),
        last_started=_moment(last, 2),
        last_finished=_moment(last, 3),
        last_equal=_moment(equal, 3),
        mappings={} if last is None else _rows(connection, last[0]),
    )


def audit(connection: Connection, pipeline: str, repaired: Sequence[Repaired], moment: str) -> None:
    """Lines for the audit of repairs."""
    for one in repaired:
        key, source_row = json.dumps(one.key), json.dumps(one.source_row)
        who = (pipeline, one.mapping, one.command, one.actor, one.reason, one.kind)
        connection.execute(_AUDIT, (*who, key, source_row, one.outcome, one.detail, moment))


def _newest(connection: Connection, pipeline: str, *states: str) -> tuple[object, ...] | None:
    sql = _NEWEST.format(", ".join("?" * len(states)))
    row: tuple[object, ...] | None = connection.execute(sql, (pipeline, *states)).fetchone()
    return row


def _moment(row: Sequence[object] | None, place: int) -> dt.datetime | None:
    return None if row is None else dt.datetime.fromisoformat(str(row[place]))


def _rows(connection: Connection, number: object) -> dict[str, dict[str, int]]:
    sql = f"SELECT mapping, {', '.join(_FIGURES)} FROM cdc_verification_mapping"
    rows = connection.execute(f"{sql} WHERE verification = ? ORDER BY mapping", (number,))
    return {mapping: dict(zip(_FIGURES, figures, strict=True)) for mapping, *figures in rows}
