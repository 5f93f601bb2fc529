"""Every check of a MySQL or MariaDB source, in the order in which they are shown, and how they run.

One module a subject: ``server``, ``log``, ``tables``, ``place``. What they look at is read by
``examined``. Refusing a state in which changes would be skipped in silence is their first purpose.
"""

from __future__ import annotations

from typing import Final

from cdc_daemon.model.findings import Check, Finding, Verdict, run
from cdc_daemon.sources.mysql.checks import log, place, server, tables
from cdc_daemon.sources.mysql.checks.examined import Examined

__all__ = ["CHECKS", "Examined", "examine", "watch"]

CHECKS: Final[tuple[Check[Examined], ...]] = (
    server.VERSION,
    place.CHECKPOINT,
    *server.CHECKS,
    *log.CHECKS,
    *tables.CHECKS,
    *place.CHECKS,
)
WATCHED: Final = tuple(check for check in CHECKS if check.watched)


def examine(at: Examined) -> list[Finding]:
    """The findings of all checks; of the first two only, where the server is too old for the rest,
    or the checkpoint no checkpoint."""
    found = run(CHECKS[:2], at, at.where, at.errors)
    if any(finding.verdict is Verdict.PROBLEM for finding in found):
        return found
    return found + run(CHECKS[2:], at, at.where, at.errors)


def watch(at: Examined) -> list[Finding]:
    """The findings of the watched checks."""
    return run(WATCHED, at, at.where, at.errors)
