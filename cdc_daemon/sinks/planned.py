"""What ``plan`` shows and ``apply`` does, whichever database it is for."""

from __future__ import annotations

from dataclasses import dataclass

from cdc_daemon.model.errors import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One step of a plan: what it does, in words and in SQL."""

    description: str
    sql: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Ordered changes, and what only a person can put right."""

    changes: tuple[Change, ...]
    refusals: tuple[Problem, ...]
