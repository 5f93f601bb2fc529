"""A whole pipeline from MySQL or MariaDB inside the test's process, to a control database of any
kind that the tests have."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any, Protocol

from cdc_daemon import build
from cdc_daemon.config.configuration import Configuration
from cdc_daemon.config.load import load
from cdc_daemon.engine.meter import Meter
from cdc_daemon.engine.reading import Stopping
from cdc_daemon.sinks import mysql, postgres, sqlite
from cdc_daemon.worker import Worker
from tests.support.mysql_sources import Schema
from tests.support.pipelines import Running
from tests.support.waiting import until


class Target(Protocol):
    """A control database, as anybody may see it. ``dsn``: its address in a configuration."""

    @property
    def dsn(self) -> str: ...

    def query(self, statement: str, *params: Any) -> list[tuple[Any, ...]]: ...


class FamilySystem:
    """One schema, one control database, and the configuration between them; the source is hr."""

    def __init__(
        self, schema: Schema, target: Target, folder: Path, yaml: str, **source: object
    ) -> None:
        self.schema = schema
        self.target = target
        self._folder = folder
        self._yaml = yaml
        self.configuration = self.configure(**source)

    def configure(self, **source: object) -> Configuration:
        """Read the configuration; ``source``: more settings of the source."""
        address = self.schema.server.address
        settings = {"kind": "mysql", "host": address["host"], "port": address["port"], **source}
        listed = ", ".join(f"{name}: {value}" for name, value in settings.items())
        head = f"""
            sources:
              hr: {{{listed}, user: {address["user"]}}}
            target: {{url: "{self.target.dsn}"}}
            daemon: {{retry_first_seconds: 0.05, retry_max_seconds: 0.5,
                      idle_checkpoint_seconds: 0.1, log_format: json,
                      metrics_listen: "127.0.0.1:0"}}
        """
        path = self._folder / "cdc.yaml"
        path.write_text(dedent(head) + dedent(self._yaml), "utf-8")
        self.configuration = load([path], environ={})
        return self.configuration

    def apply(self) -> None:
        """Create ledger and entity tables."""
        source = build.make_source(self.configuration, "hr")
        try:
            relations = source.relations()
        finally:
            source.close()
        compiled = build.compile_all(
            self.configuration, relations, build.compiler(self.configuration, "hr")
        )
        entities, layouts = self.configuration.entities, [one.layout for one in compiled]
        target = self.configuration.target
        match target.kind:
            case "sqlite":
                sqlite.apply_plan(target.path, entities, layouts)
            case "mysql":
                mysql.apply_plan(target.conninfo, entities, layouts)
            case _:
                postgres.apply_plan(target.conninfo, entities, layouts)

    def start(self) -> Running:
        """Run the pipeline's worker in a thread."""
        names = build.mapping_names(self.configuration.mappings)
        running = Running(Meter("hr", names), Stopping(5.0))

        def work() -> None:
            worker = Worker(self.configuration, "hr", running.meter, running.stopping)
            running.code = worker.run()

        running.thread = threading.Thread(target=work, name="worker", daemon=True)
        running.thread.start()
        return running

    @contextmanager
    def running(self) -> Iterator[Running]:
        """Run the worker, stop it at the end."""
        found = self.start()
        try:
            yield found
        finally:
            found.stopping.ask()
            found.wait()

    def caught_up(self, running: Running | None = None) -> None:
        """Until what the source has written by now is in the control database."""
        source = build.make_source(self.configuration, "hr")
        try:
            mark = source.mark()

            def reached() -> bool:
                assert running is None or running.code is None, "the worker ended"
                rows = self.target.query(f"SELECT phase, position FROM {self.ledger('checkpoint')}")
                if not rows or rows[0][0] != "streaming":
                    return False
                return source.passed(rows[0][1], mark)

            until(reached, seconds=30, what="the checkpoint reaches the source's position")
        finally:
            source.close()

    def ledger(self, name: str) -> str:
        """The name of a table of the ledger."""
        return f"cdc.{name}" if self.configuration.target.kind == "postgresql" else f"cdc_{name}"
