"""Who refers to whom among the entities, and which steps can break that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from cdc_daemon.model.entities import Entity


@dataclass(frozen=True, slots=True)
class Referrer:
    """An attribute of an entity that holds keys of another."""

    entity: Entity
    attribute: str

    @property
    def keyed(self) -> bool:
        """Whether the attribute is the first part of its own entity's key."""
        return self.attribute == self.entity.key[0]

    @property
    def lasting(self) -> bool:
        """Whether the attribute cannot be NULL."""
        required = self.entity.attribute(self.attribute).required
        return required or self.attribute in self.entity.key


def referrers(entities: Mapping[str, Entity]) -> dict[str, list[Referrer]]:
    """Who refers to each entity."""
    found: dict[str, list[Referrer]] = defaultdict(list)
    for entity in entities.values():
        for attribute in entity.attributes:
            if attribute.references in entities:
                found[str(attribute.references)].append(Referrer(entity, attribute.name))
    return dict(found)
