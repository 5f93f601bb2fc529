"""Edits of parked changes: the payload that is tried next, and each one that was there before."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from cdc_daemon.model.queue import Edit
from cdc_daemon.sinks.sqlite.checkpoint import moment_in
from cdc_daemon.sinks.sqlite.database import Connection
from cdc_daemon.sinks.sqlite.failures import hexes

_KEEP = """
    INSERT INTO cdc_failure_edit (failure, edited_at, actor, reason, payload)
    SELECT id, ?, ?, ?, payload FROM cdc_failure WHERE id = ? AND state = 'parked'"""
_EDIT = "UPDATE cdc_failure SET payload = ?, lanes = ? WHERE id = ?"
_BLOCK = """
    INSERT INTO cdc_failure_lane (pipeline, digest, failure)
    SELECT pipeline, ?, id FROM cdc_failure WHERE id = ? ON CONFLICT DO NOTHING"""
_READ = """
    SELECT failure, edited_at, actor, reason, payload FROM cdc_failure_edit
     WHERE failure = ? ORDER BY id"""


def edit(
    connection: Connection,
    failure: int,
    payload: Mapping[str, object],
    lanes: Sequence[bytes],
    *,
    actor: str,
    reason: str,
    moment: str,
) -> None:
    """Give a parked change another payload, and block the lanes that it has with it too."""
    if connection.execute(_KEEP, (moment, actor, reason, failure)).rowcount:
        connection.execute(_EDIT, (json.dumps(payload), hexes(lanes), failure))
        connection.executemany(_BLOCK, [(lane, failure) for lane in lanes])


def read(connection: Connection, failure: int) -> list[Edit]:
    """What was edited in a change, oldest first."""
    return [_edit(row) for row in connection.execute(_READ, (failure,)).fetchall()]


def _edit(row: Sequence[object]) -> Edit:
    number, moment, actor, reason, payload = row
    edited_at = moment_in(moment)
    assert edited_at is not None
    return Edit(
        failure=int(str(number)),
        edited_at=edited_at,
        actor=str(actor),
        reason=str(reason),
        payload=json.loads(str(payload)),
    )
