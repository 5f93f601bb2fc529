"""A change as the failure queue keeps it, and back: uncoalesced source images as JSON.

Text is kept as text; bytes that are no UTF-8 as ``{"base64": …}``; NULL as null; what the log left
out is left out. The images are of the columns the mapping reads. Values of sensitive columns are
sealed where a payload is kept (``privacy``), and opened before they are read here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cdc_daemon.engine.lanes import Held
from cdc_daemon.engine.privacy import NOTHING, Privacy
from cdc_daemon.engine.schedule import Schedule
from cdc_daemon.model.changes import (
    UNCHANGED,
    Batch,
    Invalid,
    Operation,
    Relation,
    Row,
    Run,
    Value,
)
from cdc_daemon.model.effects import Parked
from cdc_daemon.model.errors import DataError, Stop
from cdc_daemon.model.queue import Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Parking:
    """How a pipeline parks. ``versions``: by mapping, kept with what is parked.

    ``privacy``: seals the values of sensitive columns.
    """

    pipeline: str
    versions: Mapping[str, str]
    schedule: Schedule
    privacy: Privacy = NOTHING

    def parked(self, held: Held, batch: Batch, position: str) -> Parked:
        """The failure-queue form of a held change. ``position``: its transaction, rendered."""
        begin = batch.begin_of(held.sequence)
        delay = self.schedule.delay(held.error.code, 1)
        table = held.source.relation.name
        return Parked(
            pipeline=self.pipeline,
            mapping=held.layout.mapping,
            entity=held.layout.entity.name,
            lanes=held.lanes,
            position=position,
            sequence=held.sequence - begin[0],
            commit_time=begin[2],
            operation=held.source.operation,
            table=table,
            payload=self.privacy.sealed(table, images(held.source, held.sequence)),
            error_code=held.error.code,
            error_message=held.error.message,
            mapping_version=self.versions.get(held.layout.mapping, ""),
            awaits=held.error.awaits,
            retry_at=None if delay is None else int((time.time() + delay) * 1e6),
        )


def images(run: Run, sequence: int) -> dict[str, object]:
    """The old and new image of one change, by column name."""
    i = sequence - run.sequence
    found: dict[str, object] = {"operation": run.operation.value}
    names = [column.name for column in run.relation.columns]
    if run.operation in (Operation.INSERT, Operation.UPDATE):
        found["new"] = image_of(names, run.new_rows[i])
    if run.old_rows is not None:
        old_names = names if run.old_full else [names[j] for j in run.relation.identity]
        found["old"] = image_of(old_names, run.old_rows[i])
        found["old_full"] = run.old_full
    return found


def image_of(names: Sequence[str], row: Row) -> dict[str, object]:
    """A row as a payload holds it, by column name."""
    return {
        name: _json(value) for name, value in zip(names, row, strict=True) if value is not UNCHANGED
    }


def _json(value: Value) -> object:
    if value is None:
        return None
    if isinstance(value, Invalid):
        raw = base64.b64encode(value.raw).decode()
        return {"invalid": raw, "reason": value.reason, "codec": value.codec}
    assert isinstance(value, bytes)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def batch_of(changes: Sequence[tuple[Failure, dict[str, Any]]], relation: Relation) -> Batch:
    """Changes of one table with these payloads as a batch, each as a transaction of its own with
    its commit time. Raises DataError (``unreadable_payload``)."""
    runs, begins = [], []
    for n, (failure, payload) in enumerate(changes):
        try:
            runs.append(run_of(payload, relation, sequence=n))
        except Stop as error:
            raise DataError(error.message, code="unreadable_payload") from error
        when = failure.commit_time
        begins.append((n, 0, int(when.timestamp() * 1e6) if when else 0))
    return Batch(runs=runs, begins=begins)


def fingerprint(payload: Mapping[str, Any]) -> str:
    """A digest of a payload that every sink, and JSON lines, keep alike."""
    return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()[:32]


def run_of(payload: dict[str, Any], relation: Relation, *, sequence: int) -> Run:
    """The change again, in the relation's present shape. Raises Stop for a payload of no shape."""
    try:
        operation = Operation(payload["operation"])
        names = [column.name for column in relation.columns]
        run = Run(relation=relation, operation=operation, sequence=sequence)
        if "new" in payload:
            run.new_rows = [_row(payload["new"], names)]
            run.partial = any(not isinstance(v, bytes | None) for v in run.new_rows[0])
        if "old" in payload:
            run.old_full = bool(payload["old_full"])
            old_names = names if run.old_full else [names[j] for j in relation.identity]
            run.old_rows = [_row(payload["old"], old_names)]
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise Stop("a parked change's payload cannot be read") from error
    return run


def _row(image: dict[str, Any], names: list[str]) -> Row:
    return tuple(_value(image[name]) if name in image else UNCHANGED for name in names)


def _value(value: Any) -> Value:
    if value is None:
        return None
    if isinstance(value, str):
        return value.encode()
    if "base64" in value:
        return base64.b64decode(value["base64"])
    raw = base64.b64decode(value["invalid"])
    return Invalid(raw, value["reason"], value.get("codec", "utf-8"))
