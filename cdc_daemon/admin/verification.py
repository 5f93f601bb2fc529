"""Metrics of the verifications that the daemon carries out by itself, on its schedule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from cdc_daemon.admin.board import Verified


def verification_families(verified: Mapping[str, Verified]) -> Iterator[Metric]:
    """All of them; without a schedule none has samples."""
    yield _moments(verified)
    yield _durations(verified)
    yield _due(verified)
    yield _rows(verified)
    yield _differences(verified)
    yield _runs(verified)


def _moments(verified: Mapping[str, Verified]) -> Metric:
    metric = GaugeMetricFamily(
        "cdc_verification_timestamp_seconds",
        "When the last verification that could be carried out ended.",
        labels=["source"],
    )
    for pipeline, view in verified.items():
        if view.last is not None:
            metric.add_metric([pipeline], view.last.time)
    return metric


def _durations(verified: Mapping[str, Verified]) -> Metric:
    metric = GaugeMetricFamily(
        "cdc_verification_duration_seconds",
        "How long the last verification took.",
        labels=["source"],
    )
    for pipeline, view in verified.items():
        if view.last is not None:
            metric.add_metric([pipeline], view.last.seconds)
    return metric


def _due(verified: Mapping[str, Verified]) -> Metric:
    metric = GaugeMetricFamily(
        "cdc_verification_due_timestamp_seconds",
        "When the next verification has to have succeeded; absent without a schedule.",
        labels=["source"],
    )
    for pipeline, view in verified.items():
        if view.due is not None:
            metric.add_metric([pipeline], view.due)
    return metric


def _rows(verified: Mapping[str, Verified]) -> Metric:
    metric = GaugeMetricFamily(
        "cdc_verification_rows",
        "Rows of the last verification by what it found.",
        labels=["source", "mapping", "result"],
    )
    for pipeline, view in verified.items():
        for (mapping, result), rows in (view.last.rows if view.last else {}).items():
            metric.add_metric([pipeline, mapping, result], rows)
    return metric


def _differences(verified: Mapping[str, Verified]) -> Metric:
    metric = GaugeMetricFamily(
        "cdc_verification_differences",
        "Rows that the last verification found missing, surplus or different.",
        labels=["source", "mapping"],
    )
    for pipeline, view in verified.items():
        for mapping, rows in (view.last.differences if view.last else {}).items():
            metric.add_metric([pipeline, mapping], rows)
    return metric


def _runs(verified: Mapping[str, Verified]) -> Metric:
    metric = CounterMetricFamily(
        "cdc_verification_runs_total",
        "Verifications by how they ended.",
        labels=["source", "result"],
    )
    for pipeline, view in verified.items():
        for ending, number in view.runs.items():
            metric.add_metric([pipeline, ending], number)
    return metric
