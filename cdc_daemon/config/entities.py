"""Models of ``entities``: canonical entities as the files write them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from cdc_daemon.config.scalars import AsTuple, AttributeType, Name
from cdc_daemon.config.strict import Model, or_text, short_form


class AttributeConfig(Model):
    """One attribute of an entity: its type, written alone or with more about it."""

    type: AttributeType = Field(description="The attribute's type.", examples=["string(40)"])
    required: bool = Field(
        default=False,
        description="Whether NULL is refused. Attributes of the key always are required.",
    )
    references: Name | None = Field(
        default=None,
        description="Entity whose key this attribute holds; that key must be one attribute of the "
        "same type.",
        examples=["customer"],
    )
    sensitivity: Literal["personal", "secret"] | None = Field(
        default=None,
        description="Whether its values are personal data or a secret: then they, and the columns "
        "that they are made from, are shown as `•••` and sealed where changes are parked, with "
        "the keys under `failures`. Attributes that refer to a sensitive key are sensitive too.",
        examples=["personal"],
    )

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, data: Any) -> Any:
        return short_form(data, "type", "a type")

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return or_text(core_schema, handler, "The attribute's type.")


class EntityConfig(Model):
    """One canonical entity; it becomes one table of the control database."""

    key: Annotated[tuple[str, ...], AsTuple] = Field(
        min_length=1,
        description="Attributes that identify one row in the group.",
        examples=[["code"]],
    )
    attributes: dict[Name, AttributeConfig] = Field(
        min_length=1, description="Every attribute with its type, the key's among them."
    )
    surrogate_id: bool = Field(
        default=False,
        description="Whether the table also carries a generated `id`. It costs about a third of "
        "the update rate.",
    )
