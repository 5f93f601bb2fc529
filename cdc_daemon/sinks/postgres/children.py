"""``cdc.child_row``: source rows noted under the parents that their foreign keys name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cdc_daemon.model.cascades import Child
from cdc_daemon.sinks.postgres.arrays import array
from cdc_daemon.sinks.postgres.session import Connection
from cdc_daemon.sinks.postgres.wire import Call, Statement

_READ = "SELECT tracked FROM cdc.child_row WHERE parent = ANY(%s) LIMIT %s"
_READ_ONE = """
    SELECT tracked FROM cdc.child_row WHERE parent = %s AND digest > %s ORDER BY digest LIMIT %s"""
_NOTE = Statement(
    b"cdc_children_come",
    b"""
    INSERT INTO cdc.child_row (parent, digest, pipeline, source_table, tracked)
    SELECT decode(parent, 'hex'), decode(digest, 'hex'), $1, $2, tracked
      FROM unnest($3::text[], $4::text[], $5::text[]) AS come (parent, digest, tracked)
    ON CONFLICT DO NOTHING""",
)
_FORGET = Statement(
    b"cdc_children_go",
    b"""
    DELETE FROM cdc.child_row AS noted
     USING unnest($1::text[], $2::text[]) AS gone (parent, digest)
     WHERE noted.parent = decode(gone.parent, 'hex') AND noted.digest = decode(gone.digest, 'hex')
    """,
)
_FORGET_ALL = "DELETE FROM cdc.child_row WHERE pipeline = %s"
_FORGET_TABLE = _FORGET_ALL + " AND source_table = %s"


def read(connection: Connection, parents: Sequence[bytes], most: int, after: bytes) -> list[str]:
    """What is kept of the rows noted under any of these parents; see ``UnitOfWork.children``."""
    if len(parents) == 1:
        found = connection.execute(_READ_ONE, [parents[0], after, most])
    else:
        found = connection.execute(_READ, [list(parents), most])
    return [str(row[0]) for row in found]


def note(
    pipeline: str, table: str, gone: Sequence[tuple[bytes, bytes]], come: Sequence[Child]
) -> Iterator[Call]:
    """Forget some rows of a source table, then note others."""
    if gone:
        parents, digests = zip(*gone, strict=True)
        yield _FORGET, [_hex(parents), _hex(digests)]
    if come:
        parents, digests, rows = zip(*come, strict=True)
        texts = array([row.encode() for row in rows])
        yield _NOTE, [pipeline.encode(), table.encode(), _hex(parents), _hex(digests), texts]


def _hex(values: Sequence[bytes]) -> bytes:
    return array([value.hex().encode() for value in values])


def forget(connection: Connection, pipeline: str, table: str | None) -> None:
    """Forget all rows of a source table; None: of the pipeline. The caller's transaction."""
    if table is None:
        connection.execute(_FORGET_ALL, [pipeline])
    else:
        connection.execute(_FORGET_TABLE, [pipeline, table])
