"""Parked changes that are tried again by themselves, between units of work.

Due is a change when a row that it waits for has arrived, when what stood before it in its lane was
settled, when its mapping was altered, or when the schedule of its error class says so; the failure
queue keeps all of it (``retry_at``), so a restart forgets nothing. One that stands behind another
is put off: it is due when that one is settled. Not in here: what administrators ask for (repair).
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from cdc_daemon.engine.awaiting import Awaited
from cdc_daemon.engine.blocked import Lanes
from cdc_daemon.engine.schedule import Schedule
from cdc_daemon.model.changes import Relation
from cdc_daemon.model.errors import DataError, Stop
from cdc_daemon.model.ports import Sink
from cdc_daemon.model.queue import Failure
from cdc_daemon.model.selection import Selection

ACTOR: Final = "cdc-daemon"
_AT_ONCE: Final = 200
_SECONDS: Final = 0.5
"""How long a turn goes on while more is due; the stream waits for it."""

Attempt = Callable[[Sequence[Failure], Relation | None, str], DataError | None]
"""Applies parked changes of one mapping in one unit of work, all or none; why not, if so."""


class Releasing:
    """What is due of one pipeline's failure queue."""

    def __init__(
        self,
        *,
        sink: Sink,
        lanes: Lanes,
        awaited: Awaited,
        relations: Callable[[], list[Relation]],
        attempt: Attempt,
        schedule: Schedule,
        versions: Mapping[str, str],
        progressed: Callable[[], None],
    ) -> None:
        """``versions``: of the mappings as they are now."""
        self._sink = sink
        self._lanes = lanes
        self._awaited = awaited
        self._relations = relations
        self._attempt = attempt
        self._schedule = schedule
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
            self.reload()
        self._awaited.settle()
        return done

    def _try(self, due: Sequence[int], relations: Mapping[str, Relation]) -> int:
        behind = self._sink.behind(due)
        if behind:
            with self._sink.begin() as unit:
                unit.queue.put_off(sorted(behind))
        first = [number for number in due if number not in behind]
        done = 0
        for failure in self._sink.failures(Selection(ids=tuple(first))) if first else ():
            error = self._applied(failure, relations.get(failure.table))
            if error is None:
                done += 1
            else:
                self._note(failure, error)
            self._progressed()
        return done

    def _applied(self, failure: Failure, relation: Relation | None) -> DataError | None:
        """Try it; why it did not take effect, if so. For what nobody asked for nothing stops."""
        try:
            return self._attempt([failure], relation, ACTOR)
        except Stop as error:
            return DataError(error.message, code="unreplayable")

    def _note(self, failure: Failure, error: DataError) -> None:
        self._awaited.add(error.awaits)
        delay = self._schedule.delay(error.code, failure.attempts + 1)
        now = dt.datetime.now(dt.UTC)
        with self._sink.begin() as unit:
            unit.queue.attempted(
                failure.id,
                code=error.code,
                message=error.message,
                retry_at=None if delay is None else now + dt.timedelta(seconds=delay),
                awaits=error.awaits,
                version=self._versions.get(failure.mapping),
            )
