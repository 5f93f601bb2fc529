"""A mapping compiled against one relation: layout, row mapper, filter, keys, and what it needs.

:func:`compile_mapping` is called once per relation description; the result's functions are what the
hot path calls. Not in here: single attributes (mapping/fields) and whole batches (mapping/mapper).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from types import MappingProxyType

from cdc_daemon.config.configuration import Configuration
from cdc_daemon.config.schema import FieldConfig, MappingConfig, TableName
from cdc_daemon.mapping.fields import (
    Field,
    FieldError,
    NeedsSource,
    Nulls,
    as_key,
    checked_expression,
    compile_field,
    position,
    row_function,
)
from cdc_daemon.mapping.row_ids import RefTarget
from cdc_daemon.model.changes import UNCHANGED, Invalid, Relation, Replica, Row, Value
from cdc_daemon.model.effects import Key, Layout, ReferenceTable
from cdc_daemon.model.entities import Entity
from cdc_daemon.model.errors import ConfigurationError, DataError, Problem
from cdc_daemon.model.ports import Table

Relations = Mapping[tuple[str, str], Relation]
"""A source's relations by schema and table."""

KEY_TYPES = {"smallint": "smallint", "integer": "integer", "bigint": "bigint", "uuid": "uuid"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CompiledMapping:
    """One mapping against one description of its table.

    ``rows``: full rows → layout rows (None: the same rows); raises DataError at the first bad row.
    ``identity_keys``: identity tuples → entity keys, where no reference table is needed.
    ``leave``: the layout with which rows that leave the filter are deleted; None: they are ignored.
    ``sensitive``: names of the columns whose values are shown to nobody and sealed where they park.
    """

    config: MappingConfig
    relation: Relation
    layout: Layout
    leave: Layout | None
    deletes: bool
    version: str
    fields: tuple[Field, ...]
    rows: Callable[[list[Row]], list[Row]] | None
    predicate: Callable[..., bool] | None
    predicate_inputs: tuple[int, ...]
    key_fields: tuple[Field, ...]
    sensitive: frozenset[str] = frozenset()

    def row(self, source_row: Row) -> Row:
        """One source row of any shape as a layout row. Raises DataError, NeedsSource."""
        row = tuple([field.of(source_row) for field in self.fields])
        if self.layout.reference is None and any(row[i] is UNCHANGED for i in self.layout.key):
            raise NeedsSource
        return row

    def passes(self, source_row: Row) -> bool:
        """Whether the filter is true for the row. Raises DataError, NeedsSource."""
        if self.predicate is None:
            return True
        values = [source_row[i] for i in self.predicate_inputs]
        if any(value is UNCHANGED for value in values):
            raise NeedsSource
        return self.predicate(*values)

    def refuse_invalid(self, source_row: Row) -> None:
        """A row is told by its identity, and chosen by its filter: neither can be INVALID.

        Raises DataError; to be asked of rows that may hold INVALID, before :meth:`passes`.
        """
        for index in (*self.relation.identity, *self.predicate_inputs):
            if isinstance(value := source_row[index], Invalid):
                name = self.relation.columns[index].name
                raise DataError(
                    f"column {name!r}, which identifies or filters the row: {value.reason}",
                    code="invalid_value",
                )

    def source_key(self, source_row: Row) -> Key:
        """Identity of a full-width source row."""
        return self.source_keys([source_row])[0]

    def source_keys(self, rows: Sequence[Row]) -> list[Key]:
        """Identities of full-width source rows."""
        return self.known(self.identities(rows))

    def identities(self, rows: Sequence[Row]) -> list[Row]:
        """Identities of full-width source rows, as the log has them."""
        identity = self.relation.identity
        if len(identity) == 1:
            index = identity[0]
            return [(row[index],) for row in rows]
        return list(map(itemgetter(*identity), rows))

    def known(self, identities: list[Row]) -> list[Key]:
        """Identities with a text that no row has in place of INVALID: such rows were rejected."""
        if not self.relation.codec:
            return identities  # type: ignore[return-value]
        return [tuple(map(_text_for, identity)) for identity in identities]

    def identity_keys(self, identities: Sequence[Row]) -> list[Key | None]:
        """Entity keys of identity tuples (the log's old images); None where there is none."""
        bare = all(f.passes_through for f in self.key_fields) and self._in_identity_order
        if bare and not self.relation.codec:
            return list(identities)  # type: ignore[arg-type]
        places = {column: i for i, column in enumerate(self.relation.identity)}
        return [self._identity_key(identity, places) for identity in identities]

    def _identity_key(self, identity: Row, places: Mapping[int, int]) -> Key | None:
        if any(isinstance(value, Invalid) for value in identity):
            return None
        try:
            values = [f.of(_spread(identity, places, f.inputs)) for f in self.key_fields]
        except DataError:
            return None  # such a row was rejected when it came
        return tuple(values)  # type: ignore[arg-type]

    @property
    def _in_identity_order(self) -> bool:
        return tuple(i for f in self.key_fields for i in f.inputs) == self.relation.identity


def _text_for(value: Value) -> bytes:
    """The value, or what no row of the source holds."""
    if isinstance(value, Invalid):
        return b"\x7fINVALID\x7f" + value.raw.hex().encode()
    return value  # type: ignore[return-value]


def _spread(identity: Row, places: Mapping[int, int], inputs: Sequence[int]) -> Row:
    """An identity tuple seen as a wide row, as far as ``inputs`` look."""
    width = max(inputs, default=-1) + 1
    return tuple(identity[places[i]] if i in places else UNCHANGED for i in range(width))


def columns_of(mapping: MappingConfig) -> frozenset[str]:
    """The source columns that a mapping reads, as far as its configuration says."""
    found: set[str] = set()
    for field in [*mapping.key.values(), *mapping.fields.values()]:
        found |= origin_columns(field)
    if mapping.where:
        found |= expression_columns(mapping.where)
    return frozenset(found)


def origin_columns(field: FieldConfig) -> frozenset[str]:
    """The source columns that an attribute is made from."""
    if field.expr is not None:
        return expression_columns(field.expr)
    found = field.ref if field.ref is not None else field.column
    return frozenset() if found is None else frozenset({found})


def sensitive_columns(configuration: Configuration, table: TableName) -> frozenset[str]:
    """The columns of a source table whose values are sensitive for every mapping of it.

    They are those that a sensitive attribute is made from, by whichever mapping of the table: what
    is parked of a row holds what any of them reads. A column that only ``where`` reads is not.
    """
    found: set[str] = set()
    for mapping in configuration.mappings_from(table):
        sensitive = configuration.entities[mapping.to].sensitive
        for name in sensitive & mapping.origins.keys():
            found |= origin_columns(mapping.origins[name])
    return frozenset(found)


def expression_columns(text: str) -> frozenset[str]:
    """The columns of an expression; none for one that cannot be parsed (compiling says why)."""
    from cdc_daemon.mapping.expression import (
        ExpressionError,
        parse,
    )

    try:
        return parse(text).columns
    except ExpressionError:
        return frozenset()


def tables_of(mappings: Sequence[MappingConfig]) -> list[Table]:
    """The tables to read for these mappings of one source, with every column any of them needs."""
    columns: dict[tuple[str, str], set[str]] = {}
    identity: dict[tuple[str, str], tuple[str, ...]] = {}
    for mapping in mappings:
        name = (mapping.schema_, mapping.table)
        columns.setdefault(name, set()).update(columns_of(mapping))
        bare = tuple(f.column for f in mapping.key.values() if f.column is not None)
        identity.setdefault(name, mapping.identity or bare)
        columns[name].update(mapping.identity)
    return [
        Table(schema=schema, name=table, columns=frozenset(found), identity=identity[schema, table])
        for (schema, table), found in columns.items()
    ]


def compile_mapping(
    mapping: MappingConfig,
    configuration: Configuration,
    relation: Relation,
    others: Relations = MappingProxyType({}),
) -> CompiledMapping:
    """Compile a mapping against a relation. ``others``: the source's other relations as they are
    now, by schema and table; what a ``ref`` holds is checked against the table that it points to.

    Raises ConfigurationError with the place of every field that does not fit the table.
    """
    return _Compilation(mapping, configuration, relation, others).result()


class _Compilation:
    """Collects every problem of one mapping before it gives up."""

    def __init__(
        self,
        mapping: MappingConfig,
        configuration: Configuration,
        relation: Relation,
        others: Relations,
    ) -> None:
        self.mapping = mapping
        self.configuration = configuration
        self.relation = relation
        self.others = others
        self.entity: Entity = configuration.entities[mapping.to]
        self.nulls = Nulls(
            text=frozenset(t.encode() for t in configuration.sources[mapping.source].nulls.text),
            reference=frozenset(
                t.encode() for t in configuration.sources[mapping.source].nulls.integer
            ),
        )
        self.problems: list[Problem] = []

    def result(self) -> CompiledMapping:
        key = self._fields("key", self.mapping.key)
        others = self._fields("fields", self.mapping.fields)
        predicate, inputs = self._predicate()
        if self.problems:
            raise ConfigurationError(self.problems)
        ordered_key = tuple(key[name] for name in self.entity.key)
        fields = self._ordered({**key, **others})
        layout = self._layout(fields, ordered_key)
        self._refuse_moving_keys(layout)
        soft = {"soft": replace(layout, soft=True), "hard": replace(layout, soft=False)}
        leave = self.mapping.leaves
        return CompiledMapping(
            config=self.mapping,
            relation=self.relation,
            layout=layout,
            leave=layout if leave == self.mapping.on_delete else soft.get(leave),
            deletes=self.mapping.on_delete != "ignore",
            version=mapping_version(self.mapping),
            fields=fields,
            rows=row_function(fields, len(self.relation.columns)),
            predicate=predicate,
            predicate_inputs=inputs,
            key_fields=ordered_key,
            sensitive=sensitive_columns(self.configuration, self.mapping.from_),
        )

    def _fields(self, section: str, configs: Mapping[str, FieldConfig]) -> dict[str, Field]:
        found: dict[str, Field] = {}
        for name, config in configs.items():
            attribute = self.entity.attribute(name)
            if section == "key" and not attribute.required:
                attribute = replace(attribute, required=True)
            try:
                tag = f"_{len(found)}_{section}"
                field = compile_field(
                    attribute, config, self.relation, self.nulls, tag, self._target(name, config)
                )
                found[name] = as_key(field, self.relation, tag) if section == "key" else field
            except FieldError as error:
                self._problem(str(error), section, name, *error.part)
        return found

    def _target(self, attribute: str, config: FieldConfig) -> RefTarget | None:
        """The mapping of this source that a ``ref`` is resolved through, and its table."""
        if config.ref is None:
            return None
        target = self.configuration.ref_target(self.mapping, attribute)
        if target is None or target.source != self.mapping.source:
            return None
        relation = self._relation(target.schema_, target.table)
        identity = None
        if relation is not None:
            identity = tuple(relation.columns[i] for i in relation.identity)
        return RefTarget(mapping=target.name, table=str(target.from_), identity=identity)

    def _relation(self, schema: str, table: str) -> Relation | None:
        if (self.relation.schema, self.relation.table) == (schema, table):
            return self.relation
        return self.others.get((schema, table))

    def _predicate(self) -> tuple[Callable[..., bool] | None, tuple[int, ...]]:
        if not self.mapping.where:
            return None, ()
        try:
            expression, types = checked_expression(
                self.mapping.where, self.relation, "where", condition=True
            )
            compiled = expression.compile_predicate(types, self.nulls.text)
            columns = sorted(expression.columns)
            return compiled, tuple(position(self.relation, column) for column in columns)
        except FieldError as error:
            self._problem(str(error), "where")
            return None, ()

    def _problem(self, what: str, *part: str) -> None:
        path = (*self.mapping.path, *part)
        self.problems.append(Problem(what=what, where=self.configuration.place(*path)))

    def _ordered(self, fields: Mapping[str, Field]) -> tuple[Field, ...]:
        """Relation order where that lets rows pass as they are, else the entity's order."""
        by_name = [fields[name] for name in self.entity.names if name in fields]
        if all(field.passes_through for field in by_name):
            by_name.sort(key=lambda field: field.inputs)
        return tuple(by_name)

    def _layout(self, fields: Sequence[Field], key: Sequence[Field]) -> Layout:
        names = tuple(field.attribute.name for field in fields)
        return Layout(
            mapping=self.mapping.name,
            entity=self.entity,
            columns=names,
            key=tuple(names.index(name) for name in self.entity.key),
            soft=self.mapping.on_delete == "soft",
            keeps="ignore" in (self.mapping.on_delete, self.mapping.where and self.mapping.leaves),
            reference=self._reference_table() if self._needs_reference(key) else None,
            refs=tuple((i, field.ref) for i, field in enumerate(fields) if field.ref),
            referred=any(
                attribute.references == self.entity.name
                for entity in self.configuration.entities.values()
                for attribute in entity.attributes
            ),
        )

    def _refuse_moving_keys(self, layout: Layout) -> None:
        """A key that holds another entity's key moves with it; the reference table would not."""
        if layout.reference is None:
            return
        for name in self.entity.key:
            parent = self.entity.attribute(name).references
            if parent is not None:
                self._problem(
                    f"key attribute {name!r} refers to {parent!r}, and this mapping keeps "
                    f"references, which a changed key of {parent!r} would leave behind: key the "
                    "entity by the row's own id, or leave out 'references'",
                    "key",
                    name,
                )
        if self.problems:
            raise ConfigurationError(self.problems)

    def _needs_reference(self, key: Sequence[Field]) -> bool:
        """Whether entity keys cannot be told from what a DELETE carries (DESIGN section 2)."""
        if self.mapping.reference or self.configuration.is_ref_target(self.mapping):
            return True
        bare = {i for field in key if field.bare for i in field.inputs}
        computable = all(not field.inputs or field.bare for field in key)
        own_identity = set(self.relation.identity)
        if own_identity <= bare and computable and bare <= own_identity:
            return False
        if self.mapping.reference is False and self.relation.replica is Replica.FULL:
            return False
        if self.mapping.reference is False:
            self._problem(
                "a delete of this table does not carry the entity key, so its reference table "
                "cannot be switched off",
                "reference",
            )
            raise ConfigurationError(self.problems)
        return True

    def _reference_table(self) -> ReferenceTable:
        columns = [self.relation.columns[i] for i in self.relation.identity]
        return ReferenceTable(
            name=f"reference_{slug(self.mapping.name)}",
            columns=tuple((c.name, KEY_TYPES.get(c.type.name, "text")) for c in columns),
        )


def slug(name: str) -> str:
    """A mapping's name as part of a table name: [a-z0-9_], unique, at most 45 bytes."""
    plain = re.sub(r"[^a-z0-9_]", "_", name.lower())
    if plain == name.replace(".", "_") and len(plain) <= 45:
        return plain
    return f"{plain[:36]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def mapping_shape(mapping: MappingConfig) -> str:
    """A digest of what decides which source row is which entity row."""
    text = mapping.model_dump_json(include={"from_", "to", "key", "identity"})
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def mapping_version(mapping: MappingConfig) -> str:
    """A digest of the mapping's configuration, kept with parked changes."""
    text = mapping.model_dump_json()
    return hashlib.sha256(text.encode()).hexdigest()[:16]
