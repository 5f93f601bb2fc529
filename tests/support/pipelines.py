"""A whole pipeline inside the test's process: configuration text in, entity rows out."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

from cdc_daemon import build
from cdc_daemon.config.configuration import Configuration
from cdc_daemon.config.load import load
from cdc_daemon.engine.meter import Meter
from cdc_daemon.engine.reading import Stopping
from cdc_daemon.sinks.postgres.plan import apply_plan
from cdc_daemon.worker import Worker
from tests.support.databases import Database
from tests.support.waiting import until


@dataclass
class Running:
    """A worker in a thread. ``code``: its exit code once it has ended."""

    meter: Meter
    stopping: Stopping
    code: int | None = None
    thread: threading.Thread | None = field(default=None)

    def stop(self) -> int:
        """Ask it to stop and wait; its exit code."""
        self.stopping.ask()
        return self.wait()

    def wait(self, seconds: float = 60.0) -> int:
        """Wait until it has ended; its exit code."""
        assert self.thread is not None
        self.thread.join(seconds)
        assert self.code is not None, "the worker did not end"
        return self.code


class System:
    """One source database, one control database, and the configuration between them."""

    def __init__(self, source: Database, target: Database, folder: Path, yaml: str) -> None:
        self.source = source
        self.target = target
        self._folder = folder
        self.configuration = self.configure(yaml)

    def configure(self, yaml: str, **daemon: object) -> Configuration:
        """Read a configuration of entities and mappings; source ``erp`` and target are added."""
        head = f"""
            sources:
              erp: {{kind: postgres, dsn: "{self.source.dsn}", slot: cdc_{self.source.name},
                     publication: cdc_erp, nulls: {{text: [" "], integer: ["0"]}}}}
            target: {{url: "{self.target.dsn}"}}
            daemon: {{retry_first_seconds: 0.05, retry_max_seconds: 0.5,
                      idle_checkpoint_seconds: 0.1}}
        """
        path = self._folder / "cdc.yaml"
        path.write_text(dedent(head) + dedent(yaml), "utf-8")
        self.configuration = load([path], environ={})
        return self.configuration

    def publish(self, *tables: str) -> None:
        """Create the publication for these tables."""
        self.source.execute(f"CREATE PUBLICATION cdc_erp FOR TABLE {', '.join(tables)}")

    def apply(self) -> None:
        """Create ledger and entity tables."""
        source = build.make_source(self.configuration, "erp")
        try:
            relations = source.relations()
        finally:
            source.close()
        compiled = build.compile_all(
            self.configuration, relations, build.compiler(self.configuration, "erp")
        )
        apply_plan(
            self.configuration.target.conninfo,
            self.configuration.entities,
            [one.layout for one in compiled],
        )

    def start(self) -> Running:
        """Run the pipeline's worker in a thread."""
        names = build.mapping_names(self.configuration.mappings)
        running = Running(Meter("erp", names), Stopping(5.0))

        def work() -> None:
            worker = Worker(self.configuration, "erp", running.meter, running.stopping)
            running.code = worker.run()

        running.thread = threading.Thread(target=work, name="worker", daemon=True)
        running.thread.start()
        return running

    @contextmanager
    def running(self) -> Iterator[Running]:
        """Run the worker, wait until it streams, stop it at the end."""
        found = self.start()
        try:
            self.wait_for_phase("streaming", found)
            yield found
        finally:
            found.stopping.ask()
            found.wait()

    def wait_for_phase(self, phase: str, running: Running) -> None:
        """Until the checkpoint row says so."""

        def reached() -> bool:
            assert running.code is None, f"the worker ended with {running.code}"
            rows = self.target.query("SELECT phase FROM cdc.checkpoint WHERE pipeline = 'erp'")
            return rows == [(phase,)]

        until(reached, seconds=30, what=f"the checkpoint says {phase}")

    def caught_up(self, running: Running | None = None) -> None:
        """Until what the source has written by now is in the control database."""
        (row,) = self.source.query("SELECT pg_current_wal_insert_lsn()::text")
        self.source.execute("SELECT pg_logical_emit_message(true, 'test', 'wake')")

        def reached() -> bool:
            assert running is None or running.code is None, "the worker ended"
            (found,) = self.target.query(
                "SELECT position::pg_lsn >= %s::pg_lsn FROM cdc.checkpoint", row[0]
            )
            return bool(found[0])

        until(reached, seconds=30, what="the checkpoint reaches the source's position")

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """Rows of the control database."""
        return self.target.query(query)
