"""The failure queue: parked changes with the lanes they block, in the order they came.

Rows are never deleted here: what was replayed or skipped keeps its payload, who did it and why.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.rows import dict_row

from cdc_daemon.model.queue import Failure
from cdc_daemon.model.selection import Selection
from cdc_daemon.sinks.postgres import awaiting
from cdc_daemon.sinks.postgres.session import Connection
from cdc_daemon.sinks.selected import plain_conditions

_RESOLVE = """
    WITH resolved AS (
        UPDATE cdc.failure SET state = %(state)s, resolved_at = clock_timestamp(),
               actor = %(actor)s, reason = %(reason)s, attempts = attempts + %(attempts)s,
               retry_at = NULL
         WHERE id = %(id)s AND state = 'parked' RETURNING id),
    following AS (
        SELECT next.failure AS id FROM resolved
          JOIN cdc.failure_lane mine ON mine.failure = resolved.id
         CROSS JOIN LATERAL (
            SELECT failure FROM cdc.failure_lane
             WHERE pipeline = mine.pipeline AND digest = mine.digest AND failure > mine.failure
             ORDER BY failure LIMIT 1) next
         UNION
        SELECT a.failure FROM resolved
          JOIN cdc.failure_lane mine ON mine.failure = resolved.id
          JOIN cdc.failure_await a ON a.pipeline = mine.pipeline AND a.digest = mine.digest),
    due AS (
        UPDATE cdc.failure f SET retry_at = clock_timestamp() FROM following
         WHERE f.id = following.id AND f.state = 'parked'),
    waited AS (DELETE FROM cdc.failure_await a USING resolved WHERE a.failure = resolved.id)
    DELETE FROM cdc.failure_lane l USING resolved WHERE l.failure = resolved.id"""
_ATTEMPTED = """
    UPDATE cdc.failure
       SET attempts = attempts + 1, error_code = %(code)s, error_message = %(message)s,
           retry_at = %(retry_at)s, awaits = %(awaits)s::bytea[],
           mapping_version = coalesce(%(version)s, mapping_version)
     WHERE id = %(id)s AND state = 'parked'"""
_SUPERSEDE = """
    WITH superseded AS (
        UPDATE cdc.failure SET state = 'skipped', resolved_at = clock_timestamp(),
               actor = 'cdc-daemon', reason = 'superseded by ' || %(by)s,
               retry_at = NULL
         WHERE pipeline = %(pipeline)s AND state = 'parked'
           AND (%(mapping)s::text IS NULL OR mapping = %(mapping)s)
        RETURNING id),
    freed AS (
        UPDATE cdc.failure f SET retry_at = clock_timestamp()
         WHERE f.state = 'parked' AND f.id IN (
            SELECT a.failure FROM superseded s
              JOIN cdc.failure_lane l ON l.failure = s.id
              JOIN cdc.failure_await a ON a.pipeline = l.pipeline AND a.digest = l.digest)
           AND f.id NOT IN (SELECT id FROM superseded)),
    opened AS (DELETE FROM cdc.failure_lane l USING superseded s WHERE l.failure = s.id),
    waited AS (DELETE FROM cdc.failure_await a USING superseded s WHERE a.failure = s.id)
    SELECT count(*) FROM superseded"""
_LANES = """
    SELECT l.digest, min(f.mapping) FROM cdc.failure_lane l JOIN cdc.failure f ON f.id = l.failure
     WHERE l.pipeline = %s AND l.digest > %s GROUP BY l.digest ORDER BY l.digest LIMIT 20000"""
_STILL = """
    SELECT DISTINCT digest FROM cdc.failure_lane
     WHERE pipeline = %s AND digest = ANY(%s) AND failure < %s"""
_LAST = 2**63 - 1
_PARKED = """
    SELECT mapping, error_code, count(*) FROM cdc.failure
     WHERE pipeline = %s AND state = 'parked' GROUP BY mapping, error_code"""
_OLDEST = """
    SELECT parked_at FROM cdc.failure WHERE pipeline = %s AND state = 'parked'
     ORDER BY id LIMIT 1"""
_LIST = """
    SELECT id, pipeline, mapping, entity, source_table, operation, position, sequence, commit_time,
           parked_at, error_code, error_message, attempts, state, payload, mapping_version, lanes,
           awaits, retry_at
      FROM cdc.failure WHERE {} ORDER BY id LIMIT %(limit)s"""
_BLOCKS = """id IN (
    SELECT failure FROM cdc.failure_lane WHERE digest = ANY(%(lanes)s::bytea[]))"""
_BYTES = "base64"
_SURROGATE = re.compile("[\ud800-\udfff]")


def resolve(
    connection: Connection, failure: int, *, state: str, actor: str, reason: str | None = None
) -> None:
    """Close a parked change as replayed or skipped, and open its lanes."""
    connection.execute(
        _RESOLVE,
        {
            "id": failure,
            "state": state,
            "actor": actor,
            "reason": reason,
            "attempts": int(state == "replayed"),
        },
    )


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
    params = {
        "id": failure,
        "code": code,
        "message": message,
        "retry_at": retry_at,
        "awaits": list(awaits),
        "version": version,
    }
    connection.execute(_ATTEMPTED, params)
    awaiting.wait_for(connection, failure, awaits)


def supersede(connection: Connection, pipeline: str, by: str, *, mapping: str | None = None) -> int:
    """Close what a new first copy, or a truncate of a mapping's table, makes void; how many."""
    params = {"pipeline": pipeline, "by": by, "mapping": mapping}
    row = connection.execute(_SUPERSEDE, params).fetchone()
    return int(row[0]) if row else 0


