"""Lanes: what waits behind a parked change (DESIGN section 1).

A lane is (mapping, source row identity), joined to (entity, entity key) when known; it is told by
16 bytes. A change that is held blocks every lane that it touches (a rename held for either key
blocks both), and whoever touches a blocked lane is held, too. Not in here: which lanes are blocked
(``blocked``), and the walk over a batch (``dividing``).

A change that refers to a row also waits for parked changes that decide which row that is, and by
no others: it reads the lane of the key's holder, and does not block it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from cdc_daemon.engine.touched import (
    Lane,
    Touched,
    Touches,
    digest,
    identities_in,
    identity_of,
    key_of,
)
from cdc_daemon.model.changes import Run
from cdc_daemon.model.effects import EntityRun, Key, Layout
from cdc_daemon.model.errors import DataError

WAITING = "waiting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One change that goes to the failure queue, and the lanes it blocks there. ``keys``: entity
    keys that it is known to touch."""

    layout: Layout
    source: Run
    sequence: int
    error: DataError
    lanes: tuple[Lane, ...]
    keys: tuple[Key, ...] = ()


def entity_lane(entity: str, key: Key) -> Lane:
    """The lane of an entity key."""
    return digest("key", entity, key)


def source_lane(mapping: str, identity: Iterable[object]) -> Lane:
    """The lane of a source row."""
    return digest("row", mapping, identity_of(identity))


def lanes_of_source(layout: Layout, source: Run, sequence: int) -> tuple[Lane, ...]:
    """The source-row lanes of one change, from its images in the log."""
    rows = identities_in(source, sequence)
    return tuple(dict.fromkeys(source_lane(layout.mapping, values) for values in rows))


def identities_of(source: Run, sequence: int) -> list[Key]:
    """The identities of one change's row, before and after it, as far as they are texts."""
    rows = identities_in(source, sequence)
    whole = [row for row in rows if all(isinstance(value, bytes) for value in row)]
    return list(dict.fromkeys(whole))  # type: ignore[arg-type]


def held_change(run: EntityRun, i: int, error: DataError, touches: Touches) -> Held:
    """Change i of a mapped run, held for this error."""
    columns = [one for one in touches.writes if one.place[0] == "key"]
    keys = [key_of(one) for column in columns if (one := column.keys[i]) is not None]
    return Held(
        layout=run.layout,
        source=run.source,
        sequence=run.sequences[i],
        error=error,
        lanes=lanes_of(touches, i),
        keys=tuple(dict.fromkeys(keys)),
    )


def lanes_of(touches: Touches, i: int) -> tuple[Lane, ...]:
    """Every lane that change i of a run touches, that of its source row first."""
    return _digested(touches.writes, i)


def read_by(touches: Touches, i: int) -> tuple[Lane, ...]:
    """The lanes that change i of a run reads: who has the keys that it refers to."""
    return _digested(touches.reads, i)


def _digested(columns: Iterable[Touched], i: int) -> tuple[Lane, ...]:
    found = ((column.place, column.keys[i]) for column in columns)
    lanes = (digest(*place, key_of(one)) for place, one in found if one is not None)
    return tuple(dict.fromkeys(lanes))


def holder_lane(entity: str, key: Key) -> Lane:
    """The lane of who has an entity key."""
    return digest("holder", entity, key)


@dataclass(slots=True)
class Division:
    """What may go on and what is held, both in source order per lane.

    ``superseded``: mappings whose parked changes a truncate in this batch has undone. ``touches``:
    what each of ``ready`` touches and reads, where that is known.
    """

    ready: list[EntityRun]
    held: list[Held] = field(default_factory=list)
    superseded: set[str] = field(default_factory=set)
    touches: list[Touches] | None = None


def waiting_for(holders: tuple[Lane, ...]) -> DataError:
    """The error of a change that refers to keys of which parked changes decide who has them."""
    words = "an earlier change of a row that this one refers to is parked"
    return DataError(words, code=WAITING, awaits=holders)


def waiting() -> DataError:
    """The error of a change that only waits behind an earlier one."""
    return DataError("an earlier change of this row is parked", code=WAITING)
