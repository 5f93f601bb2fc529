"""Parked changes that are tried again by themselves: when, and for which rows they wait."""

from __future__ import annotations

from collections.abc import Sequence

from cdc_daemon.sinks.forms import as_json
from cdc_daemon.sinks.sqlite.database import Connection

_FORGET = "DELETE FROM cdc_failure_await WHERE failure = ?"
_WAIT = """
    INSERT INTO cdc_failure_await (pipeline, digest, failure)
    SELECT pipeline, ?, id FROM cdc_failure WHERE id = ? AND state = 'parked'
    ON CONFLICT DO NOTHING"""
_FOLLOWING = """
    UPDATE cdc_failure SET retry_at = ?1 WHERE state = 'parked' AND id IN (
        SELECT (SELECT next.failure FROM cdc_failure_lane next
                 WHERE next.pipeline = mine.pipeline AND next.digest = mine.digest
                   AND next.failure > mine.failure ORDER BY next.failure LIMIT 1)
          FROM cdc_failure_lane mine WHERE mine.failure = ?2
         UNION
        SELECT a.failure FROM cdc_failure_await a JOIN cdc_failure_lane mine
            ON mine.pipeline = a.pipeline AND mine.digest = a.digest WHERE mine.failure = ?2)"""
_FREED = """
    UPDATE cdc_failure SET retry_at = ?1 WHERE state = 'parked' AND id IN (
        SELECT a.failure FROM cdc_failure_await a
          JOIN cdc_failure_lane l ON l.pipeline = a.pipeline AND l.digest = a.digest
          JOIN cdc_failure f ON f.id = l.failure
         WHERE l.pipeline = ?2 AND f.state <> 'parked')"""
_SUPERSEDED = """
    DELETE FROM cdc_failure_await AS a WHERE a.pipeline = ? AND NOT EXISTS
        (SELECT 1 FROM cdc_failure f WHERE f.id = a.failure AND f.state = 'parked')"""
_ARRIVED = """
    UPDATE cdc_failure SET retry_at = ? WHERE state = 'parked' AND id IN (
        SELECT failure FROM cdc_failure_await WHERE pipeline = ? AND digest = ?)"""
_PUT_OFF = """
    UPDATE cdc_failure SET retry_at = NULL
     WHERE state = 'parked' AND id IN (SELECT value FROM json_each(?))"""
_IS_BEHIND = """
    mine.failure > (
        SELECT first.failure FROM cdc_failure_lane first
         WHERE first.pipeline = mine.pipeline AND first.digest = mine.digest
         ORDER BY first.failure LIMIT 1)"""
"""Of a lane's entry: it is not the first. The first is one look into the index, however many."""

_BY_MAPPING = f"""
    UPDATE cdc_failure SET retry_at = ?
     WHERE pipeline = ? AND mapping = ? AND mapping_version <> ? AND state = 'parked'
       AND NOT EXISTS (
        SELECT 1 FROM cdc_failure_lane mine WHERE mine.failure = cdc_failure.id AND {_IS_BEHIND})"""
_AWAITED = "SELECT DISTINCT digest FROM cdc_failure_await WHERE pipeline = ?"
_DUE = """
    SELECT id FROM cdc_failure WHERE pipeline = ? AND state = 'parked' AND retry_at <= ?
     ORDER BY id LIMIT ?"""
_BEHIND = f"""
    SELECT mine.failure FROM cdc_failure_lane mine
     WHERE mine.failure IN (SELECT value FROM json_each(?1)) AND {_IS_BEHIND}
     UNION
    SELECT mine.failure FROM cdc_failure_await mine
     WHERE mine.failure IN (SELECT value FROM json_each(?1)) AND {_IS_BEHIND}"""


def wait_for(connection: Connection, failure: int, digests: Sequence[bytes]) -> None:
    """What a parked change waits for from now on."""
    connection.execute(_FORGET, (failure,))
    connection.executemany(_WAIT, [(digest, failure) for digest in digests])


def settled(connection: Connection, failure: int, moment: str) -> None:
    """A change is no longer parked: the next of each of its lanes is due, and who waits for one of
    them. They stand yet."""
    connection.execute(_FORGET, (failure,))
    connection.execute(_FOLLOWING, (moment, failure))


def superseded(connection: Connection, pipeline: str, moment: str) -> None:
    """Changes were settled together: who waits for their lanes is due. Their lanes stand yet."""
    connection.execute(_FREED, (moment, pipeline))
    connection.execute(_SUPERSEDED, (pipeline,))


def arrived(connection: Connection, pipeline: str, digests: Sequence[bytes], moment: str) -> None:
    """Whoever waits for one of these is due."""
    connection.executemany(_ARRIVED, [(moment, pipeline, digest) for digest in digests])


def put_off(connection: Connection, failures: Sequence[int]) -> None:
    """These are no longer due."""
    connection.execute(_PUT_OFF, (as_json(list(failures)),))


def due_by_mapping(
    connection: Connection, pipeline: str, mapping: str, version: str, moment: str
) -> int:
    """Changes that were tried with another version of the mapping are due, but for those behind
    others, which make them due; how many."""
    return connection.execute(_BY_MAPPING, (moment, pipeline, mapping, version)).rowcount


def awaited(connection: Connection, pipeline: str) -> set[bytes]:
    """What the pipeline's parked changes wait for."""
    return {bytes(digest) for (digest,) in connection.execute(_AWAITED, (pipeline,))}


def due(connection: Connection, pipeline: str, moment: str, limit: int) -> list[int]:
    """Which are to be tried again by now, in source order."""
    return [number for (number,) in connection.execute(_DUE, (pipeline, moment, limit))]


def behind(connection: Connection, failures: Sequence[int]) -> set[int]:
    """Which of these have an earlier parked change in one of their lanes, or in one they read."""
    rows = connection.execute(_BEHIND, (as_json(list(failures)),))
    return {number for (number,) in rows}
