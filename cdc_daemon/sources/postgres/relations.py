"""Descriptions of mapped tables: which columns are decoded, and what identifies a row.

Shared by the stream (Relation messages, which say how a table was at that point of the log) and the
catalogue (how it is now), so that both arrive at the same :class:`Relation` objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cdc_daemon.model.changes import Column, ColumnType, Relation, Replica
from cdc_daemon.model.errors import Stop, suggest
from cdc_daemon.model.ports import Table

REPLICAS = {"d": Replica.KEY, "i": Replica.KEY, "f": Replica.FULL, "n": Replica.NOTHING}
"""``pg_class.relreplident`` in neutral words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A table's published columns in the log's order: names, types, which identify a row.

    ``flagged`` are the columns that the log marks as the replica identity's.
    """

    schema: str
    table: str
    names: tuple[str, ...]
    types: tuple[ColumnType, ...]
    flagged: frozenset[str]
    replica: Replica


class Relations:
    """The mapped tables of one source and every description of them seen so far."""

    def __init__(self, source: str, tables: Iterable[Table]) -> None:
        self.source = source
        self.codec = ""  # by which texts are read; the catalogue says so
        self.tables = {(table.schema, table.name): table for table in tables}
        self._primary_keys: dict[tuple[str, str], tuple[str, ...]] = {}
        self._known: dict[object, Relation] = {}

    def learn_primary_key(self, schema: str, table: str, columns: Sequence[str]) -> None:
        """Take in the catalogue's primary key: under REPLICA IDENTITY FULL the log marks all."""
        self._primary_keys[schema, table] = tuple(columns)

    def describe(self, described: Described) -> tuple[Relation, tuple[int, ...]]:
        """The relation of a mapped table, and where its columns stand among the described ones.

        The same description gives the same object. Raises Stop when a mapped column is missing.
        """
        table = self.tables[described.schema, described.table]
        identity = self._identity(described, table)
        self._require(described, table.columns | identity)
        wanted = tuple(
            i for i, name in enumerate(described.names) if name in table.columns or name in identity
        )
        columns = tuple(Column(name=described.names[i], type=described.types[i]) for i in wanted)
        key = (table.schema, table.name, columns, identity, described.replica)
        relation = Relation(
            source=self.source,
            schema=table.schema,
            table=table.name,
            columns=columns,
            identity=tuple(i for i, column in enumerate(columns) if column.name in identity),
            replica=described.replica,
            codec=self.codec,
        )
        return self._known.setdefault(key, relation), wanted

    def _identity(self, described: Described, table: Table) -> frozenset[str]:
        """What identifies a row: what key-only tuples carry, else primary key, else the mapping."""
        if described.replica is Replica.KEY and described.flagged:
            return described.flagged
        key = self._primary_keys.get((table.schema, table.name))
        return frozenset(key or table.identity)

    def _require(self, described: Described, columns: frozenset[str]) -> None:
        missing = sorted(columns.difference(described.names))
        if missing:
            known = suggest(missing[0], described.names)
            raise Stop(
                f"{self.source}.{table_name(described)}: the log no longer carries the column "
                f"{missing[0]!r}{known}",
                hint="the table, or the publication's column list, was changed: "
                "change the mapping to the new columns or restore the old one",
            )


def table_name(described: Described) -> str:
    """``schema.table``."""
    return f"{described.schema}.{described.table}"
