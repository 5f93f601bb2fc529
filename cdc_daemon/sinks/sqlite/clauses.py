"""What the SQL of a table or trigger says that would merge, drop or undo rows in silence.

SQLite keeps a definition as it was written. It is read as words, so that names, texts and comments
are none; nothing else of it is understood.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_TOKEN = re.compile(
    r"""--[^\n]*|/\*.*?(?:\*/|\Z)|\s+"""
    r"""|(?P<quoted>'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\])"""
    r"""|(?P<word>\w+)|(?P<sign>.)""",
    re.S,
)
_QUOTED = "'"  # a token of its own kind: what it says is no word of SQL


def deviations(sql: str) -> list[str]:
    """Collations of a table other than BINARY, and ways to meet a conflict other than ABORT."""
    tokens = [*_tokens(sql), "", ""]
    found: list[str] = []
    for first, second, third in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if first == "COLLATE" and (name := second.removeprefix(_QUOTED)) != "BINARY":
            found.append(f"COLLATE {name}")
        elif (first, second) == ("ON", "CONFLICT") and third != "ABORT":
            found.append(f"ON CONFLICT {third}")
    return found


def silences(sql: str) -> list[str]:
    """What a trigger raises that is no row's error: it leaves a row out, or takes a unit back."""
    tokens = list(_tokens(sql))
    return [
        f"RAISE({third})"
        for first, second, third in zip(tokens, tokens[1:], tokens[2:], strict=False)
        if (first, second) == ("RAISE", "(") and third in ("IGNORE", "ROLLBACK")
    ]


def _tokens(sql: str) -> Iterator[str]:
    """Words in capitals, signs, and what stands in quotes after a quote."""
    for match in _TOKEN.finditer(sql):
        if match["quoted"]:
            yield _QUOTED + match["quoted"][1:-1].upper()
        elif match["word"] or match["sign"]:
            yield match[0].upper()
