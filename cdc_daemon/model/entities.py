"""Entities as the group sees them: attribute types, attributes, keys.

Not in here: how a source's value becomes one of these types (mapping/convert) and how a table of
them is written (sinks).
"""

from __future__ import annotations

import enum
from collections.abc import Collection
from dataclasses import dataclass


class Kind(enum.Enum):
    """The closed family of entity types (DESIGN section 7)."""

    STRING = "string"  # string(n): at most n characters
    TEXT = "text"
    INTEGER = "integer"  # 32 bits
    BIGINT = "bigint"  # 64 bits
    DECIMAL = "decimal"  # decimal(p,s)
    NUMERIC = "numeric"  # any precision
    DOUBLE = "double"
    BOOLEAN = "boolean"
    DATE = "date"
    TIME = "time"
    TIMESTAMP = "timestamp"  # without time zone
    TIMESTAMPTZ = "timestamptz"
    INTERVAL = "interval"
    UUID = "uuid"
    JSON = "json"  # compared by value, stored as jsonb on PostgreSQL
    BYTES = "bytes"


@dataclass(frozen=True, slots=True)
class EntityType:
    """One attribute type: its kind and, for some kinds, length or precision and scale."""

    kind: Kind
    length: int | None = None  # STRING: characters; DECIMAL: precision
    scale: int | None = None  # DECIMAL only

    def __str__(self) -> str:
        if self.kind is Kind.STRING:
            return f"string({self.length})"
        if self.kind is Kind.DECIMAL:
            return f"decimal({self.length},{self.scale})"
        return str(self.kind.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """One attribute; ``references`` names the entity whose key it holds.

    ``sensitivity``: ``personal`` or ``secret``; None: not sensitive.
    """

    name: str
    type: EntityType
    required: bool = False
    references: str | None = None
    sensitivity: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """One canonical entity: its key and its attributes (the key's attributes among them, first)."""

    name: str
    key: tuple[str, ...]
    attributes: tuple[Attribute, ...]
    surrogate_id: bool = False
    soft_delete: bool = False  # the table carries ``deleted_at``: some mapping deletes softly

    def attribute(self, name: str) -> Attribute:
        """The attribute of that name. Raises KeyError when there is none."""
        for attribute in self.attributes:
            if attribute.name == name:
                return attribute
        raise KeyError(name)

    @property
    def names(self) -> tuple[str, ...]:
        """All attribute names, key first."""
        return tuple(attribute.name for attribute in self.attributes)

    @property
    def sensitive(self) -> frozenset[str]:
        """Names of the sensitive attributes."""
        return frozenset(one.name for one in self.attributes if one.sensitivity is not None)

    @property
    def references(self) -> tuple[str, ...]:
        """Entities this one refers to, itself included where it does."""
        return tuple(dict.fromkeys(a.references for a in self.attributes if a.references))


def reference_order(entities: dict[str, Entity]) -> list[list[str]]:
    """Entities grouped so that each group refers only to earlier groups and to itself.

    A group with more than one name is a cycle of references. Tarjan's algorithm.
    """
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for parent in entities[name].references:
            if parent not in entities:
                continue
            if parent not in index:
                visit(parent)
                low[name] = min(low[name], low[parent])
            elif parent in stack:
                low[name] = min(low[name], index[parent])
        if low[name] == index[name]:
            group: list[str] = []
            while not group or group[-1] != name:
                group.append(stack.pop())
            groups.append(sorted(group))

    for name in entities:
        if name not in index:
            visit(name)
    return groups


def connected(entities: dict[str, Entity], names: Collection[str]) -> dict[str, Entity]:
    """These entities, what they refer to, what refers to them, and so on, in the given order."""
    near: dict[str, set[str]] = {name: set() for name in entities}
    for name, entity in entities.items():
        for parent in entity.references:
            if parent in near:
                near[name].add(parent)
                near[parent].add(name)
    found: set[str] = set()
    todo = [name for name in names if name in near]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo.extend(near[name])
    return {name: entity for name, entity in entities.items() if name in found}
