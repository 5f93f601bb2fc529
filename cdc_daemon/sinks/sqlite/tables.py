"""Entity tables: their DDL, and how a live table differs from it.

A table holds the entity key (primary key), the attributes, ``last_sync_time``, ``deleted_at``
where some mapping deletes softly, and ``id`` where the entity asks for one. Tables are STRICT.
Attributes that hold another entity's key refer to its table, and are indexed: SQLite looks for the
children of each parent that is deleted, renamed, or written while a reference is open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cdc_daemon.model.entities import Attribute, Entity, Kind
from cdc_daemon.model.errors import Problem
from cdc_daemon.sinks.columns import DELETED_AT, LAST_SYNC, SURROGATE
from cdc_daemon.sinks.sqlite.clauses import deviations, silences
from cdc_daemon.sinks.sqlite.database import Connection
from cdc_daemon.sinks.sqlite.names import (
    PREFIX,
    constraint_name,
    listed,
    quote,
    stored_type,
    type_constraint,
)

_APPLY = "run cdc-daemon apply"
_ANEW = "drop the table, run cdc-daemon apply and take a new snapshot"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveColumn:
    """A column as the schema has it."""

    type: str
    required: bool
    default: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveTable:
    """A table as the schema has it; ``sql`` is the statement that made it."""

    kind: str
    sql: str
    columns: Mapping[str, LiveColumn]
    key: tuple[str, ...]
    foreign: frozenset[tuple[str, str]]  # (attribute, table referred to), ON UPDATE CASCADE
    indexed: frozenset[str]  # columns that lead some index; as for unique ones, by BINARY
    unique: frozenset[tuple[str, ...]]
    triggers: Mapping[str, str]  # the statement that made each

    @property
    def strict(self) -> bool:
        """Whether it is a STRICT table."""
        return "STRICT" in self.sql.rpartition(")")[2].upper()


def live_table(connection: Connection, name: str) -> LiveTable | None:
    """The table of that name, or None."""
    found = connection.execute(
        "SELECT type, sql FROM sqlite_schema WHERE name = ? COLLATE NOCASE"
        " AND type IN ('table', 'view')",
        (name,),
    ).fetchone()
    if found is None:
        return None
    columns: dict[str, LiveColumn] = {}
    key: dict[int, str] = {}
    rows = connection.execute(
        'SELECT name, type, "notnull", dflt_value, pk FROM pragma_table_info(?)', (name,)
    )
    for column, kind, required, default, place in rows:
        alias = place and kind.upper() == "INTEGER"
        columns[column] = LiveColumn(
            type=kind, required=bool(required), default=default is not None or bool(alias)
        )
        if place:
            key[place] = column
    foreign = connection.execute(
        'SELECT "from", "table" FROM pragma_foreign_key_list(?) WHERE on_update = \'CASCADE\'',
        (name,),
    )
    unique, leading = _indexes(connection, name)
    triggers = connection.execute(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE"
        " ORDER BY name",
        (name,),
    )
    return LiveTable(
        kind=found[0],
        sql=found[1] or "",
        columns=columns,
        key=tuple(key[place] for place in sorted(key)),
        foreign=frozenset((row[0], row[1]) for row in foreign),
        indexed=leading,
        unique=unique,
        triggers=dict(triggers.fetchall()),
    )


def _indexes(
    connection: Connection, name: str
) -> tuple[frozenset[tuple[str, ...]], frozenset[str]]:
    """Columns of the unique indexes, and columns that lead some index.

    An index by another collation than BINARY neither keeps a key nor finds a row by it.
    """
    sql = (
        'SELECT l.name, l."unique", i.name, i.coll'
        " FROM pragma_index_list(?) l, pragma_index_xinfo(l.name) i"
        " WHERE NOT l.partial AND i.key ORDER BY l.name, i.seqno"
    )
    columns: dict[tuple[str, bool], list[str]] = {}
    for index, unique, column, collation in connection.execute(sql, (name,)):
        found = column if column and collation.upper() == "BINARY" else ""
        columns.setdefault((index, bool(unique)), []).append(found)
    return (
        frozenset(tuple(found) for (_, unique), found in columns.items() if unique),
        frozenset(found[0] for found in columns.values()),
    )


def wanted_columns(entity: Entity, entities: Mapping[str, Entity]) -> dict[str, tuple[str, str]]:
    """Type and the rest of the definition of every column, in order."""
    wanted: dict[str, tuple[str, str]] = {}
    if entity.surrogate_id:
        wanted[SURROGATE] = ("INTEGER", "PRIMARY KEY AUTOINCREMENT")
    for attribute in entity.attributes:
        wanted[attribute.name] = (stored_type(attribute.type), _rest(entity, attribute, entities))
    wanted[LAST_SYNC] = ("TEXT", "NOT NULL")
    if entity.soft_delete:
        wanted[DELETED_AT] = ("TEXT", "")
    return wanted


def create_table(entity: Entity, entities: Mapping[str, Entity]) -> str:
    """DDL of an entity's table, its foreign keys among it."""
    columns = [
        f"{quote(name)} {kind} {rest}".rstrip()
        for name, (kind, rest) in wanted_columns(entity, entities).items()
    ]
    key = "UNIQUE" if entity.surrogate_id else "PRIMARY KEY"
    body = ",\n".join([*columns, f"{key} ({listed(entity.key)})"])
    return f"CREATE TABLE {quote(entity.name)} (\n{body}\n) STRICT"


def add_column(entity: Entity, entities: Mapping[str, Entity], name: str) -> str:
    """DDL that adds one wanted column."""
    kind, rest = wanted_columns(entity, entities)[name]
    return f"ALTER TABLE {quote(entity.name)} ADD COLUMN {quote(name)} {kind} {rest}".rstrip()


