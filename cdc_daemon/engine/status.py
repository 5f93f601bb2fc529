"""How one pipeline is doing: the snapshot that a worker reports each second as one line of JSON.

Not in here: what fills it (``meter``) and how it becomes metrics or a health answer (``admin``).
"""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cdc_daemon.model.ports import SlotState, Verification

OPERATIONS = ("insert", "update", "delete", "noop")
EVENTS = ("insert", "update", "delete", "truncate")
FILTERS = ("where", "ignore", "gone")
APPLY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
LATENCY_BUCKETS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 600.0)
IDLE_AFTER = 5.0  # seconds without a transaction
_K = TypeVar("_K")
STALLED_AFTER = 30.0  # seconds without attested progress; idle progress comes every 10
AT_RISK = ("unreserved", "lost")  # of a slot: its log is about to be removed, or was


def verification_of(found: Verification | None, due: float | None) -> dict[str, Any] | None:
    """The newest verification as a worker reports it, JSON-ready; times in seconds since 1970.

    ``due``: when the run after the last finished one was or is due; None: none is scheduled.
    """
    if found is None:
        return None if due is None else {"state": "none", "due": due, "mappings": {}}
    finished, started = found.last_finished, found.last_started
    seconds = (finished - started).total_seconds() if finished and started else None
    return {
        "state": found.state,
        "failed": found.state == "failed",
        "started": found.started_at.timestamp(),
        "error": found.error,
        "last_run": finished.timestamp() if finished else None,
        "last_equal": found.last_equal.timestamp() if found.last_equal else None,
        "duration": seconds,
        "due": due,
        "mappings": found.mappings,
    }


class State(enum.Enum):
    """What a pipeline does; the engine says the first four, the rest follows from its figures."""

    STARTING = "starting"
    SNAPSHOTTING = "snapshotting"
    STREAMING = "streaming"
    STOPPED = "stopped"
    IDLE = "idle"  # streaming, and the source has nothing new
    STALLED = "stalled"  # neither commit nor log read for STALLED_AFTER seconds
    BLOCKED = "blocked"  # the last attempt failed and is being retried
    DEGRADED = "degraded"  # streaming while changes are parked or the slot's log is at risk


_BY_SEVERAL = ("applied", "filtered", "parked_errors", "replays")


