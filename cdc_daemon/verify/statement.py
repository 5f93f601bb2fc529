"""The two statements of one mapping: its rows as the source has them, and as the target has them.

Both give text columns in the same order, ordered by the entity key as text, byte by byte. A source
statement reads ``identity columns, reason, dangling, attributes``, a target statement
``attributes``; in both the key's attributes stand first. ``reason`` says why the mapping cannot
carry a row, ``dangling`` names the attributes whose ``ref`` leads nowhere now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cdc_daemon.config.configuration import Configuration
from cdc_daemon.config.schema import MappingConfig
from cdc_daemon.model.changes import Relation
from cdc_daemon.model.entities import Attribute, Entity
from cdc_daemon.sinks.postgres.names import DELETED_AT, literal, qualified, quote
from cdc_daemon.verify.attribute import Dialect, attribute_sql, comparable, expression_sql


@dataclass(frozen=True, slots=True, kw_only=True)
class Excluded:
    """Rows of one table, or partition, by their place in the current snapshot."""

    table: int  # oid
    places: tuple[str, ...]  # ctid


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStatement:
    """One mapping's SELECT on its source. ``columns``: names in the statement's result."""

    relation: Relation
    attributes: tuple[Attribute, ...]
    keys: int
    inner: str
    outer: str
    where: str

    @property
    def identities(self) -> int:
        """How many identity columns each row begins with."""
        return len(self.relation.identity)

    def rows(
        self, *, of: str | None = None, excluded: Sequence[Excluded] = (), only: str = ""
    ) -> str:
        """The rows without order. ``of``: another table in place of the mapping's (a partition).
        ``only``: a condition on the table's rows ``t0``; ``excluded``: rows not to look at."""
        table = of or table_of(self.relation)
        source = f"{table} AS t0"
        looked_at = [self.relation.condition] if self.relation.condition else []
        looked_at += [only] if only else []
        looked_at += [f"NOT {_stands(one)}" for one in excluded]
        if looked_at:  # before anything is computed from a row
            condition = " AND ".join(looked_at)
            source = f"(SELECT t0.* FROM {table} AS t0 WHERE {condition} OFFSET 0) AS t0"
        where = f" WHERE {self.where}" if self.where else ""
        return (
            f"SELECT {self.outer} FROM"
            f" (SELECT {self.inner} FROM {source}{where} OFFSET 0) AS s0 OFFSET 0"
        )

    def ordered(
        self, *, excluded: Sequence[Excluded] = (), among: str = "", encoding: str = "UTF8"
    ) -> str:
        """The rows in key order; ``among``: a set of keys to be found, as :func:`key_set`."""
        found = f"SELECT * FROM ({self.rows(excluded=excluded)}) AS v"
        if among:
            found += f" WHERE ({_names(self.keys)}) IN ({among})"
        return f"{found} ORDER BY {order(self.keys, encoding)}"

    def probe(self, *, of: str, only: str) -> str:
        """Computes every value of some rows, also as UTF-8, and gives nothing away."""
        values = [f"v.i{n}" for n in range(self.identities)]
        values += [f"v.a{n}" for n in range(len(self.attributes))]
        counted = [f"pg_catalog.count(pg_catalog.convert_to({value}, 'UTF8'))" for value in values]
        counted += ["pg_catalog.count(v.reason)", "pg_catalog.count(v.dangling)"]
        return f"SELECT {', '.join(counted)} FROM ({self.rows(of=of, only=only)}) AS v"

    def found(self, *, of: str, only: str) -> str:
        """Identity of rows from which nothing else can be computed; as bytes where a database
        takes any."""
        names = [self.relation.columns[i].name for i in self.relation.identity]
        texts = [_text(f"t0.{quote(name)}") for name in names]
        if self.relation.codec:
            texts = [f"pg_catalog.convert_to({text}, 'SQL_ASCII')" for text in texts]
        return f"SELECT {', '.join(texts)} FROM {of} AS t0 WHERE {only}"


