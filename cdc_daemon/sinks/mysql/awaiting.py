"""Parked changes that are tried again by themselves: when, and for which rows they wait."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from cdc_daemon.sinks.mysql.session import Result, Session

Run = Callable[..., Result]
"""``Session.run``, or that of a transaction."""

FORGET: Final = "DELETE FROM cdc_failure_await WHERE failure = %s"
_WAIT = """
    INSERT IGNORE INTO cdc_failure_await (pipeline, digest, failure)
    SELECT pipeline, %s, id FROM cdc_failure WHERE id = %s AND state = 'parked'"""
_FOLLOWING = """
    UPDATE cdc_failure f JOIN (
        SELECT DISTINCT (
            SELECT next_one.failure FROM cdc_failure_lane next_one
             WHERE next_one.pipeline = mine.pipeline AND next_one.digest = mine.digest
               AND next_one.failure > mine.failure ORDER BY next_one.failure LIMIT 1) AS id
          FROM cdc_failure_lane mine WHERE mine.failure = %s
         UNION
        SELECT a.failure FROM cdc_failure_await a JOIN cdc_failure_lane mine
            ON mine.pipeline = a.pipeline AND mine.digest = a.digest WHERE mine.failure = %s
        ) following ON following.id = f.id
       SET f.retry_at = UTC_TIMESTAMP(6) WHERE f.state = 'parked'"""
_FREED = """
    UPDATE cdc_failure f JOIN (
        SELECT DISTINCT a.failure AS id FROM cdc_failure_await a
          JOIN cdc_failure_lane l ON l.pipeline = a.pipeline AND l.digest = a.digest
          JOIN cdc_failure gone ON gone.id = l.failure
         WHERE l.pipeline = %s AND gone.state <> 'parked') freed ON freed.id = f.id
       SET f.retry_at = UTC_TIMESTAMP(6) WHERE f.state = 'parked'"""
_SUPERSEDED = """
    DELETE a FROM cdc_failure_await a JOIN cdc_failure f ON f.id = a.failure
     WHERE a.pipeline = %s AND f.state <> 'parked'"""
_ARRIVED = """
    UPDATE cdc_failure f JOIN cdc_failure_await a ON a.failure = f.id
       SET f.retry_at = UTC_TIMESTAMP(6)
     WHERE a.pipeline = %s AND f.state = 'parked' AND a.digest IN ({})"""
_PUT_OFF = "UPDATE cdc_failure SET retry_at = NULL WHERE state = 'parked' AND id IN ({})"
_IS_BEHIND = """
    mine.failure > (
        SELECT first_one.failure FROM cdc_failure_lane first_one
         WHERE first_one.pipeline = mine.pipeline AND first_one.digest = mine.digest
         ORDER BY first_one.failure LIMIT 1)"""
"""Of a lane's entry: it is not the first. The first is one look into the index, however many."""

_BY_MAPPING = f"""
    UPDATE cdc_failure f SET retry_at = UTC_TIMESTAMP(6)
     WHERE pipeline = %s AND mapping = %s AND mapping_version <> %s AND state = 'parked'
       AND NOT EXISTS (
        SELECT 1 FROM cdc_failure_lane mine WHERE mine.failure = f.id AND {_IS_BEHIND})"""
_AWAITED = "SELECT DISTINCT digest FROM cdc_failure_await WHERE pipeline = %s"
_DUE = """
    SELECT id FROM cdc_failure
     WHERE pipeline = %s AND state = 'parked' AND retry_at <= UTC_TIMESTAMP(6)
     ORDER BY id LIMIT %s"""
_BEHIND = f"""
    SELECT mine.failure FROM cdc_failure_lane mine
     WHERE mine.failure IN ({{0}}) AND {_IS_BEHIND}
     UNION
    SELECT mine.failure FROM cdc_failure_await mine
     WHERE mine.failure IN ({{0}}) AND {_IS_BEHIND}"""
_AT_ONCE = 1000


def wait_for(run: Run, failure: int, digests: Sequence[bytes]) -> None:
    """What a parked change waits for too."""
    for digest in digests:
        run(_WAIT, digest, failure)


def settled(run: Run, failure: int) -> None:
    """A change is no longer parked: the next of each of its lanes is due, and who waits for one of
    them. They stand yet."""
    run(FORGET, failure)
    run(_FOLLOWING, failure, failure)


def superseded(run: Run, pipeline: str) -> None:
    """Changes were settled together: who waits for their lanes is due. Their lanes stand yet."""
    run(_FREED, pipeline)
    run(_SUPERSEDED, pipeline)


def arrived(run: Run, pipeline: str, digests: Sequence[bytes]) -> None:
    """Whoever waits for one of these is due."""
    for start in range(0, len(digests), _AT_ONCE):
        some = digests[start : start + _AT_ONCE]
        run(_ARRIVED.format(", ".join(["%s"] * len(some))), pipeline, *some)


def put_off(run: Run, failures: Sequence[int]) -> None:
    """These are no longer due."""
    if failures:
        run(_PUT_OFF.format(_listed(failures)))


def due_by_mapping(run: Run, pipeline: str, mapping: str, version: str) -> int:
    """Changes that were tried with another version of the mapping are due, but for those behind
    others, which make them due; how many."""
    return run(_BY_MAPPING, pipeline, mapping, version).affected


def awaited(session: Session, pipeline: str) -> set[bytes]:
    """What the pipeline's parked changes wait for."""
    return {digest or b"" for (digest,) in session.run(_AWAITED, pipeline).rows}


def due(session: Session, pipeline: str, limit: int) -> list[int]:
    """Which are to be tried again by now, in source order."""
    return [int(number or b"0") for (number,) in session.run(_DUE, pipeline, limit).rows]


def behind(session: Session, failures: Sequence[int]) -> set[int]:
    """Which of these have an earlier parked change in one of their lanes, or in one they read."""
    if not failures:
        return set()
    rows = session.run(_BEHIND.format(_listed(failures))).rows
    return {int(number or b"0") for (number,) in rows}


def _listed(failures: Sequence[int]) -> str:
    return ", ".join(map(str, map(int, failures)))
