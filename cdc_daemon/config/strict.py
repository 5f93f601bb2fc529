"""What all models of the files have in common."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from cdc_daemon.config.scalars import Complaint


class Model(BaseModel):
    """Strict, closed and immutable; its errors never quote what was given."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, hide_input_in_errors=True, populate_by_name=False
    )


def or_text(
    core_schema: CoreSchema, handler: GetJsonSchemaHandler, meaning: str
) -> JsonSchemaValue:
    """The JSON Schema of a model that may also be written as one text."""
    return {"anyOf": [{"type": "string", "description": meaning}, handler(core_schema)]}


def short_form(data: Any, key: str, meaning: str) -> Any:
    """Data of a model that may also be written as one text, which stands for one of its keys."""
    if isinstance(data, str):
        return {key: data}
    if data is None or isinstance(data, int | float):
        raise Complaint(
            f"expected {meaning}, found a number, true, false or nothing", "put a name in quotes"
        )
    return data
