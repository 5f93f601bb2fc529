"""What monitoring is told of a pipeline's failure queue: what it holds, and what was retried."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any


class FailureTally:
    """``entities``: by mapping, its entity."""

    def __init__(self, entities: Mapping[str, str]) -> None:
        self._entities = entities
        self._replays: dict[tuple[str, str, str, str], int] = {}
        self.holds({})

    @property
    def parked(self) -> int:
        """How many changes the queue holds."""
        return sum(self._parked.values())

    def holds(
        self,
        rows: Mapping[tuple[str, str], int],
        *,
        oldest: dt.datetime | None = None,
        lanes: int = 0,
    ) -> None:
        """What the queue holds now, by mapping and error, and how many lanes it blocks."""
        self._parked = dict.fromkeys(self._entities, 0)
        self._errors: dict[tuple[str, str, str], int] = {}
        for (mapping, code), number in rows.items():
            self._parked[mapping] = self._parked.get(mapping, 0) + number
            self._errors[mapping, self._entities.get(mapping, ""), code] = number
        self._since = oldest.timestamp() if oldest is not None else None
        self._lanes = lanes

    def replayed(self, mapping: str, code: str, *, applied: bool) -> None:
        """A parked change was tried again. ``code``: the error class that it was parked with."""
        result = "applied" if applied else "failed"
        key = (mapping, self._entities.get(mapping, ""), code, result)
        self._replays[key] = self._replays.get(key, 0) + 1

    def fields(self) -> dict[str, Any]:
        """These fields of a ``WorkerStatus``."""
        return {
            "parked": self._parked.copy(),
            "parked_errors": self._errors.copy(),
            "parked_since": self._since,
            "replays": self._replays.copy(),
            "blocked_lanes": self._lanes,
        }
