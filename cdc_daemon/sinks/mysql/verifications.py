"""``cdc_verification``: what each verification of a pipeline found, and the rows that differed;
``cdc_repair``: what was put right. Keys and names of attributes are kept, never values.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from cdc_daemon.model.ports import Repaired, Verification, VerifiedMapping
from cdc_daemon.sinks.mysql.checkpoint import moment_in
from cdc_daemon.sinks.mysql.failures import Run
from cdc_daemon.sinks.mysql.session import Session

KEPT = 100
"""Runs of a pipeline that are kept."""

_ABANDON = """
    UPDATE cdc_verification
       SET state = 'failed', finished_at = UTC_TIMESTAMP(6), error = 'it was broken off'
     WHERE pipeline = %s AND state = 'running'
       AND (origin = 'schedule' AND %s = 'schedule'
            OR started_at < UTC_TIMESTAMP(6) - INTERVAL 7 DAY)"""
_BEGIN = """
    INSERT INTO cdc_verification (pipeline, origin, actor, whole, started_at)
    VALUES (%s, %s, %s, %s, UTC_TIMESTAMP(6))"""
_LAST_KEPT = f"""
    SELECT id FROM cdc_verification WHERE pipeline = %s ORDER BY id DESC LIMIT 1 OFFSET {KEPT}"""
_PARTS = ("verification_mapping", "verification_difference")
_FINISH = """
    UPDATE cdc_verification SET state = %s, error = %s, finished_at = UTC_TIMESTAMP(6)
     WHERE id = %s AND state = 'running'"""
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
    VALUES (%s, %s{", %s" * len(_FIGURES)})"""
_DIFFERENCE = """
    INSERT INTO cdc_verification_difference
           (verification, mapping, number, kind, `key`, source_row, attributes, reason)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"""
_NEWEST = """
    SELECT id, state, started_at, finished_at, error FROM cdc_verification
     WHERE pipeline = %s AND whole AND state IN ({}) ORDER BY id DESC LIMIT 1"""
_ROWS = f"""
    SELECT mapping, {", ".join(_FIGURES)} FROM cdc_verification_mapping
     WHERE verification = %s ORDER BY mapping"""
_AUDIT = """
    INSERT INTO cdc_repair (pipeline, mapping, command, actor, reason, kind, `key`, source_row,
                            outcome, detail, repaired_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, UTC_TIMESTAMP(6))"""

Found = Sequence[str | None]


def begin(session: Session, pipeline: str, origin: str, actor: str, *, whole: bool) -> int:
    """Note that a verification begins; its number. The oldest beyond those kept are forgotten."""
    session.run(_ABANDON, pipeline, origin)
    made = session.run(_BEGIN, pipeline, origin, actor, whole).inserted
    last = session.run(_LAST_KEPT, pipeline).text()
    if last is not None:
        old = "SELECT id FROM cdc_verification WHERE pipeline = %s AND id <= %s"
        for part in _PARTS:
            session.run(f"DELETE FROM cdc_{part} WHERE verification IN ({old})", pipeline, last)
        session.run("DELETE FROM cdc_verification WHERE pipeline = %s AND id <= %s", pipeline, last)
    return made


def finish(
    session: Session,
    number: int,
    state: str,
    error: str | None,
    mappings: Sequence[VerifiedMapping],
) -> None:
    """Note what it found; the caller's transaction."""
    session.run(_FINISH, state, error, number)
    for one in mappings:
        session.run(_MAPPING, number, one.mapping, *(one.rows[name] for name in _FIGURES))
        for n, found in enumerate(one.differences):
            lists = [json.dumps(found[name]) for name in ("key", "source_row", "attributes")]
            row = (number, one.mapping, n, found["kind"], *lists, found["reason"])
            session.run(_DIFFERENCE, *row)


def latest(session: Session, pipeline: str) -> Verification | None:
    """How the newest whole verification went, with the rows of the newest that did not fail."""
    newest = _newest(session, pipeline, "equal", "different", "failed")
    if newest is None:
        return None
    last = _newest(session, pipeline, "equal", "different")
    equal = _newest(session, pipeline, "equal")
    started = moment_in(newest[2])
    assert started is not None
    return Verification(
        pipeline=pipeline,
        state=newest[1] or "",
        started_at=started,
        error=newest[4] or "",
        last_started=None if last is None else moment_in(last[2]),
        last_finished=None if last is None else moment_in(last[3]),
        last_equal=None if equal is None else moment_in(equal[3]),
        mappings={} if last is None else _rows(session, last[0]),
    )


def audit(run: Run, pipeline: str, repaired: Sequence[Repaired]) -> None:
    """Lines for the audit of repairs."""
    for one in repaired:
        keys = (json.dumps(one.key), json.dumps(one.source_row))
        who = (pipeline, one.mapping, one.command, one.actor, one.reason, one.kind)
        run(_AUDIT, *who, *keys, one.outcome, one.detail)


def _newest(session: Session, pipeline: str, *states: str) -> Found | None:
    sql = _NEWEST.format(", ".join(["%s"] * len(states)))
    rows = session.run(sql, pipeline, *states).rows
    return [None if one is None else one.decode() for one in rows[0]] if rows else None


def _rows(session: Session, number: str | None) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for mapping, *figures in session.run(_ROWS, number).rows:
        numbers = [int(one or b"0") for one in figures]
        found[(mapping or b"").decode()] = dict(zip(_FIGURES, numbers, strict=True))
    return found
