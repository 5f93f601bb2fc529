"""The control database as verification reads it, whichever kind it is.

What a target prints as a key is what ``comparable`` prints of it at a source, byte for byte, and
rows come in the order of those bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from cdc_daemon.config.schema import TargetConfig
from cdc_daemon.model.effects import Key, Layout
from cdc_daemon.model.entities import Attribute, Entity
from cdc_daemon.verify.reading import Texts
from cdc_daemon.verify.target_postgres import PostgresReader
from cdc_daemon.verify.target_sqlite import SqliteReader


class TargetReader(Protocol):
    """An open control database; reads only. Its errors are ours: Unreachable, Retryable, Stop."""

    def check(self) -> None:
        """Refuse a ledger that is missing or of another version. Raises ConfigurationError."""

    def snapshot(self) -> AbstractContextManager[None]:
        """Everything read inside is of one moment."""

    def lanes(self, pipeline: str) -> set[bytes]:
        """Digests of the pipeline's blocked lanes."""

    def progress(self, pipeline: str) -> tuple[str | None, bool, bool]:
        """The checkpoint's position, whether it streams, and whether a worker holds it now."""

    def rows(
        self, entity: Entity, attributes: Sequence[Attribute], keys: Sequence[Key] | None = None
    ) -> Iterator[Texts]:
        """Living rows in key order, the key's attributes first; only of these keys where given."""

    def identities(self, layout: Layout, keys: Sequence[Key]) -> Iterator[tuple[Key, Texts]]:
        """Entity key and source key of those keys that the mapping's reference table names."""

    def tombstones(self, entity: Entity, keys: Sequence[bytes]) -> list[bytes]:
        """Those of these keys (of one part) whose rows are deleted softly."""

    def meant(self, layout: Layout, value: bytes) -> bytes | None:
        """The entity key that a source id of one part stands for; None: not known (yet)."""

    def row(
        self, entity: Entity, key: Sequence[bytes | None], names: Sequence[str]
    ) -> Texts | None:
        """These columns of the row with that key, as text; None where there is none."""

    def close(self) -> None:
        """Close; never raises."""


def open_target(target: TargetConfig) -> TargetReader:
    """The configured control database. Raises Unreachable, ConfigurationError."""
    match target.kind:
        case "sqlite":
            return SqliteReader(target.path)
        case "mysql":
            from cdc_daemon.verify.target_mysql import MysqlReader

            return MysqlReader(target.conninfo)
        case "postgresql":
            return PostgresReader(target.conninfo, target.schema_)
