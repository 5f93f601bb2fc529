r"""Texts that may hold bytes of no character, as SQL on their database.

What the daemon does with INVALID, said once more: which texts are none, and what a field that keeps
them makes of them.
"""

from __future__ import annotations

from functools import cache

_UTF8 = (
    "[0-7].", "(?:c[2-9a-f]|d.)[89ab].", "e0[ab].[89ab].", "e[1-9abcef](?:[89ab].){2}",
    "ed[89].[89ab].", "f0[9ab].(?:[89ab].){2}", "f[123](?:[89ab].){3}", "f48.(?:[89ab].){2}",
)  # fmt: skip
"""A well-formed character in hex: table 3-7 of the Unicode standard."""


@cache
def _character(codec: str) -> str:
    """A regular expression for one character in hex."""
    if codec == "utf-8":
        return "|".join(_UTF8)
    single = [bytes([b]).hex() for b in range(128, 256) if _is_one(bytes([b]), codec)]
    trails: dict[str, list[str]] = {}  # what may follow → after which bytes
    for lead in range(128, 256):
        after = [f"{b:02x}" for b in range(128, 256) if _is_one(bytes([lead, b]), codec)]
        if after and f"{lead:02x}" not in single:
            trails.setdefault("|".join(after), []).append(f"{lead:02x}")
    pairs = [f"(?:{'|'.join(leads)})(?:{after})" for after, leads in trails.items()]
    return "|".join(["[0-7].", *single, *pairs])


def _is_one(raw: bytes, codec: str) -> bool:
    try:
        return len(raw.decode(codec)) == 1
    except UnicodeDecodeError:
        return False


def is_text(column: str, codec: str) -> str:
    """The condition that a text holds nothing but characters."""
    return f"{_hex(column)} ~ '^(?:{_character(codec)})*$'"


def kept(column: str, codec: str) -> str:
    r"""The text with ``\xff`` for each byte that is part of no character."""
    found = f"pg_catalog.regexp_matches({_hex(column)}, '({_character(codec)})|(..)', 'g')"
    character = "pg_catalog.convert_from(pg_catalog.decode(f.m[1], 'hex'), 'SQL_ASCII')"
    part = f"CASE WHEN f.m[1] IS NULL THEN E'\\\\x' || f.m[2] ELSE {character} END"
    return (
        f"(SELECT pg_catalog.string_agg({part}, '' ORDER BY f.n)"
        f" FROM ROWS FROM ({found}) WITH ORDINALITY AS f (m, n))"
    )


def _hex(column: str) -> str:
    return f"pg_catalog.encode(pg_catalog.convert_to(({column})::text, 'SQL_ASCII'), 'hex')"
