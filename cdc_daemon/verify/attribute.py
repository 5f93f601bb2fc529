"""One attribute as SQL on the source: what mapping/fields does to a row's values, said once more.

An attribute has *bases*, columns that a first SELECT computes from the table's own (so that each
is evaluated once), and a *value* over them: text, NULL where the mapping rejects the row, together
with the conditions under which it does. Order of steps: trim, NULL texts, then map or conversion;
the default stands for NULL and for what the map does not list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from cdc_daemon.config.configuration import Configuration
from cdc_daemon.config.schema import FieldConfig, MappingConfig
from cdc_daemon.mapping.conversion_rule import INTEGERS, TEXTS
from cdc_daemon.mapping.convert import conversion
from cdc_daemon.mapping.expression import parse
from cdc_daemon.mapping.map_keys import map_keys, prints_alike
from cdc_daemon.model.changes import ColumnType, Relation
from cdc_daemon.model.entities import Attribute, EntityType, Kind
from cdc_daemon.model.errors import ConfigurationError
from cdc_daemon.sinks.postgres.names import column_type, literal, qualified, quote
from cdc_daemon.verify.any_bytes import is_text, kept
from cdc_daemon.verify.rejection import Reason, rejections

_TEXT = ColumnType("text")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeSql:
    """``bases``: over the table's columns, named ``b<number>`` in this order from ``first`` on.
    ``value``: text over the bases. ``reasons``: conditions that reject the row, with their codes.
    ``dangling``: the condition that a ``ref`` means a row that its mapping does not carry (now)."""

    attribute: Attribute
    bases: tuple[str, ...]
    value: str
    reasons: tuple[Reason, ...]
    dangling: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What compiling needs to know: the configuration, tables as they are, the server's version."""

    configuration: Configuration
    relation_of: Callable[[MappingConfig], Relation]
    version: int


def attribute_sql(
    dialect: Dialect, mapping: MappingConfig, attribute: Attribute, first: int = 0, depth: int = 0
) -> AttributeSql:
    """Compile one attribute. The table goes by ``t<depth>``, its bases by ``s<depth>.b<n>``."""
    config = mapping.origins[attribute.name]
    compiler = _Compiler(dialect, mapping, attribute, config, first, depth)
    if config.is_const:
        found = compiler.const()
    elif config.expr is not None:
        found = compiler.expression()
    elif config.ref is not None:
        found = compiler.reference()
    else:
        found = compiler.column()
    if not (attribute.required or attribute.name in mapping.key):
        return found
    missing = f"({found.value}) IS NULL"
    if found.dangling:
        missing = f"NOT ({found.dangling}) AND {missing}"
    return replace(found, reasons=(*found.reasons, (missing, "required")))


def expression_sql(
    text: str, relation: Relation, nulls: Iterable[str], depth: int = 0
) -> tuple[str, ColumnType]:
    """An expression as PostgreSQL's SQL over the columns of ``t<depth>``, and its type.

    ``nulls``: texts that mean NULL in the source's text columns.
    """
    types = {column.name: column.type for column in relation.columns}
    expression = parse(text)
    sql = expression.sql(lambda name: f"t{depth}.{quote(name)}", types, _encoded(nulls))
    return f"({sql})", expression.check(types)


def _encoded(texts: Iterable[str]) -> frozenset[bytes]:
    return frozenset(text.encode() for text in texts)


def comparable(type_: EntityType, value: str) -> str:
    """A value (SQL of any type) as the same text on every server, to order and to join by."""
    if type_.kind in (Kind.STRING, Kind.TEXT):
        return f"({value})::text"
    typed = f"({value})::{column_type(type_)}"
    if type_.kind is Kind.NUMERIC:
        return f"pg_catalog.trim_scale({typed})::text"
    if type_.kind is Kind.DOUBLE:
        return f"({typed} + 0.0)::text"  # -0 is 0
    return f"({typed})::text"


