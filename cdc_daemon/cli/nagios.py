"""What ``status --nagios`` says: one line and an exit code, as monitoring plugins do.

The form: https://www.monitoring-plugins.org/doc/guidelines.html (``TEXT | performance data``; 0 ok,
1 warning, 2 critical, 3 unknown). Not in here: how the pipelines stand (``status``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cdc_daemon.cli.status import Standing

OK, WARNING, CRITICAL, UNKNOWN = range(4)
_WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
_LEVELS = {
    "streaming": OK,
    "idle": OK,
    "snapshotting": OK,
    "starting": WARNING,
    "degraded": WARNING,
    "stalled": CRITICAL,
    "blocked": CRITICAL,
    "stopped": CRITICAL,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Lag in seconds from which on it is a warning, or critical; None: it never is."""

    warning: float | None = None
    critical: float | None = None


def unknown(reason: str) -> str:
    """The line where nothing can be told."""
    return f"CDC UNKNOWN - {_plain(reason)}"


def report(standings: Sequence[Standing], thresholds: Thresholds) -> tuple[int, str]:
    """Exit code and line; the worst pipeline decides, and those at fault are named."""
    levels = [(level_of(one, thresholds), one) for one in standings]
    worst = max((level for level, _ in levels), default=UNKNOWN)
    said = [_said(one) for level, one in levels if level != OK]
    text = ", ".join(said) or f"{len(standings)} pipeline{'s' * (len(standings) != 1)} well"
    data = " ".join(part for one in standings for part in _performance(one, thresholds))
    return worst, f"CDC {_WORDS[worst]} - {_plain(text)}" + (f" | {data}" if data else "")


def level_of(standing: Standing, thresholds: Thresholds) -> int:
    """How bad one pipeline is."""
    lag = standing.lag_seconds
    level = max(_LEVELS.get(standing.state, UNKNOWN), WARNING if standing.parked else OK)
    if lag is not None and thresholds.critical is not None and lag >= thresholds.critical:
        return max(level, CRITICAL)
    if lag is not None and thresholds.warning is not None and lag >= thresholds.warning:
        return max(level, WARNING)
    return level


def _said(standing: Standing) -> str:
    parts = [f"{standing.pipeline} {standing.state}"]
    if standing.parked:
        parts.append(f"{standing.parked} parked")
    if standing.lag_seconds:
        parts.append(f"lag {standing.lag_seconds:.1f} s")
    error = standing.error.split("\n", 1)[0]
    return " ".join(parts) + (f": {error}" if error else "")


def _performance(standing: Standing, thresholds: Thresholds) -> list[str]:
    name = _label(standing.pipeline)
    found = []
    if standing.lag_seconds is not None:
        limits = f"{_number(thresholds.warning)};{_number(thresholds.critical)}"
        found.append(f"'{name}_lag'={standing.lag_seconds:.3f}s;{limits};0")
    if standing.parked is not None:
        found.append(f"'{name}_parked'={standing.parked};0;;0")
    if standing.transactions is not None:
        found.append(f"'{name}_transactions'={standing.transactions}c")
    if standing.changes is not None:
        found.append(f"'{name}_changes'={standing.changes}c")
    return found


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _label(name: str) -> str:
    return name.replace("'", "").replace("=", "")


def _plain(text: str) -> str:
    """Text without what separates performance data, and in one line."""
    return " ".join(text.replace("|", "/").split())
