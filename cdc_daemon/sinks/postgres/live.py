"""Tables as the catalogue has them, and what may be done with them: any number in six questions.

Not in here: what a table should be like (``tables``, ``ledger``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from cdc_daemon.sinks.postgres.session import Connection

Place = tuple[str, str]
"""Schema and name of a table."""

_TABLES = """
    SELECT n.nspname, c.relname, c.oid, c.relkind::text
      FROM unnest(%s::text[], %s::text[]) AS asked(home, name)
      JOIN pg_namespace n ON n.nspname = asked.home
      JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = asked.name"""
_COLUMNS = """
    SELECT a.attrelid, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
           a.atthasdef OR a.attidentity <> ''
      FROM pg_attribute a
     WHERE a.attrelid = ANY (%s) AND a.attnum > 0 AND NOT a.attisdropped
     ORDER BY a.attrelid, a.attnum"""
_KEYS = """
    SELECT i.indrelid, a.attname
      FROM pg_index i, unnest(i.indkey) WITH ORDINALITY AS k(attnum, n), pg_attribute a
     WHERE i.indrelid = ANY (%s) AND i.indisprimary AND i.indimmediate AND i.indisvalid
       AND a.attrelid = i.indrelid AND a.attnum = k.attnum ORDER BY i.indrelid, k.n"""
_FOREIGN = """
    SELECT c.conrelid, a.attname, f.relname FROM pg_constraint c
      JOIN pg_class f ON f.oid = c.confrelid
      JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
     WHERE c.conrelid = ANY (%s) AND c.contype = 'f' AND cardinality(c.conkey) = 1
       AND c.condeferred AND c.confupdtype = 'c'"""
_INDEXED = """
    SELECT i.indrelid, a.attname FROM pg_index i JOIN pg_attribute a
        ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
     WHERE i.indrelid = ANY (%s) AND i.indisvalid AND i.indpred IS NULL"""
_RIGHTS = """
    SELECT n.nspname, c.relname, array_agg(asked.verb)
      FROM unnest(%s::text[], %s::text[]) AS given(home, name)
      JOIN pg_namespace n ON n.nspname = given.home
      JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = given.name
     CROSS JOIN unnest(%s::text[]) AS asked(verb)
     WHERE has_table_privilege(COALESCE(%s, current_user), c.oid, asked.verb)
     GROUP BY n.nspname, c.relname"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveColumn:
    """A column as the catalogue has it; ``type`` as ``format_type`` spells it."""

    type: str
    required: bool
    default: bool


@dataclass(slots=True, kw_only=True)
class LiveTable:
    """A table as the catalogue has it."""

    kind: str
    columns: dict[str, LiveColumn] = field(default_factory=dict)
    key: tuple[str, ...] = ()
    foreign: set[tuple[str, str]] = field(default_factory=set)
    """(attribute, table referred to): ours, deferred."""
    indexed: set[str] = field(default_factory=set)
    """Columns that lead some index."""


def live_tables(connection: Connection, places: Collection[Place]) -> Mapping[Place, LiveTable]:
    """Those of the tables that exist."""
    found: dict[Place, LiveTable] = {}
    by_oid: dict[int, LiveTable] = {}
    for home, name, oid, kind in connection.execute(_TABLES, _arrays(places)):
        found[home, name] = by_oid[oid] = LiveTable(kind=kind)
    oids = (list(by_oid),)
    for oid, column, spelt, required, default in connection.execute(_COLUMNS, oids):
        live = LiveColumn(type=spelt, required=required, default=default)
        by_oid[oid].columns[column] = live
    for oid, column in connection.execute(_KEYS, oids):
        by_oid[oid].key += (column,)
    for oid, column, parent in connection.execute(_FOREIGN, oids):
        by_oid[oid].foreign.add((column, parent))
    for oid, column in connection.execute(_INDEXED, oids):
        by_oid[oid].indexed.add(column)
    return found


def rights(
    connection: Connection, places: Collection[Place], asked: Iterable[str], role: str | None = None
) -> Mapping[Place, frozenset[str]]:
    """Which of these rights a role (None: the connection's own) has on each table that exists."""
    rows = connection.execute(_RIGHTS, (*_arrays(places), list(asked), role))
    return {(home, name): frozenset(verbs) for home, name, verbs in rows}


def _arrays(places: Collection[Place]) -> tuple[list[str], list[str]]:
    return [home for home, _ in places], [name for _, name in places]
