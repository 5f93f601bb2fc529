"""What the target must hold: everything that took effect, in the order of the source's log.

Said as plainly as possible, over dictionaries: whatever is not parked and not given up has taken
effect, each row's changes one after the other. So a change that overtook another one of its row, a
change that was lost and one that was carried out twice all show as a row that is another.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from cdc_daemon.model.changes import Operation
from tests.support.simulation import LONG, TABLES, Change, Texts

Found = tuple[str | None, ...]
Handed = Mapping[tuple[str, str], Sequence[Texts | None]]


@dataclass(slots=True)
class Table:
    """Rows by entity key and id, and the entity key of each source row.

    Inside a transaction two rows may have one key; at its end one has.
    """

    rows: dict[tuple[str, str], Texts] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)


class Model:
    """The changes of a log but those ``out``, with what was edited in them.

    ``handed``: rows that were read again at the source, which may be ahead of the log. ``queued``:
    changes that were ever parked; what refers to their rows is not looked at for whom it means.
    """

    def __init__(
        self,
        log: Sequence[Change],
        out: Collection[int],
        edits: Mapping[int, Texts],
        handed: Handed,
        queued: Collection[int] = (),
    ) -> None:
        self.tables = {table: Table() for table in TABLES}
        self._handed = handed
        self._doubtful = {table: ids(log, queued, table) for table in TABLES}
        for ordinal, change in enumerate(log):
            if ordinal not in out:
                self._apply(change, edits.get(ordinal, {}))

    def _apply(self, change: Change, edited: Texts) -> None:
        table = self.tables[change.table]
        if change.operation is Operation.TRUNCATE:
            table.rows.clear()
            table.keys.clear()
            return
        new = None if change.new is None else {**change.new, **_left_out(table, change), **edited}
        if change.table == "item":
            _apply_item(table, change.old, new)
        else:
            _apply_named(table, change.old, new)

    def wanted(self, name: str) -> dict[str, Found]:
        """The entity rows of a table, in the order of their attributes."""
        rows = self.tables[name].rows
        found = {key: self._row(name, row) for (key, _), row in rows.items()}
        assert len(found) == len(rows), f"{name}: two rows at one key: {rows}"
        return found

    def _row(self, table: str, row: Texts) -> Found:
        name = row["name"]
        if table == "item":
            name = None if name is None else f"{name}!"
        elif table == "orders":
            name = self.tables["customer"].keys.get(name or "")
        key = row["id"] if table == "item" else row["number"]
        return (key, name, row["note"], row["origin"], row["version"])

    def check(self, name: str, found: Mapping[str, Found]) -> None:
        """The table's entity holds these rows, where the log alone decides; AssertionError."""
        wanted = self.wanted(name)
        for key in wanted.keys() | found.keys():
            want, have = wanted.get(key), found.get(key)
            if want == have or self._explained(name, key, want, have):
                continue
            raise AssertionError(f"{name} {key}: {have} is there, {want} must be")

    def _explained(self, name: str, key: str, want: Found | None, have: Found | None) -> bool:
        """Whether a row that was read again, or a reference that has changed since, is the cause.

        A reference is that of the time when its row is written: not the log's where the row, or the
        one that it refers to, was parked, or is not there.
        """
        row = next((r for (k, _), r in self.tables[name].rows.items() if k == key), None)
        if name == "orders" and want and have and (*want[:1], *want[2:]) == (*have[:1], *have[2:]):
            return row is not None and self._reference_is_doubtful(row)
        if row is not None and None in self._handed.get((name, str(row["id"])), ()):
            return True  # it was gone already, so a change of it was left to the delete to come
        rows = [one for (table, _), some in self._handed.items() if table == name for one in some]
        if have is not None and not any(_is_row(one, have) for one in rows if one is not None):
            return False
        if want is None or row is None:
            return True
        return (name, str(row["id"])) in self._handed

    def _reference_is_doubtful(self, row: Texts) -> bool:
        customers, orders = self._doubtful["customer"], self._doubtful["orders"]
        known = self.tables["customer"].keys
        return row["id"] in orders or row["name"] in customers or row["name"] not in known


def ids(log: Sequence[Change], ordinals: Collection[int], table: str) -> set[str | None]:
    """The source rows that these changes are of."""
    changes = [log[n] for n in ordinals if n < len(log) and log[n].table == table]
    return {image["id"] for one in changes for image in (one.old, one.new) if image is not None}


def _left_out(table: Table, change: Change) -> Texts:
    """What the log left out of a change stays as the row has it, if there is one."""
    old, new = change.old, change.new
    if old is None or new is None or old["note"] != new["note"] or len(old["note"] or "") < LONG:
        return {}
    row = table.rows.get(_place(table, str(old["id"])))
    return {} if row is None else {"note": row["note"]}


def _place(table: Table, identity: str) -> tuple[str, str]:
    """Where a source row's entity row stands."""
    return table.keys.get(identity, ""), identity


def _is_row(row: Texts, have: Found) -> bool:
    return (row["origin"], row["version"]) == have[-2:]


def _apply_named(table: Table, old: Texts | None, new: Texts | None) -> None:
    """A row with a number of its own, which its id stands for."""
    if old is not None:
        place = _place(table, str(old["id"]))
        if table.keys.pop(str(old["id"]), None) is not None:
            table.rows.pop(place, None)
    if new is not None:
        left = table.rows.pop(_place(table, str(new["id"])), None)
        if left is not None and left["number"] != new["number"]:
            # its delete was given up, and its id came back: it is nobody's from now on
            table.rows[str(left["number"]), f"left in version {left['version']}"] = left
        table.keys[str(new["id"])] = str(new["number"])
        table.rows[_place(table, str(new["id"]))] = new


def _apply_item(table: Table, old: Texts | None, new: Texts | None) -> None:
    """A row whose id is its key; those without a note, or with a hidden one, are filtered."""
    for image in (old, new):
        if image is not None:
            table.keys[str(image["id"])] = str(image["id"])
    if old is not None:
        table.rows.pop(_place(table, str(old["id"])), None)
    if new is not None and new["note"] not in (None, "hidden"):
        table.rows[_place(table, str(new["id"]))] = new
