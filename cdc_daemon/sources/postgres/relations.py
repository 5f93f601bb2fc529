"""Descriptions of mapped tables: which columns are decoded, and what identifies a row.

Shared by the stream (Relation messages, which say how a table was at that point of the log) and the
catalogue (how it is now), so that both arrive at the same :class:`Relation` objects.

A table is known by its oid, for its name in the log is the one of that moment: between two looks at
the catalogue it may have been renamed and renamed back, or its schema was.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cdc_daemon.model.changes import Column, ColumnType, Relation, Replica
from cdc_daemon.model.errors import RESNAPSHOT, PreflightRefusal, Problem, Stop, suggest
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What only the catalogue knows of a mapped table.

    ``columns``: the table's own order of them, by which rows are known; a partition may have
    another one. ``primary_key``: under REPLICA IDENTITY FULL the log marks every column. ``oid``: 0
    where only the name is known. ``leaves``: the partitions whose changes are the table's, by oid.
    ``replica`` and ``identity``: what the log must mark; None: whatever it does. ``alone`` and
    ``condition`` as in :class:`Relation`.
    """

    columns: tuple[str, ...] = ()
    primary_key: tuple[str, ...] = ()
    oid: int = 0
    leaves: frozenset[int] = frozenset()
    replica: Replica | None = None
    identity: frozenset[str] = frozenset()
    alone: bool = False
    condition: str = ""


NOTHING_KNOWN = Known()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Learnt:
    """What the catalogue said of the mapped tables; replaced as a whole."""

    facts: Mapping[tuple[str, str], Known] = field(default_factory=dict)
    by_oid: Mapping[int, Table] = field(default_factory=dict)

    def of(self, table: Table) -> Known:
        return self.facts.get((table.schema, table.name), NOTHING_KNOWN)


class Relations:
    """The mapped tables of one source and every description of them seen so far.

    One thread reads the log while another learns, so what was learnt is replaced in one step.
    ``newcomer`` is asked about an oid that nobody knows, with the transaction that changes it; it
    raises what must be done about a new partition of a mapped table.
    """

    def __init__(self, source: str, tables: Iterable[Table]) -> None:
        self.source = source
        self.codec = ""  # by which texts are read; the catalogue says so
        self.tables = {(table.schema, table.name): table for table in tables}
        self.newcomer: Callable[[int, int], None] | None = None
        self._learnt = _Learnt()
        self._known: dict[object, Relation] = {}

    def learn(self, found: Mapping[tuple[str, str], Known]) -> None:
        """Take in what the catalogue knows of mapped tables, by schema and name."""
        facts = {**self._learnt.facts, **found}
        by_oid = {
            oid: self.tables[name]
            for name, known in facts.items()
            if known.oid
            for oid in (known.oid, *known.leaves)
        }
        self._learnt = _Learnt(facts=facts, by_oid=by_oid)

    def mapped(self, oid: int, schema: str, name: str, xid: int = 0) -> Table | None:
        """The mapped table whose changes a relation carries that is described in transaction
        ``xid``; None: nobody wants them.

        Raises PreflightRefusal where another table has taken a mapped one's name.
        """
        learnt = self._learnt
        if oid in learnt.by_oid:
            return learnt.by_oid[oid]
        table = self.tables.get((schema, name))
        if table is not None and learnt.of(table).oid:
            raise self._refused(
                table,
                "in the log another table has its name by now: it was dropped and created again, "
                "or renamed",
            )
        if table is None and self.newcomer is not None:
            self.newcomer(oid, xid)
        return table

    def check_truncate(self, relation: Relation, oids: Collection[int]) -> None:
        """Raise PreflightRefusal unless all partitions are among the truncated tables: which rows
        were in a partition, nobody can tell afterwards."""
        table = self.tables[relation.schema, relation.table]
        leaves = self._learnt.of(table).leaves
        if left := len(leaves.difference(oids)):
            raise self._refused(
                table,
                f"{len(leaves) - left} of its {len(leaves)} partitions were truncated, and the log "
                "does not tell their rows",
                "in future DELETE from a partition, or TRUNCATE the whole table; now ",
            )

    def describe(
        self, described: Described, table: Table | None = None
    ) -> tuple[Relation, tuple[int, ...]]:
        """The relation of a mapped table, and where its columns stand among the described ones.

        ``table``: the mapped one, where it is not the one of the described name. The same
        description gives the same object. Raises Stop when a mapped column is missing,
        PreflightRefusal when another identity is marked than the catalogue's.
        """
        table = table or self.tables[described.schema, described.table]
        known = self._learnt.of(table)
        names = _identity(described, table, known)
        self._require(described, table.columns | names)
        self._same_identity(described, table, known)
        wanted = tuple(
            i for i, name in enumerate(described.names) if name in table.columns or name in names
        )
        columns = tuple(Column(name=described.names[i], type=described.types[i]) for i in wanted)
        identity = _positions(names, columns, known)
        extent = (known.alone, known.condition)
        key = (table.schema, table.name, columns, identity, described.replica, extent)
        relation = Relation(
            source=self.source,
            schema=table.schema,
            table=table.name,
            columns=columns,
            identity=identity,
            replica=described.replica,
            codec=self.codec,
            alone=known.alone,
            condition=known.condition,
        )
        return self._known.setdefault(key, relation), wanted

    def _same_identity(self, described: Described, table: Table, known: Known) -> None:
        """Rows are known by their identity: another one at this point of the log is a break."""
        if known.replica is None:
            return
        keyed = described.replica is Replica.KEY and known.replica is Replica.KEY
        if described.replica is known.replica and (
            not keyed or described.flagged == known.identity
        ):
            return
        raise self._refused(
            table, "in the log its primary key or replica identity is another one than before"
        )

    def _refused(self, table: Table, what: str, advice: str = "") -> PreflightRefusal:
        where = f"source {self.source}, table {table.schema}.{table.name}"
        cure = f"{advice}{RESNAPSHOT}"
        return PreflightRefusal([Problem(what=what, where=where, cure=cure)])

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


def _identity(described: Described, table: Table, known: Known) -> frozenset[str]:
    """What identifies a row: what key-only tuples carry, else primary key, else the mapping."""
    if described.replica is Replica.KEY and described.flagged:
        return described.flagged
    return frozenset(known.primary_key or table.identity)


def _positions(names: frozenset[str], columns: Sequence[Column], known: Known) -> tuple[int, ...]:
    """Where the identity's columns stand, in the table's own order: it is the order of a row's key
    in reference tables and lanes, for every partition."""
    found = [i for i, column in enumerate(columns) if column.name in names]
    order = {name: place for place, name in enumerate(known.columns)}
    return tuple(sorted(found, key=lambda i: order.get(columns[i].name, len(order) + i)))


def table_name(described: Described) -> str:
    """``schema.table``."""
    return f"{described.schema}.{described.table}"
