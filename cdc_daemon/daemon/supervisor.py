"""The supervisor's loop: signals, reload, service manager, and the pipelines it tends.

One thread, one selector; it wakes for signals, status lines and deadlines. Not in here: one
pipeline's life (``pipeline``), its process (``child``), the HTTP pages (``admin``).
"""

from __future__ import annotations

import operator
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass

from cdc_daemon import systemd
from cdc_daemon.admin.board import Board
from cdc_daemon.admin.server import AdminServer
from cdc_daemon.config.notifications import NotificationsConfig
from cdc_daemon.daemon.notices import Notices
from cdc_daemon.daemon.pipeline import Document, Pipeline
from cdc_daemon.daemon.restarts import Limits, worst
from cdc_daemon.daemon.verifying import COMMAND, Schedule, Verifications
from cdc_daemon.engine.status import State
from cdc_daemon.model.errors import EXIT_OK, CdcError
from cdc_daemon.telemetry import get_logger

log = get_logger(__name__)

WORKER_COMMAND = (sys.executable, "-m", "cdc_daemon.worker")
LONGEST_PAUSE = 1.0  # seconds; /healthz counts on the loop turning
TROUBLED = frozenset({State.STALLED, State.BLOCKED, State.DEGRADED, State.STOPPED})
MOST_NAMES = 5  # in the line for ``systemctl status``


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded:
    """What a configuration says: each pipeline's document, the limits (None: as they are), how
    workers log that are left alone (JSON-ready; None: as they do), when to verify (None: never),
    whom to notify (None: nobody).
    """

    documents: Mapping[str, Document]
    limits: Limits | None = None
    logs: Mapping[str, object] | None = None
    schedule: Schedule | None = None
    notifications: NotificationsConfig | None = None


Reload = Callable[[], Reloaded]
"""Reads the configuration again. Raises CdcError when it is wrong."""