def source_statement(
    dialect: Dialect, mapping: MappingConfig, *, only_key: bool = False
) -> SourceStatement:
    """Compile a mapping to SQL on its source; with ``only_key`` no other attribute is computed."""
    relation = dialect.relation_of(mapping)
    attributes = mapped_attributes(dialect.configuration, mapping)
    if only_key:
        attributes = attributes[: len(mapping.key)]
    identity = [relation.columns[i].name for i in relation.identity]
    inner = [f"{_text(f't0.{quote(name)}')} AS i{n}" for n, name in enumerate(identity)]
    values: list[str] = []
    reasons: list[str] = []
    dangling: list[str] = []
    bases = 0
    keys = len(mapping.key)
    for n, attribute in enumerate(attributes):
        found = attribute_sql(dialect, mapping, attribute, bases)
        inner += [f"{sql} AS b{bases + i}" for i, sql in enumerate(found.bases)]
        bases += len(found.bases)
        value = comparable(attribute.type, found.value) if n < keys else found.value
        values.append(f"{value} AS a{n}")
        reasons += [
            f"WHEN {condition} THEN {literal(f'{attribute.name}: {code}')}"
            for condition, code in found.reasons
        ]
        if found.dangling:
            dangling.append(f"CASE WHEN {found.dangling} THEN {literal(attribute.name)} END")
    names = f"pg_catalog.concat_ws(',', {', '.join(dangling)})" if dangling else "NULL::text"
    reason = f"CASE {' '.join(reasons)} END" if reasons else "NULL::text"
    identities = [f"s0.i{n}" for n in range(len(identity))]
    nulls = dialect.configuration.sources[mapping.source].nulls.text
    where = expression_sql(mapping.where, relation, nulls)[0] if mapping.where else ""
    return SourceStatement(
        relation=relation,
        attributes=attributes,
        keys=keys,
        inner=", ".join(inner) or "1 AS one",
        outer=", ".join([*identities, f"{reason} AS reason", f"{names} AS dangling", *values]),
        where=where,
    )


def mapped_attributes(
    configuration: Configuration, mapping: MappingConfig
) -> tuple[Attribute, ...]:
    """The attributes that a mapping fills, the key's first and in key order."""
    entity = configuration.entities[mapping.to]
    others = [a for a in entity.attributes if a.name in mapping.fields]
    return (*(entity.attribute(name) for name in entity.key), *others)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetStatement:
    """One entity's SELECT on the control database: its living rows."""

    entity: Entity
    attributes: tuple[Attribute, ...]
    schema: str

    @property
    def keys(self) -> int:
        """How many attributes the key has."""
        return len(self.entity.key)

    def ordered(self, *, among: str = "", encoding: str = "UTF8") -> str:
        """The rows in key order; ``among``: a set of keys to be found."""
        values = ", ".join(
            f"{self._value(attribute, n < self.keys)} AS a{n}"
            for n, attribute in enumerate(self.attributes)
        )
        table = qualified(self.schema, self.entity.name)
        living = f" WHERE t.{quote(DELETED_AT)} IS NULL" if self.entity.soft_delete else ""
        found = f"SELECT * FROM (SELECT {values} FROM {table} AS t{living}) AS v"
        if among:
            found += f" WHERE ({_names(self.keys)}) IN ({among})"
        return f"{found} ORDER BY {order(self.keys, encoding)}"

    def _value(self, attribute: Attribute, key: bool) -> str:
        column = f"t.{quote(attribute.name)}"
        return comparable(attribute.type, column) if key else f"({column})::text"


def table_of(relation: Relation) -> str:
    """A relation's table in FROM, without what inherits from it."""
    only = "ONLY " if relation.alone else ""
    return f"{only}{qualified(relation.schema, relation.table)}"


def key_set(keys: Sequence[Sequence[bytes]], width: int) -> str:
    """Keys as a set of rows in SQL."""
    columns = ", ".join(
        f"pg_catalog.unnest(ARRAY[{', '.join(literal(key[n].decode()) for key in keys)}]::text[])"
        for n in range(width)
    )
    names = ", ".join(f"k{n}" for n in range(width))
    return f"SELECT * FROM ROWS FROM ({columns}) AS k ({names})"


def order(keys: int, encoding: str) -> str:
    """ORDER BY the key's texts, by their bytes in UTF-8."""
    if encoding == "UTF8":
        return ", ".join(f'v.a{n} COLLATE "C" NULLS FIRST' for n in range(keys))
    return ", ".join(f"pg_catalog.convert_to(v.a{n}, 'UTF8') NULLS FIRST" for n in range(keys))


def stands_in(pages: tuple[int, int]) -> str:
    """The condition on ``t0`` that a row stands in a range of pages."""
    low, high = pages
    return f"t0.ctid >= '({low},0)'::tid AND t0.ctid < '({high},0)'::tid"


def is_one_of(places: Sequence[str]) -> str:
    """The condition on ``t0`` that a row stands in one of these places."""
    return f"t0.ctid = ANY (ARRAY[{', '.join(map(literal, places))}]::tid[])"


def _stands(excluded: Excluded) -> str:
    return f"(t0.tableoid = {excluded.table} AND {is_one_of(excluded.places)})"


def _names(keys: int) -> str:
    return ", ".join(f'v.a{n} COLLATE "C"' for n in range(keys))


def _text(column: str) -> str:
    """A column's text as the log has it."""
    return f"CASE WHEN {column} IS DISTINCT FROM NULL THEN pg_catalog.concat({column}) END"
