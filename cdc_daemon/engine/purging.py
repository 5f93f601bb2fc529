"""Settled changes leave the failure queue: when an administrator says so, and by policy.

Some at a time, each in a transaction of its own, so that nobody waits for them; what is parked is
never deleted. The policy looks once an hour, and goes on at every look while there is more.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable

from cdc_daemon.model.errors import CdcError
from cdc_daemon.model.ports import Command, Sink
from cdc_daemon.model.selection import Selection, selection_of

AT_ONCE = 1000  # changes
EVERY = 3600.0  # seconds between looks of the policy


class Purging:
    """Purges one pipeline. ``kept``: for how long by policy; None: for good."""

    def __init__(
        self,
        *,
        sink: Sink,
        kept: dt.timedelta | None,
        progressed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sink = sink
        self._kept = kept
        self._progressed = progressed
        self._clock = clock
        self._due = clock()

    def tend(self) -> int:
        """Delete some that the policy lets go, where it is time to look; how many."""
        if self._kept is None or self._clock() < self._due:
            return 0
        selection = Selection(state=None, settled=dt.datetime.now(dt.UTC) - self._kept)
        done = self._sink.purge(selection, AT_ONCE)
        if done < AT_ONCE:
            self._due = self._clock() + EVERY
        return done

    def carry_out(self, command: Command) -> dict[str, object]:
        """Delete what a command means; how many. Raises CdcError where it names no moment."""
        state = command.arguments.get("state")
        selection = selection_of(command.arguments, state=None if state is None else str(state))
        if selection.settled is None:
            raise CdcError("settled before when is not said", hint="pass --older-than")
        total, done = 0, AT_ONCE
        while done == AT_ONCE:
            done = self._sink.purge(selection, AT_ONCE)
            total += done
            self._progressed()
        return {"purged": total}
