"""One attribute's way from a source row: pass-through, conversion, map, default, const, expr, ref.

A :class:`Field` is compiled once per relation and mapping. ``function`` is the one truth about what
it does to its inputs; ``inline`` is the same as Python source for the generated row mapper, where a
call can be saved. Not in here: rows (mapping/compile) and the conversions (mapping/convert).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from cdc_daemon.config.schema import FieldConfig
from cdc_daemon.mapping.conversion_rule import INTEGERS, TEXTS
from cdc_daemon.mapping.convert import Conversion, ConversionUnsupported, conversion
from cdc_daemon.mapping.decimals import canonical_decimal, with_scale
from cdc_daemon.mapping.map_keys import MapKeyError, map_keys, prints_alike
from cdc_daemon.mapping.row_ids import RefTarget, row_id
from cdc_daemon.model.changes import UNCHANGED, ColumnType, Invalid, Relation, Row, Value
from cdc_daemon.model.entities import Attribute, EntityType, Kind
from cdc_daemon.model.errors import DataError, suggest

if TYPE_CHECKING:
    from cdc_daemon.mapping.expression import Expression

Text = bytes | None


class NeedsSource(Exception):
    """The log left out what this row cannot be mapped without: read it again at the source."""


class FieldError(Exception):
    """A field that cannot be compiled; ``part`` is where in the field's configuration."""

    def __init__(self, message: str, part: tuple[str, ...] = ()) -> None:
        self.part = part
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """How one attribute gets its value.

    ``inputs``: positions in the relation's rows. ``function``: called with the inputs' values (text
    or None), returns text or None, raises DataError; None: the only input passes through.
    ``bare``: the value identifies what its only input identifies (nothing is folded together).
    ``ref``: name of the mapping whose reference table turns the value into an entity key.
    ``sql``: the same as a PostgreSQL expression over quoted column names, for verification.
    """

    attribute: Attribute
    inputs: tuple[int, ...]
    function: Callable[..., Text] | None = None
    inline: str = "{0}"
    environment: Mapping[str, object]
    bare: bool = False
    ref: str | None = None
    invalid: str = "park"

    @property
    def passes_through(self) -> bool:
        """Whether rows may carry the input's bytes as they are."""
        return self.function is None

    def of(self, row: Row) -> Value:
        """The attribute's value for one row of any shape: slow, complete, the oracle for inline.

        Raises DataError with the attribute's name, NeedsSource where UNCHANGED inputs would be
        needed to compute a value.
        """
        values = [self._usable(row[i]) for i in self.inputs]
        if any(value is UNCHANGED for value in values):
            if len(values) == 1:
                return UNCHANGED
            raise NeedsSource
        try:
            result = values[0] if self.function is None else self.function(*values)
        except DataError as error:
            error.attribute = error.attribute or self.attribute.name
            raise
        if result is None and self.attribute.required:
            raise required(self.attribute.name)
        return result

    def _usable(self, value: Value) -> Value:
        if not isinstance(value, Invalid):
            return value
        if self.invalid == "null":
            return None
        if self.invalid == "keep":
            return value.kept
        raise DataError(
            f"the source value is not valid: {value.reason}",
            code="invalid_value",
            attribute=self.attribute.name,
        )


