"""The Prometheus page: the latest status of each pipeline under the daemon's metric names.

Rendered at scrape time from the :class:`Board`, so it works while every database is down. Labels
are bounded by the configuration, error classes by ``families.MOST_REASONS``. Counters start again
at 0 with a worker's restart, which Prometheus understands. Every family is there from the start,
with or without samples. Not in here: which figures there are (``singles``, ``families``).
"""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from cdc_daemon import __version__, telemetry
from cdc_daemon.admin.board import Board, PipelineView
from cdc_daemon.admin.families import families
from cdc_daemon.admin.notifications import notification_families
from cdc_daemon.admin.singles import COUNTERS, GAUGES
from cdc_daemon.admin.verification import verification_families

FRESH = 0.25  # seconds that a rendered page is good for; a status comes each second
SHARE = 0.1  # of a core that rendering may take, however often it is asked for


def registry(board: Board) -> CollectorRegistry:
    """A registry with the daemon's metrics and those of its supervisor process."""
    found = CollectorRegistry(auto_describe=False)
    found.register(PipelineCollector(board))
    ProcessCollector(registry=found)
    return found


class PipelineCollector(Collector):
    """Turns the board into metric families."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def collect(self) -> Iterator[Metric]:
        views = self._board.pipelines()
        yield from self._about_daemon()
        for name, text, value in GAUGES:
            yield _single(GaugeMetricFamily(name, text, labels=["source"]), value, views)
        for name, text, value in COUNTERS:
            yield _single(CounterMetricFamily(name, text, labels=["source"]), value, views)
        yield from families([view.status for view in views])
        yield from verification_families(self._board.verifications())
        yield from notification_families(self._board.notifications())
        yield self._log_lines(views)

    def _log_lines(self, views: list[PipelineView]) -> Metric:
        metric = CounterMetricFamily(
            "cdc_log_lines_dropped_total",
            "Log lines that could not be written, by worker; without a source: the supervisor's.",
            labels=["source"],
        )
        metric.add_metric([""], telemetry.dropped())
        for view in views:
            metric.add_metric([view.status.pipeline], view.status.log_lines_dropped)
        return metric

    def _about_daemon(self) -> Iterator[Metric]:
        build = {"version": __version__, "python": platform.python_version()}
        yield InfoMetricFamily("cdc_build", "The daemon's version.", value=build)
        reload = self._board.reload
        yield GaugeMetricFamily(
            "cdc_config_last_reload_successful",
            "Whether the last reading of the configuration succeeded.",
            value=float(reload.successful),
        )
        yield GaugeMetricFamily(
            "cdc_config_last_reload_success_timestamp_seconds",
            "When the configuration was last read successfully.",
            value=reload.success_time,
        )


class Rendered(NamedTuple):
    """A page; ``good_until`` by the monotonic clock."""

    body: bytes
    content_type: str
    good_until: float


class MetricsPage:
    """The page as bytes, rendered by one thread at a time and no oftener than is of use.

    Whoever asks in between gets the last one, so that asking all the time costs the pipelines
    nothing. ``fresh``: seconds that a page is good for at least.
    """

    def __init__(self, board: Board, fresh: float = FRESH) -> None:
        self.renders = 0
        self._registry = registry(board)
        self._fresh = fresh
        self._rendering = threading.Lock()
        self._pages: dict[str, Rendered] = {}

    def render(self, accept: str) -> Rendered:
        """In the format that the Accept header asks for; any thread."""
        encode, content_type = choose_encoder(accept)
        with self._rendering:
            page = self._pages.get(content_type)
            if page is None or time.monotonic() >= page.good_until:
                page = self._render(encode, content_type)
                self._pages = {content_type: page}
            return page

    def _render(self, encode: Callable[[CollectorRegistry], bytes], content_type: str) -> Rendered:
        began = time.monotonic()
        body = encode(self._registry)
        ended = time.monotonic()
        self.renders += 1
        good = max(self._fresh, (ended - began) * (1 / SHARE - 1)) if self._fresh else 0.0
        return Rendered(body, content_type, ended + good)


_Family = TypeVar("_Family", GaugeMetricFamily, CounterMetricFamily)


def _single(
    metric: _Family, value: Callable[[PipelineView], float | None], views: list[PipelineView]
) -> _Family:
    for view in views:
        number = value(view)
        if number is not None:
            metric.add_metric([view.status.pipeline], float(number))
    return metric
