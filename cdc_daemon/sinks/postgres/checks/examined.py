"""A control database as its checks see it: read when the first check asks, and then kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Final

from cdc_daemon.model.effects import Layout
from cdc_daemon.model.entities import Entity
from cdc_daemon.model.errors import Problem
from cdc_daemon.sinks.postgres.checkpoint import version_problem
from cdc_daemon.sinks.postgres.live import LiveTable, Place, live_tables
from cdc_daemon.sinks.postgres.names import LEDGER, quote
from cdc_daemon.sinks.postgres.session import Connection, place
from cdc_daemon.sinks.postgres.used import used_tables

_SETTINGS: Final = (
    "client_encoding",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "fsync",
    "full_page_writes",
    "search_path",
    "server_encoding",
    "server_version",
    "statement_timeout",
    "synchronous_commit",
    "transaction_timeout",
)
_READ_SETTINGS: Final = """
    SELECT w.name, pg_catalog.current_setting(w.name, true)
      FROM pg_catalog.unnest(%s::text[]) AS w (name)"""


class Examined:
    """A control database that is being examined over an open connection with our settings."""

    def __init__(
        self,
        connection: Connection,
        conninfo: Mapping[str, str],
        entities: Mapping[str, Entity],
        layouts: Sequence[Layout],
        schema: str,
    ) -> None:
        self.connection = connection
        self.conninfo = conninfo
        self.entities = entities
        self.layouts = layouts
        self.schema = schema

    @property
    def where(self) -> str:
        """The database, for messages."""
        return f"target ({place(self.conninfo)})"

    @property
    def role(self) -> str:
        """The daemon's role, quoted for SQL that cures something."""
        return quote(self.connection.info.user)

    @cached_property
    def settings(self) -> dict[str, str]:
        """Settings of our session; those that this version lacks are empty."""
        rows = self.connection.execute(_READ_SETTINGS, (list(_SETTINGS),))
        return {name: shown or "" for name, shown in rows}

    @cached_property
    def ledger(self) -> Problem | None:
        """What is wrong with the ledger as a whole."""
        return version_problem(self.connection)

    @cached_property
    def places(self) -> list[Place]:
        """Every table that a worker uses; only the entities' where there is no ledger."""
        found = used_tables(self.entities, self.layouts, self.schema)
        return [place for place in found if self.ledger is None or place[0] != LEDGER]

    @cached_property
    def tables(self) -> Mapping[Place, LiveTable]:
        """Those of them that exist, as they are."""
        return live_tables(self.connection, self.places)
