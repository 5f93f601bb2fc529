"""``cdc_child_row``: source rows noted under the parents that their foreign keys name."""

from __future__ import annotations

from collections.abc import Sequence

from cdc_daemon.model.cascades import Child
from cdc_daemon.sinks.sqlite.database import Connection

_READ_ONE = """
    SELECT tracked FROM cdc_child_row WHERE parent = ? AND digest > ? ORDER BY digest LIMIT ?"""
_NOTE = """
    INSERT INTO cdc_child_row (parent, digest, tracked, pipeline, source_table)
    VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"""
_FORGET = "DELETE FROM cdc_child_row WHERE parent = ? AND digest = ?"
_FORGET_ALL = "DELETE FROM cdc_child_row WHERE pipeline = ?"
_FORGET_TABLE = _FORGET_ALL + " AND source_table = ?"
_AT_ONCE = 500  # parents in one statement


def read(connection: Connection, parents: Sequence[bytes], most: int, after: bytes) -> list[str]:
    """What is kept of the rows noted under any of these parents; see ``UnitOfWork.children``."""
    if len(parents) == 1:
        return [row[0] for row in connection.execute(_READ_ONE, (parents[0], after, most))]
    found: list[str] = []
    for start in range(0, len(parents), _AT_ONCE):
        asked = parents[start : start + _AT_ONCE]
        places = ", ".join(["?"] * len(asked))
        statement = f"SELECT tracked FROM cdc_child_row WHERE parent IN ({places}) LIMIT ?"
        found += [row[0] for row in connection.execute(statement, (*asked, most - len(found)))]
    return found


def note(
    connection: Connection,
    pipeline: str,
    table: str,
    gone: Sequence[tuple[bytes, bytes]],
    come: Sequence[Child],
) -> None:
    """Forget some rows of a source table, then note others; the caller's transaction."""
    connection.executemany(_FORGET, gone)
    connection.executemany(_NOTE, [(*one, pipeline, table) for one in come])


def forget(connection: Connection, pipeline: str, table: str | None) -> None:
    """Forget all rows of a source table; None: of the pipeline. The caller's transaction."""
    if table is None:
        connection.execute(_FORGET_ALL, (pipeline,))
    else:
        connection.execute(_FORGET_TABLE, (pipeline, table))