class _Compiler:
    def __init__(
        self,
        dialect: Dialect,
        mapping: MappingConfig,
        attribute: Attribute,
        config: FieldConfig,
        first: int,
        depth: int,
    ) -> None:
        self.dialect = dialect
        self.mapping = mapping
        self.relation = dialect.relation_of(mapping)
        self.attribute = attribute
        self.config = config
        self.first = first
        self.depth = depth
        nulls = dialect.configuration.sources[mapping.source].nulls
        self.text_nulls, self.reference_nulls = nulls.text, nulls.integer

    def const(self) -> AttributeSql:
        """The same value in every row."""
        return self._result((), self._constant(self.config.const), [])

    def expression(self) -> AttributeSql:
        """An expression over the row's columns; NULL texts are NULL in it."""
        assert self.config.expr is not None
        sql, type_ = expression_sql(self.config.expr, self.relation, self.text_nulls, self.depth)
        base = _bytewise(sql) if type_.name in TEXTS else sql
        return self._converted(base, _TEXT if type_.name in TEXTS else type_)

    def column(self) -> AttributeSql:
        """A column: trim, NULL texts, then map or conversion."""
        column, type_ = self._column(self.config.column or "")
        if self.config.map is not None:
            printed = f"pg_catalog.trim_scale({column})" if prints_alike(type_) else column
            return self._mapped(self._cleaned(self._log_text(printed, type_), type_), type_)
        if type_.name in TEXTS or type_.name == "other":
            text = self._log_text(column, type_)
            return self._converted(self._cleaned(text, type_), _same_family(type_))
        if self.config.trim and type_.name == "json":
            column = f"pg_catalog.btrim({column}::text, ' ')::json"
        return self._converted(column, type_)

    def reference(self) -> AttributeSql:
        """The key of the row that an id means, as that row's own mapping makes it."""
        column, type_ = self._column(self.config.ref or "")
        texts = list(self.reference_nulls)
        if type_.name in TEXTS:
            texts += self.text_nulls
        found = column
        if texts:
            listed = _listed(text.rstrip(" ") if type_.name == "char" else text for text in texts)
            text = self._log_text(column, type_)
            found = f"CASE WHEN {text} IN ({listed}) THEN NULL ELSE {column} END"
        target = self._target()
        bases = (f"({found}) IS NOT NULL", self._looked_up(target, found, type_))
        given, key = self._base(0), self._base(1)
        found_not = f"{given} AND {key} IS NULL"
        return replace(self._result(bases, key, []), dangling=found_not)

    # --- parts ------------------------------------------------------------------------------------

    def _base(self, number: int) -> str:
        return f"s{self.depth}.b{self.first + number}"

    def _result(self, bases: Sequence[str], value: str, reasons: Sequence[Reason]) -> AttributeSql:
        return AttributeSql(
            attribute=self.attribute, bases=tuple(bases), value=value, reasons=tuple(reasons)
        )

    def _column(self, name: str) -> tuple[str, ColumnType]:
        index = self.relation.position_of(name)
        column, type_ = f"t{self.depth}.{quote(name)}", self.relation.columns[index].type
        codec = self.relation.codec
        if codec and self.config.invalid != "park" and type_.name in TEXTS:
            otherwise = kept(column, codec) if self.config.invalid == "keep" else "NULL"
            sound = is_text(column, codec)
            column = f"(CASE WHEN {sound} THEN ({column})::text ELSE {otherwise} END)"
        return column, type_

    def _log_text(self, column: str, type_: ColumnType) -> str:
        """A column's text as the log has it, without a char column's padding. Casts to text are
        not the output functions for boolean, inet and their like; a composite of NULLs is NULL to
        IS NULL, and is a value all the same."""
        if type_.name in TEXTS:
            return _bytewise(column)
        given = f"{column} IS DISTINCT FROM NULL"
        return f'(CASE WHEN {given} THEN pg_catalog.concat({column}) END COLLATE "C")'

    def _cleaned(self, text: str, type_: ColumnType) -> str:
        if self.config.trim:
            text = f"pg_catalog.btrim({text}, ' ')"
        if type_.name not in TEXTS or not self.text_nulls:
            return text
        nulls = self.text_nulls
        if self.config.trim:
            nulls = tuple(null.strip(" ") for null in nulls)
        listed = _listed(null.rstrip(" ") if type_.name == "char" else null for null in nulls)
        return f"CASE WHEN {text} IN ({listed}) THEN NULL ELSE {text} END"

    def _converted(self, base: str, type_: ColumnType) -> AttributeSql:
        target, lossy, value = self.attribute.type, self.config.lossy, self._base(0)
        rule = conversion(type_, target, lossy=lossy)
        counted = self.relation.codec == "utf-8"  # where a character is a byte to the server
        reasons = rejections(type_, target, rule, lossy, value, self.dialect.version, counted)
        text = f"({rule.sql.replace('{}', value)})::text"
        if reasons:
            conditions = " ".join(f"WHEN {condition} THEN NULL" for condition, _ in reasons)
            text = f"CASE {conditions} ELSE {text} END"
        if self.config.has_default and self.config.default is not None:
            default = self._constant(self.config.default)
            text = f"CASE WHEN {value} IS NULL THEN {default} ELSE {text} END"
        return self._result((base,), text, reasons)

    def _mapped(self, base: str, type_: ColumnType) -> AttributeSql:
        assert self.config.map is not None
        value = self._base(0)
        found = map_keys(self.config.map, type_, (), trim=self.config.trim)
        keys = {key: printed.decode() for key, printed in found.items()}
        pairs = " ".join(
            f"WHEN {literal(keys[key])} THEN {self._constant(to)}"
            for key, to in self.config.map.items()
        )
        default = self._constant(self.config.default) if self.config.has_default else "NULL"
        text = f"CASE {value} {pairs} ELSE {default} END"
        unmapped = (f"{value} NOT IN ({_listed(keys.values())})", "unmapped_value")
        return self._result((base,), text, [] if self.config.has_default else [unmapped])

    def _constant(self, text: str | None) -> str:
        """A configured text as text of the attribute's type."""
        if text is None:
            return "NULL::text"
        rule = conversion(_TEXT, self.attribute.type)
        return f"({rule.sql.replace('{}', f'({literal(text)}::text)')})::text"

    def _target(self) -> MappingConfig:
        target = self.dialect.configuration.ref_target(self.mapping, self.attribute.name)
        if target is None or target.source != self.mapping.source:
            raise ConfigurationError(f"{self.mapping.name}: no mapping of {self.mapping.source} "
                                     f"resolves the ref of {self.attribute.name!r}")  # fmt: skip
        return target

    def _looked_up(self, target: MappingConfig, found: str, type_: ColumnType) -> str:
        """The key of the row with that identity, if the mapping it goes through carries it."""
        relation = self.dialect.relation_of(target)
        if len(relation.identity) != 1:
            raise ConfigurationError(f"{target.name}: a ref needs an identity of one column")
        entity = self.dialect.configuration.entities[target.to]
        depth = self.depth + 1
        key = attribute_sql(self.dialect, target, entity.attribute(entity.key[0]), depth=depth)
        identity = relation.columns[relation.identity[0]]
        wanted = _as_type(found, type_, identity.type)
        where = f"t{depth}.{quote(identity.name)} = {wanted}"
        if target.where:
            where += f" AND {expression_sql(target.where, relation, self.text_nulls, depth)[0]}"
        if relation.condition:  # before its neighbours, for they may not be computable
            where = f"{relation.condition} AND {where}"
        bases = ", ".join(f"{sql} AS b{n}" for n, sql in enumerate(key.bases)) or "1 AS one"
        only = "ONLY " if relation.alone else ""
        return (
            f"(SELECT {key.value} FROM (SELECT {bases}"
            f" FROM {only}{qualified(relation.schema, relation.table)} AS t{depth}"
            f" WHERE {where}) AS s{depth} LIMIT 1)"
        )


