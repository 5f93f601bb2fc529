"""Changes into the failure queue, many with one statement."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from cdc_daemon.model.effects import Parked
from cdc_daemon.sinks.postgres.arrays import array
from cdc_daemon.sinks.postgres.failures import stored
from cdc_daemon.sinks.postgres.wire import Call, Statement

_PARK = Statement(
    b"cdc_park",
    b"""
    WITH parked AS (
        INSERT INTO cdc.failure (pipeline, mapping, entity, source_table, operation, position,
            sequence, commit_time, error_code, payload, error_message, mapping_version, lanes,
            awaits, retry_at)
        SELECT pipeline, mapping, entity, source_table, operation, position,
               sequence, timestamptz 'epoch' + time * interval '1 microsecond',
               error_code, payload::jsonb, error_message, mapping_version, lanes::bytea[],
               awaits::bytea[], timestamptz 'epoch' + again * interval '1 microsecond'
          FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
                      $7::bigint[], $8::bigint[], $9::text[], $10::text[], $11::text[],
                      $12::text[], $13::text[], $14::text[], $15::bigint[])
               WITH ORDINALITY AS given (pipeline, mapping, entity, source_table, operation,
                   position, sequence, time, error_code, payload, error_message, mapping_version,
                   lanes, awaits, again, number)
         ORDER BY number
        RETURNING pipeline, id, lanes, awaits),
    waits AS (
        INSERT INTO cdc.failure_await (pipeline, digest, failure)
        SELECT DISTINCT pipeline, digest, id FROM parked, unnest(awaits) AS digest)
    INSERT INTO cdc.failure_lane (pipeline, digest, failure)
    SELECT DISTINCT pipeline, digest, id FROM parked, unnest(lanes) AS digest""",
)
_TOGETHER = 1000  # changes that one statement parks
_MOST = 4 << 20  # bytes of payload in it, beside a single change's
_PAYLOAD = 9  # its place in a row


def calls(changes: Sequence[Parked]) -> Iterator[Call]:
    """Statements that add changes in this order, and block their lanes."""
    for rows in _slices(map(_row, changes)):
        yield _PARK, list(map(array, zip(*rows, strict=True)))


def _slices(rows: Iterable[tuple[bytes | None, ...]]) -> Iterator[list[tuple[bytes | None, ...]]]:
    some: list[tuple[bytes | None, ...]] = []
    length = 0
    for row in rows:
        payload = len(row[_PAYLOAD] or b"")
        if some and (len(some) == _TOGETHER or length + payload > _MOST):
            yield some
            some, length = [], 0
        some.append(row)
        length += payload
    if some:
        yield some


def _row(change: Parked) -> tuple[bytes | None, ...]:
    """What the statement takes of a change."""
    return (
        change.pipeline.encode(),
        change.mapping.encode(),
        change.entity.encode(),
        change.table.encode(),
        change.operation.value.encode(),
        change.position.encode(),
        b"%d" % change.sequence,
        b"%d" % change.commit_time,
        change.error_code.encode(),
        stored(change.payload).encode(),
        change.error_message.replace("\0", "␀").encode(),
        change.mapping_version.encode(),
        _digests(change.lanes),
        _digests(change.awaits),
        None if change.retry_at is None else b"%d" % change.retry_at,
    )


def _digests(values: Iterable[bytes]) -> bytes:
    """A bytea[] as text."""
    return b"{" + b",".join([b'"\\\\x%s"' % value.hex().encode() for value in values]) + b"}"
