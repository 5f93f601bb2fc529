"""Where a pipeline stands: the identity of what it reads, its checkpoint, who holds it."""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceIdentity:
    """Which server and publication a checkpoint belongs to; all of it is compared at start.

    ``system``: PostgreSQL's system identifier. ``publication``: a digest over the publication's
    and its members' catalogue rows (oid and xmin) and the replica identities.
    """

    system: str
    timeline: int
    database: str
    publication: str


class Phase(enum.Enum):
    """What a checkpoint row promises."""

    NEW = "new"  # nothing was read yet
    SNAPSHOTTING = "snapshotting"  # slot and generation named; a restart begins the copy again
    STREAMING = "streaming"  # the position is exact


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """One row of ``cdc.checkpoint``.

    ``transactions``: source commits received with a change of a mapped relation; ``changes``: such
    changes, before ``where`` and coalescing. Both are the oracle for double effect.
    """

    pipeline: str
    phase: Phase
    epoch: int
    identity: SourceIdentity | None = None
    slot: str | None = None
    generation: int = 0
    generation_started: dt.datetime | None = None
    position: str | None = None
    commit_time: dt.datetime | None = None
    transactions: int = 0
    changes: int = 0
    holder: str = ""
    backend_pid: int | None = None
    seen_at: dt.datetime | None = None
    updated_at: dt.datetime | None = None
