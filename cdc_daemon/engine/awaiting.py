"""What parked changes wait for: rows that others refer to and that have not arrived.

A change whose reference cannot be resolved is parked with the digests of the rows that it refers
to. When one of them is written, the parked change is due at once, by the same unit of work; what is
due is tried again between units (repair). Held in memory are the digests alone. Not in here: lanes,
which are about the order of a row's own changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from cdc_daemon.engine.lanes import entity_lane
from cdc_daemon.engine.touched import digest, digests
from cdc_daemon.model.changes import Operation, Row
from cdc_daemon.model.effects import EntityRun, Key, Layout


class Awaited:
    """The digests that the pipeline's parked changes wait for, after the last commit."""

    def __init__(self) -> None:
        self._digests: set[bytes] = set()
        self._pending: set[bytes] = set()

    def reload(self, digests: Iterable[bytes]) -> None:
        """Take the failure queue's word."""
        self._digests = set(digests)
        self._pending.clear()

    def add(self, digests: Iterable[bytes]) -> None:
        """Changes were parked in the open unit; memory follows the commit at settle."""
        self._pending.update(digests)

    def settle(self) -> None:
        """The unit has committed."""
        self._digests |= self._pending
        self._pending.clear()

    def forget(self) -> None:
        """The unit was rolled back."""
        self._pending.clear()

    def __bool__(self) -> bool:
        """Whether anything is waited for: if not, no row need be looked at."""
        return bool(self._digests or self._pending)

    def arrived(self, runs: Sequence[EntityRun]) -> list[bytes]:
        """What of it these changes bring."""
        found = {one for run in runs for one in _brought(run)}
        return list(found & self._digests | found & self._pending)


def awaited_rows(layout: Layout, row: Row) -> tuple[bytes, ...]:
    """The entity rows that a row refers to."""
    return tuple(
        entity_lane(attribute.references, (value,))
        for attribute, value in zip(layout.attributes, row, strict=True)
        if attribute.references is not None and isinstance(value, bytes)
    )


def awaited_source_row(mapping: str, source_key: Key) -> bytes:
    """The row that a ``ref`` names by its key in the source."""
    return digest("ref", mapping, source_key)


def _brought(run: EntityRun) -> Iterator[bytes]:
    if run.operation not in (Operation.INSERT, Operation.UPDATE):
        return
    layout = run.layout
    keys = (layout.key_of(row) for row in run.rows)
    yield from digests(("key", layout.entity.name), keys)
    yield from digests(("ref", layout.mapping), run.source_keys or ())
