"""A publication's identity: what tells that it was ever changed.

PostgreSQL 18 skips changes in silence where a publication, or a table's membership in it, did not
exist at that point of the log, and every version does when a table is taken out and put back. No
trace of that is in the stream. The catalogue rows have changed their oid or xmin, though, so these
are kept with the checkpoint: one mark for the publication and one for each mapped table. A
partition that is attached or detached moves rows without a word in the log, so a partitioned table
has marks for its partitions too (``partitions.py`` says what follows from them).

The first marks are those of every version there was. What came later stands behind them, and is not
compared with an identity of before, which does not tell it.

SET UNLOGGED and SET LOGGED leave no row behind that other rewriting would not: a table that was
seen unlogged is flagged in the stored identity, until the next copy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from cdc_daemon.model.ports import Table
from cdc_daemon.sources.postgres.catalog import Descendant, TableFacts
from cdc_daemon.sources.postgres.connection import Connection
from cdc_daemon.sources.postgres.publication import (
    Publication,
    holding,
    holds,
    joined,
    ties,
)

_DIGITS: Final = 12  # hexadecimal digits of a mark: short, for it is stored with every checkpoint
_ABSENT: Final = "-" * _DIGITS
_MORE: Final = "+"  # before each of what a table's word ends with, in any order
_UNLOGGED: Final = "unlogged"


def fingerprint(
    connection: Connection,
    publication: Publication | None,
    tables: Sequence[Table],
    facts: Mapping[tuple[str, str], TableFacts],
) -> str:
    """The publication's mark, then name and mark of each mapped table, as one word list.

    The same as long as no mapped table can have missed a change; other tables and GRANTs do not
    matter, nor do added columns. A table's word goes on with a second mark of what the first leaves
    out, with its partitions' marks, and after a plus sign each with a mark of what joins it to the
    publication, and whether it is unlogged.
    """
    oids = [each.oid for each in facts.values()]
    members, ways = ties(connection, publication, oids), holding(connection, publication, oids)
    rows, own = joined(members), joined(tie for tie in members if tie[2])
    words = [_mark(f"{publication.oid}.{publication.xmin}") if publication else _ABSENT]
    for table in sorted(tables, key=lambda each: (each.schema, each.name)):
        found = facts.get((table.schema, table.name))
        if found is None or publication is None or not holds(publication, found, rows):
            words.append(name_mark(table) + _ABSENT + _flag(found))
            continue
        identity = ",".join(found.identity)
        effective = ",".join(_effective_identity(table, found))
        marks = (
            _mark(f"{found.oid}|{own.get(found.oid, '')}|{found.replica}|{identity}"),
            _mark(f"{rows.get(found.oid, '')}|{effective}"),
            *partition_marks(found, publication),
        )
        way = _MORE + _mark(ways[found.oid]) if found.oid in ways else ""
        words.append(name_mark(table) + "".join(marks) + way + _flag(found))
    return " ".join(words)


def _flag(found: TableFacts | None) -> str:
    return _MORE + _UNLOGGED if found and found.unlogged else ""


def flagged(text: str, names: Iterable[tuple[str, str]]) -> str:
    """The fingerprint, with these tables as such that were seen unlogged."""
    head, *words = text.split(" ")
    seen = {_mark(f"{schema}\0{name}") for schema, name in names}
    for i, word in enumerate(words):
        if word[:_DIGITS] in seen and not word.endswith(_MORE + _UNLOGGED):
            words[i] = word + _MORE + _UNLOGGED
    return " ".join([head, *words])


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


def name_mark(table: Table) -> str:
    """The table's name, shortened to a hash."""
    return _mark(f"{table.schema}\0{table.name}")


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How two fingerprints differ: the publication itself, changed tables, tables that came, and
    those that either of them calls unlogged.

    Of partitioned tables: those that lost a partition, those of which one was truncated or
    rewritten, and the place marks of partitions that joined.
    """

    publication: bool
    changed: tuple[Table, ...] = ()
    added: tuple[Table, ...] = ()
    unlogged: tuple[Table, ...] = ()
    left: tuple[Table, ...] = ()
    rewritten: tuple[Table, ...] = ()
    joined: Mapping[Table, frozenset[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        tables = (self.changed, self.added, self.left, self.rewritten, self.joined)
        return self.publication or any(tables) or bool(self.unlogged)


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
        unlogged=tuple(
            table
            for table, name in marks
            if name in old and (old[name].unlogged or (name in new and new[name].unlogged))
        ),
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
    """A table's mark, the second mark, the files of its partitions by their places, and what joins
    it to the publication.

    Older ones have the first mark only: then ``more`` is empty, and what partitions there were,
    nobody knows; or all but ``way``, which is empty also where nothing needs to be told.
    """

    mark: str
    more: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    way: str = ""
    unlogged: bool = False

    @property
    def tells_partitions(self) -> bool:
        return bool(self.more or self.files)

    def same(self, later: _Word) -> bool:
        """Whether nothing that both of them tell has changed."""
        told = self.more in ("", later.more) and self.way in ("", later.way)
        return self.mark == later.mark and told


def _parse(text: str) -> dict[str, _Word]:
    """The publication (under the empty name) and each table, by the mark of its name."""
    head, *words = text.split(" ")
    found = {"": _Word(mark=head)}
    for whole in words:
        word, *ends = whole.split(_MORE)
        ways = [each for each in ends if each != _UNLOGGED]
        name, mark, *rest = (word[i : i + _DIGITS] for i in range(0, len(word), _DIGITS))
        more = rest.pop(0) if len(rest) % 2 else ""
        files = dict(zip(rest[::2], rest[1::2], strict=True))
        found[name] = _Word(
            mark=mark,
            more=more,
            files=files,
            way=ways[0] if ways else "",
            unlogged=_UNLOGGED in ends,
        )
    return found
