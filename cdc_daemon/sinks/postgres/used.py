"""The tables that a worker uses, and what it must be allowed there: no more, and never DDL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cdc_daemon.model.effects import Layout
from cdc_daemon.model.entities import Entity
from cdc_daemon.sinks.postgres import ledger
from cdc_daemon.sinks.postgres.live import Place
from cdc_daemon.sinks.postgres.names import LEDGER

RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")


def used_tables(
    entities: Mapping[str, Entity], layouts: Sequence[Layout], schema: str
) -> list[Place]:
    """Every table that a worker uses."""
    references = [(LEDGER, layout.reference.name) for layout in layouts if layout.reference]
    own = [(LEDGER, name) for name in ledger.TABLES]
    return own + references + [(schema, name) for name in entities]


def needed(home: str, name: str) -> frozenset[str]:
    """What a worker has to be allowed on a table."""
    return frozenset({"SELECT"} if (home, name) == (LEDGER, "meta") else RIGHTS)
