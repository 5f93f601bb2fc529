"""Table maps and the rows events behind them: bytes of an event in, runs of changes out.

A table map that says the same as an earlier one costs a look into a dict: the log repeats it for
every statement. Rows of tables that nobody mapped are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from cdc_daemon.model.changes import Operation, Relation, Row, Run
from cdc_daemon.model.errors import DecodeError
from cdc_daemon.sources.mysql.compression import inflate_rows
from cdc_daemon.sources.mysql.events import HEADER, TYPE, Kind
from cdc_daemon.sources.mysql.relations import Described, Relations
from cdc_daemon.sources.mysql.rows import Decoded, RowsDecoder
from cdc_daemon.sources.mysql.tablemap import (
    TableMap,
    description_of,
    named,
    parse_table_map,
)
from cdc_daemon.sources.mysql.types import column_type

_INSERT, _UPDATE, _DELETE = Operation.INSERT, Operation.UPDATE, Operation.DELETE
ROWS: Final[Mapping[int, tuple[Operation, int, bool]]] = {
    Kind.WRITE_ROWS_V1: (_INSERT, 1, False),
    Kind.UPDATE_ROWS_V1: (_UPDATE, 1, False),
    Kind.DELETE_ROWS_V1: (_DELETE, 1, False),
    Kind.WRITE_ROWS: (_INSERT, 2, False),
    Kind.UPDATE_ROWS: (_UPDATE, 2, False),
    Kind.DELETE_ROWS: (_DELETE, 2, False),
    Kind.PARTIAL_UPDATE_ROWS: (_UPDATE, 2, False),
    Kind.WRITE_ROWS_COMPRESSED_V1: (_INSERT, 1, True),
    Kind.UPDATE_ROWS_COMPRESSED_V1: (_UPDATE, 1, True),
    Kind.DELETE_ROWS_COMPRESSED_V1: (_DELETE, 1, True),
    Kind.WRITE_ROWS_COMPRESSED: (_INSERT, 2, True),
    Kind.UPDATE_ROWS_COMPRESSED: (_UPDATE, 2, True),
    Kind.DELETE_ROWS_COMPRESSED: (_DELETE, 2, True),
}
"""Rows events: what they do, their format's version, whether they are compressed."""

_DESCRIPTIONS: Final = 10_000
"""Table maps that are remembered."""
_ID: Final = slice(HEADER, HEADER + 6)

_FLAGS: Final = slice(HEADER + 6, HEADER + 8)
_UNCHECKED: Final = 0x02  # foreign_key_checks=0: no key acts
_LOGGED: Final = 0x10  # MySQL from 9.6 on: what keys did is in the log
_VALUE: Final = 8
"""Bytes that a value counts for beside its share of the log."""
_NOTHING: Final[Mapping[tuple[str, str], frozenset[str]]] = {}

Natives = Mapping[tuple[str, str], Mapping[str, str]]
"""Of MariaDB's mapped tables, the types by column that the log calls binary strings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """A mapped table as one table map describes it.

    ``watched``: the columns, besides the identity, whose old values are told where they change;
    None: no foreign key is followed from or to it.
    """

    relation: Relation
    decoder: RowsDecoder
    watched: tuple[int, ...] | None


class Tables:
    """What the table maps of one server's log say."""

    def __init__(
        self,
        relations: Relations,
        *,
        mariadb: bool,
        natives: Natives,
        max_value_bytes: int,
        watched: Mapping[tuple[str, str], frozenset[str]] = _NOTHING,
    ) -> None:
        self._relations = relations
        self._mariadb = mariadb
        self._natives = natives
        self._max_value_bytes = max_value_bytes
        self._watched = watched
        self._by_id: dict[bytes, Mapped | None] = {}
        self._known: dict[bytes, Mapped | None] = {}

    def forget(self) -> None:
        """A server's numbers for tables end with its file."""
        self._by_id.clear()

    def describe(self, event: bytes, end: int) -> None:
        """Take in a TABLE_MAP event. Raises DecodeError; Stop or PreflightRefusal for a mapped
        table that is not what it was."""
        body = event[HEADER:end]
        description = description_of(body)
        if description not in self._known:
            if len(self._known) >= _DESCRIPTIONS:
                self._known.clear()
            self._known[description] = self._mapped(parse_table_map(body, mariadb=self._mariadb))
        self._by_id[event[_ID]] = self._known[description]

    def _mapped(self, found: TableMap) -> Mapped | None:
        table = self._relations.mapped(found.schema, found.table)
        if table is None:
            return None
        found = named(found, self._natives.get((table.schema, table.name), {}))
        relation, wanted = self._relations.describe(described(found), table)
        watched = self._watched.get((table.schema, table.name))
        decoder = RowsDecoder(
            found,
            wanted,
            [wanted[i] for i in relation.identity],
            max_value_bytes=self._max_value_bytes,
            whole_old=watched is not None,
        )
        places = None if watched is None else tuple(map(relation.position_of, sorted(watched)))
        return Mapped(relation=relation, decoder=decoder, watched=places)

    def wants(self, event: bytes) -> bool:
        """Whether a rows event is of a mapped table. Raises DecodeError where no table map came."""
        try:
            return self._by_id[event[_ID]] is not None
        except KeyError:
            raise DecodeError(
                "rows of a table without a table map", kind="rows", offset=0
            ) from None

    def rows(self, event: bytes, end: int) -> tuple[list[Run], int]:
        """The changes of a rows event that is wanted, and their size. Raises DecodeError, Stop."""
        mapped = self._by_id[event[_ID]]
        assert mapped is not None
        operation, version, compressed = ROWS[event[TYPE]]
        body = event[HEADER:end]
        if compressed:
            body = inflate_rows(body, update=operation is _UPDATE)
        decoded = _decoded(mapped, event[TYPE], body, version)
        runs, size = list(_runs(mapped, operation, decoded)), _size(mapped, decoded, body)
        if mapped.watched is None:
            return runs, size
        acts = not int.from_bytes(event[_FLAGS], "little") & (_UNCHECKED | _LOGGED)
        return [replace(run, acts=acts) for run in runs], size


