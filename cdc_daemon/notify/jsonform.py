"""Bodies of requests: JSON in UTF-8, and how much of one a text takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

JSON: Final[Mapping[str, str]] = {"Content-Type": "application/json; charset=utf-8"}


def encoded(value: object) -> bytes:
    """As bytes; what is no character becomes ``?``."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode(errors="replace")


def encoded_size(text: str) -> int:
    """Bytes that it takes inside a body."""
    return len(encoded(text))
