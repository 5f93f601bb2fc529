"""The Prometheus page: the latest status of each pipeline under the daemon's metric names.

Rendered at scrape time from the :class:`Board`, so it works while every database is down. Labels
are bounded by the configuration; error classes are cut off at ``MOST_REASONS``. Counters start
again at 0 with a worker's restart, which Prometheus understands.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from cdc_daemon import __version__
from cdc_daemon.admin.board import Board, PipelineView
from cdc_daemon.engine.status import (
    APPLY_BUCKETS,
    LATENCY_BUCKETS,
    Histogram,
    State,
    WorkerStatus,
)

MOST_REASONS = 50
COMMON_FAILURES = ("required", "too_long", "missing_reference", "duplicate_entity_key")
WAL_STATUSES = ("reserved", "extended", "unreserved", "lost")


class Single(NamedTuple):
    """A metric with one value per pipeline; None: not known, so no sample."""

    name: str
    help: str
    value: Callable[[PipelineView], float | None]


GAUGES = (
    Single("cdc_up", "Whether the pipeline's worker runs and reports.", lambda v: v.alive),
    Single(
        "cdc_source_connected",
        "Whether the source's log is being read.",
        lambda v: v.alive and v.status.connected,
    ),
    Single(
        "cdc_source_lag_seconds",
        "Age of the oldest source transaction not yet applied.",
        lambda v: v.status.lag_seconds,
    ),
    Single(
        "cdc_source_lag_bytes",
        "Log of the source not yet applied.",
        lambda v: v.status.lag_bytes,
    ),
    Single(
        "cdc_source_last_event_timestamp_seconds",
        "When the source's log last said anything.",
        lambda v: v.status.event_time,
    ),
    Single(
        "cdc_source_last_applied_commit_timestamp_seconds",
        "Source commit time of the last applied transaction.",
        lambda v: v.status.commit_time,
    ),
    Single(
        "cdc_slot_active",
        "Whether the source's slot is read by somebody.",
        lambda v: v.status.slot.active if v.status.slot else None,
    ),
    Single(
        "cdc_slot_retained_wal_bytes",
        "Log that the source keeps for the slot.",
        lambda v: v.status.slot.retained_bytes if v.status.slot else None,
    ),
    Single(
        "cdc_slot_safe_wal_bytes",
        "Log that can still be written before the slot is lost; absent without a bound.",
        lambda v: v.status.slot.safe_bytes if v.status.slot else None,
    ),
    Single(
        "cdc_failure_queue_oldest_timestamp_seconds",
        "When the oldest change of the failure queue was parked.",
        lambda v: v.status.parked_since,
    ),
    Single(
        "cdc_checkpoint_timestamp_seconds",
        "When the checkpoint was last written.",
        lambda v: v.status.checkpoint_time,
    ),
    Single(
        "cdc_progress_timestamp_seconds",
        "When a commit, a checkpoint or a read of the log last succeeded.",
        lambda v: v.status.progress_time or None,
    ),
    Single(
        "cdc_snapshot_running",
        "Whether the first copy is running.",
        lambda v: v.alive and v.status.state is State.SNAPSHOTTING,
    ),
    Single(
        "cdc_snapshot_tables_remaining",
        "Tables that the first copy has yet to finish.",
        lambda v: v.status.snapshot_tables_remaining,
    ),
    Single(
        "cdc_worker_resident_memory_bytes",
        "Resident memory of the pipeline's worker.",
        lambda v: v.status.memory_rss if v.alive else 0,
    ),
    Single(
        "cdc_pipeline_epoch",
        "Epoch under which the pipeline's worker writes.",
        lambda v: v.status.epoch,
    ),
)
COUNTERS = (
    Single(
        "cdc_source_reconnects_total",
        "Times that the source's log was opened again after a loss.",
        lambda v: v.status.reconnects,
    ),
    Single(
        "cdc_source_transactions_total",
        "Source commits received with a change of a mapped table.",
        lambda v: v.status.received_transactions,
    ),
    Single(
        "cdc_source_changes_total",
        "Changes received of mapped tables.",
        lambda v: v.status.received_changes,
    ),
    Single(
        "cdc_transactions_applied_total",
        "Source commits applied.",
        lambda v: v.status.applied_transactions,
    ),
    Single("cdc_retries_total", "Failed attempts that were repeated.", lambda v: v.status.retries),
    Single("cdc_snapshot_rows_total", "Rows copied first.", lambda v: v.status.snapshot_rows),
    Single(
        "cdc_worker_restarts_total",
        "Times that the pipeline's worker was started again.",
        lambda v: v.restarts,
    ),
)


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
        statuses = [view.status for view in views]
        yield _wal_status(statuses)
        yield _events(statuses)
        yield _rows_applied(statuses)
        yield _rows_filtered(statuses)
        yield _rows_failed(statuses)
        yield _checkpoint_commits(statuses)
        yield _queue("cdc_queue_bytes", "Bytes of log waiting to be applied.", statuses)
        yield _queue("cdc_queue_capacity_bytes", "Bound of the queue.", statuses)
        yield _failure_queue(statuses)
        yield _health(statuses)
        yield from _histograms(statuses)

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


_Family = TypeVar("_Family", GaugeMetricFamily, CounterMetricFamily)


def _single(
    metric: _Family, value: Callable[[PipelineView], float | None], views: list[PipelineView]
) -> _Family:
    for view in views:
        number = value(view)
        if number is not None:
            metric.add_metric([view.status.pipeline], float(number))
    return metric


def _wal_status(statuses: list[WorkerStatus]) -> Metric:
    metric = GaugeMetricFamily(
        "cdc_slot_wal_status",
        "1 for what the server says of the slot's log.",
        labels=["source", "status"],
    )
    for status in statuses:
        if status.slot is not None:
            for word in WAL_STATUSES:
                metric.add_metric([status.pipeline, word], float(word == status.slot.status))
    return metric


def _events(statuses: list[WorkerStatus]) -> Metric:
    metric = CounterMetricFamily(
        "cdc_source_events_total", "Changes received of mapped tables.", labels=["source", "op"]
    )
    for status in statuses:
        for op, number in status.events.items():
            metric.add_metric([status.pipeline, op], number)
    return metric


def _rows_applied(statuses: list[WorkerStatus]) -> Metric:
    metric = CounterMetricFamily(
        "cdc_rows_applied_total",
        "Rows written to entities.",
        labels=["source", "mapping", "entity", "op"],
    )
    for status in statuses:
        for (mapping, entity, op), rows in status.applied.items():
            metric.add_metric([status.pipeline, mapping, entity, op], rows)
    return metric


def _rows_filtered(statuses: list[WorkerStatus]) -> Metric:
    metric = CounterMetricFamily(
        "cdc_rows_filtered_total",
        "Changes that mappings left out.",
        labels=["source", "mapping", "reason"],
    )
    for status in statuses:
        for (mapping, reason), rows in status.filtered.items():
            metric.add_metric([status.pipeline, mapping, reason], rows)
    return metric


def _rows_failed(statuses: list[WorkerStatus]) -> Metric:
    metric = CounterMetricFamily(
        "cdc_rows_failed_total",
        "Rows that could not be applied.",
        labels=["source", "error_class"],
    )
    for status in statuses:
        for error_class, rows in _bounded(COMMON_FAILURES, status.failed).items():
            metric.add_metric([status.pipeline, error_class], rows)
    return metric


def _checkpoint_commits(statuses: list[WorkerStatus]) -> Metric:
    metric = CounterMetricFamily(
        "cdc_checkpoint_commits_total",
        "Units of work by how they ended.",
        labels=["source", "result"],
    )
    for status in statuses:
        metric.add_metric([status.pipeline, "ok"], status.commits)
        metric.add_metric([status.pipeline, "error"], status.retries)
    return metric


def _queue(name: str, text: str, statuses: list[WorkerStatus]) -> Metric:
    metric = GaugeMetricFamily(name, text, labels=["source", "stage"])
    for status in statuses:
        bounds = name.endswith("_capacity_bytes")
        number = status.queue_capacity if bounds else status.queue_bytes
        metric.add_metric([status.pipeline, "apply"], number)
    return metric


def _failure_queue(statuses: list[WorkerStatus]) -> Metric:
    metric = GaugeMetricFamily(
        "cdc_failure_queue_rows",
        "Changes in the failure queue.",
        labels=["source", "mapping", "state"],
    )
    for status in statuses:
        for mapping, rows in status.parked.items():
            metric.add_metric([status.pipeline, mapping, "parked"], rows)
    return metric


def _health(statuses: list[WorkerStatus]) -> Metric:
    metric = GaugeMetricFamily(
        "cdc_health",
        "1 for the state that the pipeline is in.",
        labels=["entity_type", "entity", "status"],
    )
    for status in statuses:
        for state in State:
            labels = ["pipeline", status.pipeline, state.value]
            metric.add_metric(labels, float(state is status.state))
    return metric


def _histograms(statuses: list[WorkerStatus]) -> Iterator[Metric]:
    durations = HistogramMetricFamily(
        "cdc_apply_duration_seconds",
        "How long a unit of work with changes took to apply.",
        labels=["source"],
    )
    latencies = HistogramMetricFamily(
        "cdc_end_to_end_latency_seconds",
        "From commit in the source to commit in the control database, per transaction.",
        labels=["source"],
    )
    for status in statuses:
        _add_histogram(durations, status.pipeline, APPLY_BUCKETS, status.apply_duration)
        _add_histogram(latencies, status.pipeline, LATENCY_BUCKETS, status.end_to_end_latency)
    yield durations
    yield latencies


def _add_histogram(
    metric: HistogramMetricFamily, pipeline: str, bounds: tuple[float, ...], seen: Histogram
) -> None:
    names = [*map(floatToGoString, bounds), "+Inf"]
    buckets = list(zip(names, seen.counts, strict=True))
    metric.add_metric([pipeline], buckets=buckets, sum_value=seen.total)


def _bounded(common: tuple[str, ...], counts: Mapping[str, int]) -> dict[str, int]:
    """Counts by reason, the usual ones at least at 0, the rarest beyond the bound as ``other``."""
    found = {**dict.fromkeys(common, 0), **counts}
    names = sorted(found, key=lambda name: (-found[name], name))
    kept = {name: found[name] for name in names[:MOST_REASONS]}
    rest = sum(found[name] for name in names[MOST_REASONS:])
    return {**kept, "other": rest} if rest else kept
