"""The configuration as the rest of the daemon reads it: checked, complete, immutable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cdc_daemon.config.schema import (
    AnySource,
    FailuresConfig,
    MappingConfig,
    NotificationsConfig,
    SettingsConfig,
    TableName,
    TargetConfig,
    VerificationConfig,
)
from cdc_daemon.model.entities import Entity
from cdc_daemon.model.errors import Problem

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Everything the files say; ``entities`` carry what mappings imply (references, deletes).

    ``variables``: of the environment, that connections refer to: they may be secret.
    """

    sources: dict[str, AnySource]
    target: TargetConfig
    entities: dict[str, Entity]
    mappings: tuple[MappingConfig, ...]
    settings: SettingsConfig = field(default_factory=lambda: SettingsConfig.model_validate({}))
    verification: VerificationConfig = field(default_factory=VerificationConfig)
    notifications: NotificationsConfig | None = None
    failures: FailuresConfig = field(default_factory=FailuresConfig)
    warnings: tuple[Problem, ...] = ()
    files: tuple[str, ...] = ()
    places: Mapping[Path, str] = field(default_factory=dict, repr=False)
    variables: frozenset[str] = field(default=frozenset(), compare=False)
    _tables: dict[TableName, list[MappingConfig]] = field(init=False, repr=False, compare=False)
    _ref_targets: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index the mappings by table, and find those that a ``ref`` goes through."""
        tables: dict[TableName, list[MappingConfig]] = {}
        for mapping in self.mappings:
            tables.setdefault(mapping.from_, []).append(mapping)
        object.__setattr__(self, "_tables", tables)
        targets = (
            self.ref_target(mapping, attribute)
            for mapping in self.mappings
            for attribute, origin in mapping.origins.items()
            if origin.ref is not None
        )
        names = frozenset(target.name for target in targets if target is not None)
        object.__setattr__(self, "_ref_targets", names)

    def mappings_of(self, source: str) -> tuple[MappingConfig, ...]:
        """The mappings of one pipeline, in the order of the files."""
        return tuple(mapping for mapping in self.mappings if mapping.source == source)

    def mappings_from(self, table: TableName) -> tuple[MappingConfig, ...]:
        """The mappings of one table."""
        return tuple(self._tables.get(table, ()))

    def mapping(self, name: str) -> MappingConfig:
        """The mapping of that name. Raises KeyError."""
        for mapping in self.mappings:
            if mapping.name == name:
                return mapping
        raise KeyError(name)

    def mapping_to(self, entity: str) -> MappingConfig | None:
        """The mapping that writes an entity: one, until master-data rules exist."""
        return next((mapping for mapping in self.mappings if mapping.to == entity), None)

    def ref_target(self, mapping: MappingConfig, attribute: str) -> MappingConfig | None:
        """The mapping that an attribute's ``ref`` is resolved through; None if there is none."""
        table = mapping.origins[attribute].ref_from
        if table is None:
            return None
        references = self.entities[mapping.to].attribute(attribute).references
        found = self._tables.get(table, ())
        return next((mapping for mapping in found if mapping.to == references), None)

    def is_ref_target(self, mapping: MappingConfig) -> bool:
        """Whether some ``ref`` is resolved through this mapping: it must keep references."""
        return mapping.name in self._ref_targets

    def place(self, *path: str | int) -> str:
        """``file:line:column`` of a path, or of the nearest thing around it that is written."""
        for length in range(len(path), -1, -1):
            found = self.places.get(path[:length])
            if found is not None:
                return found
        return ""

    def describe(self) -> dict[str, Any]:
        """The whole configuration with defaults filled in and secrets masked."""

        def dump(model: Any) -> dict[str, Any]:
            shown: dict[str, Any] = model.model_dump(mode="json", by_alias=True)
            return shown

        return {
            "sources": {name: dump(source) for name, source in self.sources.items()},
            "target": {"url": self.target.url}
            if self.target.kind == "sqlite"
            else dump(self.target),
            "entities": {name: _describe_entity(entity) for name, entity in self.entities.items()},
            "mappings": [
                mapping.model_dump(mode="json", by_alias=True, exclude_unset=True)
                | {"name": mapping.name, "on_delete": mapping.on_delete}
                for mapping in self.mappings
            ],
            "daemon": dump(self.settings),
            "verification": dump(self.verification),
            "notifications": dump(self.notifications) if self.notifications else None,
            "failures": dump(self.failures),
        }


def _describe_entity(entity: Entity) -> dict[str, Any]:
    return {
        "key": list(entity.key),
        "attributes": {
            attribute.name: {
                "type": str(attribute.type),
                "required": attribute.required,
                "references": attribute.references,
                "sensitivity": attribute.sensitivity,
            }
            for attribute in entity.attributes
        },
        "surrogate_id": entity.surrogate_id,
        "soft_delete": entity.soft_delete,
    }
