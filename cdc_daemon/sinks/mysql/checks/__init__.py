"""Every check of a control database on MySQL or MariaDB, in the order in which they are shown.

``server``: the server and the way to it; ``tables``: ledger and entity tables. What they look at is
read by ``examined``. Names and titles are those of the checks on PostgreSQL where they ask the
same.
"""

from __future__ import annotations

from typing import Final

from cdc_daemon.model.findings import Check, Finding, Verdict, run
from cdc_daemon.sinks.mysql.checks import server, tables
from cdc_daemon.sinks.mysql.checks.examined import Examined
from cdc_daemon.sinks.mysql.session import translated

__all__ = ["CHECKS", "Examined", "examine", "watch"]

CHECKS: Final[tuple[Check[Examined], ...]] = (server.VERSION, *server.CHECKS, *tables.CHECKS)
WATCHED: Final = tuple(check for check in CHECKS if check.watched)


def examine(at: Examined) -> list[Finding]:
    """The findings of all checks; of the first only, where the server is too old for the rest."""
    found = run([server.VERSION], at, at.where, lambda _: translated())
    if any(finding.verdict is Verdict.PROBLEM for finding in found):
        return found
    return found + run(CHECKS[1:], at, at.where, lambda _: translated())


def watch(at: Examined) -> list[Finding]:
    """The findings of the watched checks."""
    return run(WATCHED, at, at.where, lambda _: translated())
