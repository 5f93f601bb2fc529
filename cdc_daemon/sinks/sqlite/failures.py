"""The failure queue: parked changes with the lanes they block, in the order they came.

Rows are never deleted here: what was replayed or skipped keeps its payload, who did it and why.
Payloads are JSON in ASCII, so whatever text was poison is kept as an escape.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Sequence

from cdc_daemon.model.effects import Parked
from cdc_daemon.model.failpoint import failpoint
from cdc_daemon.model.queue import Failure
from cdc_daemon.model.selection import Selection
from cdc_daemon.sinks.forms import as_json
from cdc_daemon.sinks.selected import plain_conditions
from cdc_daemon.sinks.sqlite import awaiting
from cdc_daemon.sinks.sqlite.checkpoint import moment_in, moment_of, moment_text
from cdc_daemon.sinks.sqlite.database import Connection

_PARK = """
    INSERT INTO cdc_failure (pipeline, mapping, entity, source_table, operation, position,
        sequence, commit_time, parked_at, error_code, error_message, payload, mapping_version,
        lanes, awaits, retry_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_BLOCK = """
    INSERT INTO cdc_failure_lane (pipeline, digest, failure) VALUES (?, ?, ?)
    ON CONFLICT DO NOTHING"""
_RESOLVE = """
    UPDATE cdc_failure SET state = ?, resolved_at = ?, actor = ?, reason = ?,
           attempts = attempts + ?, retry_at = NULL
     WHERE id = ? AND state = 'parked'"""
_ATTEMPTED = """
    UPDATE cdc_failure SET attempts = attempts + 1, error_code = ?, error_message = ?,
           retry_at = ?, awaits = ?, mapping_version = coalesce(?, mapping_version)
     WHERE id = ? AND state = 'parked'"""
_SUPERSEDE = """
    UPDATE cdc_failure SET state = 'skipped', resolved_at = ?1, actor = 'cdc-daemon',
           reason = 'superseded by ' || ?2, retry_at = NULL
     WHERE pipeline = ?3 AND state = 'parked' AND (?4 IS NULL OR mapping = ?4)"""
_OPEN = """
    DELETE FROM cdc_failure_lane AS l WHERE l.pipeline = ? AND NOT EXISTS
        (SELECT 1 FROM cdc_failure f WHERE f.id = l.failure AND f.state = 'parked')"""
_LANES = """
    SELECT l.digest, min(f.mapping) FROM cdc_failure_lane l JOIN cdc_failure f ON f.id = l.failure
     WHERE l.pipeline = ? GROUP BY l.digest"""
_STILL = """
    SELECT 1 FROM cdc_failure_lane WHERE pipeline = ? AND digest = ? AND failure < ? LIMIT 1"""
_LAST = 2**63 - 1
_PARKED = """
    SELECT mapping, error_code, count(*) FROM cdc_failure
     WHERE pipeline = ? AND state = 'parked' GROUP BY mapping, error_code"""
_OLDEST = """
    SELECT parked_at FROM cdc_failure WHERE pipeline = ? AND state = 'parked'
     ORDER BY id LIMIT 1"""
_BLOCKS = """id IN (
    SELECT l.failure FROM cdc_failure_lane l
     WHERE lower(hex(l.digest)) IN (SELECT value FROM json_each(?)))"""
_MEETS = """EXISTS (
    SELECT 1 FROM json_each(lanes) one WHERE one.value IN (SELECT value FROM json_each(?)))"""
_LIST = """
    SELECT id, pipeline, mapping, entity, source_table, operation, position, sequence, commit_time,
           parked_at, error_code, error_message, attempts, state, payload, mapping_version, lanes,
           awaits, retry_at
      FROM cdc_failure WHERE {} ORDER BY id LIMIT ?"""


def park(connection: Connection, changes: Sequence[Parked], moment: str) -> None:
    """Add changes to the queue in this order, and block their lanes."""
    for number, change in enumerate(changes):
        if number:
            failpoint("dlq_insert")
        row = connection.execute(_PARK, _values(change, moment))
        lanes = [(change.pipeline, lane, row.lastrowid) for lane in change.lanes]
        connection.executemany(_BLOCK, lanes)
        if change.awaits and row.lastrowid is not None:
            awaiting.wait_for(connection, row.lastrowid, change.awaits)


def resolve(
    connection: Connection,
    failure: int,
    *,
    state: str,
    actor: str,
    moment: str,
    reason: str | None = None,
) -> None:
    """Close a parked change as replayed or skipped, and open its lanes."""
    attempts = int(state == "replayed")
    done = connection.execute(_RESOLVE, (state, moment, actor, reason, attempts, failure))
    if done.rowcount:
        awaiting.settled(connection, failure, moment)
        connection.execute("DELETE FROM cdc_failure_lane WHERE failure = ?", (failure,))


def attempted(
    connection: Connection,
    failure: int,
    *,
    code: str,
    message: str,
    retry_at: dt.datetime | None,
    awaits: Sequence[bytes],
    version: str | None,
) -> None:
    """Note that a replay failed once more, when it is tried again by itself, what it waits for."""
    again = retry_at and moment_text(retry_at.astimezone(dt.UTC))
    connection.execute(_ATTEMPTED, (code, message, again, hexes(awaits), version, failure))
    awaiting.wait_for(connection, failure, awaits)


def supersede(
    connection: Connection, pipeline: str, by: str, moment: str, *, mapping: str | None = None
) -> int:
    """Close what a new first copy, or a truncate of a mapping's table, makes void; how many."""
    done = connection.execute(_SUPERSEDE, (moment, by, pipeline, mapping))
    if done.rowcount:
        awaiting.superseded(connection, pipeline, moment)
        connection.execute(_OPEN, (pipeline,))
    return done.rowcount


def lanes(connection: Connection, pipeline: str) -> dict[bytes, str]:
    """The lanes of a pipeline that are blocked, and the mapping of each."""
    rows = connection.execute(_LANES, (pipeline,))
    return {bytes(digest): sys.intern(mapping) for digest, mapping in rows}


def still_blocked(
    connection: Connection, pipeline: str, lanes: Sequence[bytes], before: int | None
) -> set[bytes]:
    """Those of these lanes that are blocked, by changes before that id."""
    last = _LAST if before is None else before
    return {one for one in lanes if connection.execute(_STILL, (pipeline, one, last)).fetchone()}


def parked(connection: Connection, pipeline: str) -> dict[tuple[str, str], int]:
    """How many changes are parked, by mapping and error."""
    rows = connection.execute(_PARKED, (pipeline,)).fetchall()
    return {(mapping, code): number for mapping, code, number in rows}


def parked_since(connection: Connection, pipeline: str) -> dt.datetime | None:
    """When the oldest parked change was parked."""
    row = connection.execute(_OLDEST, (pipeline,)).fetchone()
    return moment_in(row[0]) if row else None


def select(connection: Connection, selection: Selection, limit: int | None = None) -> list[Failure]:
    """The changes that are meant, in the order they were parked."""
    where, params = conditions(selection)
    rows = connection.execute(_LIST.format(where), (*params, -1 if limit is None else limit))
    return [_failure(row) for row in rows.fetchall()]


def conditions(selection: Selection) -> tuple[str, list[object]]:
    """A selection in SQL, and its parameters."""
    plain = list(plain_conditions(selection, lambda one: moment_text(one.astimezone(dt.UTC))))
    found = [f"{sql} ?" for sql, _ in plain]
    params = [value for _, value in plain]
    if selection.ids is not None:
        found.append("id IN (SELECT value FROM json_each(?))")
        params.append(as_json(list(selection.ids)))
    if selection.lanes is not None:
        found.append(_BLOCKS if selection.state == "parked" else _MEETS)
        params.append(hexes(selection.lanes))
    return " AND ".join(found) or "TRUE", params


def _failure(row: Sequence[object]) -> Failure:
    values = list(row)
    parked_at = moment_in(values[9])
    assert parked_at is not None
    return Failure(
        id=int(str(values[0])),
        pipeline=str(values[1]),
        mapping=str(values[2]),
        entity=str(values[3]),
        table=str(values[4]),
        operation=str(values[5]),
        position=str(values[6]),
        sequence=int(str(values[7])),
        commit_time=moment_in(values[8]),
        parked_at=parked_at,
        error_code=str(values[10]),
        error_message=str(values[11]),
        attempts=int(str(values[12])),
        state=str(values[13]),
        payload=json.loads(str(values[14])),
        mapping_version=str(values[15]),
        lanes=_digests(values[16]),
        awaits=_digests(values[17]),
        retry_at=moment_in(values[18]),
    )


def hexes(lanes: Sequence[bytes]) -> str:
    """Lanes as the queue keeps them."""
    return as_json([lane.hex() for lane in lanes])


def _digests(text: object) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(lane) for lane in json.loads(str(text)))


def _values(change: Parked, moment: str) -> tuple[object, ...]:
    return (
        change.pipeline,
        change.mapping,
        change.entity,
        change.table,
        change.operation.value,
        change.position,
        change.sequence,
        moment_of(change.commit_time),
        moment,
        change.error_code,
        change.error_message.replace("\0", "␀"),
        json.dumps(change.payload),
        change.mapping_version,
        hexes(change.lanes),
        hexes(change.awaits),
        None if change.retry_at is None else moment_of(change.retry_at),
    )
