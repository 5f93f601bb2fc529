"""A publication as the catalogue has it, and its identity: what tells that it was ever changed.

PostgreSQL 18 skips changes in silence where a publication, or a table's membership in it, did not
exist at that point of the log, and every version does when a table is taken out and put back. No
trace of that is in the stream. The catalogue rows have changed their oid or xmin, though, so these
are kept with the checkpoint: one mark for the publication and one for each mapped table. A
partition that is attached or detached moves rows without a word in the log, so a partitioned table
has marks for its partitions too (``partitions.py`` says what follows from them).

The first marks are those of every version there was. What came later stands behind them, and is not
compared with an identity of before, which does not tell it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from psycopg import sql

from cdc_daemon.model.ports import Table
from cdc_daemon.sources.postgres.catalog import ColumnFacts, Descendant, TableFacts
from cdc_daemon.sources.postgres.connection import Connection

_PUBLICATION: Final = """
SELECT p.oid, p.xmin::text, p.puballtables, p.pubviaroot,
       p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate,
       COALESCE(pg_catalog.to_jsonb(p) ->> 'pubgencols', 'n')
FROM pg_catalog.pg_publication p WHERE p.pubname = %s
"""

_MEMBERS: Final = """
SELECT t.schemaname::text, t.tablename::text, {columns}, {filter}
FROM pg_catalog.pg_publication_tables t WHERE t.pubname = %s
"""

_LINEAGE: Final = """
WITH lineage (oid, relid) AS (
    SELECT c.oid, c.oid FROM pg_catalog.pg_class c WHERE c.oid = ANY (%s::oid[])
    UNION SELECT c.oid, a.relid
    FROM pg_catalog.pg_class c, pg_catalog.pg_partition_ancestors(c.oid) a (relid)
    WHERE c.oid = ANY (%s::oid[]) AND c.relispartition)
