"""Entities and layouts that the contract suite writes through."""

from __future__ import annotations

from cdc_daemon.model.effects import Layout, ReferenceTable
from cdc_daemon.model.entities import Attribute, Entity, EntityType, Kind

TEXT = EntityType(Kind.TEXT)
BIGINT = EntityType(Kind.BIGINT)


def string(length: int) -> EntityType:
    return EntityType(Kind.STRING, length)


MATERIAL = Entity(
    name="material",
    key=("code",),
    attributes=(
        Attribute(name="code", type=string(40), required=True),
        Attribute(name="name", type=TEXT),
        Attribute(name="note", type=TEXT),
    ),
    soft_delete=True,
)
LINE = Entity(
    name="order line",  # a name that needs quoting
    key=("order_no", "position"),
    attributes=(
        Attribute(name="order_no", type=string(20), required=True),
        Attribute(name="position", type=EntityType(Kind.INTEGER), required=True),
        Attribute(name="name", type=TEXT),
    ),
)
CUSTOMER = Entity(
    name="customer",
    key=("code",),
    attributes=(
        Attribute(name="code", type=string(40), required=True),
        Attribute(name="name", type=TEXT, required=True),
    ),
)
ORDER = Entity(
    name="order",
    key=("no",),
    attributes=(
        Attribute(name="no", type=BIGINT, required=True),
        Attribute(name="customer", type=string(40), references="customer"),
    ),
)
DELIVERY = Entity(
    name="delivery",
    key=("no",),
    attributes=(
        Attribute(name="no", type=BIGINT, required=True),
        Attribute(name="customer", type=string(40), references="customer"),
    ),
    soft_delete=True,
)
INVOICE = Entity(
    name="invoice",
    key=("no",),
    attributes=(
        Attribute(name="no", type=BIGINT, required=True),
        Attribute(name="customer", type=string(40), required=True, references="customer"),
    ),
    soft_delete=True,
)
UNIT = Entity(
    name="unit",
    key=("code",),
    attributes=(
        Attribute(name="code", type=string(40), required=True),
        Attribute(name="parent", type=string(40), references="unit"),
    ),
)
PLANT = Entity(
    name="plant",
    key=("code",),
    attributes=(Attribute(name="code", type=string(40), required=True),),
    soft_delete=True,
)
SHELF = Entity(
    name="shelf",
    key=("no",),
    attributes=(
        Attribute(name="no", type=BIGINT, required=True),
        Attribute(name="plant", type=string(40), references="plant"),
    ),
    soft_delete=True,
)
EVERYTHING = Entity(
    name="everything",
    key=("id",),
    attributes=(
        Attribute(name="id", type=EntityType(Kind.UUID), required=True),
        Attribute(name="string", type=string(5)),
        Attribute(name="text", type=TEXT),
        Attribute(name="integer", type=EntityType(Kind.INTEGER)),
        Attribute(name="bigint", type=BIGINT),
        Attribute(name="decimal", type=EntityType(Kind.DECIMAL, 18, 4)),
        Attribute(name="numeric", type=EntityType(Kind.NUMERIC)),
        Attribute(name="double", type=EntityType(Kind.DOUBLE)),
        Attribute(name="boolean", type=EntityType(Kind.BOOLEAN)),
        Attribute(name="date", type=EntityType(Kind.DATE)),
        Attribute(name="time", type=EntityType(Kind.TIME)),
        Attribute(name="timestamp", type=EntityType(Kind.TIMESTAMP)),
        Attribute(name="timestamptz", type=EntityType(Kind.TIMESTAMPTZ)),
        Attribute(name="interval", type=EntityType(Kind.INTERVAL)),
        Attribute(name="json", type=EntityType(Kind.JSON)),
        Attribute(name="bytes", type=EntityType(Kind.BYTES)),
    ),
)
ENTITIES = {
    one.name: one
    for one in (
        MATERIAL,
        LINE,
        CUSTOMER,
        ORDER,
        DELIVERY,
        INVOICE,
        UNIT,
        PLANT,
        SHELF,
        EVERYTHING,
    )
}


def _layout(entity: Entity, *, soft: bool = False, reference: str = "") -> Layout:
    table = ReferenceTable(name=reference, columns=(("id", "bigint"),)) if reference else None
    return Layout(
        mapping=f"erp.{entity.name}" + (".ref" if reference else ""),
        entity=entity,
        columns=entity.names,
        key=tuple(entity.names.index(name) for name in entity.key),
        soft=soft,
        reference=table,
    )


MATERIALS = _layout(MATERIAL, soft=True)
REFERRED = _layout(MATERIAL, soft=True, reference="reference_material")
LINES = _layout(LINE)
CUSTOMERS = _layout(CUSTOMER)
ORDERS = _layout(ORDER)
DELIVERIES = _layout(DELIVERY, soft=True)
INVOICES = _layout(INVOICE, soft=True)
UNITS = _layout(UNIT)
PLANTS = _layout(PLANT, soft=True)
SHELVES = _layout(SHELF, soft=True)
ALL = _layout(EVERYTHING)
LAYOUTS = (
    MATERIALS,
    REFERRED,
    LINES,
    CUSTOMERS,
    ORDERS,
    DELIVERIES,
    INVOICES,
    UNITS,
    PLANTS,
    SHELVES,
    ALL,
)
