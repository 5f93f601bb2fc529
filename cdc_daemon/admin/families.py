"""Metrics with further labels: by mapping, operation, reason, state. Samples from statuses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.utils import floatToGoString

from cdc_daemon.engine.status import (
    APPLY_BUCKETS,
    LATENCY_BUCKETS,
    Histogram,
    State,
    WorkerStatus,
)

MOST_REASONS = 50
MOST_SERIES = 500
COMMON_FAILURES = ("required", "too_long", "reference_missing", "duplicate_entity_key")
WAL_STATUSES = ("reserved", "extended", "unreserved", "lost")


def families(statuses: Sequence[WorkerStatus]) -> Iterator[Metric]:
    """All of them."""
    yield _wal_status(statuses)
    yield _events(statuses)
    yield _rows_applied(statuses)
    yield _rows_filtered(statuses)
    yield _rows_failed(statuses)
    yield _checkpoint_commits(statuses)
    yield _queue("cdc_queue_bytes", "Bytes of log waiting to be applied.", statuses)
    yield _queue("cdc_queue_capacity_bytes", "Bound of the queue.", statuses)
    yield _failure_queue(statuses)
    yield _failure_queue_errors(statuses)
    yield _replays(statuses)
    yield _health(statuses)
    yield _findings(statuses)
    yield from _histograms(statuses)


def _wal_status(statuses: Sequence[WorkerStatus]) -> Metric:
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


def _events(statuses: Sequence[WorkerStatus]) -> Metric:
    metric = CounterMetricFamily(
        "cdc_source_events_total", "Changes received of mapped tables.", labels=["source", "op"]
    )
    for status in statuses:
        for op, number in status.events.items():
            metric.add_metric([status.pipeline, op], number)
    return metric


def _rows_applied(statuses: Sequence[WorkerStatus]) -> Metric:
    metric = CounterMetricFamily(
        "cdc_rows_applied_total",
        "Rows written to entities.",
        labels=["source", "mapping", "entity", "op"],
    )
    for status in statuses:
        for (mapping, entity, op), rows in status.applied.items():
            metric.add_metric([status.pipeline, mapping, entity, op], rows)
    return metric


def _rows_filtered(statuses: Sequence[WorkerStatus]) -> Metric:
    metric = CounterMetricFamily(
        "cdc_rows_filtered_total",
        "Changes that mappings left out.",
        labels=["source", "mapping", "reason"],
    )
    for status in statuses:
        for (mapping, reason), rows in status.filtered.items():
            metric.add_metric([status.pipeline, mapping, reason], rows)
    return metric


def _rows_failed(statuses: Sequence[WorkerStatus]) -> Metric:
    metric = CounterMetricFamily(
        "cdc_rows_failed_total",
        "Rows that could not be applied.",
        labels=["source", "error_class"],
    )
    for status in statuses:
        for error_class, rows in _bounded(COMMON_FAILURES, status.failed).items():
            metric.add_metric([status.pipeline, error_class], rows)
    return metric


def _checkpoint_commits(statuses: Sequence[WorkerStatus]) -> Metric:
    metric = CounterMetricFamily(
        "cdc_checkpoint_commits_total",
        "Units of work by how they ended.",
        labels=["source", "result"],
    )
    for status in statuses:
        metric.add_metric([status.pipeline, "ok"], status.commits)
        metric.add_metric([status.pipeline, "error"], status.retries)
    return metric


def _queue(name: str, text: str, statuses: Sequence[WorkerStatus]) -> Metric:
    metric = GaugeMetricFamily(name, text, labels=["source", "stage"])
    for status in statuses:
        bounds = name.endswith("_capacity_bytes")
        number = status.queue_capacity if bounds else status.queue_bytes
        metric.add_metric([status.pipeline, "apply"], number)
    return metric


def _failure_queue(statuses: Sequence[WorkerStatus]) -> Metric:
    metric = GaugeMetricFamily(
        "cdc_failure_queue_rows",
        "Changes in the failure queue.",
        labels=["source", "mapping", "state"],
    )
    for status in statuses:
        for mapping, rows in status.parked.items():
            metric.add_metric([status.pipeline, mapping, "parked"], rows)
    return metric


def _failure_queue_errors(statuses: Sequence[WorkerStatus]) -> Metric:
    metric = GaugeMetricFamily(
        "cdc_failure_queue_errors",
        "Changes in the failure queue, by the error that they met last.",
        labels=["source", "mapping", "entity", "error_class"],
    )
    for status in statuses:
        for key, rows in _largest(status.parked_errors).items():
            metric.add_metric([status.pipeline, *key], rows)
    return metric


def _replays(statuses: Sequence[WorkerStatus]) -> Metric:
    metric = CounterMetricFamily(
        "cdc_replays_total",
        "Parked changes that were tried again, by the error that they had met.",
        labels=["source", "mapping", "entity", "error_class", "result"],
    )
    for status in statuses:
        for key, number in _largest(status.replays).items():
            metric.add_metric([status.pipeline, *key], number)
    return metric


def _health(statuses: Sequence[WorkerStatus]) -> Metric:
    metric = GaugeMetricFamily(
        "cdc_health",
        "1 for the state that the pipeline is in.",
        labels=["source", "status"],
    )
    for status in statuses:
        for state in State:
            metric.add_metric([status.pipeline, state.value], float(state is status.state))
    return metric


def _findings(statuses: Sequence[WorkerStatus]) -> Metric:
    metric = GaugeMetricFamily(
        "cdc_check_findings",
        "What checks find amiss, by check and how bad it is; a check that is well has no sample.",
        labels=["source", "check", "state"],
    )
    for status in statuses:
        found = Counter((finding["check"], finding["state"]) for finding in status.findings)
        for (check, state), number in sorted(found.items()):
            metric.add_metric([status.pipeline, check, state], number)
    return metric


def _histograms(statuses: Sequence[WorkerStatus]) -> Iterator[Metric]:
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


def _largest(counts: Mapping[Any, int]) -> dict[tuple[str, ...], int]:
    """Counts by several things, the smallest beyond the bound together as ``other``."""
    keys = sorted(counts, key=lambda key: (-counts[key], key))
    found = {key: counts[key] for key in keys[:MOST_SERIES]}
    rest = sum(counts[key] for key in keys[MOST_SERIES:])
    return {**found, ("other",) * len(keys[0]): rest} if rest else found


def _bounded(common: tuple[str, ...], counts: Mapping[str, int]) -> dict[str, int]:
    """Counts by reason, the usual ones at least at 0, the rarest beyond the bound as ``other``."""
    found = {**dict.fromkeys(common, 0), **counts}
    names = sorted(found, key=lambda name: (-found[name], name))
    kept = {name: found[name] for name in names[:MOST_REASONS]}
    rest = sum(found[name] for name in names[MOST_REASONS:])
    return {**kept, "other": rest} if rest else kept
