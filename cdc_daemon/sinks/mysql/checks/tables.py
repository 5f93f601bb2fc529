"""Checks of the ledger and the entity tables: there, of the right shape, ours to write."""

from __future__ import annotations

from collections.abc import Iterator

from cdc_daemon.model.errors import Problem
from cdc_daemon.model.findings import Check, Note, ok, problem, problems
from cdc_daemon.sinks.mysql import ledger
from cdc_daemon.sinks.mysql.checkpoint import APPLY
from cdc_daemon.sinks.mysql.checks.examined import Examined
from cdc_daemon.sinks.mysql.limits import problems_of
from cdc_daemon.sinks.mysql.names import quote
from cdc_daemon.sinks.mysql.plan import reference_problems
from cdc_daemon.sinks.mysql.rights import lacking
from cdc_daemon.sinks.mysql.tables import blurred, differences, wanted_columns
from cdc_daemon.sinks.versions import LEDGER_VERSION


def _ledger(at: Examined) -> Iterator[Note]:
    yield from problems([at.ledger]) if at.ledger else [ok(f"version {LEDGER_VERSION}")]


def _tables(at: Examined) -> Iterator[Note]:
    """Tables that are there but not as rows need them."""
    found: list[Problem] = problems_of(at.entities)
    for layout in at.layouts:
        live = at.tables.get(ledger.reference_name(layout)) if layout.reference else None
        found += reference_problems(layout, live) if live is not None else []
    for entity in at.entities.values():
        live = at.tables.get(entity.name)
        found += differences(entity, live, at.session.collation) if live is not None else []
    yield from problems(found) or [ok(f"tables that are there: {len(at.tables)}")]


def _rights(at: Examined) -> Iterator[Note]:
    """Tables that are missing, and rights on them."""
    found = []
    for name in at.names:
        live = at.tables.get(name)
        if live is None or not live.columns:
            found.append(
                problem("the table does not exist, or we may not see it", APPLY, where=name)
            )
        elif not at.may_everything:
            missing = lacking(at.session, name, next(iter(live.columns)))
            if missing:
                found.append(problem(f"no right to {', '.join(missing)}", APPLY, where=name))
    yield from found or [ok(f"tables: {len(at.names)}")]


def _keys(at: Examined) -> Iterator[Note]:
    """Key columns whose collation takes different texts for the same."""
    found = []
    for entity in at.entities.values():
        live = at.tables.get(entity.name)
        for column, collation in blurred(entity, live) if live is not None else ():
            kind, rest = wanted_columns(entity)[column]
            text = f"CHARACTER SET utf8mb4 COLLATE {at.session.collation}"
            cure = f"ALTER TABLE {quote(entity.name)} MODIFY {quote(column)} {kind} {text} {rest}"
            what = f"column {column} has collation {collation}, which takes different texts for one"
            found.append(problem(what, cure, where=entity.name))
    yield from found or [ok("keys that differ stay different")]


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
        why="a collation that ignores case, accents or blanks at the end merges rows",
        look=_keys,
    ),
)
