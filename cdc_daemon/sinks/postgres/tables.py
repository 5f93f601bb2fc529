"""Entity tables: their DDL, and how a live table differs from it.

A table holds the entity key (primary key), the attributes, ``last_sync_time``, ``deleted_at``
where some mapping deletes softly, and ``id`` where the entity asks for one. Text keys, and
attributes that hold keys of another entity, are COLLATE "C": equality is the same, comparison is
by bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cdc_daemon.model.entities import Attribute, Entity
from cdc_daemon.model.errors import Problem
from cdc_daemon.sinks.postgres.live import LiveTable
from cdc_daemon.sinks.postgres.names import (
    DELETED_AT,
    LAST_SYNC,
    SURROGATE,
    column_type,
    is_textual,
    listed,
    qualified,
    quote,
)

APPLY = "run cdc-daemon apply --admin-dsn …"
_TIMESTAMPTZ = "timestamp with time zone"


def wanted_columns(entity: Entity) -> dict[str, tuple[str, str]]:
    """Type and the rest of the definition of every column, in order."""
    wanted: dict[str, tuple[str, str]] = {}
    if entity.surrogate_id:
        wanted[SURROGATE] = ("bigint", "GENERATED ALWAYS AS IDENTITY UNIQUE")
    for attribute in entity.attributes:
        wanted[attribute.name] = (column_type(attribute.type), _rest(entity, attribute))
    wanted[LAST_SYNC] = (_TIMESTAMPTZ, "NOT NULL DEFAULT now()")
    if entity.soft_delete:
        wanted[DELETED_AT] = (_TIMESTAMPTZ, "")
    return wanted


def create_table(entity: Entity, schema: str) -> str:
    """DDL of an entity's table, without its foreign keys."""
    columns = [
        f"{quote(name)} {kind} {rest}".rstrip()
        for name, (kind, rest) in wanted_columns(entity).items()
    ]
    body = ",\n".join([*columns, f"PRIMARY KEY ({listed(entity.key)})"])
    return f"CREATE TABLE {qualified(schema, entity.name)} (\n{body}\n)"


def add_column(entity: Entity, schema: str, name: str) -> str:
    """DDL that adds one wanted column."""
    kind, rest = wanted_columns(entity)[name]
    table = qualified(schema, entity.name)
    return f"ALTER TABLE {table} ADD COLUMN {quote(name)} {kind} {rest}".rstrip()


def add_foreign_key(entity: Entity, attribute: Attribute, parent: Entity, schema: str) -> str:
    """DDL of the foreign key of an attribute that holds another entity's key."""
    return (
        f"ALTER TABLE {qualified(schema, entity.name)} ADD FOREIGN KEY ({quote(attribute.name)})"
        f" REFERENCES {qualified(schema, parent.name)} ({quote(parent.key[0])})"
        f" ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED"
    )


def add_index(entity: Entity, attribute: Attribute, schema: str) -> str:
    """DDL of the index by which deletes of the entity referred to find its referrers."""
    return f"CREATE INDEX ON {qualified(schema, entity.name)} ({quote(attribute.name)})"


def reserved_names(entity: Entity) -> list[Problem]:
    """Attributes that would take the name of a column the table has for itself."""
    taken = {LAST_SYNC, DELETED_AT} | ({SURROGATE} if entity.surrogate_id else set())
    return [
        Problem(
            what=f"attribute {name} has the name of a column that every entity table has",
            where=entity.name,
            cure="rename the attribute",
        )
        for name in entity.names
        if name in taken
    ]


def differences(entity: Entity, live: LiveTable, schema: str) -> list[Problem]:
    """Why rows of the entity cannot be written to the live table as they should."""
    where = f"{schema}.{entity.name}"
    if live.kind not in "rp":
        return [Problem(what="is not a table", where=where, cure="move it out of the way")]
    found: list[Problem] = []
    if live.key != entity.key:
        what = f"its primary key is ({', '.join(live.key)}), not ({', '.join(entity.key)})"
        found.append(Problem(what=what, where=where, cure=_by_hand(entity)))
    wanted = wanted_columns(entity)
    for name, (kind, _) in wanted.items():
        column = live.columns.get(name)
        if column is None:
            found.append(Problem(what=f"column {name} is missing", where=where, cure=APPLY))
        elif column.type != kind:
            what = f"column {name} is {column.type}, not {kind}"
            found.append(Problem(what=what, where=where, cure=_by_hand(entity)))
    found += [
        Problem(
            what=f"column {name} is no attribute, is NOT NULL and has no default",
            where=where,
            cure=f"give it a default or drop it: ALTER TABLE {where} ALTER {name} DROP NOT NULL",
        )
        for name, column in live.columns.items()
        if name not in wanted and column.required and not column.default
    ]
    return found


def misfits(live: LiveTable, wanted: Mapping[str, str], key: Sequence[str]) -> bool:
    """Whether a table of the ledger's own has other columns, types or key than wanted."""
    found = {name: column.type for name, column in live.columns.items()}
    return found != dict(wanted) or live.key != tuple(key)


def _rest(entity: Entity, attribute: Attribute) -> str:
    keyed = attribute.name in entity.key or attribute.references is not None
    collation = 'COLLATE "C"' if keyed and is_textual(attribute.type) else ""
    required = "NOT NULL" if attribute.required or attribute.name in entity.key else ""
    return f"{collation} {required}".strip()


def _by_hand(entity: Entity) -> str:
    return f"change entity {entity.name} in the configuration, or the table by hand"