def required(name: str) -> DataError:
    """The error for a required attribute that would become NULL."""
    return DataError(f"attribute {name!r} is required", code="required", attribute=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nulls:
    """Texts that a source writes where it means NULL: ``text`` in text columns, ``reference`` in
    columns that a ``ref`` resolves."""

    text: frozenset[bytes] = frozenset()
    reference: frozenset[bytes] = frozenset()

    def of(self, type_: ColumnType, *, ref: bool) -> frozenset[bytes]:
        """The texts that mean NULL in a column of that type."""
        found = self.text if type_.name in TEXTS else frozenset()
        return found | self.reference if ref else found


def compile_field(
    attribute: Attribute,
    config: FieldConfig,
    relation: Relation,
    nulls: Nulls,
    tag: str,
    target: RefTarget | None = None,
) -> Field:
    """Compile one field. ``tag`` makes its names unique in the generated code; ``target`` is where
    a ``ref`` leads.

    Raises FieldError for unknown columns, types that cannot fit, and bad expressions.
    """
    if config.is_const:
        return _const(attribute, config, tag)
    if config.expr is not None:
        return _expression(attribute, config, relation, nulls, tag)
    if config.ref is not None:
        return _reference(attribute, config, relation, nulls, tag, target)
    return _column(attribute, config, relation, nulls, tag)


def position(relation: Relation, column: str) -> int:
    """Index of a column in the relation's rows. Raises FieldError with a suggestion."""
    try:
        return relation.position_of(column)
    except KeyError:
        known = [found.name for found in relation.columns]
        raise FieldError(
            f"table {relation.name} has no column {column!r}{suggest(column, known)}"
        ) from None


def _placed_position(relation: Relation, column: str, part: str) -> int:
    """The same, with the part of the field's configuration that names the column."""
    try:
        return position(relation, column)
    except FieldError as error:
        raise FieldError(str(error), (part,)) from None


def _const(attribute: Attribute, config: FieldConfig, tag: str) -> Field:
    value: Text = None
    if config.const is not None:
        value = _literal(config.const, attribute, "const")
    return _always(attribute, value, tag, "const")


def _always(attribute: Attribute, value: Text, tag: str, part: str) -> Field:
    """The same value in every row. Raises FieldError for NULL where a value is required."""
    if value is None and attribute.required:
        raise FieldError(f"attribute {attribute.name!r} is required, {part} is null", (part,))
    name = f"k{tag}"
    return Field(
        attribute=attribute,
        inputs=(),
        function=lambda: value,
        inline=name,
        environment={name: value},
    )


def _literal(text: str, attribute: Attribute, *part: str) -> bytes:
    """A configured text as canonical text of the attribute's type."""
    try:
        convert = conversion(ColumnType("text"), attribute.type).convert
        return text.encode() if convert is None else convert(text.encode())
    except (DataError, ConversionUnsupported) as error:
        raise FieldError(f"{text!r} is no {attribute.type}: {error}", part) from None


def _expression(
    attribute: Attribute, config: FieldConfig, relation: Relation, nulls: Nulls, tag: str
) -> Field:
    assert config.expr is not None
    expression, types = checked_expression(config.expr, relation, "expr")
    columns = sorted(expression.columns)
    inputs = tuple(position(relation, column) for column in columns)
    result = expression.check(types)
    rule = _conversion(result, attribute, config)
    evaluate = expression.compile(types, nulls.text)
    convert = rule.convert

    def function(*values: Text) -> Text:
        value = evaluate(*values)
        return value if value is None or convert is None else convert(value)

    if not columns:
        return _always(attribute, _without_columns(function), tag, "expr")
    name = f"f{tag}"
    inline = f"{name}({', '.join(f'{{{i}}}' for i in range(len(inputs)))})"
    return Field(
        attribute=attribute, inputs=inputs, function=function, inline=inline,
        environment={name: function}, invalid=config.invalid,
    )  # fmt: skip


def _without_columns(function: Callable[[], Text]) -> Text:
    """The value of an expression that reads nothing. Raises FieldError where it has none."""
    try:
        return function()
    except DataError as error:
        raise FieldError(f"the expression has no value: {error.message}", ("expr",)) from None


def checked_expression(
    text: str, relation: Relation, part: str, *, condition: bool = False
) -> tuple[Expression, dict[str, ColumnType]]:
    """Parse an expression and check it against a relation; ``condition``: it must be boolean.

    Raises FieldError.
    """
    from cdc_daemon.mapping.expression import (
        ExpressionError,
        parse,
    )

    types = {column.name: column.type for column in relation.columns}
    try:
        expression = parse(text)
        for column in sorted(expression.columns):
            position(relation, column)
        if condition:
            expression.check_predicate(types)
        else:
            expression.check(types)
    except (ExpressionError, FieldError) as error:
        raise FieldError(str(error), (part,)) from None
    return expression, types


def _conversion(source: ColumnType, attribute: Attribute, config: FieldConfig) -> Conversion:
    try:
        return conversion(source, attribute.type, lossy=config.lossy)
    except ConversionUnsupported as error:
        raise FieldError(f"attribute {attribute.name!r}: {error}") from None


def _column(
    attribute: Attribute, config: FieldConfig, relation: Relation, nulls: Nulls, tag: str
) -> Field:
    assert config.column is not None
    index = _placed_position(relation, config.column, "from")
    type_ = relation.columns[index].type
    null_texts = nulls.of(type_, ref=False)
    rule = _conversion(ColumnType("text") if config.map else type_, attribute, config)
    if config.map or config.has_default or config.trim or (null_texts and type_.name == "char"):
        return _folded(attribute, config, index, type_, null_texts, rule, tag)
    bare = rule.injective
    if rule.convert is None and not null_texts:
        return Field(
            attribute=attribute, inputs=(index,), environment={}, bare=bare, invalid=config.invalid
        )
    return _converted(attribute, config, index, null_texts, rule.convert, bare, tag)


def _converted(
    attribute: Attribute,
    config: FieldConfig,
    index: int,
    null_texts: frozenset[bytes],
    convert: Callable[[bytes], bytes] | None,
    bare: bool,
    tag: str,
) -> Field:
    """NULL texts and a conversion, inlined so that a NULL costs no call."""

    def function(value: Text) -> Text:
        if value is None or value in null_texts:
            return None
        return value if convert is None else convert(value)

    null, call = f"n{tag}", f"v{tag}"
    is_null = "{0} is None" + (f" or {{0}} in {null}" if null_texts else "")
    inline = f"(None if {is_null} else {call}({{0}}))"
    if convert is None:
        inline = f"(None if {{0}} in {null} else {{0}})"
    return Field(
        attribute=attribute, inputs=(index,), function=function, inline=inline,
        environment={null: null_texts, call: convert}, bare=bare,
        invalid=config.invalid,
    )  # fmt: skip


def _folded(
    attribute: Attribute,
    config: FieldConfig,
    index: int,
    type_: ColumnType,
    null_texts: frozenset[bytes],
    rule: Conversion,
    tag: str,
) -> Field:
    """trim, NULL texts, map and default, in this order; the default stands for NULL and for
    unmapped values. The pad blanks of a char column are no part of its value, and NULL texts are
    compared as the value is: trimmed."""
    strip = bytes.strip if config.trim else bytes.rstrip
    strips = config.trim or type_.name == "char"
    if strips:
        null_texts = frozenset(strip(text, b" ") for text in null_texts)
    table = None if config.map is None else _table(config, attribute, type_, null_texts)
    alike = prints_alike(type_)
    default: Text = None
    if config.has_default and config.default is not None:
        default = _literal(config.default, attribute, "default")
    has_default, convert, name = config.has_default, rule.convert, attribute.name

    def function(value: Text) -> Text:
        if value is not None and strips:
            value = strip(value, b" ")
        if value is None or value in null_texts:
            return default
        if table is None:
            return value if convert is None else convert(value)
        if alike:
            value = canonical_decimal(value)
        if value in table:
            return table[value]
        if has_default:
            return default
        raise DataError(
            f"the source value has no entry in the map of {name!r} and there is no default",
            code="unmapped_value",
            attribute=name,
        )

    call = f"f{tag}"
    return Field(
        attribute=attribute, inputs=(index,), function=function, inline=f"{call}({{0}})",
        environment={call: function}, invalid=config.invalid,
    )  # fmt: skip


def _table(
    config: FieldConfig, attribute: Attribute, type_: ColumnType, null_texts: frozenset[bytes]
) -> dict[bytes, Text]:
    assert config.map is not None
    try:
        keys = map_keys(config.map, type_, null_texts, trim=config.trim)
    except MapKeyError as error:
        raise FieldError(str(error), ("map", error.key)) from None
    return {
        keys[key]: None if value is None else _literal(value, attribute, "map", key)
        for key, value in config.map.items()
    }


def _reference(
    attribute: Attribute,
    config: FieldConfig,
    relation: Relation,
    nulls: Nulls,
    tag: str,
    target: RefTarget | None,
) -> Field:
    """The source row's id, as the table meant prints it; resolution puts the entity key there."""
    if target is None:
        raise FieldError(
            f"attribute {attribute.name!r} refers to a table that no mapping of this source reads",
            ("from",),
        )
    assert config.ref is not None
    index = _placed_position(relation, config.ref, "ref")
    type_ = relation.columns[index].type
    null_texts = nulls.of(type_, ref=True)
    convert = _row_id(config.ref, type_, target)
    if convert is None and not null_texts:
        return Field(
            attribute=attribute, inputs=(index,), environment={}, ref=target.mapping,
            invalid=config.invalid,
        )  # fmt: skip
    field = _converted(attribute, config, index, null_texts, convert, False, tag)
    if type_.name == "char" and null_texts:
        field = _padded(field, null_texts, convert, tag)
    return replace(field, ref=target.mapping)


def _row_id(column: str, type_: ColumnType, target: RefTarget) -> Callable[[bytes], bytes] | None:
    """How the ids of a column are looked up. Raises FieldError where none can be."""
    if target.identity is None:
        return None
    names = ", ".join(found.name for found in target.identity)
    if len(target.identity) != 1:
        raise FieldError(
            f"a 'ref' needs a table whose rows one column identifies; {target.table} has "
            f"{names or 'none'}",
            ("from",),
        )
    try:
        return row_id(type_, target.identity[0].type)
    except ConversionUnsupported as error:
        raise FieldError(
            f"column {column!r} cannot hold ids of {target.table}, which are its {names!r}: "
            f"{error}",
            ("ref",),
        ) from None


def _padded(
    field: Field,
    null_texts: frozenset[bytes],
    convert: Callable[[bytes], bytes] | None,
    tag: str,
) -> Field:
    """An id in a char column: NULL texts know none of its padding."""
    bare = frozenset(text.rstrip(b" ") for text in null_texts)

    def function(value: Text) -> Text:
        if value is None or value.rstrip(b" ") in bare:
            return None
        return value if convert is None else convert(value)

    call = f"f{tag}"
    return replace(field, function=function, inline=f"{call}({{0}})", environment={call: function})


def as_key(field: Field, relation: Relation, tag: str) -> Field:
    """A field of an entity's key: one text for each number, the one that the key's column prints,
    so that 7.5 and 7.50 are one key."""
    type_ = field.attribute.type
    if type_.kind not in (Kind.DECIMAL, Kind.NUMERIC) or field.ref is not None:
        return field
    scale = type_.scale or 0
    if field.passes_through and _prints_one_text(relation.columns[field.inputs[0]].type, type_):
        return field
    form = canonical_decimal if type_.kind is Kind.NUMERIC else partial(with_scale, scale=scale)

    def function(*values: Text) -> Text:
        value = values[0] if field.function is None else field.function(*values)
        return None if value is None else form(value)

    call = f"p{tag}"
    inline = f"{call}({', '.join(f'{{{i}}}' for i in range(len(field.inputs)))})"
    return replace(field, function=function, inline=inline, environment={call: function})


def _prints_one_text(source: ColumnType, target: EntityType) -> bool:
    """Whether a column prints its numbers as the key's column does."""
    scale = 0 if source.name in INTEGERS else source.scale if source.length else None
    if target.kind is Kind.NUMERIC:
        return scale is not None
    return scale == (target.scale or 0)


def row_function(fields: Sequence[Field], width: int) -> Callable[[list[Row]], list[Row]] | None:
    """Generate the mapper of full rows, straight-line Python; None: rows pass as they are.

    Rows must hold only text and None. Raises DataError at the first row at fault (the caller then
    goes row by row with :meth:`Field.of`).
    """
    if [field.inputs for field in fields] == [(i,) for i in range(width)] and all(
        field.passes_through for field in fields
    ):
        return None
    environment: dict[str, object] = {"required": required}
    body: list[str] = []
    values: list[str] = []
    for n, field in enumerate(fields):
        environment.update(field.environment)
        text = field.inline.format(*(f"c{i}" for i in field.inputs))
        if field.attribute.required and field.inputs:
            if not field.passes_through:
                body.append(f"        a{n} = {text}")
                text = f"a{n}"
            body.append(f"        if {text} is None: raise required({field.attribute.name!r})")
        values.append(text)
    names = ", ".join(f"c{i}" for i in range(width)) + ","
    result = ", ".join(values) + ","
    if body:
        lines = ["def rows(given):", "    out = []", "    append = out.append",
                 f"    for {names} in given:", *body, f"        append(({result}))",
                 "    return out"]  # fmt: skip
    else:
        lines = ["def rows(given):", f"    return [({result}) for {names} in given]"]
    exec(compile("\n".join(lines), "<generated row mapper>", "exec"), environment)  # noqa: S102 - built from positions and quoted names only
    return environment["rows"]  # type: ignore[return-value]
