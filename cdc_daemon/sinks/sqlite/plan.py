"""What ``plan`` shows and ``apply`` does: the way from the live database to the configured one.

Only what cannot lose anything is a change: creating, adding a column that may be NULL, making an
empty table anew. Everything else is a refusal with its cure. A plan over a database that is as it
should be is empty. There are no roles: who may write the file may do everything.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from cdc_daemon.model.effects import Layout
from cdc_daemon.model.entities import Entity
from cdc_daemon.model.errors import ConfigurationError, Problem, Stop
from cdc_daemon.sinks.columns import reference_columns
from cdc_daemon.sinks.planned import Change, Plan
from cdc_daemon.sinks.sqlite import ledger, migrations
from cdc_daemon.sinks.sqlite.checkpoint import version_problem
from cdc_daemon.sinks.sqlite.database import Connection, connect, missing, scalar, translated
from cdc_daemon.sinks.sqlite.errors import translate
from cdc_daemon.sinks.sqlite.holder import sign_of
from cdc_daemon.sinks.sqlite.names import PREFIX, quote
from cdc_daemon.sinks.sqlite.tables import (
    add_column,
    create_index,
    create_table,
    differences,
    live_table,
    misfits,
    name_problems,
    trigger_problems,
    wanted_columns,
)
from cdc_daemon.sinks.versions import LEDGER_VERSION, OLDEST_LEDGER

APPLY = "run cdc-daemon apply"


def plan(path: str, entities: Mapping[str, Entity], layouts: Sequence[Layout]) -> Plan:
    """Compare the database with the configuration; a file that is not there is not made.

    Raises Unreachable, ConfigurationError, Stop.
    """
    if not missing(path):
        with closing(connect(path, read_only=True)) as connection, translated():
            return _plan(connection, entities, layouts)
    with closing(sqlite3.connect(":memory:")) as nothing:
        made = _plan(nothing, entities, layouts)
    first = Change(
        description=f"create the database {Path(path).absolute()}", sql="PRAGMA journal_mode = WAL"
    )
    return Plan(changes=(first, *made.changes), refusals=made.refusals)


def apply_plan(path: str, entities: Mapping[str, Entity], layouts: Sequence[Layout]) -> Plan:
    """Plan anew and carry it out in one transaction; what was done. Refusals raise."""
    first = plan(path, entities, layouts).changes[:1] if missing(path) else ()
    with closing(connect(path, create=True)) as connection, translated():
        connection.execute("BEGIN IMMEDIATE")
        made = _plan(connection, entities, layouts)
        if made.refusals:
            raise ConfigurationError(made.refusals)
        for change in made.changes:
            _carry_out(connection, change)
        connection.execute("COMMIT")
    return Plan(changes=(*first, *made.changes), refusals=())


def _plan(
    connection: Connection, entities: Mapping[str, Entity], layouts: Sequence[Layout]
) -> Plan:
    refusals = name_problems(entities)
    changes = list(_ledger_changes(connection, refusals))
    for entity in entities.values():
        changes += _entity_changes(connection, entity, entities, refusals)
    for layout in layouts:
        if layout.reference is None:
            continue
        if live_table(connection, PREFIX + layout.reference.name) is None:
            description, sql = ledger.create_reference(layout)
            changes.append(Change(description=description, sql=sql))
        else:
            refusals += reference_problems(connection, layout)
    return Plan(changes=tuple(changes), refusals=tuple(refusals))


def _ledger_changes(connection: Connection, refusals: list[Problem]) -> Iterator[Change]:
    if live_table(connection, PREFIX + "meta") is None:
        steps = ledger.create()
    else:
        problem = version_problem(connection)
        if problem is None:
            return
        version = scalar(connection, "SELECT version FROM cdc_meta")
        if not isinstance(version, int) or not OLDEST_LEDGER <= version < LEDGER_VERSION:
            refusals.append(problem)
            return
        refusals += _held(connection)
        steps = [migrations.fence(), *migrations.forward(version)]
    for description, sql in steps:
        yield Change(description=description, sql=sql)


def _held(connection: Connection) -> list[Problem]:
    """The pipeline that a worker holds now: the ledger must not change under it."""
    path = str(connection.execute("PRAGMA database_list").fetchone()[2])
    sign = sign_of(path)
    if sign is None or not sign.alive:
        return []
    what = f"the ledger cannot be migrated while {sign.holder} holds the pipeline"
    where = f"pipeline {sign.pipeline}"
    return [Problem(what=what, where=where, cure="stop the daemon first")]


def _entity_changes(
    connection: Connection,
    entity: Entity,
    entities: Mapping[str, Entity],
    refusals: list[Problem],
) -> Iterator[Change]:
    live = live_table(connection, entity.name)
    name = quote(entity.name)
    anew = False
    if live is not None and live.kind == "table" and differences(entity, live, entities):
        anew = scalar(connection, f"SELECT NOT EXISTS (SELECT 1 FROM {name})") == 1
    if anew:
        drop = f"DROP TABLE {name}"
        yield Change(description=f"drop table {entity.name}, which is empty", sql=drop)
    if live is None or anew:
        sql = create_table(entity, entities)
        yield Change(description=f"create table {entity.name}", sql=sql)
    else:
        columns = wanted_columns(entity, entities)
        lacking = [column for column in columns if column not in live.columns]
        addable = [column for column in lacking if "NOT NULL" not in columns[column][1]]
        refusals += [
            problem
            for problem in differences(entity, live, entities)
            if problem.what not in {f"column {column} is missing" for column in lacking}
        ]
        refusals += trigger_problems(entity, live)
        for column in lacking:
            if column in addable:
                sql = add_column(entity, entities, column)
                yield Change(description=f"add column {column} to {entity.name}", sql=sql)
            else:
                what = f"column {column} is missing, is required, and the table has rows"
                cure = "make the attribute not required first, or make the table anew"
                refusals.append(Problem(what=what, where=entity.name, cure=cure))
    indexed = frozenset() if live is None or anew else live.indexed
    yield from _index_changes(entity, entities, indexed)


def _index_changes(
    entity: Entity, entities: Mapping[str, Entity], indexed: frozenset[str]
) -> Iterator[Change]:
    for attribute in entity.attributes:
        leads = attribute.name in indexed or attribute.name == entity.key[0]
        if attribute.references in entities and not leads:
            yield Change(
                description=f"index {entity.name}.{attribute.name}, which refers to"
                f" {attribute.references}",
                sql=create_index(entity, attribute),
            )


def reference_problems(connection: Connection, layout: Layout) -> list[Problem]:
    """Why a mapping's reference table, where it is there, cannot hold its references."""
    if layout.reference is None:
        return []
    name = PREFIX + layout.reference.name
    live = live_table(connection, name)
    if live is None:
        return []
    sources, _ = reference_columns(layout)
    if not misfits(live, ledger.reference_types(layout), sources):
        return []
    cure = f"drop table {quote(name)} and take a new snapshot of {layout.mapping}"
    return [Problem(what="was made for other keys than the mapping's", where=name, cure=cure)]


def _carry_out(connection: Connection, change: Change) -> None:
    try:
        connection.execute(change.sql)
    except sqlite3.Error as exc:
        error = translate(exc)
        what = f"Could not {change.description}: {error.message} {exc}"
        raise Stop(what, hint=error.hint) from exc
