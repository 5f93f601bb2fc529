"""What failures cost: poison rows in a backlog, and the look for lanes where none is blocked."""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.workload import COLUMNS
from cdc_daemon.engine.blocked import Lanes
from cdc_daemon.model.changes import Column, ColumnType, Operation, Relation, Replica, Row, Run
from cdc_daemon.model.effects import EntityRun, Layout
from cdc_daemon.model.entities import Attribute, Entity, EntityType, Kind

POISON = "ALTER TABLE item ADD CONSTRAINT poison CHECK (id % 100 <> 42) NOT VALID"
"""One row in a hundred, spread evenly."""

_ROWS = 20_000
_ROUNDS = 200


def lookup_microseconds() -> float:
    """µs a row that dividing a batch takes while nothing is parked; the least of some rounds."""
    run, lanes = _run(), Lanes()
    best = float("inf")
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        division = lanes.divide([run])
        best = min(best, time.perf_counter() - began)
        assert len(division.ready[0]) == _ROWS
        assert not division.held
    return best / _ROWS * 1e6


def lanes_megabytes() -> float:
    """Memory that a million blocked lanes take, in 10⁶ bytes."""
    command = [sys.executable, "-m", "benchmarks.lanes"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _run() -> EntityRun:
    """A batch of one entity, as the mapper hands it over."""
    names = [column.name for column in COLUMNS]
    text = ColumnType("text", native="text")
    relation = Relation(
        source="erp",
        schema="public",
        table="item",
        columns=tuple(Column(name=name, type=text) for name in names),
        identity=(0,),
        replica=Replica.KEY,
    )
    rows: list[Row] = [(b"%d" % n, *[b"value"] * (len(names) - 1)) for n in range(_ROWS)]
    attributes = tuple(Attribute(name=name, type=EntityType(Kind.TEXT)) for name in names)
    layout = Layout(
        mapping="erp.item",
        entity=Entity(name="item", key=("id",), attributes=attributes),
        columns=tuple(names),
        key=(0,),
    )
    return EntityRun(
        layout=layout,
        operation=Operation.INSERT,
        source=Run(relation=relation, operation=Operation.INSERT, new_rows=rows),
        sequences=range(_ROWS),
        rows=rows,
    )
