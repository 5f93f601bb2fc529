"""Parked changes that are tried again by themselves, between units of work.

Due is a change when a row that it waits for has arrived, when what stood before it in its lane was
settled, when its mapping was altered, or when the schedule of its error class says so; the failure
queue keeps all of it (``retry_at``), so a restart forgets nothing. One that stands behind another
is put off: it is due when that one is settled. Not in here: what administrators ask for (repair).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from cdc_daemon.engine.awaiting import Awaited
from cdc_daemon.engine.blocked import Lanes
from cdc_daemon.model.changes import Relation
from cdc_daemon.model.errors import DataError
from cdc_daemon.model.ports import Sink
from cdc_daemon.model.queue import Failure
from cdc_daemon.model.selection import Selection

ACTOR: Final = "cdc-daemon"
_AT_ONCE: Final = 200
_SECONDS: Final = 0.5
"""How long a turn goes on while more is due; the stream waits for it."""


class Trying(Protocol):
    """Tries parked changes again (``attempting``)."""

    def try_one(self, failure: Failure, relation: Relation | None, actor: str) -> DataError | None:
        """Apply one; why that was not possible, if so, which was noted."""

    def open(self, lanes: Lanes) -> None:
        """Let the stream pass where nothing is parked any longer."""


class Releasing:
    """What is due of one pipeline's failure queue."""

    def __init__(
        self,
        *,
        sink: Sink,
        lanes: Lanes,
        awaited: Awaited,
        relations: Callable[[], list[Relation]],
        trying: Trying,
        versions: Mapping[str, str],
        progressed: Callable[[], None],
    ) -> None:
        """``versions``: of the mappings as they are now."""
        self._sink = sink
        self._lanes = lanes
        self._awaited = awaited
        self._relations = relations
        self._trying = trying
        self._versions = versions
        self._progressed = progressed

    def reload(self) -> None:
        """Take the failure queue's word of what is blocked and what is waited for."""
        self._lanes.reload(self._sink.lanes())
        self._awaited.reload(self._sink.awaited())

    def begin(self) -> int:
        """A session begins: what was tried with other mappings only is due; how many."""
        with self._sink.begin() as unit:
            found = [unit.queue.due_by_mapping(*each) for each in self._versions.items()]
        self.reload()
        return sum(found)

    def turn(self) -> int:
        """Try what is due, until nothing is or half a second is over; how many took effect."""
        deadline = time.monotonic() + _SECONDS
        done = 0
        tried: dict[str, Relation] | None = None
        while time.monotonic() < deadline and (due := self._sink.due(_AT_ONCE)):
            tried = tried or {relation.name: relation for relation in self._relations()}
            done += self._try(due, tried)
        if done:
            self._trying.open(self._lanes)
        return done

    def _try(self, due: Sequence[int], relations: Mapping[str, Relation]) -> int:
        behind = self._sink.behind(due)
        if behind:
            with self._sink.begin() as unit:
                unit.queue.put_off(sorted(behind))
        first = [number for number in due if number not in behind]
        done = 0
        for failure in self._sink.failures(Selection(ids=tuple(first))) if first else ():
            if self._trying.try_one(failure, relations.get(failure.table), ACTOR) is None:
                done += 1
            self._progressed()
        return done
