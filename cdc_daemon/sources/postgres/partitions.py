"""Partitions of mapped tables: whose changes are whose, and what moves rows without a word.

Without ``publish_via_partition_root`` the log tells changes under the partitions' names; they are
carried as changes of the mapped table, and it also tells a TRUNCATE of one partition, which it does
not with that option. ATTACH, DETACH and DROP of a partition move rows and are in no log. So the
checkpoint's identity names every partition (``fingerprint.py``), before the first change of it is
carried: one that has left, or that brought rows along, is a gap.

A partition that was created in its place brought no rows. One that was created and attached in one
transaction brought those of that transaction's earlier commands, another one those that are older
than the attaching transaction. Where that had written something before, its number says nothing:
then every row counts as brought along.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, LiteralString

from psycopg import sql

from cdc_daemon.model.errors import Unreachable
from cdc_daemon.model.ports import Table
from cdc_daemon.sources.postgres.catalog import Descendant, Extent, TableFacts
from cdc_daemon.sources.postgres.connection import Connection, Server
from cdc_daemon.sources.postgres.fingerprint import Difference, place_mark
from cdc_daemon.sources.postgres.publication import Publication

Facts = Mapping[tuple[str, str], TableFacts]

_READABLE: Final = "SELECT pg_catalog.has_table_privilege(%s::oid, 'SELECT')"
_ROOTS: Final = """
SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text::bigint, a.relid::oid,
       c.oid::regclass::text
FROM (SELECT %s::oid) w (oid) LEFT JOIN pg_catalog.pg_class c ON c.oid = w.oid
LEFT JOIN LATERAL pg_catalog.pg_partition_ancestors(c.oid) a (relid) ON true
"""
_XIDS: Final = 1 << 32  # transactions are numbered around in the log
_MOST: Final = 10_000  # answers that are kept


@dataclass(slots=True)
class Places:
    """What one source's process knows of partitions, by place mark and by oid.

    ``vouched``: those that brought no rows. ``copied``: those that stood in the first identity
    that was seen. ``titles``: their names. ``noted``: the oids of the leaves that stand in the
    identity taken last; None: none was taken. ``unlogged``: tables of which changes were seen to be
    in no log, since that identity was taken.
    """

    vouched: set[str] = field(default_factory=set)
    copied: set[str] | None = None
    titles: dict[str, str] = field(default_factory=dict)
    noted: frozenset[int] | None = None
    unlogged: set[tuple[str, str]] = field(default_factory=set)

    def learn(self, facts: Facts) -> None:
        """Take in names, what cannot have brought rows, and what is unlogged."""
        self.unlogged.update(name for name, found in facts.items() if found.unlogged)
        for each in _leaves(facts):
            mark = place_mark(each)
            self.titles[mark] = each.title
            if not each.attached:
                self.vouched.add(mark)

    def note(self, connection: Connection, facts: Facts) -> None:
        """These leaves stand in an identity that is about to be stored."""
        self.noted = frozenset(each.oid for each in _leaves(facts))
        self.unlogged.clear()
        if self.copied is None:
            self.copied = set(map(place_mark, _leaves(facts)))
        self.vouch(connection, facts)

    def compared(
        self, connection: Connection, joined: Mapping[Table, frozenset[str]], facts: Facts
    ) -> None:
        """All but those that joined stood in the checkpoint's identity."""
        known = set(map(place_mark, _leaves(facts))).difference(*joined.values())
        self.copied = known | (self.copied or set())
        self.vouch(connection, facts)

    def vouch(self, connection: Connection, facts: Facts) -> None:
        """Look whether those that joined brought rows."""
        for found in facts.values():
            for each in found.descendants if found.partitioned else ():
                mark = place_mark(each)
                if mark in self.vouched or mark in (self.copied or ()):
                    continue
                if not _brought_rows(connection, found, each):
                    self.vouched.add(mark)

    def gaps(self, difference: Difference) -> Iterator[tuple[Table, str]]:
        """How rows came or went without a word, by table."""
        for table in difference.left:
            yield (
                table,
                (
                    "a partition of it was detached or dropped: its rows are no longer the "
                    "table's, and the log does not say so"
                ),
            )
        for table in difference.rewritten:
            yield (
                table,
                (
                    "a partition of it was truncated, or rewritten (VACUUM FULL, CLUSTER), and "
                    "with publish_via_partition_root the log tells neither"
                ),
            )
        for table, marks in difference.joined.items():
            if brought := sorted(self.titles.get(m, "one") for m in marks - self.vouched):
                yield (
                    table,
                    (
                        f"a partition was attached with rows or changes that it had before "
                        f"({brought[0]}): the log does not tell them"
                    ),
                )


