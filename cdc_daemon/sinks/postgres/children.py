"""``cdc.child_row``: source rows noted under the parents that their foreign keys name."""

from __future__ import annotations

from collections.abc import Sequence

from cdc_daemon.model.cascades import Child
from cdc_daemon.sinks.postgres.session import Connection

_READ = "SELECT tracked FROM cdc.child_row WHERE parent = ANY(%s) LIMIT %s"
_NOTE = """
    INSERT INTO cdc.child_row (parent, digest, pipeline, source_table, tracked)
    SELECT parent, digest, %s, %s, tracked
      FROM unnest(%s::bytea[], %s::bytea[], %s::text[]) AS come (parent, digest, tracked)
    ON CONFLICT DO NOTHING"""
_FORGET = """
    DELETE FROM cdc.child_row AS noted
     USING unnest(%s::bytea[], %s::bytea[]) AS gone (parent, digest)
     WHERE noted.parent = gone.parent AND noted.digest = gone.digest"""
_FORGET_ALL = "DELETE FROM cdc.child_row WHERE pipeline = %s"
_FORGET_TABLE = _FORGET_ALL + " AND source_table = %s"


def read(connection: Connection, parents: Sequence[bytes], most: int) -> list[str]:
    """What is kept of the rows noted under any of these parents; so many at most."""
    return [str(row[0]) for row in connection.execute(_READ, [list(parents), most])]


def note(
    connection: Connection,
    pipeline: str,
    table: str,
    gone: Sequence[tuple[bytes, bytes]],
    come: Sequence[Child],
) -> None:
    """Forget some rows of a source table, then note others; the caller's transaction."""
    if gone:
        connection.execute(_FORGET, list(map(list, zip(*gone, strict=True))))
    if come:
        connection.execute(_NOTE, [pipeline, table, *map(list, zip(*come, strict=True))])


def forget(connection: Connection, pipeline: str, table: str | None) -> None:
    """Forget all rows of a source table; None: of the pipeline. The caller's transaction."""
    if table is None:
        connection.execute(_FORGET_ALL, [pipeline])
    else:
        connection.execute(_FORGET_TABLE, [pipeline, table])
