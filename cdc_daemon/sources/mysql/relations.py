"""Descriptions of mapped tables: which columns are decoded, and what identifies a row.

Shared by the log (table maps, which say how a table was at that point) and the catalogue (how it is
now), so that both arrive at the same :class:`Relation` objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cdc_daemon.model.changes import Column, ColumnType, Relation, Replica
from cdc_daemon.model.errors import RESNAPSHOT, PreflightRefusal, Problem, Stop, suggest
from cdc_daemon.model.ports import Table

_TEXTS = frozenset({"char", "varchar", "text", "other"})
_DATES = frozenset({"date", "timestamp", "timestamptz"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A table's columns in their order: names, neutral types, the primary key's.

    ``named``: whether the log tells names; without them nothing can be decoded.
    """

    schema: str
    table: str
    names: tuple[str, ...]
    types: tuple[ColumnType, ...]
    primary_key: tuple[str, ...]
    named: bool = True


class Relations:
    """The mapped tables of one source and every description of them seen so far.

    ``fold``: whether the server compares names of tables without regard to case
    (``lower_case_table_names`` 1 and 2).
    """

    def __init__(self, source: str, tables: Iterable[Table], *, fold: bool = False) -> None:
        self.source = source
        self.tables = {(table.schema, table.name): table for table in tables}
        self.fold = fold
        self._identities: dict[tuple[str, str], tuple[str, ...]] = {}
        self._known: dict[object, Relation] = {}
        self._newest: dict[tuple[str, str], Relation] = {}

    def read(self, tables: Iterable[Table]) -> None:
        """Take in which tables are read, and which of their columns."""
        self.tables = {(table.schema, table.name): table for table in tables}

    def learn(self, identities: Mapping[tuple[str, str], tuple[str, ...]]) -> None:
        """Take in by what the rows of mapped tables are known, as the catalogue says."""
        self._identities = {**self._identities, **identities}

    def mapped(self, schema: str, name: str) -> Table | None:
        """The mapped table of that name; None: nobody wants it."""
        found = self.tables.get((schema, name))
        if found is not None or not self.fold:
            return found
        folded = (schema.lower(), name.lower())
        for known, table in self.tables.items():
            if (known[0].lower(), known[1].lower()) == folded:
                return table
        return None

    def within(self, schema: str) -> list[Table]:
        """The mapped tables of a schema."""
        fold = str.lower if self.fold else str
        return [table for table in self.tables.values() if fold(table.schema) == fold(schema)]

    def newest(self, table: Table) -> Relation:
        """How the table was described last."""
        return self._newest[table.schema, table.name]

    def describe(self, described: Described, table: Table) -> tuple[Relation, tuple[int, ...]]:
        """The table's relation, and where its columns stand among the described ones.

        The same description gives the same object. Raises Stop where names are not told or a mapped
        column is missing, PreflightRefusal when a row has another identity than the catalogue says.
        """
        self._require_names(described, table)
        identity = described.primary_key or table.identity
        self._require(described, table, table.columns | set(identity))
        known = self._identities.get((table.schema, table.name), identity)
        if set(known) != set(identity):
            raise self.refused(table, "in the log its primary key is another one than before")
        wanted = tuple(
            i for i, name in enumerate(described.names) if name in table.columns or name in identity
        )
        columns = tuple(Column(name=described.names[i], type=described.types[i]) for i in wanted)
        relation = self._relation(table, columns, identity)
        self._newest[table.schema, table.name] = relation
        return relation, wanted

    def _relation(
        self, table: Table, columns: tuple[Column, ...], identity: Sequence[str]
    ) -> Relation:
        places = {column.name: i for i, column in enumerate(columns)}
        relation = Relation(
            source=self.source,
            schema=table.schema,
            table=table.name,
            columns=columns,
            identity=tuple(sorted(places[name] for name in identity)),
            replica=Replica.KEY,
            codec="utf-8" if any(map(_may_be_invalid, columns)) else "",
            mapped=table.mapped,
        )
        key = (table.schema, table.name, columns, relation.identity)
        return self._known.setdefault(key, relation)

    def refused(self, table: Table, what: str) -> PreflightRefusal:
        """What makes the rows that were copied useless."""
        where = f"source {self.source}, table {table.schema}.{table.name}"
        return PreflightRefusal([Problem(what=what, where=where, cure=RESNAPSHOT)])

    def _require_names(self, described: Described, table: Table) -> None:
        if not described.named:
            raise Stop(
                f"{self.source}.{table.schema}.{table.name}: the log does not tell the columns' "
                "names at this point",
                hint="SET GLOBAL binlog_row_metadata = 'FULL', then " + RESNAPSHOT,
            )

    def _require(self, described: Described, table: Table, columns: Iterable[str]) -> None:
        missing = sorted(set(columns).difference(described.names))
        if missing:
            known = suggest(missing[0], described.names)
            raise Stop(
                f"{self.source}.{table.schema}.{table.name}: the log no longer carries the column "
                f"{missing[0]!r}{known}",
                hint="the table was changed: change the mapping to the new columns or restore the "
                "old one",
            )


def _may_be_invalid(column: Column) -> bool:
    """Whether a value may be none: a zero date, a text that its character set does not have."""
    return column.type.name in _DATES or column.type.name in _TEXTS
