"""Parked changes that are tried again by themselves: when, and for which rows they wait."""

from __future__ import annotations

from collections.abc import Sequence

from cdc_daemon.sinks.postgres.session import Connection

_FORGET = "DELETE FROM cdc.failure_await WHERE failure = %s"
_WAIT = """
    INSERT INTO cdc.failure_await (pipeline, digest, failure)
    SELECT DISTINCT f.pipeline, one, f.id FROM cdc.failure f, unnest(%s::bytea[]) AS one
     WHERE f.id = %s AND f.state = 'parked'"""
_ARRIVED = """
    UPDATE cdc.failure SET retry_at = clock_timestamp()
     WHERE state = 'parked' AND id IN (
        SELECT failure FROM cdc.failure_await WHERE pipeline = %s AND digest = ANY(%s))"""
_PUT_OFF = "UPDATE cdc.failure SET retry_at = NULL WHERE id = ANY(%s) AND state = 'parked'"
_IS_BEHIND = """
    mine.failure > (
        SELECT first.failure FROM cdc.failure_lane first
         WHERE first.pipeline = mine.pipeline AND first.digest = mine.digest
         ORDER BY first.failure LIMIT 1)"""
"""Of a lane's entry: it is not the first. The first is one look into the index, however many."""

_BY_MAPPING = f"""
    UPDATE cdc.failure SET retry_at = clock_timestamp()
     WHERE pipeline = %s AND mapping = %s AND mapping_version <> %s AND state = 'parked'
       AND NOT EXISTS (
        SELECT FROM cdc.failure_lane mine WHERE mine.failure = failure.id AND {_IS_BEHIND})"""
_AWAITED = "SELECT DISTINCT digest FROM cdc.failure_await WHERE pipeline = %s"
_DUE = """
    SELECT id FROM cdc.failure
     WHERE pipeline = %s AND state = 'parked' AND retry_at <= statement_timestamp()
     ORDER BY id LIMIT %s"""
_BEHIND = f"""
    SELECT DISTINCT mine.failure FROM cdc.failure_lane mine
     WHERE mine.failure = ANY(%(ids)s) AND {_IS_BEHIND}
     UNION
    SELECT DISTINCT mine.failure FROM cdc.failure_await mine
     WHERE mine.failure = ANY(%(ids)s) AND {_IS_BEHIND}"""


def wait_for(connection: Connection, failure: int, digests: Sequence[bytes]) -> None:
    """What a parked change waits for from now on."""
    connection.execute(_FORGET, (failure,))
    if digests:
        connection.execute(_WAIT, (list(digests), failure))


def arrived(connection: Connection, pipeline: str, digests: Sequence[bytes]) -> None:
    """Whoever waits for one of these is due."""
    connection.execute(_ARRIVED, (pipeline, list(digests)))


def put_off(connection: Connection, failures: Sequence[int]) -> None:
    """These are no longer due."""
    connection.execute(_PUT_OFF, (list(failures),))


def due_by_mapping(connection: Connection, pipeline: str, mapping: str, version: str) -> int:
    """Changes that were tried with another version of the mapping are due, but for those behind
    others, which make them due; how many."""
    return connection.execute(_BY_MAPPING, (pipeline, mapping, version)).rowcount


def awaited(connection: Connection, pipeline: str) -> set[bytes]:
    """What the pipeline's parked changes wait for."""
    return {bytes(digest) for (digest,) in connection.execute(_AWAITED, (pipeline,))}


def due(connection: Connection, pipeline: str, limit: int) -> list[int]:
    """Which are to be tried again by now, in source order."""
    return [number for (number,) in connection.execute(_DUE, (pipeline, limit))]


def behind(connection: Connection, failures: Sequence[int]) -> set[int]:
    """Which of these have an earlier parked change in one of their lanes, or in one they read."""
    rows = connection.execute(_BEHIND, {"ids": list(failures)})
    return {number for (number,) in rows}
