"""A pipeline inside the test's process, from any kind of source into any control database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from cdc_daemon import build
from cdc_daemon.config.configuration import Configuration
from cdc_daemon.engine.meter import Meter
from cdc_daemon.engine.reading import Stopping
from cdc_daemon.model.position import Checkpoint
from cdc_daemon.worker import Worker
from tests.support.pipelines import Running
from tests.support.waiting import until


class AnyPipeline:
    """The configured source of that name, and a worker; positions are compared by the source."""

    def __init__(self, configuration: Configuration, name: str) -> None:
        self.configuration = configuration
        self.name = name

    @contextmanager
    def running(self) -> Iterator[Running]:
        """A worker that streams; it is stopped at the end."""
        names = build.mapping_names(self.configuration.mappings)
        running = Running(Meter(self.name, names), Stopping(5.0))

        def work() -> None:
            worker = Worker(self.configuration, self.name, running.meter, running.stopping)
            running.code = worker.run()

        running.thread = threading.Thread(target=work, name="worker", daemon=True)
        running.thread.start()
        try:
            self._until(running, lambda found: found.phase.value == "streaming", "the copy")
            yield running
        finally:
            running.stopping.ask()
            running.wait()

    def caught_up(self, running: Running) -> None:
        """Until what the source holds now is in the control database."""
        with closing(build.make_source(self.configuration, self.name)) as source:
            mark = source.mark()
            self._until(
                running, lambda found: source.passed(found.position or "", mark), "the stream"
            )

    def _until(self, running: Running, enough: Callable[[Checkpoint], bool], what: str) -> None:
        def reached() -> bool:
            assert running.code is None, f"the worker ended with {running.code}"
            with closing(build.make_control(self.configuration)) as control:
                return any(map(enough, control.checkpoints()))

        until(reached, seconds=120, what=what)