"""

_ROWS: Final = f"""{_LINEAGE}
SELECT l.oid, 'r' || r.oid || '.' || r.xmin::text, l.relid = l.oid
FROM lineage l JOIN pg_catalog.pg_publication_rel r ON r.prrelid = l.relid WHERE r.prpubid = %s
"""

_SCHEMA_ROWS: Final = f"""{_LINEAGE}
SELECT l.oid, 'n' || n.oid || '.' || n.xmin::text, l.relid = l.oid
FROM lineage l JOIN pg_catalog.pg_class c ON c.oid = l.relid
JOIN pg_catalog.pg_publication_namespace n ON c.relnamespace = n.pnnspid WHERE n.pnpubid = %s
"""

_FILTERS: Final = """
SELECT n.nspname::text, c.relname::text, a.attname::text
FROM pg_catalog.pg_publication_rel r
JOIN pg_catalog.pg_class c ON c.oid = r.prrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL pg_catalog.regexp_matches(r.prqual::text, ':varattno ([0-9]+)', 'g') AS v (m)
JOIN pg_catalog.pg_attribute a ON a.attrelid = r.prrelid AND a.attnum = v.m[1]::int2
WHERE r.prpubid = %s AND r.prqual IS NOT NULL
"""
"""The columns in row filters: the only thing that is read from a node tree, unchanged since 15."""

_DIGITS: Final = 12  # hexadecimal digits of a mark: short, for it is stored with every checkpoint
_ABSENT: Final = "-" * _DIGITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A published table: which columns (None: not known, before 15) and under which condition."""

    columns: frozenset[str] | None
    row_filter: str | None
    filtered_by: frozenset[str] = frozenset()  # the columns in the condition


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A publication and, of its tables, those that are mapped."""

    oid: int
    xmin: str
    all_tables: bool
    via_root: bool
    actions: frozenset[str]
    generated: str  # pubgencols: 'n' none, 's' stored
    members: dict[tuple[str, str], Member]


def read_publication(connection: Connection, name: str) -> Publication | None:
    """The publication, or None if there is none of that name."""
    row = connection.execute(_PUBLICATION, (name,)).fetchone()
    if row is None:
        return None
    known = connection.info.server_version >= 150000
    query = sql.SQL(_MEMBERS).format(
        columns=sql.SQL("t.attnames::text[]" if known else "NULL"),
        filter=sql.SQL("t.rowfilter" if known else "NULL"),
    )
    found = connection.execute(query, (name,)).fetchall()
    filters: dict[tuple[str, str], set[str]] = {}
    if known and any(row[3] is not None for row in found):
        for schema, table, column in connection.execute(_FILTERS, (row[0],)):
            filters.setdefault((schema, table), set()).add(column)
    members = {
        (schema, table): Member(
            columns=None if columns is None else frozenset(columns),
            row_filter=row_filter,
            filtered_by=frozenset(filters.get((schema, table), ())),
        )
        for schema, table, columns, row_filter in found
    }
    actions = ("insert", "update", "delete", "truncate")
    return Publication(
        oid=row[0],
        xmin=row[1],
        all_tables=row[2],
        via_root=row[3],
        actions=frozenset(name for name, on in zip(actions, row[4:8], strict=True) if on),
        generated=row[8],
        members=members,
    )


def as_published(
    facts: Mapping[tuple[str, str], TableFacts], publication: Publication | None
) -> dict[tuple[str, str], TableFacts]:
    """The tables with stored generated columns as columns like any other, where the publication
    has them in the log (PostgreSQL 18: ``publish_generated_columns = stored``)."""
    if publication is None or publication.generated != "s":
        return dict(facts)
    return {name: replace(table, columns=_published(table)) for name, table in facts.items()}


def _published(table: TableFacts) -> tuple[ColumnFacts, ...]:
    return tuple(
        replace(column, generated="") if column.generated == "s" else column
        for column in table.columns
    )


# --- its identity ------------------------------------------------------------------------------


def fingerprint(
    connection: Connection,
    publication: Publication | None,
    tables: Sequence[Table],
    facts: Mapping[tuple[str, str], TableFacts],
) -> str:
    """The publication's mark, then name and mark of each mapped table, as one word list.

    The same as long as no mapped table can have missed a change; other tables and GRANTs do not
    matter, nor do added columns. A table's word goes on with a second mark of what the first leaves
    out, and with its partitions' marks.
    """
    ties = _ties(connection, publication, [each.oid for each in facts.values()])
    rows, own = _joined(ties), _joined(tie for tie in ties if tie[2])
    words = [_mark(f"{publication.oid}.{publication.xmin}") if publication else _ABSENT]
    for table in sorted(tables, key=lambda each: (each.schema, each.name)):
        found = facts.get((table.schema, table.name))
        if found is None or publication is None or not holds(publication, found, rows):
            words.append(name_mark(table) + _ABSENT)
            continue
        identity = ",".join(found.identity)
        effective = ",".join(_effective_identity(table, found))
        marks = (
            _mark(f"{found.oid}|{own.get(found.oid, '')}|{found.replica}|{identity}"),
            _mark(f"{rows.get(found.oid, '')}|{effective}"),
            *partition_marks(found, publication),
        )
        words.append(name_mark(table) + "".join(marks))
    return " ".join(words)


def holds(publication: Publication, found: TableFacts, rows: Mapping[int, str]) -> bool:
    """Whether the publication holds a table, or, under their own names, a table's partitions."""
    if found.partitioned and not publication.via_root:
        return publication.all_tables or found.oid in rows
    return (found.schema, found.name) in publication.members


def _effective_identity(table: Table, found: TableFacts) -> tuple[str, ...]:
    """What rows are known by: under REPLICA IDENTITY FULL the primary key, else the mapping's."""
    return found.primary_key or table.identity if found.replica == "f" else found.identity


def partition_marks(found: TableFacts, publication: Publication) -> list[str]:
    """A mark for each partition: its place, then its file, where truncating it says nothing."""
    if not found.partitioned:
        return []
    return [place_mark(each) + _file_mark(each, publication) for each in found.descendants]


