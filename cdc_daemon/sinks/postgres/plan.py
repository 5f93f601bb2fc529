"""What ``plan`` shows and ``apply`` does: the way from the live database to the configured one.

Only what cannot lose anything is a change: creating, adding a column that may be NULL, granting.
Everything else is a refusal with its cure. A plan over a database that is as it should be is empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import psycopg

from cdc_daemon.model.effects import Layout
from cdc_daemon.model.entities import Entity
from cdc_daemon.model.errors import ConfigurationError, Problem, Stop
from cdc_daemon.sinks.planned import Change, Plan
from cdc_daemon.sinks.postgres import ledger, migrations
from cdc_daemon.sinks.postgres.checkpoint import held_pipelines, version_problem
from cdc_daemon.sinks.postgres.checks.tables import reference_differences
from cdc_daemon.sinks.postgres.errors import translate
from cdc_daemon.sinks.postgres.live import LiveTable, Place, live_tables, rights
from cdc_daemon.sinks.postgres.names import LEDGER, qualified, quote
from cdc_daemon.sinks.postgres.session import Connection, connect
from cdc_daemon.sinks.postgres.tables import (
    add_column,
    add_foreign_key,
    add_index,
    create_table,
    differences,
    reserved_names,
    wanted_columns,
)
from cdc_daemon.sinks.postgres.used import RIGHTS, needed, used_tables
from cdc_daemon.sinks.versions import LEDGER_VERSION, OLDEST_LEDGER

OLDEST_SERVER = 140000
AT_A_TIME = 100
"""Changes in one transaction; more than the ledger ever takes."""


def plan(
    conninfo: Mapping[str, str],
    entities: Mapping[str, Entity],
    layouts: Sequence[Layout],
    *,
    schema: str = "public",
    worker: str | None = None,
) -> Plan:
    """Compare the database with the configuration. ``worker``: the role that needs rights.

    Raises Unreachable, ConfigurationError, Stop.
    """
    with _administrator(conninfo) as connection:
        return _plan(connection, entities, layouts, schema, worker)


def apply_plan(
    conninfo: Mapping[str, str],
    entities: Mapping[str, Entity],
    layouts: Sequence[Layout],
    *,
    schema: str = "public",
    worker: str | None = None,
) -> Plan:
    """Plan anew and carry it out; what was done. Refusals raise, before anything is done.

    Thousands of tables in one transaction are more than a server has room to lock, so it is some
    changes at a time; a broken ``apply`` goes on where it was. The ledger, which comes first, is
    wholly in the first transaction.
    """
    with _administrator(conninfo) as connection:
        connection.execute("SELECT pg_advisory_lock(hashtext('cdc_daemon apply'))")
        made = _plan(connection, entities, layouts, schema, worker)
        if made.refusals:
            raise ConfigurationError(made.refusals)
        for first in range(0, len(made.changes), AT_A_TIME):
            with connection.transaction():
                for change in made.changes[first : first + AT_A_TIME]:
                    _carry_out(connection, change)
    return made


def role_statements(role: str, schema: str = "public", database: str = "…") -> list[str]:
    """The SQL that an administrator runs to create the least-privileged role of a worker."""
    return [
        f"CREATE ROLE {quote(role)} LOGIN PASSWORD '…'",
        f"GRANT CONNECT ON DATABASE {quote(database)} TO {quote(role)}",
        f"GRANT USAGE ON SCHEMA {quote(schema)}, {quote(LEDGER)} TO {quote(role)}",
    ]


def _plan(
    connection: Connection,
    entities: Mapping[str, Entity],
    layouts: Sequence[Layout],
    schema: str,
    worker: str | None,
) -> Plan:
    changes: list[Change] = []
    refusals: list[Problem] = []
    if connection.info.server_version < OLDEST_SERVER:
        refusals.append(Problem(what="PostgreSQL 14 or later is needed", where="target"))
    changes += _ledger_changes(connection, refusals)
    if not _scalar(connection, "SELECT to_regnamespace(%s) IS NOT NULL", quote(schema)):
        sql = f"CREATE SCHEMA {quote(schema)}"
        changes.append(Change(description=f"create schema {schema}", sql=sql))
    lives = live_tables(connection, used_tables(entities, layouts, schema))
    for name, entity in entities.items():
        changes += _entity_changes(connection, entity, lives.get((schema, name)), schema, refusals)
    changes += _foreign_changes(entities, layouts, lives, schema)
    changes += _reference_changes(layouts, lives, refusals)
    if worker is not None:
        changes += _rights(connection, entities, layouts, schema, worker, refusals)
    return Plan(changes=tuple(changes), refusals=tuple(refusals))


def _ledger_changes(connection: Connection, refusals: list[Problem]) -> Iterator[Change]:
    if not _scalar(connection, "SELECT to_regclass('cdc.meta') IS NOT NULL"):
        steps = ledger.create()
    else:
        problem = version_problem(connection)
        if problem is None:
            return
        version = _scalar(connection, "SELECT version FROM cdc.meta")
        if not isinstance(version, int) or not OLDEST_LEDGER <= version < LEDGER_VERSION:
            refusals.append(problem)
            return
        refusals += held_pipelines(connection)
        steps = [migrations.fence(), *migrations.forward(version)]
    for description, sql in steps:
        yield Change(description=description, sql=sql)


def _entity_changes(
    connection: Connection,
    entity: Entity,
    live: LiveTable | None,
    schema: str,
    refusals: list[Problem],
) -> Iterator[Change]:
    refusals += reserved_names(entity)
    where = f"{schema}.{entity.name}"
    if live is None:
        yield Change(description=f"create table {where}", sql=create_table(entity, schema))
        return
    missing = [name for name in wanted_columns(entity) if name not in live.columns]
    refusals += [
        problem
        for problem in differences(entity, live, schema)
        if problem.what not in {f"column {name} is missing" for name in missing}
    ]
    for name in missing:
        _, rest = wanted_columns(entity)[name]
        demanding = ("NOT NULL" in rest and "DEFAULT" not in rest) or "IDENTITY" in rest
        occupied = demanding and _scalar(
            connection, f"SELECT EXISTS (SELECT FROM {qualified(schema, entity.name)})"
        )
        if occupied:
            what = f"column {name} is missing, is required, and the table has rows"
            cure = "add it by hand with values for them, or make the attribute not required first"
            refusals.append(Problem(what=what, where=where, cure=cure))
        else:
            yield Change(
                description=f"add column {name} to {where}", sql=add_column(entity, schema, name)
            )


def _foreign_changes(
    entities: Mapping[str, Entity],
    layouts: Sequence[Layout],
    lives: Mapping[Place, LiveTable],
    schema: str,
) -> Iterator[Change]:
    """Foreign keys; and an index on each that hard deletes of its parent would search."""
    deleted = {layout.entity.name for layout in layouts if not layout.soft}
    for name, entity in entities.items():
        live = lives.get((schema, name))
        for attribute in entity.attributes:
            parent = entities.get(attribute.references or "")
            if parent is None:
                continue
            where = f"{schema}.{name}.{attribute.name}"
            if live is None or (attribute.name, parent.name) not in live.foreign:
                yield Change(
                    description=f"let {where} refer to {parent.name}",
                    sql=add_foreign_key(entity, attribute, parent, schema),
                )
            indexed = {entity.key[0]} | (live.indexed if live is not None else set())
            if parent.name in deleted and attribute.name not in indexed:
                yield Change(
                    description=f"index {where}, for deletes of {parent.name}",
                    sql=add_index(entity, attribute, schema),
                )


def _reference_changes(
    layouts: Sequence[Layout], lives: Mapping[Place, LiveTable], refusals: list[Problem]
) -> Iterator[Change]:
    for layout in layouts:
        if layout.reference is None:
            continue
        live = lives.get((LEDGER, layout.reference.name))
        if live is None:
            description, sql = ledger.create_reference(layout)
            yield Change(description=description, sql=sql)
        else:
            refusals += reference_differences(layout, live)


def _rights(
    connection: Connection,
    entities: Mapping[str, Entity],
    layouts: Sequence[Layout],
    schema: str,
    worker: str,
    refusals: list[Problem],
) -> Iterator[Change]:
    """GRANTs that the worker's role lacks."""
    if not _scalar(connection, "SELECT true FROM pg_roles WHERE rolname = %s", worker):
        cure = f"CREATE ROLE {quote(worker)} LOGIN PASSWORD '…'"
        refusals.append(Problem(what=f"role {worker} does not exist", where="target", cure=cure))
        return
    role = quote(worker)
    for home in (LEDGER, schema):
        question = (
            "SELECT has_schema_privilege(%s, oid, 'USAGE') FROM pg_namespace WHERE nspname = %s"
        )
        if not _scalar(connection, question, worker, home):
            sql = f"GRANT USAGE ON SCHEMA {quote(home)} TO {role}"
            yield Change(description=f"let {worker} use schema {home}", sql=sql)
    places = used_tables(entities, layouts, schema)
    granted = rights(connection, places, RIGHTS, worker)
    for home, name in places:
        lacking = needed(home, name) - granted.get((home, name), frozenset())
        if lacking:
            verbs = ", ".join(sorted(lacking, key=RIGHTS.index))
            sql = f"GRANT {verbs} ON {qualified(home, name)} TO {role}"
            yield Change(description=f"grant {worker} its rights on {home}.{name}", sql=sql)


def _scalar(connection: Connection, sql: str, *params: object) -> object:
    row = connection.execute(sql.encode(), params or None).fetchone()
    return row[0] if row else None


def _carry_out(connection: Connection, change: Change) -> None:
    try:
        connection.execute(change.sql.encode())
    except psycopg.Error as exc:
        error = translate(exc)
        raise Stop(f"Could not {change.description}: {error.message}", hint=error.hint) from exc


@contextmanager
def _administrator(conninfo: Mapping[str, str]) -> Iterator[Connection]:
    connection = connect(conninfo, "cdc_daemon:apply")
    try:
        yield connection
    except psycopg.Error as exc:
        raise translate(exc) from exc
    finally:
        connection.close()
