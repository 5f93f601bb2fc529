"""What the sections hold after each entry was checked by itself, valid or not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cdc_daemon.config.connections import TargetConfig
from cdc_daemon.config.entities import AttributeConfig, EntityConfig
from cdc_daemon.config.failures import FailuresConfig
from cdc_daemon.config.mappings import MappingConfig
from cdc_daemon.config.notifications import NotificationsConfig
from cdc_daemon.config.scalars import TableName
from cdc_daemon.config.settings import SettingsConfig
from cdc_daemon.config.sources import AnySource
from cdc_daemon.config.verification import VerificationConfig


@dataclass(slots=True)
class Written:
    """What the sections hold, as far as it is valid by itself, beside the plain data."""

    data: dict[str, Any]
    sources: dict[str, AnySource] = field(default_factory=dict)
    target: TargetConfig | None = None
    entities: dict[str, EntityConfig] = field(default_factory=dict)
    mappings: list[MappingConfig] = field(default_factory=list)
    settings: SettingsConfig = field(default_factory=lambda: SettingsConfig.model_validate({}))
    verification: VerificationConfig = field(default_factory=VerificationConfig)
    notifications: NotificationsConfig | None = None
    failures: FailuresConfig = field(default_factory=FailuresConfig)

    def by_table(self) -> dict[TableName, list[MappingConfig]]:
        """The mappings of each table."""
        found: dict[TableName, list[MappingConfig]] = {}
        for mapping in self.mappings:
            found.setdefault(mapping.from_, []).append(mapping)
        return found

    def attributes_of(self, entity: str) -> list[str]:
        """Every attribute that the files name, valid or not."""
        return _names(self.data["entities"].get(entity), "attributes")

    def filled_by(self, mapping: MappingConfig, part: str) -> list[str]:
        """Every attribute that a mapping's ``key`` or ``fields`` names, valid or not."""
        return _names(self.data["mappings"][mapping.path[1]], part)

    def attribute(self, entity: str, name: str) -> AttributeConfig | None:
        """An attribute that is valid by itself."""
        found = self.entities.get(entity)
        return found.attributes.get(name) if found else None


def _names(data: Any, part: str) -> list[str]:
    inside = data.get(part) if isinstance(data, dict) else None
    return list(inside) if isinstance(inside, dict) else []


def known(written: Written, section: str) -> str:
    """The names of a section, as a cure."""
    return f"{section} are {', '.join(written.data[section])}"
