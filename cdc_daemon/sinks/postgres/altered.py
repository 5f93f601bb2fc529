"""An entity table as it is now, whatever the configuration says: what rows must meet to go in.

For rows that would not: an administrator may have added a constraint or altered a column.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg.pq.abc import PGresult

from cdc_daemon.sinks.postgres.transaction import Transaction
from cdc_daemon.sinks.postgres.wire import Statement

_COLUMNS = b"""
    SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
           quote_ident(n.nspname) || '.' || quote_ident(c.collname)
      FROM pg_catalog.pg_attribute a
      LEFT JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation
      LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace
     WHERE a.attrelid = $1::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"""
_CHECKS = b"""
    SELECT c.conname, pg_get_expr(c.conbin, c.conrelid), k.attname
      FROM pg_catalog.pg_constraint c
      LEFT JOIN LATERAL unnest(c.conkey) AS u(attnum) ON true
      LEFT JOIN pg_catalog.pg_attribute k ON k.attrelid = c.conrelid AND k.attnum = u.attnum
     WHERE c.conrelid = $1::regclass AND c.contype = 'c'
       AND coalesce((to_jsonb(c) ->> 'conenforced')::boolean, true)
     ORDER BY c.conname"""
_TRIGGERS = b"""
    SELECT count(*) FROM pg_catalog.pg_trigger t
     WHERE t.tgrelid = $1::regclass AND NOT t.tgisinternal AND t.tgenabled <> 'D'
       AND t.tgtype & 3 = 3"""  # row triggers that fire before


_STATEMENTS = (
    Statement(b"cdc_altered_columns", _COLUMNS),
    Statement(b"cdc_altered_checks", _CHECKS),
    Statement(b"cdc_altered_triggers", _TRIGGERS),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """``type`` as ``format_type`` spells it; ``collation`` qualified, empty where there is none."""

    type: str
    required: bool
    collation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A CHECK constraint: its expression over the table's columns, and which of them it uses.

    ``columns`` holds None for what is no column: the row as a whole, or its table.
    """

    name: str
    expression: str
    columns: frozenset[str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlteredTable:
    """Columns and checks in the order in which the server looks at them.

    ``rewrites``: a trigger may change rows before they are looked at.
    """

    columns: Mapping[str, Column]
    checks: tuple[Check, ...]
    rewrites: bool


def altered_table(transaction: Transaction, table: str) -> AlteredTable:
    """Read a table's definition. ``table`` is qualified and quoted."""
    name = [table.encode()]
    columns, checks, triggers = transaction.calls([(one, name) for one in _STATEMENTS])
    return AlteredTable(
        columns={
            name: Column(type=kind, required=required == "t", collation=collation)
            for name, kind, required, collation in _texts(columns)
        },
        checks=_checks(checks),
        rewrites=_texts(triggers) != [["0"]],
    )


def _checks(result: PGresult) -> tuple[Check, ...]:
    used: dict[tuple[str, str], set[str | None]] = {}
    for name, expression, column in _texts(result):
        used.setdefault((name, expression), set()).add(column or None)
    return tuple(
        Check(name=name, expression=expression, columns=frozenset(columns))
        for (name, expression), columns in used.items()
    )


def _texts(result: PGresult) -> list[list[str]]:
    """All rows of a result; an empty text for NULL."""
    return [
        [(result.get_value(i, j) or b"").decode() for j in range(result.nfields)]
        for i in range(result.ntuples)
    ]
