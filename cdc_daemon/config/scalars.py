"""Scalars of the files: numbers that remember their spelling, names, types, table names.

YAML reads ``0012`` as the number 12 and ``1.10`` as 1.1. Where a scalar stands for a value of the
business (``const``, ``map``, ``default``) the text as written counts, so numbers keep it, and a
spelling that is not the number's own is refused: it must be quoted.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, NamedTuple

from pydantic import (
    AfterValidator,
    BeforeValidator,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
)

from cdc_daemon.model.entities import EntityType, Kind
from cdc_daemon.model.errors import suggest

CANONICAL_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")


class Complaint(ValueError):
    """What is wrong with a scalar, and the cure. Never quotes a value that could be a secret."""

    def __init__(self, what: str, cure: str = "") -> None:
        self.what = what
        self.cure = cure
        super().__init__(what)


class SpelledInt(int):
    """A whole number that remembers how it was written."""

    text: str

    def __new__(cls, value: int, text: str) -> SpelledInt:
        number = super().__new__(cls, value)
        number.text = text
        return number


class SpelledFloat(float):
    """A number with a fraction that remembers how it was written."""

    text: str

    def __new__(cls, value: float, text: str) -> SpelledFloat:
        number = super().__new__(cls, value)
        number.text = text
        return number


def unquoted(text: str) -> Complaint:
    """The complaint about a number whose spelling would be lost."""
    return Complaint(
        f"{text} without quotes is a number, and its spelling would be lost",
        f"write '{text}' in quotes if it is a code",
    )


def is_canonical(text: str) -> bool:
    """Whether a number's text is what the number itself would be written as."""
    return CANONICAL_NUMBER.fullmatch(text) is not None


def _as_written(value: Any) -> Any:
    match value:
        case SpelledInt(text=text) | SpelledFloat(text=text):
            if not is_canonical(text):
                raise unquoted(text)
            return text
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case _:
            return value


ValueText = Annotated[
    str,
    BeforeValidator(_as_written),
    WithJsonSchema({"type": ["string", "number", "boolean"]}),
]
"""A business value: a text, or an unquoted scalar kept as it is written."""


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


AsTuple = BeforeValidator(_tuple)
"""Lists of the files become tuples."""


# --- names ------------------------------------------------------------------------------------

NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
SOURCE_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
MAPPING_NAME = re.compile(r"[^\s\x00-\x1f/]{1,200}")
SLOT_NAME = re.compile(r"[a-z0-9_]{1,63}")


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise Complaint(
            f"{text!r} cannot be a name",
            "a name is a-z, 0-9 and _, at most 63 characters, not beginning with a digit",
        )
    return text


def _slot(text: str) -> str:
    if not SLOT_NAME.fullmatch(text):
        raise Complaint("this cannot be a name of a slot or publication", "use a-z, 0-9 and _ only")
    return text


def _mapping_name(text: str) -> str:
    if not MAPPING_NAME.fullmatch(text):
        raise Complaint(
            f"{text!r} cannot be the name of a mapping",
            "at most 200 characters without blanks and slashes",
        )
    return text


def _column(text: str) -> str:
    if not text.strip() or "\x00" in text:
        raise Complaint("a column name is empty", "name the column as the database stores it")
    return text


Name = Annotated[
    str, AfterValidator(_name), WithJsonSchema({"type": "string", "pattern": f"^{NAME.pattern}$"})
]
SlotName = Annotated[
    str,
    AfterValidator(_slot),
    WithJsonSchema({"type": "string", "pattern": f"^{SLOT_NAME.pattern}$"}),
]
MappingName = Annotated[str, AfterValidator(_mapping_name)]
ColumnName = Annotated[str, AfterValidator(_column)]


class TableName(NamedTuple):
    """``source.schema.table``, as the source's database stores the names (no case folding)."""

    source: str
    schema: str
    table: str

    def __str__(self) -> str:
        return ".".join(_quoted(part) for part in self)


