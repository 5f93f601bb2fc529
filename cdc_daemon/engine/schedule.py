"""When a parked change is tried again by itself: by its error class and how often it was tried."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Seconds until the first try, at most between two, and how many tries, the one that parked
    it among them (None: any number)."""

    first: float
    most: float
    tries: int | None = None


DEFAULTS: Mapping[str, Backoff] = {
    "reference_missing": Backoff(first=60.0, most=3600.0),
    "reference_unresolved": Backoff(first=60.0, most=3600.0),
    "still_referenced": Backoff(first=60.0, most=3600.0),
    "duplicate_entity_key": Backoff(first=60.0, most=3600.0),
}
"""What may cure itself; everything else waits for somebody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """By error class; ``by_class`` goes before the defaults."""

    by_class: Mapping[str, Backoff] = field(default_factory=dict)
    dice: Callable[[], float] = random.random

    def delay(self, code: str, attempts: int) -> float | None:
        """Seconds after which to try again what has been tried so often; None: it is left to
        somebody. Doubling, with up to a quarter more, so that not all come at once."""
        backoff = self.by_class.get(code) or DEFAULTS.get(code)
        if backoff is None or (backoff.tries is not None and attempts >= backoff.tries):
            return None
        doubled = backoff.first * 2.0 ** min(attempts - 1, 30)
        return min(doubled, backoff.most) * (1 + self.dice() / 4)
