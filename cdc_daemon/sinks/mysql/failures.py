"""The failure queue: parked changes with the lanes they block, in the order they came.

Rows are never deleted here: what was replayed or skipped keeps its payload, who did it and why.
Payloads are JSON in ASCII, so whatever text was poison is kept as an escape; of a change that is
larger than the server takes, the largest values are left out.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Callable, Sequence

from cdc_daemon.model.effects import Parked
from cdc_daemon.model.failpoint import failpoint
from cdc_daemon.model.queue import Failure
from cdc_daemon.model.selection import Selection
from cdc_daemon.sinks.mysql import awaiting
from cdc_daemon.sinks.mysql.abridged import Abridging
from cdc_daemon.sinks.mysql.checkpoint import moment_in, moment_of
from cdc_daemon.sinks.mysql.session import Result, Session
from cdc_daemon.sinks.mysql.transaction import TooLong
from cdc_daemon.sinks.selected import plain_conditions

Run = Callable[..., Result]
"""``Session.run``, or that of a transaction."""

_PARK = """
    INSERT INTO cdc_failure (pipeline, mapping, entity, source_table, operation, position,
        sequence, commit_time, parked_at, error_code, error_message, payload, mapping_version,
        lanes, awaits, retry_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, UTC_TIMESTAMP(6), %s, %s, %s, %s, %s, %s, %s)"""
_BLOCK = "INSERT IGNORE INTO cdc_failure_lane (pipeline, digest, failure) VALUES "
_RESOLVE = """
    UPDATE cdc_failure SET state = %s, resolved_at = UTC_TIMESTAMP(6), actor = %s, reason = %s,
           attempts = attempts + %s, retry_at = NULL
     WHERE id = %s AND state = 'parked'"""
_UNBLOCK = "DELETE FROM cdc_failure_lane WHERE failure = %s"
_ATTEMPTED = """
    UPDATE cdc_failure SET attempts = attempts + 1, error_code = %s, error_message = %s,
           retry_at = %s, awaits = %s, mapping_version = COALESCE(%s, mapping_version)
     WHERE id = %s AND state = 'parked'"""
_SUPERSEDE = """
    UPDATE cdc_failure SET state = 'skipped', resolved_at = UTC_TIMESTAMP(6),
           actor = 'cdc-daemon', reason = CONCAT('superseded by ', %s), retry_at = NULL
     WHERE pipeline = %s AND state = 'parked' AND (%s IS NULL OR mapping = %s)"""
_OPEN = """
    DELETE l FROM cdc_failure_lane l JOIN cdc_failure f ON f.id = l.failure
     WHERE l.pipeline = %s AND f.state <> 'parked'"""
_LANES = """
    SELECT l.digest, MIN(f.mapping) FROM cdc_failure_lane l JOIN cdc_failure f ON f.id = l.failure
     WHERE l.pipeline = %s AND l.digest > %s GROUP BY l.digest ORDER BY l.digest LIMIT 20000"""
_STILL = """
    SELECT DISTINCT digest FROM cdc_failure_lane
     WHERE pipeline = %s AND failure < %s AND digest IN ({})"""
_LAST = 2**63 - 1
_AT_ONCE = 1000  # lanes in one statement
_PARKED = """
    SELECT mapping, error_code, COUNT(*) FROM cdc_failure
     WHERE pipeline = %s AND state = 'parked' GROUP BY mapping, error_code"""
_OLDEST = """
    SELECT parked_at FROM cdc_failure WHERE pipeline = %s AND state = 'parked'
     ORDER BY id LIMIT 1"""
_COLUMNS = (
    "id, pipeline, mapping, entity, source_table, operation, position, sequence, commit_time,"
    " parked_at, error_code, error_message, attempts, state, payload, mapping_version, lanes,"
    " awaits, retry_at"
)


def park(run: Run, changes: Sequence[Parked]) -> None:
    """Add changes to the queue in this order, and block their lanes."""
    for number, change in enumerate(changes):
        if number:
            failpoint("dlq_insert")
        made = _added(run, change)
        blocked = [value for lane in change.lanes for value in (change.pipeline, lane, made)]
        if blocked:
            run(_BLOCK + ", ".join(["(%s, %s, %s)"] * len(change.lanes)), *blocked)
        awaiting.wait_for(run, made, change.awaits)


def _added(run: Run, change: Parked) -> int:
    """Add a change, without the values that no packet would hold; its number."""
    abridging = Abridging(change)
    while True:
        try:
            return run(_PARK, *_values(change)).inserted
        except TooLong as error:
            change = abridging.shorten(error)


def resolve(run: Run, failure: int, *, state: str, actor: str, reason: str | None = None) -> None:
    """Close a parked change as replayed or skipped, and open its lanes."""
    if run(_RESOLVE, state, actor, reason, int(state == "replayed"), failure).affected:
        awaiting.settled(run, failure)
        run(_UNBLOCK, failure)


def attempted(
    run: Run,
    failure: int,
    *,
    code: str,
    message: str,
    retry_at: dt.datetime | None,
    awaits: Sequence[bytes],
    version: str | None,
) -> None:
    """Note that a replay failed once more, when it is tried again by itself, what it waits for."""
    again = retry_at and moment_text(retry_at)
    run(_ATTEMPTED, code, message, again, hexes(awaits), version, failure)
    run(awaiting.FORGET, failure)
    awaiting.wait_for(run, failure, awaits)


def supersede(run: Run, pipeline: str, by: str, *, mapping: str | None = None) -> int:
    """Close what a new first copy, or a truncate of a mapping's table, makes void; how many."""
    done = run(_SUPERSEDE, by, pipeline, mapping, mapping).affected
    if done:
        awaiting.superseded(run, pipeline)
        run(_OPEN, pipeline)
    return done


