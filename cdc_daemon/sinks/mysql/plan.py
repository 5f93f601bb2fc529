"""What ``plan`` shows and ``apply`` does: the way from the live database to the configured one.

Only what cannot lose anything is a change: creating, adding a column that may be NULL, granting.
Everything else is a refusal with its cure. A plan over a database that is as it should be is empty.
The server commits each change by itself; a broken ``apply`` goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain

import pymysql

from cdc_daemon.model.effects import Layout
from cdc_daemon.model.entities import Entity
from cdc_daemon.model.errors import ConfigurationError, Problem, Stop
from cdc_daemon.sinks.columns import reference_columns
from cdc_daemon.sinks.mysql import ledger, migrations
from cdc_daemon.sinks.mysql.checkpoint import (
    held_pipelines,
    ledger_version,
    lock_name,
    version_problem,
)
from cdc_daemon.sinks.mysql.errors import number_of, translate
from cdc_daemon.sinks.mysql.limits import problems_of
from cdc_daemon.sinks.mysql.live import LiveTable, live_tables
from cdc_daemon.sinks.mysql.names import quote
from cdc_daemon.sinks.mysql.rights import accounts, grants, used_tables
from cdc_daemon.sinks.mysql.session import Session, connect
from cdc_daemon.sinks.mysql.supported import unsupported
from cdc_daemon.sinks.mysql.tables import (
    add_column,
    add_index,
    create_table,
    differences,
    indexed_attributes,
    misfits,
    wanted_columns,
)
from cdc_daemon.sinks.planned import Change, Plan
from cdc_daemon.sinks.versions import LEDGER_VERSION

_PATIENCE = 600  # seconds, for somebody else's apply


def plan(
    conninfo: Mapping[str, str],
    entities: Mapping[str, Entity],
    layouts: Sequence[Layout],
    *,
    worker: str | None = None,
) -> Plan:
    """Compare the database with the configuration. ``worker``: the user that needs rights.

    Raises Unreachable, ConfigurationError, Stop.
    """
    with _administrator(conninfo) as session:
        return _plan(session, entities, layouts, worker)


def apply_plan(
    conninfo: Mapping[str, str],
    entities: Mapping[str, Entity],
    layouts: Sequence[Layout],
    *,
    worker: str | None = None,
) -> Plan:
    """Plan anew and carry it out; what was done. Refusals raise, before anything is done."""
    with _administrator(conninfo) as session:
        session.run("SELECT GET_LOCK(%s, %s)", lock_name(session.database, "", 0), _PATIENCE)
        made = _plan(session, entities, layouts, worker)
        if made.refusals:
            raise ConfigurationError(made.refusals)
        for change in made.changes:
            _carry_out(session, change)
    return made


def role_statements(user: str) -> list[str]:
    """The SQL that an administrator runs to create the account of a worker; what it may do is
    granted table by table."""
    return [f"CREATE USER {_account(user)} IDENTIFIED BY '…'"]


def _plan(
    session: Session,
    entities: Mapping[str, Entity],
    layouts: Sequence[Layout],
    worker: str | None,
) -> Plan:
    refusals = problems_of(entities)
    refusals += [
        Problem(what=what, where="target", cure=cure) for what, cure in unsupported(session)
    ]
    changes = list(_ledger_changes(session, refusals))
    lives = live_tables(session, used_tables(entities, layouts))
    for name, entity in entities.items():
        changes += _entity_changes(session, entity, entities, lives.get(name), refusals)
    changes += _reference_changes(session, layouts, lives, refusals)
    if worker is not None:
        changes += _rights(session, used_tables(entities, layouts), worker, refusals)
    return Plan(changes=tuple(changes), refusals=tuple(refusals))


def _ledger_changes(session: Session, refusals: list[Problem]) -> Iterator[Change]:
    problem = version_problem(session)
    if problem is None:
        return
    if problem.what == "the control database has no ledger":
        steps = ledger.create(session)
    else:
        version = ledger_version(session)
        if version is None or not migrations.OLDEST_HERE <= version < LEDGER_VERSION:
            refusals.append(problem)
            return
        refusals += _held(session)
        steps = chain(migrations.forward(session, version), [migrations.note()])
    for step in steps:
        yield Change(description=step.words, sql=step.sql)


def _held(session: Session) -> list[Problem]:
    """Pipelines that a worker holds now: the ledger must not change under it."""
    return [
        Problem(
            what=f"the ledger cannot be migrated while {holder} holds the pipeline",
            where=f"pipeline {pipeline}",
            cure="stop the daemon first",
        )
        for pipeline, holder in held_pipelines(session).items()
    ]


def _entity_changes(
    session: Session,
    entity: Entity,
    entities: Mapping[str, Entity],
    live: LiveTable | None,
    refusals: list[Problem],
) -> Iterator[Change]:
    if live is None:
        sql = create_table(entity, entities, session.collation)
        yield Change(description=f"create table {entity.name}", sql=sql)
        return
    table = live.kind == "BASE TABLE"
    missing = [name for name in wanted_columns(entity) if table and name not in live.columns]
    refusals += [
        problem
        for problem in differences(entity, live, session.collation)
        if problem.what not in {f"column {name} is missing" for name in missing}
    ]
    for name in missing:
        _, rest = wanted_columns(entity)[name]
        if "NOT NULL" in rest and _has_rows(session, entity):
            what = f"column {name} is missing, is required, and the table has rows"
            cure = "add it by hand with values for them, or make the attribute not required first"
            refusals.append(Problem(what=what, where=entity.name, cure=cure))
        else:
            sql = add_column(entity, name, session.collation)
            yield Change(description=f"add column {name} to {entity.name}", sql=sql)
    for attribute in indexed_attributes(entity, entities):
        if table and attribute.name not in live.indexed:
            what = f"index {entity.name}.{attribute.name}, which refers to {attribute.references}"
            yield Change(description=what, sql=add_index(entity, attribute))


def _has_rows(session: Session, entity: Entity) -> bool:
    return bool(session.run(f"SELECT 1 FROM {quote(entity.name)} LIMIT 1").rows)


def _reference_changes(
    session: Session,
    layouts: Sequence[Layout],
    lives: Mapping[str, LiveTable],
    refusals: list[Problem],
) -> Iterator[Change]:
    for layout in layouts:
        if layout.reference is None:
            continue
        live = lives.get(ledger.reference_name(layout))
        if live is None:
            description, sql = ledger.create_reference(layout, session.collation)
            yield Change(description=description, sql=sql)
        else:
            refusals += reference_problems(layout, live)


def reference_problems(layout: Layout, live: LiveTable) -> list[Problem]:
    """Why a mapping's reference table cannot hold its references."""
    sources, _ = reference_columns(layout)
    if not misfits(live, ledger.reference_types(layout), sources):
        return []
    where = ledger.reference_name(layout)
    cure = f"drop table {quote(where)} and take a new snapshot of {layout.mapping}"
    return [Problem(what="was made for other keys than the mapping's", where=where, cure=cure)]


