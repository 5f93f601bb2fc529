"""The latest figures of every pipeline: written by the supervisor, read by HTTP threads.

Values are frozen and replaced whole, so that neither side needs a lock and no reader waits for the
supervisor. Not in here: where the figures come from, and how they are rendered.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from cdc_daemon.engine.status import WorkerStatus

LATE_AFTER = 10.0  # seconds without a turn of the supervisor's loop


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineView:
    """One pipeline as the supervisor sees it; ``alive``: its worker process runs and reports."""

    status: WorkerStatus
    alive: bool = False
    restarts: int = 0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: the status with what the supervisor adds."""
        return {**self.status.to_dict(), "alive": self.alive, "restarts": self.restarts}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload:
    """How the last reading of the configuration ended; times in seconds since 1970."""

    successful: bool
    success_time: float


class Board:
    """What the daemon knows about itself."""

    def __init__(self) -> None:
        self.started = time.time()
        self.reload = Reload(successful=True, success_time=self.started)
        self._pipelines: dict[str, PipelineView] = {}
        self._beat = time.monotonic()

    def beat(self) -> None:
        """The supervisor's loop turned."""
        self._beat = time.monotonic()

    def lateness(self) -> float:
        """Seconds since the loop last turned."""
        return time.monotonic() - self._beat

    def publish(self, view: PipelineView) -> None:
        """Show these figures from now on."""
        self._pipelines = {**self._pipelines, view.status.pipeline: view}

    def withdraw(self, pipeline: str) -> None:
        """The pipeline is no longer configured."""
        self._pipelines = {name: view for name, view in self._pipelines.items() if name != pipeline}

    def reloaded(self, *, successful: bool) -> None:
        """The configuration was read again."""
        moment = time.time() if successful else self.reload.success_time
        self.reload = Reload(successful=successful, success_time=moment)

    def pipelines(self) -> list[PipelineView]:
        """All of them, by name."""
        found = self._pipelines
        return [found[name] for name in sorted(found)]
