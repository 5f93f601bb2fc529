"""Rows of the control database whose source rows a copy could not write: the sweep leaves them.

The source has such a row still, with values that do not go in; its change is parked. What the
control database has of it from before is touched as written in this copy, with its old values.
"""

from __future__ import annotations

from collections.abc import Sequence

from cdc_daemon.engine.lanes import Held, identities_of
from cdc_daemon.model.changes import UNCHANGED, Row
from cdc_daemon.model.effects import Key, Layout, Patch
from cdc_daemon.model.errors import DataError
from cdc_daemon.model.ports import UnitOfWork


def spare(unit: UnitOfWork, held: Sequence[Held]) -> None:
    """Touch the rows of held changes, in the copy's unit of work."""
    for layout in dict.fromkeys(one.layout for one in held):
        keys = _keys(unit, layout, [one for one in held if one.layout is layout])
        rows = [_row(layout, key) for key in keys]
        if rows and not _touch(unit, layout, rows):
            for row in rows:
                _touch(unit, layout, [row])


def _keys(unit: UnitOfWork, layout: Layout, held: Sequence[Held]) -> list[Key]:
    """Entity keys that the source rows of held changes had; by reference where there is one."""
    if layout.reference is None:
        return list(dict.fromkeys(key for one in held for key in one.keys))
    sources = (key for one in held for key in identities_of(one.source, one.sequence))
    return list(dict.fromkeys(unit.references(layout, list(dict.fromkeys(sources))).values()))


def _row(layout: Layout, key: Key) -> Row:
    values: dict[int, bytes] = dict(zip(layout.key, key, strict=True))
    return tuple([values.get(i, UNCHANGED) for i in range(len(layout.columns))])


def _touch(unit: UnitOfWork, layout: Layout, rows: list[Row]) -> bool:
    """Whether they could be touched: a row that was there before a constraint may violate it."""
    unchanged = frozenset(range(len(layout.columns))) - frozenset(layout.key)
    if not unchanged:
        return True  # nothing but keys: the row as it is could be written
    try:
        unit.apply([Patch(layout=layout, unchanged=unchanged, rows=rows)])
    except DataError:
        return False
    return True
