"""Checks of the ledger and the entity tables: there, of the right shape, ours to write."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cdc_daemon.model.effects import Layout
from cdc_daemon.model.errors import Problem
from cdc_daemon.model.findings import Check, Note, ok, problem, problems
from cdc_daemon.sinks.postgres import ledger
from cdc_daemon.sinks.postgres.checks.examined import Examined
from cdc_daemon.sinks.postgres.live import LiveTable, rights
from cdc_daemon.sinks.postgres.names import LEDGER, qualified, quote, reference_columns
from cdc_daemon.sinks.postgres.tables import APPLY, differences, misfits
from cdc_daemon.sinks.postgres.used import RIGHTS, needed
from cdc_daemon.sinks.versions import LEDGER_VERSION

_USAGE: Final = """
    SELECT n.nspname FROM pg_catalog.pg_namespace n
     WHERE n.nspname = ANY (%s) AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')"""
_BLURRED: Final = """
    SELECT c.relname, a.attname, l.collname
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = %s
      JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped
      JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation AND NOT l.collisdeterministic
     WHERE c.relname = ANY (%s) ORDER BY 1, 2"""


def _ledger(at: Examined) -> Iterator[Note]:
    yield from problems([at.ledger]) if at.ledger else [ok(f"version {LEDGER_VERSION}")]


def _tables(at: Examined) -> Iterator[Note]:
    """Tables that are there but not as rows need them."""
    found: list[Problem] = []
    for layout in at.layouts:
        live = at.tables.get((LEDGER, layout.reference.name)) if layout.reference else None
        found += reference_differences(layout, live) if live is not None else []
    for entity in at.entities.values():
        live = at.tables.get((at.schema, entity.name))
        found += differences(entity, live, at.schema) if live is not None else []
    yield from problems(found) or [ok(f"tables that are there: {len(at.tables)}")]


def _rights(at: Examined) -> Iterator[Note]:
    """Tables that are missing, and rights on them."""
    homes = list({home for home, _ in at.places})
    usable = {home for (home,) in at.connection.execute(_USAGE, (homes,))}
    granted = rights(at.connection, at.places, RIGHTS)
    found = []
    for home, name in at.places:
        lacking = needed(home, name) - granted.get((home, name), frozenset())
        if (home, name) not in at.tables:
            found.append(problem("the table does not exist", APPLY, where=f"{home}.{name}"))
        elif home not in usable:
            found.append(problem("no right to use its schema", APPLY, where=f"{home}.{name}"))
        elif lacking:
            what = f"no right to {', '.join(sorted(lacking, key=RIGHTS.index))}"
            found.append(problem(what, APPLY, where=f"{home}.{name}"))
    yield from found or [ok(f"tables: {len(at.places)}")]


def _keys(at: Examined) -> Iterator[Note]:
    """Key columns whose collation takes different texts for the same."""
    entities = at.entities
    keyed = {
        (name, attribute.name)
        for name, entity in entities.items()
        for attribute in entity.attributes
        if attribute.name in entity.key or attribute.references is not None
    }
    found = [
        problem(
            f"column {column} has collation {collation}, which takes different texts for the same",
            _bytewise(at, table, column),
            where=f"{at.schema}.{table}",
        )
        for table, column, collation in at.connection.execute(_BLURRED, (at.schema, list(entities)))
        if (table, column) in keyed
    ]
    yield from found or [ok("keys that differ stay different")]


def _bytewise(at: Examined, table: str, column: str) -> str:
    """The SQL that lets a column's keys compare by bytes."""
    kind = at.tables[at.schema, table].columns[column].type
    name = qualified(at.schema, table)
    return f'ALTER TABLE {name} ALTER {quote(column)} TYPE {kind} COLLATE "C"'


def reference_differences(layout: Layout, live: LiveTable) -> list[Problem]:
    """Why a mapping's reference table cannot hold its references."""
    assert layout.reference is not None
    sources, _ = reference_columns(layout)
    if not misfits(live, ledger.reference_types(layout), sources):
        return []
    where = f"{LEDGER}.{layout.reference.name}"
    cure = f"drop table {where} and take a new snapshot of {layout.mapping}"
    return [Problem(what="was made for other keys than the mapping's", where=where, cure=cure)]


CHECKS = (
    Check(
        name="target.ledger",
        title="The ledger is there, in this program's version",
        why="it holds the checkpoint, which is committed together with the rows",
        look=_ledger,
    ),
    Check(
        name="target.rights",
        title="Every table is there, and the daemon may read and write it",
        why="the daemon creates no tables, and a right that is missing fails in mid-stream",
        look=_rights,
    ),
    Check(
        name="target.tables",
        title="Entity tables have the columns, types and keys of the configuration",
        why="rows would be refused, rounded or written under another key",
        look=_tables,
    ),
    Check(
        name="target.keys",
        title="Key columns tell every two keys apart",
        why="a collation that ignores case or accents merges rows of different keys",
        look=_keys,
    ),
)