def create_index(entity: Entity, attribute: Attribute) -> str:
    """DDL of the index by which the children of a row are found."""
    name = quote(f"{PREFIX}{entity.name}_{attribute.name}")
    return f"CREATE INDEX {name} ON {quote(entity.name)} ({quote(attribute.name)})"


def name_problems(entities: Mapping[str, Entity]) -> list[Problem]:
    """Names that SQLite, which takes no notice of case, cannot have or cannot tell apart."""
    found: list[Problem] = []
    tables: dict[str, str] = {}
    for entity in entities.values():
        low = entity.name.lower()
        if low.startswith((PREFIX, "sqlite_")):
            what = f"a table cannot be called {entity.name}: SQLite or the ledger use such names"
            found.append(Problem(what=what, where=entity.name, cure="rename the entity"))
        if tables.setdefault(low, entity.name) != entity.name:
            what = f"SQLite does not tell it from {tables[low]}: case does not count"
            found.append(Problem(what=what, where=entity.name, cure="rename one of them"))
        found += _column_problems(entity)
    return found


def _column_problems(entity: Entity) -> list[Problem]:
    own = [LAST_SYNC, DELETED_AT, *([SURROGATE] if entity.surrogate_id else [])]
    taken = dict.fromkeys(own, "a column that every entity table has")
    found: list[Problem] = []
    for name in entity.names:
        if name.lower() in taken:
            what = f"attribute {name} has the name of {taken[name.lower()]}; case does not count"
            found.append(Problem(what=what, where=entity.name, cure="rename the attribute"))
        taken[name.lower()] = f"attribute {name}"
    return found


def differences(entity: Entity, live: LiveTable, entities: Mapping[str, Entity]) -> list[Problem]:
    """Why rows of the entity cannot be written to the live table as they should."""
    where = entity.name
    if live.kind != "table":
        return [Problem(what="is not a table", where=where, cure="move it out of the way")]
    found: list[Problem] = []
    if not live.strict:
        found.append(Problem(what="is not a STRICT table", where=where, cure=_ANEW))
    found += [
        Problem(
            what=f"its definition says {clause}, by which rows get lost", where=where, cure=_ANEW
        )
        for clause in dict.fromkeys(deviations(live.sql))
    ]
    if live.key != entity.key and entity.key not in live.unique:
        what = f"its primary key is ({', '.join(live.key)}), not ({', '.join(entity.key)})"
        found.append(Problem(what=what, where=where, cure=_ANEW))
    wanted = wanted_columns(entity, entities)
    for name, (kind, _) in wanted.items():
        column = live.columns.get(name)
        if column is None:
            found.append(Problem(what=f"column {name} is missing", where=where, cure=_APPLY))
        elif column.type != kind:
            what = f"column {name} is {column.type}, not {kind}"
            found.append(Problem(what=what, where=where, cure=_ANEW))
    for attribute in entity.attributes:
        if attribute.name in live.columns:
            found += _attribute_differences(entity, attribute, live, entities)
    found += [
        Problem(
            what=f"column {name} is no attribute, is NOT NULL and has no default",
            where=where,
            cure=f"drop it: ALTER TABLE {quote(where)} DROP COLUMN {quote(name)}",
        )
        for name, column in live.columns.items()
        if name not in wanted and column.required and not column.default
    ]
    return found


def trigger_problems(entity: Entity, live: LiveTable) -> list[Problem]:
    """Triggers that leave rows out, or take a unit of work back, where they should abort."""
    return [
        Problem(
            what=f"trigger {name} says {', '.join(dict.fromkeys(found))}, by which rows get lost",
            where=entity.name,
            cure=f"let it say RAISE(ABORT, …), or drop it: DROP TRIGGER {quote(name)}",
        )
        for name, sql in live.triggers.items()
        if (found := silences(sql))
    ]


def _attribute_differences(
    entity: Entity, attribute: Attribute, live: LiveTable, entities: Mapping[str, Entity]
) -> list[Problem]:
    """A column made for another type, or without the reference that it has by now."""
    found: list[Problem] = []
    untyped = attribute.type.kind is Kind.TEXT or not type_constraint(attribute)
    named = f"CONSTRAINT {quote(constraint_name(attribute))}"
    any_type = f'CONSTRAINT "{attribute.name.replace(chr(34), chr(34) * 2)}: '
    if (any_type in live.sql) if untyped else (named not in live.sql):
        what = f"column {attribute.name} was not made for {attribute.type}"
        found.append(Problem(what=what, where=entity.name, cure=_ANEW))
    parent = entities.get(attribute.references or "")
    if parent is not None and (attribute.name, parent.name) not in live.foreign:
        what = f"column {attribute.name} does not refer to {parent.name}"
        found.append(Problem(what=what, where=entity.name, cure=_ANEW))
    return found


def misfits(live: LiveTable, wanted: Mapping[str, str], key: Sequence[str]) -> bool:
    """Whether a table of the ledger's own has other columns, types or key than wanted."""
    found = {name: column.type for name, column in live.columns.items()}
    return found != dict(wanted) or live.key != tuple(key)


def _rest(entity: Entity, attribute: Attribute, entities: Mapping[str, Entity]) -> str:
    required = attribute.required or attribute.name in entity.key
    parent = entities.get(attribute.references or "")
    parts = ["NOT NULL" if required else "", type_constraint(attribute)]
    if parent is not None:
        parts.append(
            f"REFERENCES {quote(parent.name)} ({quote(parent.key[0])})"
            " ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED"
        )
    return " ".join(part for part in parts if part)
