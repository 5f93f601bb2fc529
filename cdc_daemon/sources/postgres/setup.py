"""What an administrator sets up at a source: the publication, and the worker's rights.

The slot is none of it: the worker creates it with its first snapshot. ``FOR ALL TABLES`` is never
used, and a table whose rows nothing identifies is refused, for publishing it would break the
application that writes it. A plan over a database that is as it should be is empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from cdc_daemon.model.errors import ConfigurationError, Problem
from cdc_daemon.model.ports import Table
from cdc_daemon.sources.postgres.asked import Asked
from cdc_daemon.sources.postgres.catalog import TableFacts, read_tables
from cdc_daemon.sources.postgres.connection import Connection, Server
from cdc_daemon.sources.postgres.contents import content_problems, heirs_unsaid
from cdc_daemon.sources.postgres.publication import (
    Publication,
    as_published,
    holds,
    membership,
    read_publication,
)
from cdc_daemon.sources.postgres.requirements import (
    ACTIONS,
    identity_problems,
    missing,
)

_PUBLISH: Final = "publish = 'insert, update, delete, truncate'"
_ROLE: Final = """
SELECT rolsuper OR rolreplication, rolsuper,
       pg_catalog.has_database_privilege(oid, pg_catalog.current_database(), 'CONNECT')
FROM pg_catalog.pg_roles WHERE rolname = %s
"""
_LACKING: Final = """
SELECT c.oid, pg_catalog.has_schema_privilege(%s, c.relnamespace, 'USAGE'),
       pg_catalog.has_table_privilege(%s, c.oid, 'SELECT')
FROM pg_catalog.pg_class c WHERE c.oid = ANY (%s::oid[])
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One step of a plan: what it does, in words and in SQL."""

    description: str
    sql: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Ordered changes, and what only a person can put right."""

    changes: tuple[Change, ...]
    refusals: tuple[Problem, ...]


def plan(
    source: str,
    conninfo: Mapping[str, str],
    *,
    publication: str,
    tables: Sequence[Table],
    worker: str | None = None,
) -> Plan:
    """Compare the source with the configuration. ``worker``: the role that the daemon connects as.

    ``conninfo``: an administrator's connection. Raises Unreachable, ConfigurationError.
    """
    server = Server(source, conninfo)
    with closing(server.connect()) as connection, server.errors("planning the source"):
        return _plan(server, connection, _asked(publication, tables), worker)


def apply_plan(
    source: str,
    conninfo: Mapping[str, str],
    *,
    publication: str,
    tables: Sequence[Table],
    worker: str | None = None,
) -> Plan:
    """Plan anew and carry it out in one transaction; what was done.

    Raises ConfigurationError for what is refused, and as ``plan``.
    """
    server = Server(source, conninfo)
    with (
        closing(server.connect()) as connection,
        server.errors("setting up the source"),
        connection.transaction(),
    ):
        made = _plan(server, connection, _asked(publication, tables), worker)
        if made.refusals:
            raise ConfigurationError(made.refusals)
        for change in made.changes:
            with server.errors(change.description):
                connection.execute(change.sql.encode())
    return made


def role_statements(role: str, database: str) -> list[str]:
    """The SQL that creates the least-privileged role of a worker; the plan grants it the rest.

    REPLICATION lets a role read the whole server's log, so its way in is to be closed as far as
    pg_hba.conf can: this database only, and not ``replication``.
    """
    name = _quote(role)
    return [
        f"CREATE ROLE {name} LOGIN REPLICATION PASSWORD '…'",
        f"GRANT CONNECT ON DATABASE {_quote(database)} TO {name}",
        f"-- pg_hba.conf: hostssl {database} {role} <address> scram-sha-256",
        f"-- pg_hba.conf: host replication {role} all reject",
    ]


def _asked(publication: str, tables: Sequence[Table]) -> Asked:
    return Asked(slot="", publication=publication, tables=tuple(tables))


