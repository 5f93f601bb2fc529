"""Edits of parked changes: the payload that is tried next, and each one that was there before."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from cdc_daemon.model.queue import Edit
from cdc_daemon.sinks.mysql.checkpoint import moment_in
from cdc_daemon.sinks.mysql.failures import Run, hexes

_KEEP = """
    INSERT INTO cdc_failure_edit (failure, edited_at, actor, reason, payload)
    SELECT id, UTC_TIMESTAMP(6), %s, %s, payload FROM cdc_failure
     WHERE id = %s AND state = 'parked'"""
_EDIT = "UPDATE cdc_failure SET payload = %s, lanes = %s WHERE id = %s"
_BLOCK = """
    INSERT IGNORE INTO cdc_failure_lane (pipeline, digest, failure)
    SELECT pipeline, %s, id FROM cdc_failure WHERE id = %s"""
_READ = """
    SELECT failure, edited_at, actor, reason, payload FROM cdc_failure_edit
     WHERE failure = %s ORDER BY id"""


def edit(
    run: Run,
    failure: int,
    payload: Mapping[str, object],
    lanes: Sequence[bytes],
    *,
    actor: str,
    reason: str,
) -> None:
    """Give a parked change another payload, and block the lanes that it has with it too."""
    if run(_KEEP, actor, reason, failure).affected:
        run(_EDIT, json.dumps(payload), hexes(lanes), failure)
        for lane in lanes:
            run(_BLOCK, lane, failure)


def read(run: Run, failure: int) -> list[Edit]:
    """What was edited in a change, oldest first."""
    return [_edit(row) for row in run(_READ, failure).rows]


def _edit(row: Sequence[bytes | None]) -> Edit:
    number, moment, actor, reason, payload = [(one or b"").decode() for one in row]
    edited_at = moment_in(moment)
    assert edited_at is not None
    return Edit(
        failure=int(number),
        edited_at=edited_at,
        actor=actor,
        reason=reason,
        payload=json.loads(payload),
    )
