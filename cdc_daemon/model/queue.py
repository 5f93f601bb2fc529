"""The failure queue: what stands in it, and how a unit of work changes it.

Not in here: which changes are meant (selection), and how it is read (ports).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from cdc_daemon.model.effects import Parked
from cdc_daemon.model.selection import Selection

PARKED = Selection()
"""All parked changes."""

Settled = Literal["replayed", "skipped", "resynced"]
"""What becomes of a parked change: ``selection.STATES`` but the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One row of the failure queue, as shown and as replayed."""

    id: int
    pipeline: str
    mapping: str
    entity: str
    table: str
    operation: str
    position: str
    sequence: int
    commit_time: dt.datetime | None
    parked_at: dt.datetime
    error_code: str
    error_message: str
    attempts: int
    state: str  # one of selection.STATES
    payload: dict[str, object]
    mapping_version: str
    lanes: tuple[bytes, ...]
    awaits: tuple[bytes, ...] = ()
    retry_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """What an administrator replaced in a parked change: ``payload`` is the one before."""

    failure: int
    edited_at: dt.datetime
    actor: str
    reason: str
    payload: dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A payload of the failure queue: of a change in whatever state, or, with the number ``edit``,
    the one before an edit of it."""

    pipeline: str
    failure: int
    edit: int | None
    table: str
    payload: dict[str, object]


class FailureQueue(Protocol):
    """The failure queue of one pipeline, in an open unit of work."""

    def park(self, parked: Sequence[Parked]) -> None:
        """Put changes into the failure queue, in this order, and block their lanes."""

    def settle(
        self, failure: int, state: Settled, *, actor: str, reason: str | None = None
    ) -> None:
        """A parked change took effect in this unit, was given up by an administrator, or its row
        was written as the source has it now. Its lanes open where nothing else waits, and what
        stands next in each is due."""

    def attempted(
        self,
        failure: int,
        *,
        code: str,
        message: str,
        retry_at: dt.datetime | None = None,
        awaits: Sequence[bytes] = (),
        version: str | None = None,
    ) -> None:
        """A replay failed again: one more attempt, the new error kept.

        ``retry_at``: when it is tried again by itself; None: it is not. ``awaits``: as in
        :class:`Parked`. ``version``: of the mapping it was tried with; None: as it is.
        """

    def arrived(self, digests: Sequence[bytes]) -> None:
        """Rows came that parked changes may wait for: whoever waits for one is due now."""

    def put_off(self, failures: Sequence[int]) -> None:
        """These are no longer due: they stand behind others, which make them due."""

    def due_by_mapping(self, mapping: str, version: str) -> int:
        """Parked changes that were tried with another version of the mapping only are due now;
        their number."""

    def edited(
        self,
        failure: int,
        payload: Mapping[str, object],
        lanes: Sequence[bytes],
        *,
        actor: str,
        reason: str,
    ) -> None:
        """Give a parked change another payload and the lanes it blocks with that (16-byte digests);
        the payload before is kept as an :class:`Edit`."""

    def reseal(self, kept: Kept, payload: Mapping[str, object]) -> None:
        """The same payload of a change, or of an edit of it, with its values sealed anew."""

    def trip(self, reason: str) -> None:
        """Note that the breaker has stopped the pipeline, and why."""

    def resume(self, seconds: float) -> bool:
        """The pipeline goes on, and for so long the breaker does not stop it again; whether it had
        stopped it."""

    def supersede(self, mapping: str) -> int:
        """A truncate undid every parked change of the mapping; their number. Their lanes open."""
