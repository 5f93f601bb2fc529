"""Which changes of the failure queue are meant, in the same words on every way in.

A selection travels in commands as it is, not as the ids that it came to: a hundred thousand ids are
a JSON text of a megabyte, and a retry in pieces would part changes that hold each other up. What
was parked after the sender looked is left out by ``through``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cdc_daemon.model.errors import CdcError

STATES = ("parked", "replayed", "skipped", "resynced")
"""What becomes of a change in the failure queue; all but the first are settled."""

_TEXTS = ("pipeline", "entity", "error", "table", "state")
_MOMENTS = ("since", "until", "settled")
_NUMBERS = ("after", "through")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Changes that meet every condition given; None: any.

    ``lanes``: 16-byte digests, one of which the change blocks (that of an entity key: its changes).
    ``since``, ``until``: when it was parked, the second exclusive. ``after``, ``through``: ids
    behind the first and up to the second. ``settled``: it was settled before then.
    """

    ids: tuple[int, ...] | None = None
    pipeline: str | None = None
    entity: str | None = None
    error: str | None = None
    table: str | None = None
    lanes: tuple[bytes, ...] | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    after: int | None = None
    through: int | None = None
    settled: dt.datetime | None = None
    state: str | None = "parked"

    def to_dict(self) -> dict[str, object]:
        """JSON-ready, without what is not given."""
        found: dict[str, object] = {name: getattr(self, name) for name in (*_TEXTS, *_NUMBERS)}
        found |= {name: _iso(getattr(self, name)) for name in _MOMENTS}
        found["ids"] = None if self.ids is None else list(self.ids)
        found["lanes"] = None if self.lanes is None else [lane.hex() for lane in self.lanes]
        return {name: value for name, value in found.items() if value is not None}


def selection_of(arguments: Mapping[str, Any], *, state: str | None = "parked") -> Selection:
    """The changes that a command means; parked ones, unless the verb takes others.

    Raises CdcError for arguments of no shape.
    """
    try:
        lanes = arguments.get("lanes")
        return Selection(
            ids=_ids(arguments.get("ids")),
            pipeline=_text(arguments.get("pipeline")),
            entity=_text(arguments.get("entity")),
            error=_text(arguments.get("error")),
            table=_text(arguments.get("table")),
            lanes=None if lanes is None else tuple(map(bytes.fromhex, lanes)),
            since=_moment(arguments.get("since")),
            until=_moment(arguments.get("until")),
            after=_number(arguments.get("after")),
            through=_number(arguments.get("through")),
            settled=_moment(arguments.get("settled")),
            state=state,
        )
    except (TypeError, ValueError) as error:
        raise CdcError("a selection of parked changes cannot be read") from error


def _ids(ids: object) -> tuple[int, ...] | None:
    if ids is None:
        return None
    if not isinstance(ids, list) or not all(type(number) is int for number in ids):
        raise CdcError("ids must be a list of whole numbers")
    return tuple(ids)


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise TypeError


def _number(value: object) -> int | None:
    if value is None or type(value) is int:
        return value
    raise TypeError


def _moment(value: object) -> dt.datetime | None:
    if value is None:
        return None
    found = dt.datetime.fromisoformat(str(value))
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def _iso(value: dt.datetime | None) -> str | None:
    return None if value is None else value.isoformat()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many changes of one kind there are. ``oldest``: when the first of them was parked;
    ``last``: the highest id."""

    pipeline: str
    entity: str
    error: str
    state: str
    number: int
    oldest: dt.datetime
    last: int
