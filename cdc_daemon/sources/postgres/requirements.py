"""What must hold for the publication and for each mapped table, else it is a problem with a cure.

Publishing a table whose rows nothing identifies breaks the application that writes it: its UPDATEs
and DELETEs fail at the source. So such a table is refused before it is ever published.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from cdc_daemon.model.errors import Problem, suggest
from cdc_daemon.model.ports import Table
from cdc_daemon.sources.postgres.catalog import Descendant, TableFacts
from cdc_daemon.sources.postgres.connection import Connection
from cdc_daemon.sources.postgres.partitions import Places
from cdc_daemon.sources.postgres.publication import (
    Member,
    Publication,
    holds,
)

_KINDS: Final = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}
ACTIONS: Final = frozenset({"insert", "update", "delete", "truncate"})

_NAMES: Final = """
SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY 1 LIMIT 20000
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a source is configured to read, and what it knows of partitions by now."""

    slot: str
    publication: str
    tables: tuple[Table, ...]
    places: Places = field(default_factory=Places, compare=False)

    names: frozenset[tuple[str, str]] = field(init=False, default=frozenset(), compare=False)

    def __post_init__(self) -> None:
        names = frozenset((table.schema, table.name) for table in self.tables)
        object.__setattr__(self, "names", names)

    def maps(self, found: Descendant) -> bool:
        """Whether a table is mapped itself."""
        return (found.schema, found.name) in self.names


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
            whats = _membership_problems(asked, table, found, publication, rows)
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
        cure = f"ALTER TABLE {found.spelled} SET LOGGED"
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
                "stored and take a new copy",
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
        whats += _partition_problems(asked, found)
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


def _partition_problems(asked: Asked, found: TableFacts) -> Iterator[tuple[str, str]]:
    """Partitions whose changes could not be carried as the table's."""
    for each in found.descendants if found.partitioned else ():
        alter = f"ALTER TABLE {each.spelled}"
        if each.kind == "f":
            yield (
                f"partition {each.title} is a foreign table, which has no changes in the log",
                "detach it, or map the other partitions one by one",
            )
        elif each.persistence != "p":
            yield f"partition {each.title} is unlogged", f"{alter} SET LOGGED"
        elif (each.replica, {*each.identity}) != (found.replica, {*found.identity}):
            yield (
                f"partition {each.title} has another replica identity than the table",
                "give every partition the table's replica identity",
            )
        if asked.maps(each):
            yield (
                f"its partition {each.title} is mapped too: a change would count twice",
                "map the partitioned table only, or its partitions only",
            )


def _membership_problems(
    asked: Asked,
    table: Table,
    found: TableFacts,
    publication: Publication,
    rows: Mapping[int, str],
) -> Iterator[tuple[str, str]]:
    """What is wrong with how the publication holds a table."""
    name = f"{table.schema}.{table.name}"
    member = publication.members.get((table.schema, table.name))
    if member is None and found.is_partition and publication.via_root:
        yield (
            f"the partition {name} is streamed under its partitioned table's name",
            "map the partitioned table",
        )
    elif not holds(publication, found, rows):
        yield (
            f"table {name} is not in it",
            f"ALTER PUBLICATION {asked.publication} ADD TABLE {found.spelled}",
        )
    elif found.partitioned and not publication.via_root:
        yield from _leaf_problems(table, found, publication)
    elif member is not None:
        yield from content_problems(table, found, member)
        yield from _heir_problems(asked, found, publication)


def _leaf_problems(
    table: Table, found: TableFacts, publication: Publication
) -> Iterator[tuple[str, str]]:
    """What is wrong with how the publication holds a table's partitions, each by its own name."""
    for each in found.descendants:
        member = publication.members.get((each.schema, each.name))
        if member is None:
            continue  # a foreign table: said already
        if member.row_filter is not None:
            yield (
                f"partition {each.title} has a row filter of its own",
                "publish the partitioned table without WHERE, or SET (publish_via_partition_root = "
                "true) and give that one a filter",
            )
        yield from _column_list_problems(each.title, table, found, member)


def _heir_problems(
    asked: Asked, found: TableFacts, publication: Publication
) -> Iterator[tuple[str, str]]:
    """Tables that inherit: the log tells their rows under their own names, SELECT under ours."""
    for each in found.descendants:
        published = (each.schema, each.name) in publication.members
        if published and not asked.maps(each):
            yield (
                f"{each.title} inherits from {found.schema}.{found.name} and is published, but "
                "nobody maps it: its rows would be left out",
                f"map {each.title} too; or, if its rows are not wanted, "
                f"ALTER PUBLICATION {asked.publication} DROP TABLE ONLY {each.spelled}",
            )


def heirs_unsaid(asked: Asked, found: TableFacts) -> Iterator[tuple[str, str]]:
    """A table that others inherit from, not published yet: whether theirs are wanted is to be said.

    Who publishes it himself, with ONLY or with its heirs, has said it.
    """
    heirs = [one.title for one in found.descendants if not asked.maps(one)]
    if heirs and not found.partitioned:
        name = f"{found.schema}.{found.name}"
        yield (
            f"{heirs[0]} inherits from it, and a mapping of {name} carries its own rows only",
            f"map {heirs[0]} too; or, if its rows are not wanted, publish the table yourself: "
            f"ALTER PUBLICATION {asked.publication} ADD TABLE ONLY {found.spelled}",
        )


def content_problems(table: Table, found: TableFacts, member: Member) -> Iterator[tuple[str, str]]:
    """Row filters and column lists: what and cure."""
    name = f"{table.schema}.{table.name}"
    unkeyed = sorted(member.filtered_by - {*found.identity})
    if member.row_filter is not None and found.replica != "f" and unkeyed:
        yield (
            f"the row filter on {name} reads {', '.join(unkeyed)}, which is no part of its replica "
            "identity: UPDATE and DELETE would fail",
            "filter by columns of the key only, or "
            f"ALTER TABLE {found.spelled} REPLICA IDENTITY FULL",
        )
    yield from _column_list_problems(name, table, found, member)


def _column_list_problems(
    name: str, table: Table, found: TableFacts, member: Member
) -> Iterator[tuple[str, str]]:
    """Columns that are needed and not published."""
    if member.columns is not None:
        needed = {*table.columns, *table.identity, *found.identity, *_all_if_full(found)}
        exist = {column.name for column in found.columns if not column.generated}
        if lacking := sorted(needed & exist - member.columns):
            yield (
                f"its column list for {name} lacks {', '.join(lacking)}",
                "publish the table without a column list, or with these columns",
            )


def _all_if_full(found: TableFacts) -> set[str]:
    """Under REPLICA IDENTITY FULL a column list that leaves any column out breaks every UPDATE."""
    return {column.name for column in found.columns} if found.replica == "f" else set()
