"""From a worker's report to the board: each verification that ended is shown, and counted, once.

A worker tells of the newest one in the control database, whoever made it, also before the daemon
began. Not in here: when one is due (``verifying``), what the figures become (``admin``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cdc_daemon.admin.board import RESULTS, Board, Verification

_NAMES = {"match": "matching"}  # where the board says it otherwise


class Verdicts:
    """What was shown of one pipeline's verifications."""

    def __init__(self, pipeline: str, board: Board) -> None:
        self._pipeline = pipeline
        self._board = board
        self._told: Mapping[str, Any] = {}

    def take(self, told: Mapping[str, Any] | None) -> None:
        """Show what is new in a report (``engine.status.verification_of``)."""
        if told is None or told == self._told:
            return
        before, self._told = self._told, told
        if told.get("due") != before.get("due"):
            self._board.verification_due(self._pipeline, told.get("due"))
        if told.get("last_run") not in (None, before.get("last_run")):
            self._board.verified(self._finished(told))
        if told.get("failed") and told.get("started") != before.get("started"):
            self._board.verified(self._failed(told))

    def _finished(self, told: Mapping[str, Any]) -> Verification:
        rows = {
            (mapping, result): int(found[_NAMES.get(result, result)])
            for mapping, found in told["mappings"].items()
            for result in RESULTS
        }
        return Verification(
            pipeline=self._pipeline,
            time=told["last_run"],
            seconds=told["duration"] or 0.0,
            rows=rows,
        )

    def _failed(self, told: Mapping[str, Any]) -> Verification:
        return Verification(
            pipeline=self._pipeline, time=told["started"], seconds=0.0, rows={}, failed=True
        )
