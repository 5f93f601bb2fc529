"""Metrics of notifications; without a configuration none has samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from cdc_daemon.notify.figures import Figures

_LABELS = ["channel"]


def notification_families(channels: Mapping[str, Figures]) -> Iterator[Metric]:
    """All of them."""
    sent = CounterMetricFamily(
        "cdc_notifications_sent_total", "Messages that a channel's service took.", labels=_LABELS
    )
    failed = CounterMetricFamily(
        "cdc_notifications_failed_total",
        "Attempts to deliver a message that failed; most are repeated.",
        labels=_LABELS,
    )
    waiting = GaugeMetricFamily(
        "cdc_notifications_waiting", "Messages that wait for delivery.", labels=_LABELS
    )
    for channel, figures in channels.items():
        sent.add_metric([channel], figures.sent)
        failed.add_metric([channel], figures.failed)
        waiting.add_metric([channel], figures.waiting)
    yield from (sent, failed, waiting)