def _plan(server: Server, connection: Connection, asked: Asked, worker: str | None) -> Plan:
    publication = read_publication(connection, asked.publication)
    facts = as_published(read_tables(connection, asked.tables), publication)
    refusals = missing(server.where, connection, asked, facts)
    refusals += identity_problems(server.where, connection, asked, facts, publication)
    rows = membership(connection, publication, [each.oid for each in facts.values()])
    changes = [*_publication_changes(asked, facts, publication, rows)]
    refusals += _contents(server, asked, facts, publication)
    if worker is not None:
        changes += _rights(server, connection, facts, worker, refusals)
    return Plan(changes=tuple(changes), refusals=tuple(refusals))


def _publication_changes(
    asked: Asked,
    facts: dict[tuple[str, str], TableFacts],
    publication: Publication | None,
    rows: dict[int, str],
) -> Iterator[Change]:
    """Create the publication, or add what it lacks."""
    name = _quote(asked.publication)
    known = [facts[t.schema, t.name] for t in asked.tables if (t.schema, t.name) in facts]
    if publication is None:
        listed = ", ".join(_member(found) for found in known)
        statement = f"CREATE PUBLICATION {name} FOR TABLE {listed} WITH ({_PUBLISH})"
        yield Change(description=f"create publication {asked.publication}", sql=statement)
        return
    if publication.actions < ACTIONS:
        description = f"let publication {asked.publication} publish every kind of change"
        yield Change(description=description, sql=f"ALTER PUBLICATION {name} SET ({_PUBLISH})")
    for found in known:
        hidden = found.is_partition and publication.via_root
        if not holds(publication, found, rows) and not hidden:
            statement = f"ALTER PUBLICATION {name} ADD TABLE {_member(found)}"
            description = f"publish {found.schema}.{found.name} in {asked.publication}"
            yield Change(description=description, sql=statement)


def _contents(
    server: Server,
    asked: Asked,
    facts: dict[tuple[str, str], TableFacts],
    publication: Publication | None,
) -> Iterator[Problem]:
    """Row filters and column lists that somebody chose, and heirs: they are not ours to decide."""
    where = f"{server.where}, publication {asked.publication}"
    for table in asked.tables:
        found = facts.get((table.schema, table.name))
        if found is None:
            continue
        member = publication and publication.members.get((table.schema, table.name))
        whats = content_problems(table, found, member) if member else heirs_unsaid(asked, found)
        for what, cure in whats:
            yield Problem(what=what, where=where, cure=cure)


def _rights(
    server: Server,
    connection: Connection,
    facts: dict[tuple[str, str], TableFacts],
    worker: str,
    refusals: list[Problem],
) -> Iterator[Change]:
    """REPLICATION, and what reading the mapped tables needs."""
    row = connection.execute(_ROLE, (worker,)).fetchone()
    if row is None:
        cure = "; ".join(role_statements(worker, server.database)[:2])
        refusals.append(
            Problem(what=f"role {worker} does not exist", where=server.where, cure=cure)
        )
        return
    replication, superuser, connect = row
    role = _quote(worker)
    if not replication:
        yield Change(description=f"let {worker} read the log", sql=f"ALTER ROLE {role} REPLICATION")
    if not connect:
        statement = f"GRANT CONNECT ON DATABASE {_quote(server.database)} TO {role}"
        yield Change(description=f"let {worker} connect", sql=statement)
    if superuser:
        return
    by_oid = {found.oid: found for found in facts.values()}
    schemas = set()
    for oid, usage, select in connection.execute(_LACKING, (worker, worker, [*by_oid])):
        found = by_oid[oid]
        if not usage and found.schema not in schemas:
            schemas.add(found.schema)
            statement = f"GRANT USAGE ON SCHEMA {_quote(found.schema)} TO {role}"
            yield Change(description=f"let {worker} use schema {found.schema}", sql=statement)
        if not select:
            statement = f"GRANT SELECT ON {_quote(found.schema, found.name)} TO {role}"
            description = f"let {worker} read {found.schema}.{found.name}"
            yield Change(description=description, sql=statement)


def _member(found: TableFacts) -> str:
    """A table in a publication's list; without the tables that inherit from it."""
    name = _quote(found.schema, found.name)
    return name if found.kind == "p" else f"ONLY {name}"


def _quote(*names: str) -> str:
    return sql.Identifier(*names).as_string()
