"""The supervisor's side of notifications: once a second, what the board shows becomes alerts.

Without a configuration nothing of it runs. Never waits, except at the very end.
"""

from __future__ import annotations

import math

from cdc_daemon.admin.board import Board
from cdc_daemon.config.notifications import NotificationsConfig
from cdc_daemon.daemon.alerts import alerts_of, is_silent, refused
from cdc_daemon.notify.telling import Seen, Telling
from cdc_daemon.telemetry import get_logger

log = get_logger(__name__)

EVERY = 1.0  # seconds
FAREWELL = 8.0  # seconds that the last message may take when the daemon ends unasked


class Notices:
    """Tells of the board what a configuration wants told; None: nothing."""

    def __init__(self, config: NotificationsConfig | None, board: Board) -> None:
        self._board = board
        self._telling: Telling | None = None
        self._due = -math.inf
        self._asked = False
        self.plan(config)

    def plan(self, config: NotificationsConfig | None) -> None:
        """Go by this from now on."""
        if config is None:
            self._end(0.0)
        elif self._telling is None:
            self._telling = Telling(config, config.file())
        else:
            self._telling.plan(config)
            self._warn(config, self._telling)

    @staticmethod
    def _warn(config: NotificationsConfig, telling: Telling) -> None:
        if config.file() != telling.file:
            log.warning(
                "another folder takes effect with a restart",
                setting="notifications.directory",
                in_use=str(telling.file.parent),
            )

    def tend(self, now: float) -> None:
        """Look, if it is time; ``now``: monotonic."""
        if self._telling is None or now < self._due or self._asked:
            return
        self._due = now + EVERY
        self._telling.see(self._seen())
        self._board.notified(self._telling.figures)

    def stop(self) -> None:
        """Pipelines end because somebody asked for it, which is nothing to tell."""
        self._asked = True

    def close(self) -> None:
        """End; what was not asked for is told first."""
        if self._telling is not None and not self._asked:
            self._telling.see(self._seen())
        self._end(0.0 if self._asked else FAREWELL)

    def _end(self, patience: float) -> None:
        if self._telling is not None:
            self._telling.close(patience)
            self._telling = None
            self._board.notified({})

    def _seen(self) -> Seen:
        views = self._board.pipelines()
        silent = frozenset(view.status.pipeline for view in views if is_silent(view))
        found = [alert for view in views for alert in alerts_of(view)]
        return Seen(alerts=(*found, *refused(self._board.reload)), silent=silent)