def lanes(session: Session, pipeline: str) -> dict[bytes, str]:
    """The lanes of a pipeline that are blocked, and the mapping of each."""
    found: dict[bytes, str] = {}
    last = b""
    while some := session.run(_LANES, pipeline, last).rows:
        found.update((digest or b"", sys.intern((name or b"").decode())) for digest, name in some)
        last = some[-1][0] or b""
    return found


def still_blocked(
    session: Session, pipeline: str, lanes: Sequence[bytes], before: int | None
) -> set[bytes]:
    """Those of these lanes that are blocked, by changes before that id."""
    last = _LAST if before is None else before
    found: set[bytes] = set()
    for start in range(0, len(lanes), _AT_ONCE):
        some = lanes[start : start + _AT_ONCE]
        sql = _STILL.format(", ".join(["%s"] * len(some)))
        found.update(digest or b"" for (digest,) in session.run(sql, pipeline, last, *some).rows)
    return found


def parked(session: Session, pipeline: str) -> dict[tuple[str, str], int]:
    """How many changes are parked, by mapping and error."""
    rows = session.run(_PARKED, pipeline).rows
    return {
        ((mapping or b"").decode(), (code or b"").decode()): int(number or b"0")
        for mapping, code, number in rows
    }


def parked_since(session: Session, pipeline: str) -> dt.datetime | None:
    """When the oldest parked change was parked."""
    return moment_in(session.run(_OLDEST, pipeline).text())


def select(session: Session, selection: Selection, limit: int | None = None) -> list[Failure]:
    """The changes that are meant, in the order they were parked."""
    where, params = conditions(selection)
    sql = f"SELECT {_COLUMNS} FROM cdc_failure WHERE {where} ORDER BY id"
    if limit is not None:
        sql += f" LIMIT {int(limit)}"
    return [_failure(row) for row in session.run(sql, *params).rows]


def conditions(selection: Selection) -> tuple[str, list[object]]:
    """A selection in SQL, and its parameters."""
    plain = list(plain_conditions(selection, moment_text))
    found = [f"{sql} %s" for sql, _ in plain]
    params = [value for _, value in plain]
    if selection.ids is not None:
        found.append(f"id IN ({', '.join(map(str, map(int, selection.ids))) or 'NULL'})")
    if selection.lanes is not None:
        found.append(_meets(selection.lanes, parked=selection.state == "parked"))
    return " AND ".join(found) or "TRUE", params


def _meets(lanes: Sequence[bytes], *, parked: bool) -> str:
    """Whether a change blocks one of these lanes, or did."""
    if not lanes:
        return "FALSE"
    if parked:
        digests = ", ".join(f"x'{lane.hex()}'" for lane in lanes)
        return f"id IN (SELECT failure FROM cdc_failure_lane WHERE digest IN ({digests}))"
    return "(" + " OR ".join(f"INSTR(lanes, '{lane.hex()}') > 0" for lane in lanes) + ")"


def moment_text(moment: dt.datetime) -> str:
    """A moment as the ledger keeps it."""
    return f"{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S.%f}"


def _failure(row: Sequence[bytes | None]) -> Failure:
    texts = [None if value is None else value.decode() for value in row]
    known = [text or "" for text in texts]
    parked_at = moment_in(texts[9])
    assert parked_at is not None
    return Failure(
        id=int(known[0]),
        pipeline=known[1],
        mapping=known[2],
        entity=known[3],
        table=known[4],
        operation=known[5],
        position=known[6],
        sequence=int(known[7]),
        commit_time=moment_in(texts[8]),
        parked_at=parked_at,
        error_code=known[10],
        error_message=known[11],
        attempts=int(known[12]),
        state=known[13],
        payload=json.loads(known[14]),
        mapping_version=known[15],
        lanes=_digests(known[16]),
        awaits=_digests(known[17]),
        retry_at=moment_in(texts[18]),
    )


def hexes(lanes: Sequence[bytes]) -> str:
    """Lanes as the queue keeps them."""
    return json.dumps([lane.hex() for lane in lanes])


def _digests(text: str) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(lane) for lane in json.loads(text))


def _values(change: Parked) -> tuple[object, ...]:
    return (
        change.pipeline,
        change.mapping,
        change.entity,
        change.table,
        change.operation.value,
        change.position,
        change.sequence,
        moment_of(change.commit_time),
        change.error_code,
        change.error_message.replace("\0", "␀"),
        json.dumps(change.payload),
        change.mapping_version,
        hexes(change.lanes),
        hexes(change.awaits),
        None if change.retry_at is None else moment_of(change.retry_at),
    )
