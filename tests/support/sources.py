"""A PostgreSQL source over a test's database, and what its stream says in plain words."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from psycopg.conninfo import conninfo_to_dict

from cdc_daemon.model.changes import Batch, Operation, Row
from cdc_daemon.model.errors import Problem
from cdc_daemon.model.ports import Table
from cdc_daemon.model.position import Checkpoint, Phase
from cdc_daemon.sources.postgres.source import PostgresSource
from cdc_daemon.sources.postgres.stream import PostgresStream
from tests.support.databases import Database

SLOT = "cdc_test"
PUBLICATION = "cdc_test"


def table(
    name: str, *columns: str, schema: str = "public", identity: tuple[str, ...] = ()
) -> Table:
    return Table(schema=schema, name=name, columns=frozenset(columns), identity=identity)


def conninfo(database: Database, **more: str) -> dict[str, str]:
    return {**{k: str(v) for k, v in conninfo_to_dict(database.dsn).items()}, **more}


def make_source(
    database: Database,
    *tables: Table,
    slot: str = "",
    conninfo_: dict[str, str] | None = None,
    **limits: float,
) -> PostgresSource:
    return PostgresSource(
        "erp",
        conninfo_ or conninfo(database),
        slot or slot_of(database),
        PUBLICATION,
        tables,
        **limits,  # type: ignore[arg-type]
    )


def slot_of(database: Database) -> str:
    """Slots are the server's, so each database has its own."""
    return f"{SLOT}_{database.name}"


def copy(source: PostgresSource, *, replace: bool = False) -> tuple[str, list[Row]]:
    """Take the snapshot: position and all rows. ``replace``: as one that was asked for."""
    if replace:
        source.make_room(source.slot, asked_for(source))
    with source.snapshot(source.slot) as snapshot:
        batches = list(snapshot.read(source.tables))
    return snapshot.position, [row for b in batches for run in b.runs for row in run.new_rows]


def asked_for(source: PostgresSource) -> Checkpoint:
    """What the ledger holds when another copy was asked for."""
    return Checkpoint(
        pipeline="erp",
        phase=Phase.SNAPSHOTTING,
        epoch=1,
        identity=source.identify(),
        slot=source.slot,
    )


def checkpoint_of(source: PostgresSource, *, replace: bool = False) -> Checkpoint:
    """What the ledger holds after a snapshot."""
    identity = source.identify()
    position, _ = copy(source, replace=replace)
    return Checkpoint(
        pipeline="erp",
        phase=Phase.STREAMING,
        epoch=1,
        identity=identity,
        slot=source.slot,
        position=position,
    )


def whats(problems: Sequence[Problem]) -> str:
    """What is wrong, as text; each with a cure."""
    assert all(problem.cure for problem in problems), problems
    return "\n".join(map(str, problems))


@contextmanager
def streaming(source: PostgresSource, after: str) -> Iterator[PostgresStream]:
    stream = source.stream(after)
    try:
        yield stream
    finally:
        stream.close()


def read_changes(stream: PostgresStream, count: int, *, seconds: float = 20.0) -> list[Batch]:
    """Batches until so many changes have come; AssertionError when they do not, or more do."""
    return read_until(stream, lambda found: sum(b.changes for b in found) >= count, seconds)


def read_until(
    stream: PostgresStream, enough: Callable[[list[Batch]], bool], seconds: float = 20.0
) -> list[Batch]:
    batches: list[Batch] = []
    deadline = time.monotonic() + seconds
    while not enough(batches):
        assert time.monotonic() < deadline, batches
        if batch := stream.read(0.2):
            batches.append(batch)
    return batches


Plain = tuple[str, Row | None, Row | None]


def plain(batches: Iterable[Batch]) -> list[Plain]:
    """(operation, new row, old row or identity) of every change in order."""
    found: list[Plain] = []
    for batch in batches:
        for run in batch.runs:
            if run.operation is Operation.TRUNCATE:
                found.append((run.operation.value, None, None))
            for i in range(len(run) if run.operation is not Operation.TRUNCATE else 0):
                new = run.new_rows[i] if run.new_rows else None
                old = run.old_rows[i] if run.old_rows else None
                found.append((run.operation.value, new, old))
    return found


def last_position(batches: Iterable[Batch]) -> str:
    """The last position that may be checkpointed."""
    return [b.position for b in batches if b.position is not None][-1]
