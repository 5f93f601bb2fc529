"""A source of dictionaries whose rows say which row they are, and in which version.

Versions grow over the whole source, one a change; ``origin`` is a row's own from its insert to its
delete, whatever becomes of its id and its number. The engine gets it as the worker does: relations,
a log in batches or in pieces of a transaction, rows read again as they are at the latest commit.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from cdc_daemon.model.cascades import Cascades
from cdc_daemon.model.changes import Batch, Column, ColumnType, Operation, Relation, Row
from cdc_daemon.model.effects import Key
from cdc_daemon.model.position import SourceIdentity
from tests.support.histories import IDS, NOTES, NUMBERS, POISON_NAMES, POISON_NOTES, History
from tests.support.simulation import TABLES, Change, Tables, Texts, encoded, runs_of

COLUMNS: Final = ("id", "number", "name", "note", "origin", "version")
SHORT: Final = (None, "", "short", "hidden", "other")
"""Notes that the log never leaves out."""

_BEGAN: Final = 1_700_000_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """What a source does. ``swaps``: numbers collide inside a transaction; ``late``: rows refer to
    rows that come in a later transaction, or never; ``partial``: the log leaves long texts out;
    ``poison``: some names are refused by the mapping, some notes by a target that is told to."""

    swaps: bool = False
    late: bool = False
    partial: bool = False
    poison: bool = True


class Versioned(History):
    """Random transactions whose rows have an origin and a version; ``log``: all changes."""

    def __init__(self, habits: Habits) -> None:
        self.habits = habits
        self.swaps = habits.swaps
        self.customers = (*IDS, None)
        self.names = NUMBERS + (POISON_NAMES if habits.poison else ())
        notes = NOTES if habits.partial else SHORT
        self.notes = notes + (POISON_NOTES if habits.poison else ())
        self.tables: Tables = {table: {} for table in TABLES}
        self.states: list[Tables] = []
        self.mentioned: set[str] = set()
        self.transactions: list[list[list[Change]]] = []
        self.rows: Tables = {table: {} for table in TABLES}
        self.log: list[Change] = []
        self.firsts: list[int] = []  # the ordinal of each transaction's first change

    def commit(self, draw: random.Random) -> None:
        """One transaction more, unless nothing came of it."""
        self.random = draw
        self.transaction()
        self.states.clear()
        pieces = [list(map(self._stamped, piece)) for piece in self.transactions.pop() if piece]
        if pieces:
            self.transactions.append(pieces)

    def add(self, *changes: Change) -> None:
        """One transaction of these changes; what they lack of a version they get."""
        self.firsts.append(len(self.log))
        self.transactions.append([list(map(self._stamped, changes))])

    def transaction(self) -> None:
        self.firsts.append(len(self.log))
        super().transaction()
        if not any(self.transactions[-1]):
            self.firsts.pop()

    def _stamped(self, change: Change) -> Change:
        rows = self.rows[change.table]
        old = new = None
        if change.operation is Operation.TRUNCATE:
            rows.clear()
        if change.old is not None:
            old = rows.pop(str(change.old["id"]))
        if change.new is not None:
            version = str(len(self.log) + 1)
            origin = version if old is None else old["origin"]
            new = {**change.new, "origin": origin, "version": version}
            rows[str(new["id"])] = new
        self.log.append(Change(change.table, change.operation, old, new))
        return self.log[-1]

    def _whole(self) -> list[Change]:
        if not self.habits.late:
            return super()._whole()
        self.mentioned = set()
        return []


class VersionedSource:
    """``Source`` as far as a pipeline that streams asks, and its ``Stream``.

    ``handed``: every answer to a reading again, by table and id.
    """

    name = "erp"

    def __init__(self, history: Versioned) -> None:
        self.history = history
        self.known = {one.table: one for one in self.relations_of()}
        self.handed: dict[tuple[str, str], list[Texts | None]] = {}

    @staticmethod
    def relations_of() -> list[Relation]:
        """The tables of any such source."""
        return [_relation(table) for table in TABLES]

    # --- Source -----------------------------------------------------------------------------------

    def relations(self) -> list[Relation]:
        return list(self.known.values())

    def cascades(self) -> Cascades:
        return Cascades()

    def identify(self) -> SourceIdentity:
        return SourceIdentity(system="1", timeline=1, database="erp", publication="p")

    def reread(self, relation: Relation, keys: Sequence[Key]) -> dict[Key, Row]:
        found: dict[Key, Row] = {}
        for key in keys:
            row = self.history.rows[relation.table].get(key[0].decode())
            self.handed.setdefault((relation.table, key[0].decode()), []).append(row)
            if row is not None:
                found[key] = tuple(encoded(row[name]) for name in COLUMNS)
        return found

    def mark(self) -> str:
        return str(len(self.history.transactions))

    def passed(self, position: str, mark: str) -> bool:
        return int(position) >= int(mark)

    def close(self) -> None:
        """There is no connection."""

    # --- Stream -----------------------------------------------------------------------------------

    def render(self, mark: int) -> str:
        return str(mark)

    def acknowledge(self, position: str) -> None:
        """Nothing is kept for anybody."""

    # --- its log ----------------------------------------------------------------------------------

    def ordinal(self, position: str, sequence: int) -> int:
        """Which change of the log a parked one is."""
        return self.history.firsts[int(position) - 1] + sequence

    def applied(self, position: int) -> int:
        """How many changes so many transactions have."""
        firsts = self.history.firsts
        return firsts[position] if position < len(firsts) else len(self.history.log)

    def batch(self, first: int, last: int) -> Batch:
        """The transactions from one to another, as one batch."""
        return self._batch(self.applied(first), self.applied(last + 1), first, last, last)

    def pieces(self, number: int) -> Iterator[Batch]:
        """One transaction in the pieces that it came in."""
        first = self.history.firsts[number]
        pieces = self.history.transactions[number]
        for n, piece in enumerate(pieces):
            last = number if n == len(pieces) - 1 else None
            yield self._batch(first, first + len(piece), number, number, last)
            first += len(piece)

    def _batch(self, start: int, stop: int, first: int, last: int, complete: int | None) -> Batch:
        begins = [
            (self.history.firsts[n], n + 1, _BEGAN + n * 1000) for n in range(first, last + 1)
        ]
        return Batch(
            runs=runs_of(self.history.log[start:stop], start, self.known),
            begins=begins,
            position=None if complete is None else str(complete + 1),
            commit_time=begins[-1][2],
            transactions=0 if complete is None else last - first + 1,
            changes=stop - start,
        )


def _relation(table: str) -> Relation:
    kinds = {"origin": "bigint", "version": "bigint"}
    return Relation(
        source="erp",
        schema="public",
        table=table,
        columns=tuple(Column(name=n, type=ColumnType(kinds.get(n, "text"))) for n in COLUMNS),
        identity=(0,),
    )
