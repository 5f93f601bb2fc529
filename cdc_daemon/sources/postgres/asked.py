"""What a source is configured to read."""

from __future__ import annotations

from dataclasses import dataclass, field

from cdc_daemon.model.ports import Table
from cdc_daemon.sources.postgres.catalog import Descendant
from cdc_daemon.sources.postgres.partitions import Places


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a source is configured to read, and what it knows of partitions by now."""

    slot: str
    publication: str
    tables: tuple[Table, ...]
    places: Places = field(default_factory=Places, compare=False)

    names: frozenset[tuple[str, str]] = field(init=False, default=frozenset(), compare=False)

    def __post_init__(self) -> None:
        names = frozenset((table.schema, table.name) for table in self.tables)
        object.__setattr__(self, "names", names)

    def maps(self, found: Descendant) -> bool:
        """Whether a table is mapped itself."""
        return (found.schema, found.name) in self.names
