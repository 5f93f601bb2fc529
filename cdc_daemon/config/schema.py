"""The whole file as one model, and its JSON Schema.

One field, one meaning, one description: the reference page and the JSON Schema are generated from
the models. Checks between sections stand in ``consistency``, reading in ``load``.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from cdc_daemon.config.connections import Connection, SslMode, TargetConfig, TlsConfig
from cdc_daemon.config.entities import AttributeConfig, EntityConfig
from cdc_daemon.config.failures import FailuresConfig
from cdc_daemon.config.mappings import FieldConfig, MappingConfig, Removal
from cdc_daemon.config.notifications import NotificationsConfig
from cdc_daemon.config.scalars import AsTuple, Name, TableName
from cdc_daemon.config.settings import SettingsConfig
from cdc_daemon.config.sources import (
    SOURCE_KINDS,
    AnySource,
    MysqlSourceConfig,
    NullRules,
    PostgresSourceConfig,
    SourceConfig,
)
from cdc_daemon.config.strict import Model
from cdc_daemon.config.verification import VerificationConfig

__all__ = [
    "SOURCE_KINDS",
    "AnySource",
    "AttributeConfig",
    "ConfigurationFile",
    "Connection",
    "EntityConfig",
    "FailuresConfig",
    "FieldConfig",
    "MappingConfig",
    "MysqlSourceConfig",
    "NotificationsConfig",
    "NullRules",
    "PostgresSourceConfig",
    "Removal",
    "SettingsConfig",
    "SourceConfig",
    "SslMode",
    "TableName",
    "TargetConfig",
    "TlsConfig",
    "VerificationConfig",
    "schema_json",
]


class ConfigurationFile(Model):
    """One file; every section may be spread over several files."""

    include: Annotated[tuple[str, ...], AsTuple] = Field(
        default=(),
        description="More files, as patterns relative to this one.",
        examples=[["entities/*.yaml", "mappings/*.yaml"]],
    )
    sources: dict[Name, Annotated[AnySource, Field(discriminator="kind")]] = Field(
        default_factory=dict, description="Databases that are read, by name."
    )
    target: TargetConfig | str | None = Field(
        default=None, description="The control database, or its `url` alone."
    )
    entities: dict[Name, EntityConfig] = Field(
        default_factory=dict, description="The group's canonical entities, by name."
    )
    mappings: Annotated[tuple[MappingConfig, ...], AsTuple] = Field(
        default=(), description="Which table fills which entity, and how."
    )
    daemon: SettingsConfig = Field(default=SettingsConfig(), description="The daemon itself.")
    verification: VerificationConfig = Field(
        default=VerificationConfig(), description="Verification on a schedule."
    )
    notifications: NotificationsConfig | None = Field(
        default=None, description="Alerts by chat, mail and webhook. Without it there are none."
    )
    failures: FailuresConfig = Field(default=FailuresConfig(), description="The failure queue.")


def schema_json() -> dict[str, Any]:
    """JSON Schema of the files, for editors (``config schema``)."""
    schema = ConfigurationFile.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema
