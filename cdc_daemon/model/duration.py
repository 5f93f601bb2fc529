"""Durations as people write them: ``90s``, ``30min``, ``2h``, ``7d``, ``4w``."""

from __future__ import annotations

import datetime as dt
import re

_FORM = re.compile(r"(\d{1,5})(s|min|h|d|w)")
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}

EXAMPLES = "90s, 30min, 2h, 7d or 4w"


def duration_of(text: str) -> dt.timedelta | None:
    """The duration; None for a text that is none."""
    found = _FORM.fullmatch(text)
    return dt.timedelta(seconds=int(found[1]) * _SECONDS[found[2]]) if found else None
