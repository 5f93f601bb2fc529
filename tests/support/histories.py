"""Random histories of a source: what `simulation` carries through the engine.

Transactions come whole or in pieces, rows refer to rows that come later, keys change hands, long
texts are left out of the log, tables are truncated. What is not parked must be exact.
"""

from __future__ import annotations

import copy
import random

from cdc_daemon.engine.lanes import entity_lane
from cdc_daemon.model.changes import Operation
from tests.support.simulation import COLUMNS, TABLES, Change, Simulation, Tables, Texts

IDS = ("1", "2", "3", "4")
NUMBERS = ("A", "B", "C", "D", "E")
POISON_NOTES, POISON_NAMES = ("poison",), ("too long",)  # refused by a CHECK, and by the mapping
NOTES = (None, "", "short", "hidden", "a long text", "another long text")
KINDS = ("write", "write", "write", "write", "move", "number", "delete", "truncate")
Transaction = list[list[Change]]


class History:
    """Draws valid changes against the source's own state, transaction by transaction.

    ``refers``: orders name customers. ``more``: transactions beside the one to four of each.
    """

    def __init__(
        self, seed: int, *, swaps: bool, poison: bool = False, refers: bool = True, more: int = 0
    ) -> None:
        self.random = random.Random(seed)
        self.swaps = swaps
        self.customers = (*IDS, None) if refers else (None,)
        self.names = NUMBERS + (POISON_NAMES if poison else ())
        self.notes = NOTES + (POISON_NOTES if poison else ())
        self.tables: Tables = {table: {} for table in TABLES}
        self.states: list[Tables] = []
        self.mentioned: set[str] = set()  # customers that this transaction's orders have named
        self.transactions: list[Transaction] = []
        for _ in range(self.random.randint(1, 4) + more):
            self.transaction()

    def transaction(self) -> None:
        changes: list[Change] = []
        for _ in range(self.random.randint(1, 8)):
            changes += self._change()
        changes += self._repair()
        pieces: Transaction = [[]]
        for change in changes:
            if pieces[-1] and self.random.randrange(4) == 0:
                pieces.append([])
            pieces[-1].append(change)
        self.transactions.append(pieces)
        self.states.append(copy.deepcopy(self.tables))

    def _change(self) -> list[Change]:
        table = self.random.choice(TABLES)
        rows = self.tables[table]
        kind = self.random.choice(KINDS)
        identity = self.random.choice(IDS)
        old = rows.get(identity)
        if kind == "truncate":
            if self.random.randrange(5) > 0:
                return []
            cascade = ["orders", "customer"] if table == "customer" else [table]
            for name in cascade:
                self.tables[name].clear()
            return [Change(name, Operation.TRUNCATE) for name in cascade]
        if old is None:
            return self._insert(table, identity)
        if kind == "delete":
            return self._delete(table, identity)
        new = dict(old)
        if kind == "move":
            new["id"] = self.random.choice(IDS)
            if new["id"] in rows and new["id"] != identity:
                return []
        elif kind == "number" and table != "item":
            new["number"] = self._number(table, identity)
        else:
            new |= self._values(table)
        return self._update(table, identity, new)

    def _values(self, table: str) -> Texts:
        names = self.customers if table == "orders" else self.names
        values: Texts = {"name": self.random.choice(names)}
        if table == "orders" and values["name"] is not None:
            self.mentioned.add(values["name"])
        if self.random.randrange(2):
            values["note"] = self.random.choice(self.notes)
        return values

    def _number(self, table: str, identity: str, *, free: bool = False) -> str:
        """A business number: free, or (swaps) any, which the transaction's end puts right."""
        taken = {row["number"] for key, row in self.tables[table].items() if key != identity}
        left = [number for number in NUMBERS if number not in taken]
        return self.random.choice(NUMBERS if self.swaps and not free else left)

    def _insert(self, table: str, identity: str, *, free: bool = False) -> list[Change]:
        number = self._number(table, identity, free=free)
        new: Texts = {"id": identity, "number": number, "note": None}
        new |= self._values(table)
        self.tables[table][identity] = new
        return [Change(table, Operation.INSERT, new=dict(new))]

    def _update(self, table: str, identity: str, new: Texts) -> list[Change]:
        old = self.tables[table].pop(identity)
        self.tables[table][str(new["id"])] = new
        change = Change(table, Operation.UPDATE, old=dict(old), new=dict(new))
        moved = table == "customer" and new["id"] != identity
        return [change, *(self._follow(identity, new["id"]) if moved else ())]

    def _delete(self, table: str, identity: str) -> list[Change]:
        change = Change(table, Operation.DELETE, old=self.tables[table].pop(identity))
        return [change, *(self._follow(identity, None) if table == "customer" else ())]

    def _follow(self, customer: str, to: str | None) -> list[Change]:
        """Orders follow a customer's id, as a foreign key makes them: ON UPDATE CASCADE, ON DELETE
        SET NULL."""
        referring = [k for k, row in self.tables["orders"].items() if row["name"] == customer]
        rows = [{**self.tables["orders"][k], "name": to} for k in referring]
        pairs = zip(referring, rows, strict=True)
        return [change for k, row in pairs for change in self._update("orders", k, row)]

    def _repair(self) -> list[Change]:
        """What the source's own rules ask for at the commit: numbers unique, references whole."""
        return self._unique() + self._whole()

    def _unique(self) -> list[Change]:
        changes: list[Change] = []
        for table in ("customer", "orders"):
            seen: set[str | None] = set()
            for identity, row in list(self.tables[table].items()):
                if row["number"] in seen:
                    changes += self._delete(table, identity)
                seen.add(row["number"])
        return changes

    def _whole(self) -> list[Change]:
        changes: list[Change] = []
        named = {str(row["name"]) for row in self.tables["orders"].values() if row["name"]}
        for identity in sorted((self.mentioned | named) - self.tables["customer"].keys()):
            changes += self._insert("customer", identity, free=True)
        self.mentioned = set()
        return changes

    def __repr__(self) -> str:
        lines = [
            f"{n}.{m} {c.table} {c.operation.value} {c.old} -> {c.new}"
            for n, transaction in enumerate(self.transactions)
            for m, piece in enumerate(transaction)
            for c in piece
        ]
        return "\n".join(["history", *lines])


def carried(history: History, simulation: Simulation, *, ahead: bool) -> None:
    """Carry the history out; ``ahead``: the source is read again as it is at the very end."""
    assert all(
        set(row) == set(COLUMNS) for rows in history.tables.values() for row in rows.values()
    )
    for transaction, state in zip(history.transactions, history.states, strict=True):
        simulation.tables = history.tables if ahead else state
        simulation.commit(transaction)
        if not ahead:
            exact(simulation, state)
    exact(simulation, history.tables)


def exact(simulation: Simulation, state: Tables) -> None:
    """Every entity key that is not blocked holds what the source says."""
    for table in TABLES:
        wanted, found = simulation.wanted(state, table), simulation.found(table)
        for key in wanted.keys() | found.keys():
            if entity_lane(entity_of(table), key) in simulation.lanes:
                continue
            rows = [wanted.get(key), found.get(key)]
            if table == "orders" and len(simulation.lanes):
                rows = [row and (row[0], row[2]) for row in rows]  # the customer may be parked
            assert rows[0] == rows[1], (table, key)


def entity_of(table: str) -> str:
    return {"customer": "customer", "orders": "sales_order", "item": "item"}[table]
