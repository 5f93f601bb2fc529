"""Every check of a control database on PostgreSQL, in the order in which they are shown.

``server``: the server and the way to it; ``tables``: ledger and entity tables. What they look at is
read by ``examined``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from cdc_daemon.model.findings import Check, Finding, Verdict, run
from cdc_daemon.sinks.postgres.checks import server, tables
from cdc_daemon.sinks.postgres.checks.examined import Examined
from cdc_daemon.sinks.postgres.errors import translate

__all__ = ["CHECKS", "Examined", "examine", "watch"]

CHECKS: Final[tuple[Check[Examined], ...]] = (server.VERSION, *server.CHECKS, *tables.CHECKS)
WATCHED: Final = tuple(check for check in CHECKS if check.watched)


def examine(at: Examined) -> list[Finding]:
    """The findings of all checks; of the first only, where the server is too old for the rest."""
    found = run([server.VERSION], at, at.where, _errors)
    if any(finding.verdict is Verdict.PROBLEM for finding in found):
        return found
    return found + run(CHECKS[1:], at, at.where, _errors)


def watch(at: Examined) -> list[Finding]:
    """The findings of the watched checks."""
    return run(WATCHED, at, at.where, _errors)


@contextmanager
def _errors(doing: str) -> Iterator[None]:
    del doing  # the sink's errors say what failed themselves
    try:
        yield
    except psycopg.Error as exc:
        raise translate(exc) from exc
