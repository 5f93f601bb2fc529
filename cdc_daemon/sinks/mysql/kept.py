"""Every payload that the failure queue keeps, for those who seal them again or count their keys."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from cdc_daemon.model.queue import Kept
from cdc_daemon.sinks.mysql.failures import Run

_READ = """
    SELECT pipeline, id, NULL AS edit, source_table, payload FROM cdc_failure
     WHERE id > %s AND (%s IS NULL OR pipeline = %s) ORDER BY id LIMIT {}"""
_EDITS = """
    SELECT f.pipeline, f.id, e.id, f.source_table, e.payload
      FROM cdc_failure f JOIN cdc_failure_edit e ON e.failure = f.id
     WHERE f.id > %s AND f.id <= %s AND (%s IS NULL OR f.pipeline = %s) ORDER BY e.id"""
_CHANGE = "UPDATE cdc_failure SET payload = %s WHERE id = %s"
_EDIT = "UPDATE cdc_failure_edit SET payload = %s WHERE id = %s"


def read(run: Run, pipeline: str | None, after: int, most: int) -> list[Kept]:
    """Payloads of changes behind an id, of so many at most, each followed by those of its edits."""
    rows = run(_READ.format(int(most)), after, pipeline, pipeline).rows
    found = [_kept(row) for row in rows]
    if not found:
        return []
    edits = run(_EDITS, after, found[-1].failure, pipeline, pipeline).rows
    return sorted([*found, *map(_kept, edits)], key=lambda one: (one.failure, one.edit or 0))


def reseal(run: Run, kept: Kept, payload: Mapping[str, object]) -> None:
    """The same payload, its values sealed anew."""
    text = json.dumps(payload)
    if kept.edit is None:
        run(_CHANGE, text, kept.failure)
    else:
        run(_EDIT, text, kept.edit)


def _kept(row: Sequence[bytes | None]) -> Kept:
    pipeline, number, edit, table, payload = row
    return Kept(
        pipeline=(pipeline or b"").decode(),
        failure=int(number or b"0"),
        edit=None if edit is None else int(edit),
        table=(table or b"").decode(),
        payload=json.loads(payload or b"{}"),
    )
