"""``cdc_child_row``: source rows noted under the parents that their foreign keys name."""

from __future__ import annotations

from collections.abc import Sequence

from cdc_daemon.model.cascades import Child
from cdc_daemon.sinks.mysql.failures import Run
from cdc_daemon.sinks.mysql.slices import sliced
from cdc_daemon.sinks.mysql.values import literal

_READ = "SELECT tracked FROM cdc_child_row WHERE parent IN ({parents}) LIMIT {most}"
_READ_ONE = """
    SELECT tracked FROM cdc_child_row WHERE parent = %s AND digest > %s ORDER BY digest LIMIT %s"""
_NOTE = """
    INSERT INTO cdc_child_row (parent, digest, tracked, pipeline, source_table)
    VALUES {rows} ON DUPLICATE KEY UPDATE parent = VALUES(parent)"""
_FORGET = "DELETE FROM cdc_child_row WHERE (parent, digest) IN ({pairs})"
_FORGET_ONE = "DELETE FROM cdc_child_row WHERE parent = {} AND digest = {}"
"""For a list of one pair MariaDB reads the whole table."""

_FORGET_ALL = "DELETE FROM cdc_child_row WHERE pipeline = %s"
_FORGET_TABLE = _FORGET_ALL + " AND source_table = %s"
_AT_ONCE = 500  # rows in one statement


def read(run: Run, parents: Sequence[bytes], most: int, after: bytes) -> list[str]:
    """What is kept of the rows noted under any of these parents; see ``UnitOfWork.children``."""
    if len(parents) == 1:
        rows = run(_READ_ONE, parents[0], after, most).rows
        return [(row[0] or b"").decode() for row in rows]
    found: list[str] = []

    def ask(some: Sequence[bytes]) -> None:
        asked = _READ.format(parents=", ".join(map(literal, some)), most=most - len(found))
        found.extend((row[0] or b"").decode() for row in run(asked).rows)

    sliced(parents, ask, most=_AT_ONCE)
    return found


def note(
    run: Run,
    pipeline: str,
    table: str,
    gone: Sequence[tuple[bytes, bytes]],
    come: Sequence[Child],
) -> None:
    """Forget some rows of a source table, then note others; the caller's transaction."""
    ending = f"{literal(pipeline)}, {literal(table)})"

    def add(rows: Sequence[Child]) -> None:
        listed = ", ".join(
            [f"({literal(p)}, {literal(d)}, {literal(row)}, {ending}" for p, d, row in rows]
        )
        run(_NOTE.replace("{rows}", listed))

    sliced(gone, lambda pairs: run(_forgetting(pairs)), most=_AT_ONCE)
    sliced(come, add, most=_AT_ONCE)


def forget(run: Run, pipeline: str, table: str | None) -> None:
    """Forget all rows of a source table; None: of the pipeline. The caller's transaction."""
    if table is None:
        run(_FORGET_ALL, pipeline)
    else:
        run(_FORGET_TABLE, pipeline, table)


def _forgetting(pairs: Sequence[tuple[bytes, bytes]]) -> str:
    if len(pairs) == 1:
        return _FORGET_ONE.format(*map(literal, pairs[0]))
    listed = ", ".join([f"({literal(parent)}, {literal(digest)})" for parent, digest in pairs])
    return _FORGET.format(pairs=listed)
