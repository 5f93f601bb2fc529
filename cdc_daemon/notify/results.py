"""How an attempt to deliver ended. Words in here never hold a secret, nor an address beyond its
host."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The service took it; ``answer``: what it said."""

    answer: str = "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """Not now; ``after``: seconds that the service wants to be left alone; None: it did not say."""

    reason: str
    after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Not like this: another try helps only after somebody has changed something."""

    reason: str
    cure: str = ""

    def __str__(self) -> str:
        return f"{self.reason} ({self.cure})" if self.cure else self.reason


Result: TypeAlias = Delivered | Deferred | Refused

LONGEST_QUOTE = 200


def quoted(text: object) -> str:
    """A service's own words, on one line and not too many."""
    shown = "".join(c if c.isprintable() else " " for c in str(text))
    return shown[:LONGEST_QUOTE]


def fields(body: bytes) -> dict[str, Any]:
    """A JSON object; empty for anything else."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def number(value: object) -> int | None:
    """A code as a number; None for none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return int(value) if isinstance(value, str) and value.lstrip("-").isdecimal() else None