@dataclass(frozen=True, slots=True)
class Histogram:
    """Cumulative counts, one per bound and a last one for +Inf, and the sum of what was seen."""

    counts: tuple[int, ...]
    total: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """One pipeline at one moment. Times are seconds since 1970, counters since the worker began.

    ``applied``: rows by (mapping, entity, operation); ``filtered`` by (mapping, reason);
    ``failed`` by error class; ``parked``: rows now in the failure queue, by mapping;
    ``parked_errors`` by (mapping, entity, error class); ``replays``: parked changes tried again, by
    (mapping, entity, error class before, result); ``blocked_lanes``: rows and keys that wait.
    ``progress``
    grows with each commit, idle checkpoint or log read; ``turns`` with each turn of the applier's
    loop, each piece that it finishes and each failed attempt, but not with the reading of the log:
    it shows that the loop is alive, also while a server is away or has nothing to say.
    ``log_bytes_per_second``: how fast the source's log grows; ``slot_seconds_if_stopped``: for how
    long that may go on, with us stopped, until the slot is lost. ``findings``: what checks find
    amiss (``Finding.to_dict``). ``patience``: seconds that the current step may take without a turn
    (a sweep over a large table).
    """

    pipeline: str
    state: State = State.STARTING
    time: float = 0.0
    started: float = 0.0
    pid: int = 0
    epoch: int = 0
    connected: bool = False
    reconnects: int = 0
    position: str | None = None
    commit_time: float | None = None  # of the last applied transaction
    event_time: float | None = None  # when the log last said anything
    checkpoint_time: float | None = None
    lag_seconds: float | None = None
    lag_bytes: int | None = None
    slot: SlotState | None = None
    slot_seconds_left: float | None = None  # until the slot is lost, at the rate of late
    log_bytes_per_second: float | None = None
    slot_seconds_if_stopped: float | None = None
    findings: tuple[Mapping[str, str], ...] = ()
    events: Mapping[str, int] = field(default_factory=dict)  # changes received, by operation
    received_transactions: int = 0
    received_changes: int = 0
    applied_transactions: int = 0
    applied_changes: int = 0
    commits: int = 0
    cascaded: int = 0  # changes by foreign keys, which the log lacks; not among those received
    applied: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    filtered: Mapping[tuple[str, str], int] = field(default_factory=dict)
    failed: Mapping[str, int] = field(default_factory=dict)
    parked: Mapping[str, int] = field(default_factory=dict)
    parked_errors: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    replays: Mapping[tuple[str, str, str, str], int] = field(default_factory=dict)
    blocked_lanes: int = 0
    parked_since: float | None = None  # when the oldest of them was parked
    retries: int = 0
    queue_bytes: int = 0
    queue_capacity: int = 0
    progress: int = 0
    progress_time: float = 0.0
    turns: int = 0
    patience: float = 0.0
    verification: Mapping[str, Any] | None = None  # the newest one, as ``verification_of`` says it
    snapshot_tables_remaining: int = 0
    snapshot_rows: int = 0
    error: str = ""
    tripped: bool = False  # the breaker has stopped it
    error_time: float | None = None
    apply_duration: Histogram = Histogram((0,) * (len(APPLY_BUCKETS) + 1))
    end_to_end_latency: Histogram = Histogram((0,) * (len(LATENCY_BUCKETS) + 1))
    memory_rss: int = 0
    log_lines_dropped: int = 0

    @property
    def parked_rows(self) -> int:
        """How many changes of the pipeline stand in the failure queue."""
        return sum(self.parked.values())

    def since(self, earlier: WorkerStatus | None) -> WorkerStatus:
        """The same with only those of the many counters that have grown: with thousands of
        mappings they would fill a megabyte a second.
        """
        if earlier is None:
            return self
        return dataclasses.replace(
            self,
            applied=_grown(self.applied, earlier.applied),
            filtered=_grown(self.filtered, earlier.filtered),
        )

    def after(self, earlier: WorkerStatus | None) -> WorkerStatus:
        """The inverse of :meth:`since`."""
        if earlier is None:
            return self
        return dataclasses.replace(
            self,
            applied={**earlier.applied, **self.applied},
            filtered={**earlier.filtered, **self.filtered},
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; what is counted by several things as a list of [thing, …, rows]."""
        plain = {found.name: getattr(self, found.name) for found in dataclasses.fields(self)}
        plain["state"] = self.state.value
        for name in _BY_SEVERAL:
            plain[name] = [[*key, rows] for key, rows in plain[name].items()]
        plain["slot"] = dataclasses.asdict(self.slot) if self.slot else None
        for name in ("apply_duration", "end_to_end_latency"):
            plain[name] = {"counts": plain[name].counts, "total": plain[name].total}
        return plain

    def to_json(self) -> str:
        """One line."""
        return json.dumps(self.to_dict(), separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str | bytes) -> WorkerStatus:
        """The inverse of :meth:`to_json`. Raises ValueError for anything else."""
        try:
            plain = json.loads(line)
            plain["state"] = State(plain["state"])
            for name in _BY_SEVERAL:
                plain[name] = {tuple(key): rows for *key, rows in plain[name]}
            plain["slot"] = SlotState(**plain["slot"]) if plain["slot"] else None
            plain["findings"] = tuple(plain["findings"])
            for name in ("apply_duration", "end_to_end_latency"):
                found = plain[name]
                plain[name] = Histogram(tuple(found["counts"]), found["total"])
            return cls(**plain)
        except (KeyError, TypeError, AttributeError) as exc:
            raise ValueError("not a worker status") from exc


def _grown(now: Mapping[_K, int], earlier: Mapping[_K, int]) -> dict[_K, int]:
    return {key: count for key, count in now.items() if earlier.get(key) != count}
