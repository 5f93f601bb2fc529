"""A control database as a dictionary: what steps must do to rows, said as plainly as possible."""

from __future__ import annotations

from cdc_daemon.engine.fold import merge
from cdc_daemon.model.changes import Row
from cdc_daemon.model.effects import (
    Delete,
    Key,
    Layout,
    Patch,
    Rename,
    Step,
    Truncate,
    Upsert,
)
from cdc_daemon.model.entities import Attribute, Entity, EntityType, Kind

TEXT = EntityType(Kind.TEXT)


def entity(name: str = "material", *, soft: bool = False, attributes: int = 3) -> Entity:
    """An entity with key ``code`` and text attributes a1, a2 ..."""
    found = [Attribute(name="code", type=TEXT, required=True)]
    found += [Attribute(name=f"a{i}", type=TEXT) for i in range(1, attributes)]
    return Entity(name=name, key=("code",), attributes=tuple(found), soft_delete=soft)


def layout(what: Entity, *, soft: bool = False) -> Layout:
    """The layout of a mapping that fills every attribute, in the entity's order."""
    return Layout(
        mapping=f"erp.t_{what.name}.{what.name}",
        entity=what,
        columns=what.names,
        key=tuple(what.names.index(name) for name in what.key),
        soft=soft,
    )


class Table:
    """Rows by entity key; a tombstone keeps its last row and the time it was deleted."""

    def __init__(self) -> None:
        self.rows: dict[Key, Row] = {}
        self.tombstones: dict[Key, tuple[Row, int]] = {}

    def write(self, key: Key, row: Row) -> None:
        self.tombstones.pop(key, None)
        self.rows[key] = row

    def patch(self, key: Key, row: Row) -> None:
        if key in self.rows:
            self.rows[key] = merge(self.rows[key], row)

    def delete(self, key: Key, time: int, *, soft: bool) -> None:
        row = self.rows.pop(key, None)
        if soft and row is not None:
            self.tombstones[key] = (row, time)
        if not soft:
            self.tombstones.pop(key, None)

    def rename(self, old: Key, new: Key, row: Row) -> None:
        before = self.rows.pop(old, None)
        if before is not None:
            self.tombstones.pop(new, None)
            self.rows[new] = merge(before, row)

    def truncate(self, time: int, *, soft: bool) -> None:
        for key in list(self.rows):
            self.delete(key, time, soft=soft)
        if not soft:
            self.tombstones.clear()

    def apply(self, step: Step) -> None:
        """Carry out one step."""
        match step:
            case Upsert():
                for row in step.rows:
                    self.write(step.layout.key_of(row), row)
            case Patch():
                for row in step.rows:
                    self.patch(step.layout.key_of(row), row)
            case Delete():
                times = step.times or [0] * len(step.keys)
                for key, time in zip(step.keys, times, strict=True):
                    self.delete(key, time, soft=step.layout.soft)
            case Rename():
                for old, row in step.pairs:
                    self.rename(old, step.layout.key_of(row), row)
            case Truncate():
                self.truncate(step.time, soft=step.layout.soft)