def place_mark(partition: Descendant) -> str:
    """What changes when a partition, or what it is part of, is attached anew."""
    return _mark(f"{partition.oid}|{partition.edges}")


def _file_mark(partition: Descendant, publication: Publication) -> str:
    return _mark(str(partition.file)) if publication.via_root else _ABSENT


def membership(
    connection: Connection, publication: Publication | None, oids: list[int]
) -> dict[int, str]:
    """What makes each table a member, as text: rows for it, for what it is a partition of, or for
    their schemas; or nothing."""
    return _joined(_ties(connection, publication, oids))


Tie = tuple[int, str, bool]
"""A table's oid, a row that makes it a member, and whether itself: else it is part of a member."""


def _ties(connection: Connection, publication: Publication | None, oids: list[int]) -> list[Tie]:
    if publication is None:
        return []
    asked = (oids, oids, publication.oid)
    found = connection.execute(_ROWS, asked).fetchall()
    if connection.info.server_version >= 150000:
        found += connection.execute(_SCHEMA_ROWS, asked).fetchall()
    return sorted((oid, mark, own) for oid, mark, own in found)


def _joined(ties: Iterable[Tie]) -> dict[int, str]:
    marks: dict[int, str] = {}
    for oid, mark, _ in ties:
        marks[oid] = marks.get(oid, "") + mark
    return marks


def name_mark(table: Table) -> str:
    """The table's name, shortened to a hash."""
    return _mark(f"{table.schema}\0{table.name}")


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How two fingerprints differ: the publication itself, changed tables, tables that came.

    Of partitioned tables: those that lost a partition, those of which one was truncated or
    rewritten, and the place marks of partitions that joined.
    """

    publication: bool
    changed: tuple[Table, ...] = ()
    added: tuple[Table, ...] = ()
    left: tuple[Table, ...] = ()
    rewritten: tuple[Table, ...] = ()
    joined: Mapping[Table, frozenset[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        tables = (self.changed, self.added, self.left, self.rewritten, self.joined)
        return self.publication or any(tables)


def compare(then: str, now: str, tables: Sequence[Table]) -> Difference:
    """What has happened between two fingerprints to these tables; those that went do not matter."""
    old, new = _parse(then), _parse(now)
    marks = [(table, name_mark(table)) for table in tables]
    both = [
        (table, old[name].files, new[name].files)
        for table, name in marks
        if name in old and name in new and old[name].same(new[name]) and old[name].tells_partitions
    ]
    return Difference(
        publication=old[""].mark != new[""].mark,
        changed=tuple(
            table
            for table, name in marks
            if name in old and not (name in new and old[name].same(new[name]))
        ),
        added=tuple(table for table, name in marks if name not in old),
        left=tuple(t for t, one, two in both if one.keys() - two.keys()),
        rewritten=tuple(
            t
            for t, one, two in both
            if any(two.get(place, file) != file for place, file in one.items())
        ),
        joined={
            t: frozenset(two.keys() - one.keys()) for t, one, two in both if two.keys() - one.keys()
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Word:
    """A table's mark, the second mark, and the files of its partitions by their places.

    Older ones have the first mark only: then ``more`` is empty, and what partitions there were,
    nobody knows.
    """

    mark: str
    more: str = ""
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def tells_partitions(self) -> bool:
        return bool(self.more or self.files)

    def same(self, later: _Word) -> bool:
        """Whether nothing that both of them tell has changed."""
        return self.mark == later.mark and self.more in ("", later.more)


def _parse(text: str) -> dict[str, _Word]:
    """The publication (under the empty name) and each table, by the mark of its name."""
    head, *words = text.split(" ")
    found = {"": _Word(mark=head)}
    for word in words:
        name, mark, *rest = (word[i : i + _DIGITS] for i in range(0, len(word), _DIGITS))
        more = rest.pop(0) if len(rest) % 2 else ""
        files = dict(zip(rest[::2], rest[1::2], strict=True))
        found[name] = _Word(mark=mark, more=more, files=files)
    return found