def _leaves(facts: Facts) -> Iterator[Descendant]:
    for found in facts.values():
        if found.partitioned:
            yield from found.descendants


def _brought_rows(connection: Connection, root: TableFacts, leaf: Descendant) -> bool:
    """Whether a leaf has rows that may be older than its attachment.

    Who may read only the table as a whole looks for them among all of its rows. PostgreSQL 14 goes
    on leaving out a table that it has met before the attachment, so there only a new one will do.
    """
    if not leaf.attached:
        return False
    if connection.info.server_version < 150000 and not leaf.new:
        return True
    row = connection.execute(_READABLE, (leaf.oid,)).fetchone()
    whole = not (row and row[0])
    query = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {} {})").format(
        sql.Identifier(root.schema, root.name) if whole else sql.Identifier(leaf.schema, leaf.name),
        sql.SQL("tableoid = {} AND").format(sql.Literal(leaf.oid)) if whole else sql.SQL(""),
        sql.SQL(_older(leaf)).format(
            attached=sql.Literal(leaf.attached), step=sql.Literal(leaf.step)
        ),
    )
    found = connection.execute(query).fetchone()
    return bool(found and found[0])


def _older(leaf: Descendant) -> LiteralString:
    """The condition on a row that may be older than the leaf's attachment."""
    if leaf.late:
        return "true"
    if leaf.new:
        return "xmin = {attached}::pg_catalog.xid AND cmin::text::bigint < {step}"
    return "pg_catalog.age(xmin) > pg_catalog.age({attached}::pg_catalog.xid)"


def extents(
    facts: Iterable[TableFacts], publication: Publication | None, noted: frozenset[int] | None
) -> dict[int, Extent]:
    """What of each table the log tells, by its oid. ``noted``: the only leaves to be carried."""
    found = {}
    for each in facts:
        member = publication.members.get((each.schema, each.name)) if publication else None
        leaves: frozenset[int] = frozenset()
        if each.partitioned and not (publication and publication.via_root):
            leaves = frozenset(leaf.oid for leaf in each.descendants)
            leaves = leaves if noted is None else leaves & noted
        condition = f"({member.row_filter})" if member and member.row_filter else ""
        found[each.oid] = Extent(leaves=leaves, condition=condition)
    return found


class Newcomers:
    """Asks the catalogue about relations that the log describes and nobody knows.

    On a connection of its own, for it is the reader's thread that asks; ``seconds``: how long it
    waits. That a relation is no partition of a mapped table holds for the transactions that had
    ended by then: one that comes later may have attached it.
    """

    def __init__(
        self,
        server: Server,
        roots: Mapping[int, str],
        noted: frozenset[int],
        *,
        seconds: float = 10.0,
    ) -> None:
        self._server = server
        self._roots = roots
        self._noted = noted
        self._seconds = seconds
        self._refuted: dict[int, int] = {}  # by oid: the first transaction that it may not hold for
        self._connection: Connection | None = None

    def ask(self, oid: int, xid: int) -> None:
        """Raise Unreachable, so that the session begins anew and notes its place first, where it
        is a partition of a mapped table that joined since; or where nobody answers."""
        if oid in self._noted or oid in self._roots:
            return
        if oid in self._refuted and _before(xid, self._refuted[oid]):
            return
        with self._server.errors("looking for new partitions"):
            rows = self._sql().execute(_ROOTS, (oid,)).fetchall()
        for _, root, name in rows:
            if root in self._roots:
                raise Unreachable(
                    f"{self._server.where}: {name} is a new partition of {self._roots[root]}",
                    hint="its place is noted before its changes are carried",
                )
        if len(self._refuted) >= _MOST:
            self._refuted.clear()
        self._refuted[oid] = rows[0][0] % _XIDS

    def _sql(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = self._server.connect()
            milliseconds = str(int(self._seconds * 1000))
            query = "SELECT pg_catalog.set_config('statement_timeout', %s, false)"
            self._connection.execute(query, (milliseconds,))
        return self._connection

    def close(self) -> None:
        """Close the connection; never raises."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.close()


def _before(xid: int, limit: int) -> bool:
    """Whether a transaction's number comes before another, where they may have gone around."""
    return 0 < (limit - xid) % _XIDS < _XIDS // 2
