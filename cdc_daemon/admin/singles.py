"""Metrics with one value a pipeline: name, help text, and where in the status the value is.

Figures that only a reporting worker can know (lag, connection) are withheld while none does: the
last ones would look well for ever. What the source keeps of its log stays as it was last seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from cdc_daemon.admin.board import PipelineView
from cdc_daemon.engine.status import State


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
        lambda v: v.status.lag_seconds if v.alive else None,
    ),
    Single(
        "cdc_source_lag_bytes",
        "Log of the source not yet applied.",
        lambda v: v.status.lag_bytes if v.alive else None,
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
        "cdc_slot_seconds_left",
        "Until the slot is lost if its log goes on as in the last minutes; absent if it would not.",
        lambda v: v.status.slot_seconds_left if v.alive else None,
    ),
    Single(
        "cdc_slot_seconds_if_stopped",
        "Until the slot would be lost if the daemon stopped now; absent without a bound.",
        lambda v: v.status.slot_seconds_if_stopped if v.alive else None,
    ),
    Single(
        "cdc_source_log_bytes_per_second",
        "How fast the source's log grows, mapped tables or not.",
        lambda v: v.status.log_bytes_per_second if v.alive else None,
    ),
    Single(
        "cdc_failure_queue_oldest_timestamp_seconds",
        "When the oldest change of the failure queue was parked.",
        lambda v: v.status.parked_since,
    ),
    Single(
        "cdc_failure_queue_blocked_lanes",
        "Source rows and entity keys that wait behind parked changes.",
        lambda v: v.status.blocked_lanes,
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
        "cdc_worker_start_time_seconds",
        "When the pipeline's worker began.",
        lambda v: v.status.started or None,
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
    Single(
        "cdc_changes_cascaded_total",
        "Changes of mapped tables that foreign keys made and that the source's log lacks.",
        lambda v: v.status.cascaded,
    ),
    Single("cdc_retries_total", "Failed attempts that were repeated.", lambda v: v.status.retries),
    Single("cdc_snapshot_rows_total", "Rows copied first.", lambda v: v.status.snapshot_rows),
    Single(
        "cdc_worker_restarts_total",
        "Times that the pipeline's worker was started again.",
        lambda v: v.restarts,
    ),
)
