"""Every check of a PostgreSQL source, in the order in which they are shown, and how they are run.

One module a subject: ``server``, ``tables``, ``identity``, ``slot``. What they look at is read by
``examined``. Refusing a state in which changes would be skipped in silence is their first purpose.
"""

from __future__ import annotations

from typing import Final

from cdc_daemon.model.findings import Check, Finding, Verdict, run
from cdc_daemon.sources.postgres.checks import identity, server, slot, tables
from cdc_daemon.sources.postgres.checks.examined import Examined

__all__ = ["CHECKS", "Examined", "examine", "watch"]

CHECKS: Final[tuple[Check[Examined], ...]] = (
    server.VERSION,
    identity.CHECKPOINT,
    *server.CHECKS,
    *tables.CHECKS,
    *identity.CHECKS,
    *slot.CHECKS,
)
WATCHED: Final = tuple(check for check in CHECKS if check.watched)


def examine(at: Examined) -> list[Finding]:
    """The findings of all checks; of the first two only, where the server is too old for the rest,
    or the checkpoint no checkpoint."""
    found = run(CHECKS[:2], at, at.server.where, at.server.errors)
    if any(finding.verdict is Verdict.PROBLEM for finding in found):
        return found
    return found + run(CHECKS[2:], at, at.server.where, at.server.errors)


def watch(at: Examined) -> list[Finding]:
    """The findings of the watched checks."""
    return run(WATCHED, at, at.server.where, at.server.errors)