def _bytewise(sql: str) -> str:
    """Text that compares by its bytes, whatever its column's collation says; no char padding."""
    return f'(({sql})::text COLLATE "C")'


def _same_family(type_: ColumnType) -> ColumnType:
    """The type of a text-like column's text once it is text: its length still counts."""
    return ColumnType("varchar", type_.length) if type_.name in ("char", "varchar") else type_


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(literal(text) for text in texts)


def _as_type(value: str, type_: ColumnType, wanted: ColumnType) -> str:
    """A value that an index of the wanted type can look up; NULL where it is no such value."""
    numbers = {*INTEGERS, "numeric"}
    if type_.name == wanted.name or {type_.name, wanted.name} <= numbers:
        return f"({value})"
    text = f"({value})::text"
    if wanted.name in INTEGERS:
        number = f"{text}::numeric BETWEEN {-(1 << 63)} AND {(1 << 63) - 1}"
        whole = rf"{text} ~ '^-?[0-9]{{1,19}}$'"
        return f"(CASE WHEN {whole} THEN CASE WHEN {number} THEN {text}::bigint END END)"
    if wanted.name == "numeric":
        return rf"(CASE WHEN {text} ~ '^-?[0-9]+(\.[0-9]+)?$' THEN {text}::numeric END)"
    if wanted.name == "uuid":
        return rf"(CASE WHEN {text} ~* '^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$' THEN {text}::uuid END)"  # noqa: E501
    if wanted.name == "char":
        return f"({text})::bpchar"
    return text if wanted.name in TEXTS else f"({text})::{wanted.native}"
