"""What MySQL cannot have: names, keys, numbers and rows beyond its limits, each with its cure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cdc_daemon.model.entities import Attribute, Entity, Kind
from cdc_daemon.model.errors import Problem
from cdc_daemon.sinks.columns import DELETED_AT, LAST_SYNC, SURROGATE
from cdc_daemon.sinks.mysql.names import (
    KEY_BYTES,
    MAX_CHARACTERS,
    PREFIX,
    column_type,
    key_bytes,
)

_DIGITS, _FRACTION = 65, 30
_ROW_BYTES = 65_535
_POINTER = 12  # what a long text takes of a row


def problems_of(entities: Mapping[str, Entity]) -> list[Problem]:
    """Everything about these entities that a table of MySQL cannot hold."""
    found: list[Problem] = []
    tables: dict[str, str] = {}
    for entity in entities.values():
        found += _names(entity)
        if tables.setdefault(entity.name.lower(), entity.name) != entity.name:
            other = tables[entity.name.lower()]
            what = f"MySQL may not tell it from {other}: on some systems case does not count"
            found.append(Problem(what=what, where=entity.name, cure="rename one of them"))
        found += _types(entity)
        found += _key(entity)
        found += _row(entity)
    return found


def keyed(entity: Entity, attribute: Attribute) -> bool:
    """Whether an attribute is compared as a key: its own entity's, or another's."""
    return attribute.name in entity.key or attribute.references is not None


def _names(entity: Entity) -> Iterator[Problem]:
    if entity.name.lower().startswith(PREFIX):
        what = f"a table cannot be called {entity.name}: the ledger's tables begin with {PREFIX}"
        yield Problem(what=what, where=entity.name, cure="rename the entity")
    for name in (entity.name, *entity.names):
        if len(name) > MAX_CHARACTERS or name != name.rstrip(" ") or max(name) > "\uffff":
            what = (
                f"{name!r} is no name for MySQL: more than {MAX_CHARACTERS} characters, a blank at"
                " its end, or a character beyond U+FFFF"
            )
            yield Problem(what=what, where=entity.name, cure="rename it")
    own = [LAST_SYNC, DELETED_AT, *([SURROGATE] if entity.surrogate_id else [])]
    taken = dict.fromkeys(own, "a column that every entity table has")
    for name in entity.names:
        if name.lower() in taken:
            what = f"attribute {name} has the name of {taken[name.lower()]}; case does not count"
            yield Problem(what=what, where=entity.name, cure="rename the attribute")
        taken[name.lower()] = f"attribute {name}"


def _types(entity: Entity) -> Iterator[Problem]:
    for attribute in entity.attributes:
        if attribute.type.kind is not Kind.DECIMAL:
            continue
        digits, scale = attribute.type.length or 0, attribute.type.scale or 0
        if digits > _DIGITS or not 0 <= scale <= min(digits, _FRACTION):
            what = (
                f"attribute {attribute.name} is {attribute.type}: MySQL's decimals have at most"
                f" {_DIGITS} digits, {_FRACTION} of them behind the point"
            )
            cure = "make it smaller, or numeric, which is kept as text"
            yield Problem(what=what, where=entity.name, cure=cure)


def _key(entity: Entity) -> Iterator[Problem]:
    sizes = {name: _size(entity.attribute(name)) for name in entity.key}
    sizes |= {a.name: _size(a) for a in entity.attributes if a.references is not None}
    for name, size in sizes.items():
        if size is None:
            what = (
                f"attribute {name} is {entity.attribute(name).type}, which has no limit: a key of"
                f" MySQL has at most {KEY_BYTES} bytes"
            )
            cure = f"give it one: string(n), n up to {KEY_BYTES // 4}"
            yield Problem(what=what, where=entity.name, cure=cure)
    total = sum(sizes[name] or 0 for name in entity.key)
    if total > KEY_BYTES:
        what = (
            f"its key may take {total} bytes (four for each character), MySQL's have at most"
            f" {KEY_BYTES}"
        )
        cure = f"shorten its strings to {KEY_BYTES // 4} characters together"
        yield Problem(what=what, where=entity.name, cure=cure)


def _size(attribute: Attribute) -> int | None:
    return key_bytes(column_type(attribute.type, keyed=True))


def _row(entity: Entity) -> Iterator[Problem]:
    total = 64
    for attribute in entity.attributes:
        spelt = column_type(attribute.type, keyed=keyed(entity, attribute))
        total += (key_bytes(spelt) or _POINTER) + 3
    if total > _ROW_BYTES:
        what = f"a row may take {total} bytes, MySQL's have at most {_ROW_BYTES}"
        cure = "make some of its strings text, which is kept beside the row"
        yield Problem(what=what, where=entity.name, cure=cure)
