"""What the pages about health say, from the :class:`Board` alone: ``/healthz`` and ``/readyz``."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from http import HTTPStatus

from cdc_daemon.admin.board import LATE_AFTER, Board, PipelineView
from cdc_daemon.engine.status import AT_RISK, State

READY_STATES = frozenset({State.STREAMING, State.IDLE, State.DEGRADED})
_DURATION = re.compile(r"(?P<number>\d{1,9}(\.\d{1,3})?)(?P<unit>ms|s|m|h|)")
_SECONDS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a path says; ``body`` is JSON-ready or finished bytes."""

    status: HTTPStatus
    body: object
    content_type: str = "application/json"

    def encoded(self) -> bytes:
        """The bytes that go over the wire."""
        if isinstance(self.body, bytes):
            return self.body
        return json.dumps(self.body, ensure_ascii=False).encode() + b"\n"


def health(board: Board) -> Answer:
    """Whether the process and its loop live; says nothing about databases."""
    late = board.lateness()
    alive = late <= LATE_AFTER
    status = HTTPStatus.OK if alive else HTTPStatus.SERVICE_UNAVAILABLE
    return Answer(status, {"status": "ok" if alive else "late", "late_seconds": round(late, 3)})


def readiness(board: Board, query: dict[str, list[str]]) -> Answer:
    """Whether all pipelines (or ``source``) stream and their lag is within ``lag``.

    Parked changes hold nobody back but their own keys, so they are told and make nothing unready.
    """
    most = _duration(query["lag"][0]) if "lag" in query else None
    if "lag" in query and most is None:
        return Answer(HTTPStatus.BAD_REQUEST, {"error": "lag must look like 500ms, 60s, 5m or 1h"})
    wanted = query.get("source", [])
    views = [view for view in board.pipelines() if not wanted or view.status.pipeline in wanted]
    if wanted and not views:
        return Answer(HTTPStatus.NOT_FOUND, {"error": "no such source"})
    reasons = {view.status.pipeline: _unready(view, most) for view in views}
    ready = bool(views) and not any(reasons.values()) and board.lateness() <= LATE_AFTER
    return Answer(
        HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE,
        {
            "ready": ready,
            "sources": {
                view.status.pipeline: {
                    "state": view.status.state.value,
                    "lag_seconds": view.status.lag_seconds,
                    "reason": reasons[view.status.pipeline] or _remark(view),
                }
                for view in views
            },
        },
    )


def _unready(view: PipelineView, most: float | None) -> str | None:
    """Why this pipeline is not ready; None when it is."""
    status = view.status
    if not view.alive:
        return status.error or "no worker runs"
    if status.state not in READY_STATES:
        return f"state is {status.state.value}"
    if most is not None and (status.lag_seconds is None or status.lag_seconds > most):
        return "lag is not known" if status.lag_seconds is None else "lag is too large"
    return None


def _remark(view: PipelineView) -> str | None:
    """What is to be said of a pipeline that is ready."""
    status = view.status
    said = [f"changes are parked: {status.parked_rows}"] if status.parked_rows else []
    if status.slot is not None and status.slot.status in AT_RISK:
        said.append(f"the slot's log is {status.slot.status}")
    return "; ".join(said) or None


def _duration(text: str) -> float | None:
    found = _DURATION.fullmatch(text.strip())
    return float(found["number"]) * _SECONDS[found["unit"]] if found else None
