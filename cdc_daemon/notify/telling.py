"""Notifications as a whole: what is seen goes in, messages go out, and nobody waits for that.

A thread of its own takes what was seen last, decides and writes the spool, so that neither a disk
that hangs nor a service that does not answer is noticed by who sees. Not in here: what an alert is
made of (``daemon.alerts``), and the delivery itself (``delivery``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cdc_daemon.config.notifications import NotificationsConfig
from cdc_daemon.notify.alert import Alert
from cdc_daemon.notify.clock import Steady
from cdc_daemon.notify.delivery import Delivery, give_up
from cdc_daemon.notify.figures import Figures
from cdc_daemon.notify.limits import BY_KIND
from cdc_daemon.notify.rules import Rules
from cdc_daemon.notify.senders import Send, sender
from cdc_daemon.notify.spool import Spool
from cdc_daemon.notify.spool_file import Unusable
from cdc_daemon.notify.watching import Standing, Watch
from cdc_daemon.telemetry import get_logger

log = get_logger(__name__)

TURN = 1.0  # seconds
ONCE_MORE = 30.0  # seconds until a file that could not be used is tried again
TIDY = 3600.0
DAY = 86_400.0
LAST_TRY = 2.0  # seconds that an attempt which goes on may take when the daemon ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is amiss at one moment; ``silent``: pipelines of which nothing is known."""

    alerts: tuple[Alert, ...]
    silent: frozenset[str] = frozenset()