def _size(mapped: Mapped, found: Decoded, body: bytes) -> int:
    """What the rows count for where memory is bounded: as texts they are longer than in the log,
    and much longer than in a compressed one."""
    rows = max(len(found.news), len(found.olds))
    return len(body) + rows * len(mapped.relation.columns) * _VALUE


def _decoded(mapped: Mapped, kind: int, body: bytes, version: int) -> Decoded:
    decoder = mapped.decoder
    if kind == Kind.PARTIAL_UPDATE_ROWS:
        return decoder.partial_update(body)
    match ROWS[kind][0]:
        case Operation.INSERT:
            return decoder.insert(body, version)
        case Operation.UPDATE:
            return decoder.update(body, version)
        case _:
            return decoder.delete(body, version)


def described(found: TableMap) -> Described:
    """A table map in neutral words."""
    return Described(
        schema=found.schema,
        table=found.table,
        names=tuple([column.name for column in found.columns]),
        types=tuple([column_type(column) for column in found.columns]),
        primary_key=tuple([found.columns[i].name for i in found.primary_key]),
        named=found.has_names,
    )


# --- runs ---------------------------------------------------------------------------------------


def _runs(mapped: Mapped, operation: Operation, found: Decoded) -> Iterator[Run]:
    """Neighbours that are alike: with and without UNCHANGED or INVALID, with and without a key that
    changed. Old rows go along only where the key did."""
    news, olds, partial, old_full = found
    relation = mapped.relation
    if operation is _DELETE:
        yield Run(relation=relation, operation=operation, old_rows=olds, old_full=old_full)
        return
    moved = _moved(mapped, news, olds, full=old_full) if operation is _UPDATE else frozenset()
    if not partial and not moved:
        yield Run(relation=relation, operation=operation, new_rows=news)
        return
    marked = frozenset(partial)
    start = 0
    while start < len(news):
        kind = (start in marked, start in moved)
        stop = start + 1
        while stop < len(news) and (stop in marked, stop in moved) == kind:
            stop += 1
        yield Run(
            relation=relation,
            operation=operation,
            new_rows=news[start:stop],
            old_rows=olds[start:stop] if kind[1] else None,
            old_full=old_full and kind[1],
            partial=kind[0],
        )
        start = stop


def _moved(
    mapped: Mapped, news: Sequence[Row], olds: Sequence[Row], *, full: bool
) -> frozenset[int]:
    """The rows whose identity is another one after the update, or whose watched columns are.

    ``full``: old rows are as wide as new ones; else they hold the identity, and whatever is watched
    counts as another one.
    """
    identity = mapped.relation.identity
    pairs = [(column, column if full else place) for place, column in enumerate(identity)]
    if full:
        pairs += [(column, column) for column in mapped.watched or ()]
    elif mapped.watched:
        return frozenset(range(len(news)))
    moved: set[int] = set()
    for column, place in pairs:
        after, before = [row[column] for row in news], [row[place] for row in olds]
        if after != before:
            moved.update(i for i, value in enumerate(after) if value != before[i])
    return frozenset(moved)
