"""What the contract suite needs of a control database: a sink, and a look at what it wrote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cdc_daemon.model.effects import Key, Layout
from cdc_daemon.model.ports import Control, Sink

Found = tuple[bytes | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alteration:
    """What an administrator may do to an entity's table: ALTER TABLE, and the way back.

    ``sqlite``: the column's addition, or the table's constraint, with which SQLite's table is made
    anew; ``mysql``: the same as on PostgreSQL. None where a database has no such thing.
    """

    postgres: str
    back: str
    sqlite: tuple[str, str] | str | None
    mysql: tuple[str, str] | None


class Target(Protocol):
    """One control database with tables for its entities; values are read back as text."""

    def sink(self, pipeline: str = "erp", *, instance: str = "here") -> Sink:
        """A sink that holds nothing yet; closed after the test."""

    def control(self) -> Control:
        """The command line's view; closed after the test."""

    def living(self, layout: Layout) -> dict[Key, Found]:
        """Rows that are not tombstones, by entity key, in the layout's columns."""

    def tombstones(self, layout: Layout) -> dict[Key, tuple[Found, int]]:
        """Tombstones with their time of deletion (µs since 1970)."""

    def references(self, layout: Layout) -> dict[Key, Key]:
        """The mapping's reference table."""

    def age(self, layout: Layout, key: Key) -> None:
        """Make a row as old as if an earlier generation had written it."""

    @property
    def embedded(self) -> bool:
        """Whether one writer at a time has the whole database, until its unit ends."""

    @property
    def earliest(self) -> bytes:
        """A timestamp of the first year that it can hold, as the log has it."""

    def knows(self, change: Alteration) -> bool:
        """Whether there is such a thing here."""

    def alter(self, layout: Layout, change: Alteration, *, back: bool = False) -> None:
        """Alter the entity's table, which is empty, or undo that."""

    def forget_holder_for(self, pipeline: str, seconds: int) -> None:
        """Make the holder's last sign of life so old."""

    def take_over(self, pipeline: str) -> Sink:
        """Another instance takes the pipeline, and cannot end the former holder's session."""

    def count(self, table: str) -> int:
        """Rows of a table of the ledger."""

    def clear(self, *, ledger: bool = False) -> None:
        """Empty entity and reference tables, and the rest of the ledger too where asked."""

    def close(self) -> None:
        """Close the sinks and controls that were made."""
