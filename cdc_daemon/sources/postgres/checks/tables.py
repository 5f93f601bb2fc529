"""Checks of what is published: the mapped tables and the publication (``requirements.py``)."""

from __future__ import annotations

from collections.abc import Iterator

from cdc_daemon.model.findings import Check, Note, ok, problems
from cdc_daemon.sources.postgres.checks.examined import Examined
from cdc_daemon.sources.postgres.requirements import (
    identity_problems,
    missing,
    publication_problems,
)


def _columns(at: Examined) -> Iterator[Note]:
    found = missing(at.server.where, at.connection, at.asked, at.facts)
    yield from problems(found) or [ok(f"tables: {len(at.asked.tables)}")]


def _identity(at: Examined) -> Iterator[Note]:
    found = identity_problems(at.server.where, at.connection, at.asked, at.facts, at.publication)
    yield from problems(found) or [ok("every mapped table's rows are identified")]


def _publication(at: Examined) -> Iterator[Note]:
    found = publication_problems(
        at.server.where, at.asked, at.facts, at.publication, at.memberships
    )
    yield from problems(found) or [ok(f"{at.asked.publication} holds every mapped table")]


CHECKS = (
    Check(
        name="table.columns",
        title="Mapped tables and columns exist, are in the log and may be read",
        why="what is not in the log, or hidden from the role, would silently be missing",
        look=_columns,
    ),
    Check(
        name="table.identity",
        title="Something identifies the rows of every mapped table",
        why="without it, the application's own UPDATE and DELETE fail once the table is published",
        look=_identity,
    ),
    Check(
        name="publication.content",
        title="The publication publishes every mapped table, with all actions and columns",
        why="what is not published never arrives",
        look=_publication,
    ),
)