def _quoted(part: str) -> str:
    if "." in part or '"' in part or not part:
        doubled = part.replace('"', '""')
        return f'"{doubled}"'
    return part


_PART = re.compile(r'"((?:[^"]|"")+)"|([^".]+)')


def parse_table_name(text: str) -> TableName:
    """Split at dots outside double quotes. Raises Complaint."""
    parts: list[str] = []
    offset = 0
    while True:
        found = _PART.match(text, offset)
        if found is None:
            break
        parts.append(found[1].replace('""', '"') if found[1] is not None else found[2].strip())
        offset = found.end()
        if offset == len(text) or text[offset] != ".":
            break
        offset += 1
    if offset != len(text) or len(parts) != 3 or not all(parts):
        raise Complaint(
            f"{text!r} does not name a table",
            'expected source.schema.table; put a part that holds a dot in double quotes: "a.b"',
        )
    return TableName(*parts)


def _table_name(value: Any) -> TableName:
    if isinstance(value, TableName):
        return value
    if not isinstance(value, str):
        raise Complaint("expected a table", "write source.schema.table")
    return parse_table_name(value)


TableReference = Annotated[
    TableName,
    PlainValidator(_table_name),
    PlainSerializer(str),
    WithJsonSchema({"type": "string"}),
]


# --- entity types -----------------------------------------------------------------------------

_TYPE = re.compile(r"\s*([a-z_]+)\s*(?:\(\s*([0-9]+)\s*(?:,\s*([0-9]+)\s*)?\))?\s*")
_SHAPES = {Kind.STRING: "string(n)", Kind.DECIMAL: "decimal(p,s)"}
TYPE_SHAPES = tuple(_SHAPES.get(kind, kind.value) for kind in Kind)
_MAX_STRING = 10_485_760  # what PostgreSQL allows for varchar(n)
_MAX_PRECISION = 1000
_CURE = f"types are {', '.join(TYPE_SHAPES)}"


def parse_entity_type(text: str) -> EntityType:
    """``string(40)`` and its like. Raises Complaint."""
    found = _TYPE.fullmatch(text.lower())
    if found is None:
        cut_off = "(" in text and ")" not in text
        quotes = 'inside {…} a comma ends the value: write "decimal(18,4)" in quotes'
        raise Complaint(f"{text!r} is not a type", quotes if cut_off else _CURE)
    word, length, scale = found.groups()
    try:
        kind = Kind(word)
    except ValueError:
        near = suggest(word, [kind.value for kind in Kind])
        raise Complaint(f"unknown type {text!r}{near}", _CURE) from None
    match kind:
        case Kind.STRING:
            return _string(text, length, scale)
        case Kind.DECIMAL:
            return _decimal(text, length, scale)
        case _ if length is not None:
            raise Complaint(f"type {kind.value} takes no length", f"write {kind.value}")
        case _:
            return EntityType(kind)


def _string(text: str, length: str | None, scale: str | None) -> EntityType:
    if length is None or scale is not None or not 1 <= int(length) <= _MAX_STRING:
        raise Complaint(
            f"type {text!r} needs a length",
            f"write string(n) with n from 1 to {_MAX_STRING}, or text for any length",
        )
    return EntityType(Kind.STRING, int(length))


def _decimal(text: str, precision: str | None, scale: str | None) -> EntityType:
    if (
        precision is None
        or not 1 <= int(precision) <= _MAX_PRECISION
        or int(scale or 0) > int(precision)
    ):
        raise Complaint(
            f"type {text!r} needs precision and scale",
            "write decimal(p,s) with p from 1 to 1000 and s at most p, or numeric for any",
        )
    return EntityType(Kind.DECIMAL, int(precision), int(scale or 0))


def _entity_type(value: Any) -> EntityType:
    if isinstance(value, EntityType):
        return value
    if not isinstance(value, str):
        raise Complaint("expected a type", _CURE)
    return parse_entity_type(value)


AttributeType = Annotated[
    EntityType,
    PlainValidator(_entity_type),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "examples": ["string(40)", "decimal(18,4)", "timestamp"]}),
]
