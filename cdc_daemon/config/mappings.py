"""Models of ``mappings``: which table fills which entity, and where each attribute comes from."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, PrivateAttr, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from cdc_daemon.config.scalars import (
    AsTuple,
    ColumnName,
    Complaint,
    MappingName,
    TableName,
    TableReference,
    ValueText,
    parse_table_name,
)
from cdc_daemon.config.strict import Model, or_text, short_form
from cdc_daemon.model.entities import Kind

Removal = Literal["soft", "hard", "ignore"]

_STEPS = {
    "from": frozenset({"map", "default", "trim", "round", "truncate", "invalid"}),
    "expr": frozenset({"round", "truncate", "invalid"}),
    "ref": frozenset({"invalid"}),
    "const": frozenset[str](),
}
"""What may stand beside each origin."""


LOSSES: dict[Kind, frozenset[str]] = {
    Kind.STRING: frozenset({"truncate"}),
    Kind.DATE: frozenset({"truncate"}),
    **dict.fromkeys(
        (Kind.INTEGER, Kind.BIGINT, Kind.DECIMAL, Kind.DOUBLE), frozenset({"round", "truncate"})
    ),
}
"""What may be lost on the way to an attribute of that kind."""


class FieldConfig(Model):
    """Where an attribute's value comes from: a column alone, or one origin with steps after it.

    Exactly one origin: `from` (a column), `const`, `expr`, or `ref` with `from` (a table).
    """

    from_: str | None = Field(
        default=None,
        alias="from",
        description="The column; beside `ref`, the table whose mapping knows the row that the id "
        "stands for.",
        examples=["fname"],
    )
    const: ValueText | None = Field(
        default=None, description="The same value for every row; null for NULL."
    )
    expr: str | None = Field(
        default=None,
        min_length=1,
        description="An expression over the row's columns (a subset of PostgreSQL's SQL, see "
        "[expressions](expressions.md)).",
        examples=["ROUND(fprice * 1.13, 4)"],
    )
    ref: ColumnName | None = Field(
        default=None,
        description="A column that holds the id of a row of the table in `from`; the attribute "
        "becomes that row's entity key.",
        examples=["fcustomerid"],
    )
    map: dict[str, ValueText | None] | None = Field(
        default=None,
        min_length=1,
        description="Values to replace. What is not listed becomes `default` where that is given; "
        "else the change parks. A key is a value of the column: `1` is 1.00 in a numeric(5,2), "
        "`true` is a boolean's t.",
        examples=[{"PCS": "EA"}],
    )
    default: ValueText | None = Field(
        default=None,
        description="Value in place of NULL, and, beside `map`, of what the map does not list.",
    )
    trim: bool = Field(
        default=False, description="Whether blanks at both ends are cut off, before anything else."
    )
    round: bool = Field(
        default=False,
        description="Allow rounding to the attribute's scale (integer, bigint, decimal, double) "
        "instead of parking the change.",
    )
    truncate: bool = Field(
        default=False,
        description="Allow cutting to the attribute's length (string), scale (integer, bigint, "
        "decimal, double) or day (date) instead of parking the change.",
    )
    invalid: Literal["null", "park", "keep"] = Field(
        default="park",
        description="What a value becomes that is none of its column's type: NULL, a parked "
        "change, or its text.",
    )

    _ref_from: TableName | None = PrivateAttr(None)

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, data: Any) -> Any:
        if isinstance(data, dict) and "invalid" in data and data["invalid"] is None:
            data = data | {"invalid": "null"}  # the word, which YAML reads as nothing
        return short_form(data, "from", "a column")

    @model_validator(mode="after")
    def _one_origin(self) -> FieldConfig:
        given = self.model_fields_set
        origins: list[str] = [name for name in ("const", "expr", "ref") if name in given]
        if self.from_ is not None and self.ref is None:
            origins.insert(0, "from")
        if len(origins) != 1:
            found = f"found {' and '.join(origins)}" if origins else "found none"
            raise Complaint(
                f"expected exactly one of from, const, expr and ref; {found}",
                "name a column alone, or give one origin",
            )
        self._check_steps(origins[0], given)
        return self

    def _check_steps(self, origin: str, given: set[str]) -> None:
        unfit = sorted((given - {"from_", origin}) - _STEPS[origin])
        if unfit:
            raise Complaint(f"{unfit[0]!r} does not go with {origin!r}", "take it out")
        if origin == "ref":
            if self.from_ is None:
                raise Complaint(
                    "'ref' needs 'from'",
                    "name the table that the id points to: source.schema.table",
                )
            self._ref_from = parse_table_name(self.from_)
        if origin == "from":
            _check_column(self.from_ or "")
        if self.round and self.truncate:
            raise Complaint("'round' and 'truncate' exclude each other", "leave one of them")

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return or_text(core_schema, handler, "The column.")

    @property
    def column(self) -> str | None:
        """The column that is taken over, where that is the origin."""
        return self.from_ if self.ref is None else None

    @property
    def is_const(self) -> bool:
        """Whether the origin is ``const``, which may be NULL."""
        return "const" in self.model_fields_set

    @property
    def ref_from(self) -> TableName | None:
        """The table that ``ref`` points to."""
        return self._ref_from

    @property
    def has_default(self) -> bool:
        """Whether ``default`` is given; it may be NULL."""
        return "default" in self.model_fields_set

    @property
    def lossy(self) -> Literal["round", "truncate"] | None:
        """Which loss the mapping allows."""
        if self.round:
            return "round"
        return "truncate" if self.truncate else None


def _check_column(text: str) -> None:
    if not text.strip() or "\x00" in text:
        raise Complaint("a column name is empty", "name the column as the database stores it")


class MappingConfig(Model):
    """One table's rows as rows of one entity."""

    name: MappingName = Field(
        default="",
        description="Name in messages and metrics. Default: `<source>.<table>.<entity>`, blanks "
        "and slashes as `_`.",
        examples=["erp.t_bd_material.material"],
    )
    from_: TableReference = Field(
        alias="from",
        description="The table, as `source.schema.table`, names as the database stores them; a "
        "part that holds a dot stands in double quotes.",
        examples=["erp.public.t_bd_material"],
    )
    to: str = Field(description="The entity.", examples=["material"])
    where: str | None = Field(
        default=None,
        min_length=1,
        description="Which rows count: a condition over the row's columns (a subset of "
        "PostgreSQL's SQL, see [expressions](expressions.md)).",
        examples=["fstatus = 'C'"],
    )
    key: dict[str, FieldConfig] = Field(
        min_length=1, description="Origin of every attribute of the entity's key."
    )
    fields: dict[str, FieldConfig] = Field(
        default_factory=dict, description="Origin of the other attributes."
    )
    on_delete: Removal = Field(
        default="hard",
        description="What a deleted row does to its entity row: `hard` deletes it, `soft` sets "
        "`deleted_at`, `ignore` leaves it.",
    )
    on_leave: Removal | None = Field(
        default=None,
        description="What a row does that no longer meets `where`. Default: as `on_delete`.",
    )
    reference: bool | None = Field(
        default=None,
        description="Whether source row and entity key are kept together in a table of the ledger. "
        "Default: where deletes, key changes or a `ref` need it.",
    )
    identity: Annotated[tuple[ColumnName, ...], AsTuple] = Field(
        default=(),
        description="Columns that identify a row, only for tables without a primary key under "
        "replica identity FULL.",
        examples=[["fbillno", "fseq"]],
    )

    _path: tuple[str | int, ...] = PrivateAttr(())

    @model_validator(mode="before")
    @classmethod
    def _default_name(cls, data: Any) -> Any:
        if isinstance(data, dict) and "name" not in data:
            try:
                table = parse_table_name(data["from"])
                name = f"{table.source}.{table.table}.{data['to']}"
                return data | {"name": re.sub(r"[\s\x00-\x1f/]", "_", name)[:200]}
            except (KeyError, TypeError, Complaint):
                pass  # reported where it stands
        return data

    def model_post_init(self, context: Any, /) -> None:
        """Remember where in the files the mapping stands."""
        super().model_post_init(context)
        self._path = (context or {}).get("path", ())

    @property
    def path(self) -> tuple[str | int, ...]:
        """The mapping's path in the merged files, for ``Configuration.place``."""
        return self._path

    @property
    def source(self) -> str:
        """Name of the source, and of the pipeline."""
        return self.from_.source

    @property
    def schema_(self) -> str:
        """Schema of the table."""
        return self.from_.schema

    @property
    def table(self) -> str:
        """Name of the table."""
        return self.from_.table

    @property
    def origins(self) -> dict[str, FieldConfig]:
        """Key and fields together, by attribute."""
        return self.key | self.fields

    @property
    def leaves(self) -> Removal:
        """``on_leave`` with its default filled in."""
        return self.on_leave or self.on_delete

    def path_of(self, attribute: str) -> tuple[str | int, ...]:
        """The path of an attribute's origin, for ``Configuration.place``."""
        return (*self._path, "key" if attribute in self.key else "fields", attribute)
