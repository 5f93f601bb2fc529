"""The latest figures of every pipeline: written by the supervisor, read by HTTP threads.

Values are frozen and replaced whole, so that neither side needs a lock and no reader waits for the
supervisor. Not in here: where the figures come from, and how they are rendered.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from cdc_daemon.engine.status import WorkerStatus
from cdc_daemon.notify.figures import Figures

LATE_AFTER = 10.0  # seconds without a turn of the supervisor's loop
RESULTS: Final = ("match", "missing", "extra", "different", "moving", "parked")
DIFFERENCES: Final = frozenset({"missing", "extra", "different"})
ENDINGS: Final = ("equal", "different", "failed")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """How a verification of one pipeline ended; ``time`` in seconds since 1970.

    ``rows``: by (mapping, one of ``RESULTS``). ``failed``: it could not be carried out.
    """

    pipeline: str
    time: float
    seconds: float
    rows: Mapping[tuple[str, str], int]
    failed: bool = False

    @property
    def ending(self) -> str:
        """One of ``ENDINGS``."""
        if self.failed:
            return "failed"
        return "different" if any(self.differences.values()) else "equal"

    @property
    def differences(self) -> dict[str, int]:
        """Rows that are really not equal, by mapping."""
        found = dict.fromkeys((mapping for mapping, _ in self.rows), 0)
        for (mapping, result), rows in self.rows.items():
            found[mapping] += rows if result in DIFFERENCES else 0
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A pipeline's verifications since the daemon began.

    ``last``: the last one that could be carried out. ``due``: when the next one has to have
    succeeded, in seconds since 1970; None: there is no schedule.
    """

    runs: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(ENDINGS, 0))
    last: Verification | None = None
    due: float | None = None


class Board:
    """What the daemon knows about itself."""

    def __init__(self) -> None:
        self.started = time.time()
        self.reload = Reload(successful=True, success_time=self.started)
        self._pipelines: dict[str, PipelineView] = {}
        self._verified: dict[str, Verified] = {}
        self._notified: Mapping[str, Figures] = {}
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
        self._verified = {name: view for name, view in self._verified.items() if name != pipeline}

    def reloaded(self, *, successful: bool) -> None:
        """The configuration was read again."""
        moment = time.time() if successful else self.reload.success_time
        self.reload = Reload(successful=successful, success_time=moment)

    def verified(self, found: Verification) -> None:
        """A verification ended. What a failed one does not know stays as the last one found it."""
        before = self._verified.get(found.pipeline, Verified())
        runs = {**before.runs, found.ending: before.runs[found.ending] + 1}
        last = before.last if found.failed else found
        self._verified = {
            **self._verified,
            found.pipeline: replace(before, runs=runs, last=last),
        }

    def verification_due(self, pipeline: str, moment: float | None) -> None:
        """When the next verification has to have succeeded; stays in the past while it is late."""
        before = self._verified.get(pipeline, Verified())
        self._verified = {**self._verified, pipeline: replace(before, due=moment)}

    def verifications(self) -> dict[str, Verified]:
        """By pipeline; only of those that have a schedule or were verified."""
        return self._verified

    def notified(self, figures: Mapping[str, Figures]) -> None:
        """What became of notifications, by channel."""
        self._notified = figures

    def notifications(self) -> Mapping[str, Figures]:
        """By channel; empty: none are configured."""
        return self._notified

    def pipelines(self) -> list[PipelineView]:
        """All of them, by name."""
        found = self._pipelines
        return [found[name] for name in sorted(found)]
