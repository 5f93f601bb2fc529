"""What else is known about rows that are not equal: parked, kept on purpose, without a parent.

* A source row is parked when its lane is blocked. A row that only the target has is parked when the
  lane of its key is, or of the source row it came from: known from the reference table, or from the
  key itself where that carries the source row's identity.
* ``ignore`` leaves rows in the target whose source row is gone or no longer meets ``where``.
* A ``ref`` keeps the key it was given when the row it means is deleted softly, or leaves.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from cdc_daemon.config.configuration import Configuration
from cdc_daemon.config.schema import MappingConfig
from cdc_daemon.engine.lanes import entity_lane, source_lane
from cdc_daemon.mapping.compile import CompiledMapping
from cdc_daemon.mapping.convert import canonical
from cdc_daemon.model.entities import Attribute
from cdc_daemon.sinks.columns import key_attributes
from cdc_daemon.verify.comparison import Group, Key, SourceRow
from cdc_daemon.verify.hashes import Digest
from cdc_daemon.verify.reading import Texts
from cdc_daemon.verify.target import TargetReader

CHUNK = 50_000
"""Keys asked for at once."""

T = TypeVar("T")


@dataclass(slots=True)
class Circumstances:
    """What is known about the groups of one mapping.

    ``orphans``: (attribute, key) of rows that a dangling ``ref`` may rightly still name.
    ``owners``: the source row that a row which only the target has came from, where it is known.
    """

    parked_rows: set[Texts] = field(default_factory=set)
    parked_keys: set[Key] = field(default_factory=set)
    kept_keys: set[Key] = field(default_factory=set)
    orphans: set[tuple[str, bytes]] = field(default_factory=set)
    owners: dict[Key, Texts] = field(default_factory=dict)


def chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """The items, some thousands at once."""
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]


class Queue:
    """The blocked lanes of one pipeline, and how a mapping's rows relate to them."""

    def __init__(self, blocked: Collection[bytes]) -> None:
        self._blocked = blocked

    def holds(self, compiled: CompiledMapping, row: SourceRow) -> bool:
        """Whether a source row's lane is blocked."""
        return source_lane(compiled.layout.mapping, row.identity) in self._blocked

    def holding(
        self, target: TargetReader, compiled: CompiledMapping, keys: Collection[Key]
    ) -> set[Key]:
        """Those of the target's keys that a parked change is about."""
        if not self._blocked or not keys:
            return set()
        layout = compiled.layout
        found = {key for key in keys if entity_lane(layout.entity.name, key) in self._blocked}
        for key, identity in self.identities(target, compiled, keys):
            if source_lane(layout.mapping, identity) in self._blocked:
                found.add(key)
        return found

    def identities(
        self, target: TargetReader, compiled: CompiledMapping, keys: Collection[Key]
    ) -> Iterator[tuple[Key, Texts]]:
        """The source rows that target rows came from, as far as it is known."""
        if compiled.layout.reference is None:
            yield from ((key, self._identity_in(compiled, key)) for key in keys)
            return
        for some in chunks(list(keys)):
            yield from target.identities(compiled.layout, some)

    def _identity_in(self, compiled: CompiledMapping, key: Key) -> Texts:
        """The identity that an entity key carries; a char column's with its padding."""
        places = {i: n for n, one in enumerate(compiled.key_fields) for i in one.inputs}
        values: list[bytes | None] = []
        for i in compiled.relation.identity:
            value = key[places[i]] if i in places else None
            type_ = compiled.relation.columns[i].type
            if value is not None and type_.name == "char":
                value = value.decode().ljust(type_.length or 0).encode()
            values.append(value)
        return tuple(values)

    def orphans(
        self,
        target: TargetReader,
        configuration: Configuration,
        parent: CompiledMapping,
        keys: Collection[bytes],
    ) -> set[bytes]:
        """Those of a parent's keys that a row may still name although no source row has them now:
        the parent is deleted softly, its change is parked, or it is left alone."""
        leaves = {parent.config.on_delete, parent.config.leaves}
        if "ignore" in leaves or not keys:
            return set(keys)
        entity = configuration.entities[parent.config.to]
        found = {key[0] for key in self.holding(target, parent, {(key,) for key in keys})}
        if not entity.soft_delete:
            return found
        (attribute,) = key_attributes(entity)
        for some in chunks(list(keys)):
            found |= {canonical(attribute.type, text) for text in target.tombstones(entity, some)}
        return found


def dangling_keys(
    groups: Sequence[Group], attributes: Sequence[Attribute]
) -> dict[str, set[bytes]]:
    """By attribute, the keys that target rows name where the source row's ``ref`` leads nowhere."""
    found: dict[str, set[bytes]] = {}
    for group in groups:
        if group.target is None or isinstance(group.target, Digest):
            continue
        names = set(itertools.chain.from_iterable(row.dangling for row in group.rows))
        for attribute, value in zip(attributes, group.target, strict=True):
            if attribute.name in names and value is not None:
                found.setdefault(attribute.name, set()).add(value)
    return found


def ignores(mapping: MappingConfig) -> bool:
    """Whether rows may stay in the target on purpose."""
    return mapping.on_delete == "ignore" or (bool(mapping.where) and mapping.leaves == "ignore")


def keeps_all(mapping: MappingConfig) -> bool:
    """Whether every row stays in the target on purpose, deleted or out of the filter."""
    return mapping.on_delete == "ignore" and (not mapping.where or mapping.leaves == "ignore")


def kept(
    mapping: MappingConfig, keys: Collection[Key], unfiltered: Callable[[Sequence[Key]], set[Key]]
) -> set[Key]:
    """Those of the target's keys that stay on purpose. ``unfiltered``: which of some keys a row of
    the source has when ``where`` is left aside."""
    if not keys or not ignores(mapping):
        return set()
    if keeps_all(mapping):
        return set(keys)
    there: set[Key] = set()
    for some in chunks(list(keys)):
        there |= unfiltered(some)
    return there if mapping.leaves == "ignore" else set(keys) - there
