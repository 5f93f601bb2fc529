"""Where a pipeline stands: the identity of what it reads, its checkpoint, who holds it."""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceIdentity:
    """Which server and publication a checkpoint belongs to; all of it is compared at start.

    ``system``: PostgreSQL's system identifier. ``publication``: a digest over the publication's
    and its members' catalogue rows (oid and xmin) and the replica identities; empty beside a copy
    that has begun where there was no slot (``Checkpoint.slot_noted``).
    """

    system: str
    timeline: int
    database: str
    publication: str


class Phase(enum.Enum):
    """What a checkpoint row promises."""

    NEW = "new"  # nothing was read yet
    SNAPSHOTTING = "snapshotting"  # slot and generation named; the next start begins the copy anew
    STREAMING = "streaming"  # the position is exact


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """One row of ``cdc.checkpoint``.

    ``transactions``: source commits received with a change of a mapped relation; ``changes``: such
    changes, before ``where`` and coalescing. Both are the oracle for double effect. ``position``:
    while copying, that of the slot that was made for it, once it is there.
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

    @property
    def slot_noted(self) -> bool:
        """Whether this row is known to have a slot; a copy that has only begun may or may not."""
        return self.position is not None or self.identity is None or self.identity.publication != ""
