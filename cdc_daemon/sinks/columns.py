"""Columns that entity and reference tables have under every sink, and what they are called.

Not in here: the types they have in a database, and how names are quoted there.
"""

from __future__ import annotations

from cdc_daemon.model.effects import Layout
from cdc_daemon.model.entities import Attribute, Entity

MAX_BYTES = 63
"""Longest identifier that PostgreSQL does not cut."""

LAST_SYNC = "last_sync_time"
DELETED_AT = "deleted_at"
SURROGATE = "id"


def key_attributes(entity: Entity) -> tuple[Attribute, ...]:
    """The attributes of an entity's key, in key order."""
    return tuple(entity.attribute(name) for name in entity.key)


def reference_columns(layout: Layout) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Column names of a mapping's reference table: source key columns, entity key columns."""
    if layout.reference is None:
        return (), ()
    names = [_fit(f"source_{name}") for name, _ in layout.reference.columns]
    keys = [_fit(f"entity_{name}") for name in layout.entity.key]
    taken: set[str] = set()
    unique = [_apart(name, taken) for name in names + keys]
    return tuple(unique[: len(names)]), tuple(unique[len(names) :])


def _fit(name: str) -> str:
    """The name cut to what PostgreSQL keeps of it, at a character's boundary."""
    return name.encode()[:MAX_BYTES].decode(errors="ignore")


def _apart(name: str, taken: set[str]) -> str:
    """The name, changed at its end where an earlier one took it (two long names cut alike)."""
    number, found = 2, name
    while found in taken:
        suffix = f"~{number}"
        found = name.encode()[: MAX_BYTES - len(suffix)].decode(errors="ignore") + suffix
        number += 1
    taken.add(found)
    return found