class Telling:
    """Tells whom a configuration names. Every method returns at once but ``close``.

    ``complained``: nothing can be told at present, and the log says why.
    """

    def __init__(
        self,
        config: NotificationsConfig,
        file: Path,
        *,
        make_sender: Callable[[NotificationsConfig, str], Send] = sender,
    ) -> None:
        self.figures: Mapping[str, Figures] = {name: Figures() for name in config.channels}
        self.file = file
        self._make_sender = make_sender
        self._config = self._planned = config
        self._clock = Steady()
        self._seen: Seen | None = None
        self._spool: Spool | None = None
        self._watch = Watch(config.settle_seconds, (), 0.0)
        self._rules = Rules(config, {})
        self._deliveries: dict[str, Delivery] = {}
        self._tidy_at = self._open_at = 0.0
        self.complained = False
        self._patience = 0.0
        self._ending = False
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notify", daemon=True)
        self._thread.start()

    def see(self, seen: Seen) -> None:
        """What is amiss now."""
        self._seen = seen
        self._woken.set()

    def plan(self, config: NotificationsConfig) -> None:
        """Go by this from now on; what waits goes on waiting."""
        self._planned = config

    def close(self, patience: float = 0.0) -> None:
        """End. With ``patience`` (seconds) what was seen last is told first."""
        self._patience = patience
        self._ending = True
        self._woken.set()
        self._thread.join(patience + 2 * LAST_TRY)

    # --- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._ending:
            self._woken.wait(TURN)
            self._woken.clear()
            if not self._ending:
                self._guarded_turn(at_once=False)
        if self._patience:
            self._guarded_turn(at_once=True)
            with suppress(Unusable):
                self._wait_for_deliveries()
        self._end()

    def _guarded_turn(self, *, at_once: bool) -> None:
        """A turn, whatever happens in it: a fault in here must end nothing."""
        try:
            if self._ready():
                self._turn(at_once=at_once)
                self.complained = False
        except Unusable as error:
            self._complain(str(error))
        except Exception as error:  # noqa: BLE001 - the thread must go on; the message may quote
            self._complain(type(error).__name__)

    def _complain(self, error: str) -> None:
        if not self.complained:
            log.error("notifications halt", error=error)
        self.complained = True

    def _ready(self) -> bool:
        """Whether there is a spool; opens it."""
        now = time.monotonic()
        if self._spool is None and now >= self._open_at:
            self._open_at = now + ONCE_MORE
            spool = Spool(self.file)
            try:
                self._take_up(spool)
            except BaseException:
                spool.close()
                raise
            self._spool = spool
        return self._spool is not None

    def _take_up(self, spool: Spool) -> None:
        """Go on where the process before this one ended."""
        told = spool.told()
        known = {key: one for each in told.values() for key, one in each.items()}
        standing = [Standing(alert=one.alert, since=one.since) for one in known.values()]
        self._watch = Watch(self._config.settle_seconds, standing, self._clock())
        self._rules = Rules(self._config, told)
        self._post(spool, self._config)

    def _turn(self, *, at_once: bool) -> None:
        spool, now = self._spool, self._clock()
        assert spool is not None
        if self._planned is not self._config:
            self._adopt(spool, self._planned)
        if self._seen is not None:
            self._watch.take(now, self._seen.alerts, self._seen.silent)
            self._decide(spool, now, at_once=at_once)
        self._tidy(spool, now)
        self._figure(spool)

    def _decide(self, spool: Spool, now: float, *, at_once: bool) -> None:
        standing = self._watch.standing()
        for decision in self._rules.decide(now, time.time(), standing, at_once=at_once):
            spool.keep(decision, now)
            self._rules.settle(decision)
            if decision.message is not None:
                self._deliveries[decision.channel].wake()

    def _adopt(self, spool: Spool, config: NotificationsConfig) -> None:
        """Another configuration."""
        self._rules = Rules(config, self._rules.told)
        self._watch.settle = config.settle_seconds
        spool.forget(list(config.channels))
        self._post(spool, config)
        self._config = config
        log.info("notifications reloaded", channels=len(config.channels))

    def _post(self, spool: Spool, config: NotificationsConfig) -> None:
        """A delivery for each channel; those whose channel is as it was go on."""
        before = self._deliveries
        kept = {name for name in before.keys() & config.channels if self._same(config, name)}
        made = {name: self._delivery(spool, config, name) for name in config.channels.keys() - kept}
        for name in before.keys() & made:
            spool.hasten(name, self._clock())
        for name in before.keys() - kept:
            before[name].stop()
        self._deliveries = {name: before[name] for name in kept} | made
        for delivery in made.values():
            delivery.start()

    def _delivery(self, spool: Spool, config: NotificationsConfig, name: str) -> Delivery:
        return Delivery(
            name,
            spool,
            self._make_sender(config, name),
            BY_KIND[config.channels[name].kind],
            give_up=config.give_up_seconds,
            clock=self._clock,
            after=self._deliveries.get(name),
        )

    def _same(self, after: NotificationsConfig, name: str) -> bool:
        """Whether a channel's messages are sent as they were."""
        before = self._config
        keys = ("language", "zone", "instance", "give_up_seconds")
        return before.channels[name] == after.channels[name] and all(
            getattr(before, key) == getattr(after, key) for key in keys
        )

    def _tidy(self, spool: Spool, now: float) -> None:
        """Forget what is old, and give up what waits for channels that are gone."""
        if now < self._tidy_at:
            return
        self._tidy_at = now + TIDY
        config = self._config
        spool.tidy(now - config.keep_days * DAY)
        for stray in spool.strays(list(config.channels), now - config.give_up_seconds):
            give_up(spool, stray, now)

    def _figure(self, spool: Spool) -> None:
        waiting = spool.counts()
        self.figures = {
            name: Figures(sent=one.sent, failed=one.failed, waiting=waiting.get(name, 0))
            for name, one in self._deliveries.items()
        }

    # --- the end ----------------------------------------------------------------------------------

    def _wait_for_deliveries(self) -> None:
        """Until nothing waits that was never tried, or patience ends."""
        until = time.monotonic() + self._patience
        while self._spool is not None and time.monotonic() < until:
            if not self._spool.untried():
                return
            time.sleep(0.05)

    def _end(self) -> None:
        for delivery in self._deliveries.values():
            delivery.stop()
        until = time.monotonic() + LAST_TRY
        for delivery in self._deliveries.values():
            delivery.join(max(0.0, until - time.monotonic()))
        if self._spool is not None:
            self._spool.close()
