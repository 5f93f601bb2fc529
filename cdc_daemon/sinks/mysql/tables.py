"""Entity tables: their DDL, and how a live table differs from it.

A table holds the entity key (primary key), the attributes, ``last_sync_time``, ``deleted_at``
where some mapping deletes softly, and ``id`` where the entity asks for one. Texts are equal only if
their bytes are, blanks at their end among them. There are no foreign keys (``dangling`` says why);
attributes that hold another entity's key are indexed. A column's comment says which entity type it
is for: several are kept in one type of MySQL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from cdc_daemon.model.entities import Attribute, Entity
from cdc_daemon.model.errors import Problem
from cdc_daemon.sinks.columns import DELETED_AT, LAST_SYNC, SURROGATE
from cdc_daemon.sinks.mysql.checkpoint import APPLY
from cdc_daemon.sinks.mysql.limits import keyed
from cdc_daemon.sinks.mysql.live import LiveColumn, LiveTable
from cdc_daemon.sinks.mysql.migrations import options
from cdc_daemon.sinks.mysql.names import (
    MAX_CHARACTERS,
    MOMENT,
    PREFIX,
    column_type,
    is_text,
    listed,
    quote,
)
from cdc_daemon.sinks.mysql.values import literal

BYTEWISE = frozenset({"utf8mb4_nopad_bin", "utf8mb4_0900_bin"})
"""Collations by which texts are equal only if their bytes are."""

_KNOWN_TYPE = re.compile(r"[a-z]+(?:\(\d+(?:,\d+)?\))?")


def wanted_columns(entity: Entity) -> dict[str, tuple[str, str]]:
    """Type and the rest of the definition of every column, in order."""
    wanted: dict[str, tuple[str, str]] = {}
    if entity.surrogate_id:
        wanted[SURROGATE] = ("bigint", "NOT NULL AUTO_INCREMENT UNIQUE")
    for attribute in entity.attributes:
        wanted[attribute.name] = (_type(entity, attribute), _rest(entity, attribute))
    wanted[LAST_SYNC] = (MOMENT, "NOT NULL COMMENT 'UTC'")
    if entity.soft_delete:
        wanted[DELETED_AT] = (MOMENT, "COMMENT 'UTC'")
    return wanted


def create_table(entity: Entity, entities: Mapping[str, Entity], collation: str) -> str:
    """DDL of an entity's table."""
    lines = [
        f"{quote(name)} {kind} {rest}".rstrip()
        for name, (kind, rest) in wanted_columns(entity).items()
    ]
    lines.append(f"PRIMARY KEY ({listed(entity.key)})")
    lines += [
        f"KEY {_index(attribute)} ({quote(attribute.name)})"
        for attribute in indexed_attributes(entity, entities)
    ]
    body = ",\n".join(lines)
    return f"CREATE TABLE {quote(entity.name)} (\n{body}\n) {options(collation)}"


def add_column(entity: Entity, name: str, collation: str) -> str:
    """DDL that adds one wanted column."""
    kind, rest = wanted_columns(entity)[name]
    text = f" CHARACTER SET utf8mb4 COLLATE {collation}" if is_text(kind) else ""
    table = quote(entity.name)
    return f"ALTER TABLE {table} ADD COLUMN {quote(name)} {kind}{text} {rest}".rstrip()


def add_index(entity: Entity, attribute: Attribute) -> str:
    """DDL of the index by which the rows that refer to another are found."""
    name = quote(attribute.name)
    return f"ALTER TABLE {quote(entity.name)} ADD KEY {_index(attribute)} ({name})"


def indexed_attributes(entity: Entity, entities: Mapping[str, Entity]) -> list[Attribute]:
    """Attributes that hold another entity's key and do not lead their own."""
    return [
        attribute
        for attribute in entity.attributes
        if attribute.references in entities and attribute.name != entity.key[0]
    ]


def differences(entity: Entity, live: LiveTable, collation: str) -> list[Problem]:
    """Why rows of the entity cannot be written to the live table as they should."""
    where = entity.name
    if live.kind != "BASE TABLE":
        return [Problem(what="is not a table", where=where, cure="move it out of the way")]
    found: list[Problem] = []
    if live.engine != "InnoDB":
        cure = f"ALTER TABLE {quote(where)} ENGINE = InnoDB"
        what = f"its engine is {live.engine}, which knows no transactions"
        found.append(Problem(what=what, where=where, cure=cure))
    if live.key != entity.key:
        what = f"its primary key is ({', '.join(live.key)}), not ({', '.join(entity.key)})"
        found.append(Problem(what=what, where=where, cure=_by_hand(entity)))
    wanted = wanted_columns(entity)
    for name, (kind, rest) in wanted.items():
        column = live.columns.get(name)
        if column is None:
            found.append(Problem(what=f"column {name} is missing", where=where, cure=APPLY))
            continue
        problem = _misfit(entity, name, column, kind)
        if problem:
            text = f" CHARACTER SET utf8mb4 COLLATE {collation}" if is_text(kind) else ""
            cure = f"ALTER TABLE {quote(where)} MODIFY {quote(name)} {kind}{text} {rest}".rstrip()
            found.append(Problem(what=problem, where=where, cure=cure))
    found += [
        Problem(
            what=f"column {name} is no attribute, is NOT NULL and has no default",
            where=where,
            cure=f"give it a default, or drop it: ALTER TABLE {quote(where)} DROP {quote(name)}",
        )
        for name, column in live.columns.items()
        if name not in wanted and column.required and not column.default
    ]
    return found


def blurred(entity: Entity, live: LiveTable) -> list[tuple[str, str]]:
    """Key columns (and attributes that hold keys) that take different texts for the same, and
    their collation."""
    return [
        (attribute.name, column.collation)
        for attribute in entity.attributes
        if keyed(entity, attribute)
        and (column := live.columns.get(attribute.name)) is not None
        and is_text(column.type)
        and column.collation not in BYTEWISE
    ]


def misfits(live: LiveTable, wanted: Mapping[str, str], key: Sequence[str]) -> bool:
    """Whether a table of the ledger's own has other columns, types or key than wanted."""
    found = {name: column.type for name, column in live.columns.items()}
    return found != dict(wanted) or live.key != tuple(key)


def _misfit(entity: Entity, name: str, column: LiveColumn, kind: str) -> str:
    """What is wrong with a column; empty: nothing."""
    if column.type != kind:
        return f"column {name} is {column.type}, not {kind}"
    if is_text(kind) and not column.collation.startswith("utf8mb4"):
        return f"column {name} has collation {column.collation}, which not every text fits into"
    meant = str(entity.attribute(name).type) if name in entity.names else ""
    if meant and column.comment != meant and _KNOWN_TYPE.fullmatch(column.comment):
        return f"column {name} was made for {column.comment}, not for {meant}"
    return ""


def _type(entity: Entity, attribute: Attribute) -> str:
    return column_type(attribute.type, keyed=keyed(entity, attribute))


def _rest(entity: Entity, attribute: Attribute) -> str:
    required = attribute.required or attribute.name in entity.key
    return f"{'NOT NULL ' if required else ''}COMMENT {literal(str(attribute.type))}"


def _index(attribute: Attribute) -> str:
    return quote(f"{PREFIX}{attribute.name}"[:MAX_CHARACTERS])


def _by_hand(entity: Entity) -> str:
    return f"change entity {entity.name} in the configuration, or the table by hand"
