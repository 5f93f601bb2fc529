r"""The text format of COPY ... TO: lines into rows. Pure.

Format: "COPY", section "Text Format", of the PostgreSQL documentation: tabs between values, ``\N``
for NULL, backslash escapes, one newline at the end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from cdc_daemon.model.changes import Row, Value

_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_LETTERS = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def parse_rows(lines: Sequence[bytes]) -> list[Row]:
    """One row per line."""
    return [
        _parse_escaped(line) if b"\\" in line else tuple(line[:-1].split(b"\t")) for line in lines
    ]


def _parse_escaped(line: bytes) -> Row:
    """A line with a NULL or an escape in it."""
    return tuple(
        [value if b"\\" not in value else _unescape(value) for value in line[:-1].split(b"\t")]
    )


def _unescape(value: bytes) -> Value:
    if value == b"\\N":
        return None
    return _ESCAPED.sub(lambda match: _LETTERS.get(match[1], match[1]), value)