def lanes(connection: Connection, pipeline: str) -> dict[bytes, str]:
    """The lanes of a pipeline that are blocked, and the mapping of each."""
    found: dict[bytes, str] = {}
    last = b""
    while some := connection.execute(_LANES, (pipeline, last)).fetchall():
        found.update((bytes(digest), sys.intern(mapping)) for digest, mapping in some)
        last = some[-1][0]
    return found


def still_blocked(
    connection: Connection, pipeline: str, lanes: Sequence[bytes], before: int | None
) -> set[bytes]:
    """Those of these lanes that are blocked, by changes before that id."""
    params = (pipeline, list(lanes), _LAST if before is None else before)
    return {bytes(one) for (one,) in connection.execute(_STILL, params)}


def parked(connection: Connection, pipeline: str) -> dict[tuple[str, str], int]:
    """How many changes are parked, by mapping and error."""
    rows = connection.execute(_PARKED, (pipeline,)).fetchall()
    return {(mapping, code): number for mapping, code, number in rows}


def parked_since(connection: Connection, pipeline: str) -> dt.datetime | None:
    """When the oldest parked change was parked."""
    row = connection.execute(_OLDEST, (pipeline,)).fetchone()
    return row[0] if row else None


def select(connection: Connection, selection: Selection, limit: int | None = None) -> list[Failure]:
    """The changes that are meant, in the order they were parked."""
    where, params = conditions(selection)
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(_LIST.format(where), {**params, "limit": limit})
        return [_failure(row) for row in rows]


def conditions(selection: Selection) -> tuple[str, dict[str, object]]:
    """A selection in SQL, and its parameters."""
    plain = list(plain_conditions(selection, lambda moment: moment))
    found = [f"{sql} %(s{n})s" for n, (sql, _) in enumerate(plain)]
    params = {f"s{n}": value for n, (_, value) in enumerate(plain)}
    if selection.ids is not None:
        found.append("id = ANY(%(ids)s::bigint[])")
        params["ids"] = list(selection.ids)
    if selection.lanes is not None:
        found.append(_BLOCKS if selection.state == "parked" else "lanes && %(lanes)s::bytea[]")
        params["lanes"] = list(selection.lanes)
    return " AND ".join(found) or "true", params


def _failure(row: Mapping[str, Any]) -> Failure:
    found = dict(row)
    table = found.pop("source_table")
    payload = restored(found.pop("payload"))
    lanes, awaits = (tuple(map(bytes, found.pop(name))) for name in ("lanes", "awaits"))
    return Failure(**found, table=table, payload=payload, lanes=lanes, awaits=awaits)


def stored(payload: Mapping[str, object]) -> str:
    """A payload as the queue keeps it."""
    text = json.dumps(payload, ensure_ascii=False)
    if "\\u0000" in text or _SURROGATE.search(text):
        return json.dumps(_storable(payload), ensure_ascii=False)
    return text


def _storable(value: Any) -> Any:
    r"""The value with texts that jsonb cannot hold (NUL, lone surrogates) as base64 of UTF-8."""
    match value:
        case str() if "\0" in value or _SURROGATE.search(value):
            return {_BYTES: base64.b64encode(value.encode(errors="surrogatepass")).decode()}
        case Mapping():
            return {key: _storable(item) for key, item in value.items()}
        case list() | tuple():
            return [_storable(item) for item in value]
        case _:
            return value


def restored(value: Any) -> Any:
    """A payload, or a part of one, out of the queue."""
    match value:
        case {"base64": str(text)} if len(value) == 1:
            try:
                return base64.b64decode(text).decode(errors="surrogatepass")
            except UnicodeDecodeError:
                return value  # bytes of no character, which the payload itself holds so
        case dict():
            return {key: restored(item) for key, item in value.items()}
        case list():
            return [restored(item) for item in value]
        case _:
            return value
