"""How a publication holds a table: partitions, heirs, row filters and column lists.

Each function yields what is wrong, and its cure; ``requirements.py`` says where.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from cdc_daemon.model.ports import Table
from cdc_daemon.sources.postgres.asked import Asked
from cdc_daemon.sources.postgres.catalog import TableFacts
from cdc_daemon.sources.postgres.publication import Member, Publication, holds

LOG_IT: Final = (
    "SET LOGGED, and take a new snapshot where it was copied before: cdc-daemon snapshot start"
)


def membership_problems(
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


def partition_problems(asked: Asked, found: TableFacts) -> Iterator[tuple[str, str]]:
    """Partitions whose changes could not be carried as the table's."""
    for each in found.descendants if found.partitioned else ():
        alter = f"ALTER TABLE {each.spelled}"
        if each.kind == "f":
            yield (
                f"partition {each.title} is a foreign table, which has no changes in the log",
                "detach it, or map the other partitions one by one",
            )
        elif each.persistence != "p":
            yield f"partition {each.title} is unlogged", f"{alter} {LOG_IT}"
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
