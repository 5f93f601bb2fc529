"""Log sequence numbers: 64 bits as an int, and the ``X/Y`` text of PostgreSQL's ``pg_lsn``."""

from __future__ import annotations

import re

from cdc_daemon.model.errors import Stop

_TEXT = re.compile(r"([0-9A-F]{1,8})/([0-9A-F]{1,8})", re.ASCII | re.IGNORECASE)


def parse_lsn(text: str) -> int:
    """The number of ``X/Y``. Raises Stop for any other text: a position is never guessed."""
    match = _TEXT.fullmatch(text)
    if match is None:
        raise Stop(f"{text!r} is not a PostgreSQL log position", hint="it looks like 16/B374D848")
    return int(match[1], 16) << 32 | int(match[2], 16)


def is_lsn(text: str) -> bool:
    """Whether it is the text of a position."""
    return _TEXT.fullmatch(text) is not None


def format_lsn(lsn: int) -> str:
    """The text of a position, as ``pg_lsn`` writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