class Supervisor:
    """Runs one worker per document until told to stop; ``run`` belongs into the main thread."""

    def __init__(
        self,
        documents: Mapping[str, Document],
        *,
        reload: Reload | None = None,
        limits: Limits | None = None,
        admin_address: tuple[str, int] | None = None,
        worker_command: Sequence[str] = WORKER_COMMAND,
        same: Callable[[Document, Document], bool] = operator.eq,
        schedule: Schedule | None = None,
        verify_command: Sequence[str] = COMMAND,
        notifications: NotificationsConfig | None = None,
    ) -> None:
        """``admin_address``: loopback host and port (0: any) for metrics and health, None: none.
        ``same``: whether a reloaded document means the same, so that its worker is left alone.

        Raises ConfigurationError when that address cannot be had.
        """
        self.board = Board()
        self.admin = AdminServer(self.board, *admin_address) if admin_address else None
        self._reload = reload
        self._same = same
        self._limits = limits or Limits()
        self._command = tuple(worker_command)
        self._selector = selectors.DefaultSelector()
        self._notifier = systemd.notifier()
        self._watchdog_every = systemd.watchdog_interval()
        self._next_watchdog = 0.0
        self._next_extension = 0.0
        self._signals: list[int] = []
        self._stopping = False
        self._ready = False
        self._told = ""
        self._verifications = Verifications(schedule, documents, verify_command)
        self._notices = Notices(notifications, self.board)
        self._pipelines: dict[str, Pipeline] = {}
        self._retired: dict[str, Pipeline] = {}  # no longer configured, still draining
        for name, document in documents.items():
            self._adopt(name, document)

    def run(self) -> int:
        """Supervise until a signal or until every pipeline has ended; the exit code."""
        with (
            closing(self._selector),
            closing(self._verifications),
            closing(self._notices),
            self._receiving_signals(),
            self._serving(),
        ):
            log.info("daemon started", pid=os.getpid(), pipelines=len(self._pipelines))
            while not self._finished():
                self._turn()
        code = EXIT_OK if self._stopping else worst(self._exit_codes())
        log.info("daemon stopped", exit_code=code)
        return code

    # --- one turn -----------------------------------------------------------------------------

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._pause()):
            key.data()
        while self._signals:
            self._handle(self._signals.pop(0))
        now = time.monotonic()
        for pipeline in self._everyone():
            pipeline.tend(now)
        for name in [name for name, pipeline in self._retired.items() if pipeline.gone]:
            del self._retired[name]
            self.board.withdraw(name)
        self._verifications.tend(now, time.time())
        self._notices.tend(now)
        self.board.beat()
        self._tell_service_manager(now)

    def _pause(self) -> float:
        now = time.monotonic()
        due = min((pipeline.deadline() for pipeline in self._everyone()), default=0.0)
        due = min(due, self._verifications.deadline(now, time.time()))
        return min(max(0.0, due - now), LONGEST_PAUSE)

    def _everyone(self) -> list[Pipeline]:
        return [*self._pipelines.values(), *self._retired.values()]

    def _finished(self) -> bool:
        return all(pipeline.gone for pipeline in self._everyone())

    def _exit_codes(self) -> list[int]:
        return [pipeline.ended or EXIT_OK for pipeline in self._pipelines.values()]

    def _adopt(self, name: str, document: Document) -> None:
        self._pipelines[name] = Pipeline(
            name,
            document,
            command=self._command,
            limits=self._limits,
            selector=self._selector,
            board=self.board,
        )

    # --- signals ------------------------------------------------------------------------------

    def _handle(self, number: int) -> None:
        match number:
            case signal.SIGINT if self._stopping:
                self._hasten()
            case signal.SIGTERM | signal.SIGINT if not self._stopping:
                self._stop()
            case signal.SIGHUP if not self._stopping:
                self._reread()
            case signal.SIGUSR1:
                for pipeline in self._everyone():
                    pipeline.dump()
            case _:  # SIGCHLD only wakes the loop
                pass

    def _stop(self) -> None:
        """Drain every worker."""
        now = time.monotonic()
        self._stopping = True
        log.info("stopping", drain_seconds=self._limits.drain_seconds)
        self._notifier.stopping()
        self._notifier.extend_timeout(self._limits.longest_stop)
        self._verifications.stop()
        self._notices.stop()
        for pipeline in self._everyone():
            pipeline.stop(now)

    def _hasten(self) -> None:
        """Asked again, by somebody at a keyboard."""
        now = time.monotonic()
        log.warning("stopping at once")
        for pipeline in self._everyone():
            pipeline.hasten(now)

    def _reread(self) -> None:
        """Reload the configuration: all of it, or nothing of it."""
        if self._reload is None:
            log.warning("no reload: this daemon was started without a configuration file")
            return
        self._notifier.reloading()
        try:
            reloaded = self._reload()
        except CdcError as exc:
            self.board.reloaded(successful=False)
            log.error("reload refused, the old configuration stays", error=str(exc))
        except Exception:  # a fault in reading must not end what runs
            self.board.reloaded(successful=False)
            log.exception("reload failed, the old configuration stays")
        else:
            self.board.reloaded(successful=True)
            self._limit(reloaded.limits or self._limits)
            self._apply(reloaded.documents, reloaded.logs)
            self._verifications.plan(reloaded.schedule, reloaded.documents)
            self._notices.plan(reloaded.notifications)
        if self._ready:
            self._notifier.ready()

    def _limit(self, limits: Limits) -> None:
        """Restarts and drains go by these from now on."""
        self._limits = limits
        for pipeline in self._everyone():
            pipeline.limit(limits)

    def _apply(self, documents: Mapping[str, Document], logs: Mapping[str, object] | None) -> None:
        """Drain and restart what changed or had been given up; leave alone what did not."""
        now = time.monotonic()
        for name in self._pipelines.keys() - documents.keys():
            self._retired[name] = self._pipelines.pop(name)
            self._retired[name].stop(now)
        for name, document in documents.items():
            pipeline = self._pipelines.get(name)
            if pipeline is None and name not in self._retired:
                self._adopt(name, document)
            elif pipeline is None:
                self._pipelines[name] = self._retired.pop(name)
                self._pipelines[name].replace(document, now)
            elif pipeline.ended is not None or not self._same(pipeline.document, document):
                log.info("pipeline reloaded", pipeline=name)
                pipeline.replace(document, now)
            else:
                pipeline.keep(document, logs)
        log.info("configuration reloaded", pipelines=len(documents))

    @contextmanager
    def _receiving_signals(self) -> Iterator[None]:
        """Signals wake the selector through a pipe and are handled between turns, never inside."""
        read_fd, write_fd = os.pipe()
        os.set_blocking(read_fd, False)
        os.set_blocking(write_fd, False)

        def take() -> None:
            with suppress(BlockingIOError):
                for number in os.read(read_fd, 4096):
                    if number not in self._signals:
                        self._signals.append(number)

        wanted = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD)
        before = {number: signal.signal(number, lambda *_: None) for number in wanted}
        old_fd = signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
        self._selector.register(read_fd, selectors.EVENT_READ, take)
        try:
            yield
        finally:
            self._selector.unregister(read_fd)
            signal.set_wakeup_fd(old_fd)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(read_fd)
            os.close(write_fd)

    # --- the world outside --------------------------------------------------------------------

    @contextmanager
    def _serving(self) -> Iterator[None]:
        if self.admin is None:
            yield
            return
        self.admin.start()
        try:
            yield
        finally:
            self.admin.close()

    def _tell_service_manager(self, now: float) -> None:
        """READY once every start-up is decided; STATUS when it changed; WATCHDOG while all live."""
        if not self._ready and not self._stopping:
            self._ready = all(pipeline.settled for pipeline in self._pipelines.values())
            if self._ready:
                self._notifier.ready()
                log.info("ready")
            elif now >= self._next_extension:
                self._notifier.extend_timeout(60)
                self._next_extension = now + 20
        text = self._summary()
        if text != self._told:
            self._told = text
            self._notifier.status(text)
        if self._watchdog_every is None or now < self._next_watchdog:
            return
        if all(pipeline.healthy() for pipeline in self._everyone()):
            self._notifier.watchdog()
            self._next_watchdog = now + self._watchdog_every

    def _summary(self) -> str:
        """How many pipelines are in which state, and which of them somebody should look at."""
        names: dict[State, list[str]] = {}
        for name, pipeline in self._pipelines.items():
            names.setdefault(pipeline.state, []).append(name)
        return ", ".join(
            f"{len(found)} {state.value}{_named(state, found)}"
            for state, found in sorted(names.items(), key=lambda item: item[0].value)
        )


def _named(state: State, names: Sequence[str]) -> str:
    if state not in TROUBLED:
        return ""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f" ({', '.join(names[:MOST_NAMES])}{more})"
