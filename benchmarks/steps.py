"""What a row costs in Python: decoding, mapping, COPY text (`python -m benchmarks.steps`).

A real log of 100,000 inserts, updates and deletes is captured from a private server and then worked
on in memory, five times, of which the one with least CPU time counts. No part of the results file.
"""

from __future__ import annotations

import json
import struct
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import click

from benchmarks.course import SERVER_SETTINGS
from benchmarks.daemon import MAPPED, PIPELINE, Read, configuration
from benchmarks.workload import TABLES, Workload
from cdc_daemon import build
from cdc_daemon.config.configuration import Configuration
from cdc_daemon.config.load import load
from cdc_daemon.demo.server import PrivatePostgres
from cdc_daemon.mapping.compile import tables_of
from cdc_daemon.mapping.mapper import Mapped, Mapper
from cdc_daemon.model.changes import Batch
from cdc_daemon.sinks.postgres.copytext import feed
from cdc_daemon.sources.postgres.decoder import Decoder
from cdc_daemon.sources.postgres.relations import Known, Relations
from cdc_daemon.sources.postgres.types import Types

ROWS = 100_000
TIMES = 5
_SLOT, _PUBLICATION = "steps", "steps"
_HEADER = struct.pack(">cQQq", b"w", 0, 0, 0)  # XLogData, which the SQL function leaves out


def main() -> None:
    """Print µs a row of each step, for inserts, updates and deletes."""
    found = _configuration()
    with PrivatePostgres(18, settings=SERVER_SETTINGS) as server:
        for operation, log in _logs(server):
            batches = _read(found, log)
            mapper = Mapper(build.compiler(found, PIPELINE))
            mapped = _map(mapper, batches)
            costs = {
                "decode": _cost(partial(_read, found, log)),
                "map": _cost(partial(_map, mapper, batches)),
                "copy text": _cost(partial(_encode, mapped)),
            }
            shown = ", ".join(f"{step} {cost:.2f}" for step, cost in costs.items())
            click.echo(f"{operation}: {shown} µs a row")


def _configuration() -> Configuration:
    nowhere = "postgresql://postgres@127.0.0.1:1/nowhere"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "steps.yaml")
        source = Read(entry={"kind": "postgres", "dsn": nowhere}, schema="public")
        tables = [*MAPPED.items(), ("marker", "id")]
        path.write_text(json.dumps(configuration(source, nowhere, tables)), encoding="utf-8")
        return load([path], environ={})


def _logs(server: PrivatePostgres) -> Iterator[tuple[str, list[bytes]]]:
    """The log of each operation, as CopyData payloads."""
    server.create_database("erp")
    workload = Workload(server.dsn("erp"))
    workload.create()
    tables = ", ".join(("marker", *TABLES))
    server.execute(f"CREATE PUBLICATION {_PUBLICATION} FOR TABLE {tables}", dbname="erp")
    create = f"SELECT pg_create_logical_replication_slot('{_SLOT}', 'pgoutput')"
    server.execute(create, dbname="erp")
    take = (
        f"SELECT data FROM pg_logical_slot_get_binary_changes('{_SLOT}', NULL, NULL,"
        f" 'proto_version', '1', 'publication_names', '{_PUBLICATION}')"
    )
    for operation, work in (
        ("insert", partial(workload.insert, ROWS)),
        ("update", partial(workload.update, ROWS)),
        ("delete", workload.delete),
    ):
        work()
        server.execute("CHECKPOINT")  # flushes what was committed asynchronously
        yield operation, [_HEADER + bytes(data) for (data,) in server.execute(take, dbname="erp")]
    workload.close()


def _read(found: Configuration, log: list[bytes]) -> list[Batch]:
    """All batches of a log."""
    relations = Relations(PIPELINE, tables_of(found.mappings_of(PIPELINE)))
    relations.learn(dict.fromkeys(relations.tables, Known(primary_key=("id",))))
    decoder = Decoder(relations, Types())
    messages = iter([(len(payload), memoryview(payload)) for payload in log])
    nothing = (0, memoryview(b""))
    batches: list[Batch] = []
    more = 1
    while more > 0:
        more = decoder.pump(lambda _: next(messages, nothing))
        if (decoder.full or more <= 0) and (batch := decoder.take()):
            batches.append(batch)
    return batches


def _map(mapper: Mapper, batches: list[Batch]) -> list[Mapped]:
    return [mapper.map(batch) for batch in batches]


def _encode(mapped: list[Mapped]) -> None:
    for one in mapped:
        for run in one.runs:
            deque(feed(run.rows), maxlen=0)


def _cost(work: Callable[[], object]) -> float:
    """µs of CPU a row of the best try."""
    best = float("inf")
    for _ in range(TIMES):
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return best / ROWS * 1e6


if __name__ == "__main__":
    main()
