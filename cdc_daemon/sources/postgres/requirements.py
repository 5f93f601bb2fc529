"""What must hold for the publication and for each mapped table, else it is a problem with a cure.

Publishing a table whose rows nothing identifies breaks the application that writes it: its UPDATEs
and DELETEs fail at the source. So such a table is refused before it is ever published.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from cdc_daemon.model.errors import RESNAPSHOT, Problem, suggest
from cdc_daemon.model.ports import Table
from cdc_daemon.sources.postgres.asked import Asked
from cdc_daemon.sources.postgres.catalog import TableFacts
from cdc_daemon.sources.postgres.connection import Connection
from cdc_daemon.sources.postgres.contents import LOG_IT, membership_problems, partition_problems
from cdc_daemon.sources.postgres.publication import Publication

_KINDS: Final = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}
ACTIONS: Final = frozenset({"insert", "update", "delete", "truncate"})

_NAMES: Final = """
SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY 1 LIMIT 20000
"""


def publication_problems(
    where: str,
    asked: Asked,
    facts: dict[tuple[str, str], TableFacts],
    publication: Publication | None,
    rows: Mapping[int, str],
) -> list[Problem]:
    """What is wrong with the publication and with how it holds the mapped tables.

    ``rows``: what makes each table a member (``membership``).
    """
    place = f"{where}, publication {asked.publication}"
    if publication is None:
        cure = "cdc-daemon apply --admin-dsn creates it"
        return [Problem(what="it does not exist", where=place, cure=cure)]
    problems: list[Problem] = []
    if lacking := sorted(ACTIONS - publication.actions):
        cure = (
            f"ALTER PUBLICATION {asked.publication} "
            "SET (publish = 'insert, update, delete, truncate')"
        )
        what = f"it does not publish {', '.join(lacking)}"
        problems.append(Problem(what=what, where=place, cure=cure))
    for table in asked.tables:
        found = facts.get((table.schema, table.name))
        if found is not None:
            whats = membership_problems(asked, table, found, publication, rows)
            problems += [Problem(what=what, where=place, cure=cure) for what, cure in whats]
    return problems


def missing(
    where: str, connection: Connection, asked: Asked, facts: dict[tuple[str, str], TableFacts]
) -> list[Problem]:
    """Tables and columns that are not there or cannot be read."""
    problems: list[Problem] = []
    known: list[str] | None = None
    for table in asked.tables:
        found = facts.get((table.schema, table.name))
        place = f"{where}, table {table.schema}.{table.name}"
        if found is None:
            if known is None:
                known = [row[0] for row in connection.execute(_NAMES)]
            hint = suggest(f"{table.schema}.{table.name}", known)
            cure = "correct the mapping's from"
            problems.append(Problem(what=f"the table does not exist{hint}", where=place, cure=cure))
            continue
        whats = (*_kind_problems(found), *_column_problems(table, found))
        problems += [Problem(what=what, where=place, cure=cure) for what, cure in whats]
    return problems


def _kind_problems(found: TableFacts) -> Iterator[tuple[str, str]]:
    """What cannot be read from a log at all."""
    if found.kind in _KINDS:
        yield f"it is {_KINDS[found.kind]}, which has no changes in the log", "map its table"
    if found.persistence != "p":
        cure = f"ALTER TABLE {found.spelled} {LOG_IT}"
        yield "it is unlogged or temporary: its changes are not in the log", cure
    if found.row_security:
        yield (
            "row security hides rows of it from the daemon's user",
            "ALTER ROLE ... BYPASSRLS for the daemon's user",
        )


def _column_problems(table: Table, found: TableFacts) -> Iterator[tuple[str, str]]:
    """Mapped columns that are unknown, computed or not readable."""
    names = [column.name for column in found.columns]
    unreadable = []
    for name in sorted({*table.columns, *table.identity}):
        column = found.column(name)
        if column is None:
            yield f"column {name!r} does not exist{suggest(name, names)}", "correct the mapping"
        elif column.generated:
            yield (
                f"column {name!r} is generated, and generated columns are not in the log",
                "map the columns that it is computed from, with an expr; or, if it is stored and "
                "the server is PostgreSQL 18, set the publication's publish_generated_columns = "
                f"stored and {RESNAPSHOT}",
            )
        elif not column.readable:
            unreadable.append(name)
    if unreadable:
        cure = f"GRANT SELECT ON {found.spelled} TO the daemon's user"
        yield f"no right to read {', '.join(unreadable)}", cure


def identity_problems(
    where: str,
    connection: Connection,
    asked: Asked,
    facts: dict[tuple[str, str], TableFacts],
    publication: Publication | None,
) -> list[Problem]:
    """Tables whose rows nothing identifies: publishing them breaks their application."""
    problems = []
    for table in asked.tables:
        found = facts.get((table.schema, table.name))
        if found is None or found.kind in _KINDS:
            continue
        generated = publication.generated if publication else "n"
        whats = [*_identity(table, found, generated, connection.info.server_version)]
        whats += partition_problems(asked, found)
        place = f"{where}, table {table.schema}.{table.name}"
        problems += [Problem(what=what, where=place, cure=cure) for what, cure in whats]
    return problems


def _identity(
    table: Table, found: TableFacts, generated: str, version: int
) -> Iterator[tuple[str, str]]:
    """Why rows of this table could not be updated or deleted while it is published."""
    key = f"add a primary key, or ALTER TABLE {found.spelled} REPLICA IDENTITY USING INDEX ..."
    match found.replica:
        case "n":
            yield "REPLICA IDENTITY NOTHING: UPDATE and DELETE would fail", key
        case "d" if not found.primary_key:
            yield "it has no primary key: published, its UPDATE and DELETE would fail", key
        case "i" if not found.replica_index:
            yield "the index of its replica identity is gone: UPDATE and DELETE would fail", key
        case "f" if not found.primary_key and not table.identity:
            yield (
                "REPLICA IDENTITY FULL without a primary key: nothing identifies a row",
                "name the identifying columns in the mapping (identity)",
            )
        case _:
            pass
    published = ("", "s") if generated == "s" else ("",)
    unpublished = [column.name for column in found.columns if column.generated not in published]
    if found.replica == "f" and version >= 180000 and unpublished:
        yield (
            f"REPLICA IDENTITY FULL with the unpublished generated column {unpublished[0]}:"
            " UPDATE and DELETE would fail",
            f"ALTER TABLE {found.spelled} REPLICA IDENTITY DEFAULT",
        )
