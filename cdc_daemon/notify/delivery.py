"""One channel's deliveries, in a thread of its own: a service that hangs delays no other's.

A message is taken from the spool when it is due and the service's limits allow, and leaves it when
the service has taken it or it is given up. Between the two a kill means that it is sent again. A
failure of the channel pauses the channel, with doubling pauses; a message that the service refuses
waits by itself, and the next one goes.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Iterable

from cdc_daemon.model.errors import CdcError
from cdc_daemon.notify.limits import Limits, Window
from cdc_daemon.notify.results import Deferred, Delivered, Refused, Result
from cdc_daemon.notify.senders import Send
from cdc_daemon.notify.spool import Spool, Waiting
from cdc_daemon.telemetry import get_logger

log = get_logger(__name__)

FIRST_PAUSE = 5.0  # seconds
LONGEST_PAUSE = 900.0
LONGEST_WISH = 3600.0  # that a service may ask for
FEWEST_TRIES = 5  # before a message is given up, for a clock may have been wrong
REMEMBERED = 120.0  # seconds for which attempts are kept, for the limits of the next process
ONCE_MORE = 30.0  # seconds after a failure of our own


class Delivery:
    """Delivers what waits for one channel. ``sent`` and ``failed`` count attempts."""

    def __init__(
        self,
        channel: str,
        spool: Spool,
        send: Send,
        windows: Iterable[Window],
        *,
        give_up: float,
        clock: Callable[[], float],
        after: Delivery | None = None,
    ) -> None:
        """``give_up``: seconds after which a message is given up. ``after``: whose place it takes,
        and for whose last attempt it waits.
        """
        self.channel = channel
        self.sent: int = after.sent if after else 0
        self.failed: int = after.failed if after else 0
        self._spool = spool
        self._send = send
        self._clock = clock
        self._give_up = give_up
        self._limits = Limits(windows, spool.attempts(channel))
        self._paused = 0.0
        self._failures = 0
        self._after = after
        self._woken = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name=f"notify {channel}", daemon=True)

    def recall(self) -> None:
        """Take over for how long the service wanted to be left alone."""
        self._paused = self._spool.paused(self.channel)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """There may be something to deliver."""
        self._woken.set()

    def stop(self) -> None:
        """Begin no other attempt."""
        self._ending = True
        self._woken.set()

    def join(self, seconds: float | None = None) -> None:
        """Wait for the attempt that is being made."""
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _run(self) -> None:
        if self._after is not None:
            self._after.join()
            self._after = None
        else:
            self.recall()
        while not self._ending:
            self._woken.clear()
            pause = self._guarded_turn()
            if pause > 0:
                self._woken.wait(min(pause, LONGEST_PAUSE))

    def _guarded_turn(self) -> float:
        """A turn, whatever happens in it: a fault in here must end nothing."""
        try:
            return self.turn()
        except CdcError as error:
            log.error("notifications halt", channel=self.channel, error=str(error))
        except Exception as error:  # noqa: BLE001 - the thread must go on; the message may quote
            log.error("notifications halt", channel=self.channel, error=type(error).__name__)
        return ONCE_MORE

    def turn(self) -> float:
        """Try the message that is due, if one is; seconds until there is something to do."""
        now = self._clock()
        waiting = self._spool.next(self.channel, now)
        if waiting is None:
            return math.inf
        due = min(waiting.due, now + LONGEST_PAUSE)  # a clock may have been set back
        pause = max(due - now, self._pause(now), self._limits.wait(now))
        if pause > 0:
            return pause
        if now - waiting.created > self._give_up and waiting.attempts >= FEWEST_TRIES:
            give_up(self._spool, waiting, now)
        else:
            self._try(waiting, now)
        return 0.0

    def _pause(self, now: float) -> float:
        return min(self._paused - now, LONGEST_WISH)

    def _try(self, waiting: Waiting, now: float) -> None:
        self._limits.note(now)
        self._spool.attempt(waiting, now, REMEMBERED)  # if that cannot be kept, nothing is sent
        result = self._attempt(waiting, now)
        now = self._clock()
        match result:
            case Delivered():
                self._delivered(waiting, now, result)
            case Deferred():
                self._deferred(waiting, now, result)
            case Refused():
                self._refused(waiting, now, result)

    def _attempt(self, waiting: Waiting, now: float) -> Result:
        """What came of it; a fault of ours is the message's, so that others go."""
        try:
            return self._send(waiting.message, now)
        except Exception as error:  # noqa: BLE001 - its own message may quote a secret
            return Refused(reason=f"unexpected {type(error).__name__}", cure="report it")

    def _delivered(self, waiting: Waiting, now: float, result: Delivered) -> None:
        self.sent += 1
        self._failures = 0
        self._spool.end(waiting, now, "delivered", result.answer)
        log.info("notification sent", **_fields(waiting), answer=result.answer)

    def _deferred(self, waiting: Waiting, now: float, result: Deferred) -> None:
        """The channel as a whole waits, and the order of its messages stays."""
        self.failed += 1
        self._failures += 1
        if result.after is None:
            self._paused = now + backoff(self._failures)
        else:
            self._paused = now + min(result.after, LONGEST_WISH)
            self._spool.pause(self.channel, self._paused)
        self._spool.defer(waiting, waiting.due, result.reason)
        log.warning(
            "notification not delivered",
            **_fields(waiting),
            reason=result.reason,
            again_in=round(self._paused - now, 1),
        )

    def _refused(self, waiting: Waiting, now: float, result: Refused) -> None:
        """The message waits; another one may be taken."""
        self.failed += 1
        self._failures = 0
        self._spool.defer(waiting, now + LONGEST_PAUSE, str(result))
        tell = log.warning if waiting.attempts else log.error
        tell("notification refused", **_fields(waiting), reason=result.reason, cure=result.cure)


def give_up(spool: Spool, waiting: Waiting, now: float) -> None:
    """A message that could not be delivered for long."""
    spool.end(waiting, now, "given up", waiting.error)
    hours = round((now - waiting.created) / 3600, 1)
    log.error("notification given up", **_fields(waiting), hours=hours, reason=waiting.error)


def backoff(failures: int) -> float:
    """Seconds until the next try after so many failures in a row; spread."""
    pause = min(FIRST_PAUSE * 2.0 ** min(failures - 1, 16), LONGEST_PAUSE)
    return pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreads tries, guards nothing


def _fields(waiting: Waiting) -> dict[str, object]:
    message = waiting.message
    return {
        "channel": message.channel,
        "message": message.id,
        "alerts": len(message.notices),
        "attempt": waiting.attempts + 1,
    }