def _rights(
    session: Session, tables: Sequence[str], worker: str, refusals: list[Problem]
) -> Iterator[Change]:
    """GRANTs that the worker's accounts lack."""
    try:
        found = accounts(session, worker)
    except pymysql.Error as exc:
        if number_of(exc) != 1142:
            raise
        what, cure = "no right to read mysql.user", "run it with an administrator's --admin-dsn"
        refusals.append(Problem(what=what, where="target", cure=cure))
        return
    if not found:
        cure = role_statements(worker)[0]
        refusals.append(Problem(what=f"user {worker} does not exist", where="target", cure=cure))
    for account in found:
        for name, verbs in grants(session, tables, account):
            on = f"{quote(session.database)}.{quote(name)}"
            yield Change(
                description=f"grant {account} its rights on {name}",
                sql=f"GRANT {', '.join(verbs)} ON {on} TO {account}",
            )


def _account(user: str) -> str:
    return "'" + user.replace("'", "''") + "'@'%'"


def _carry_out(session: Session, change: Change) -> None:
    try:
        session.run(change.sql)
    except pymysql.Error as exc:
        error = translate(exc)
        raise Stop(f"Could not {change.description}: {error.message}", hint=error.hint) from exc


@contextmanager
def _administrator(conninfo: Mapping[str, str]) -> Iterator[Session]:
    session = connect(conninfo, "cdc_daemon:apply")
    try:
        yield session
    except pymysql.Error as exc:
        raise translate(exc) from exc
    finally:
        session.close()
