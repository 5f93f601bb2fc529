r"""Texts of an SQL_ASCII database, which may hold any bytes, as SQL on that database.

What the daemon does with INVALID, said once more: which texts are none, and what a field that keeps
them makes of them.
"""

from __future__ import annotations

_CHARACTERS = (
    "[0-7].", "(?:c[2-9a-f]|d.)[89ab].", "e0[ab].[89ab].", "e[1-9abcef](?:[89ab].){2}",
    "ed[89].[89ab].", "f0[9ab].(?:[89ab].){2}", "f[123](?:[89ab].){3}", "f48.(?:[89ab].){2}",
)  # fmt: skip
_CHARACTER = "|".join(_CHARACTERS)
"""A well-formed character in hex: table 3-7 of the Unicode standard."""


def is_utf8(text: str) -> str:
    """The condition that a text is UTF-8."""
    return f"{_hex(text)} ~ '^(?:{_CHARACTER})*$'"


def kept(text: str) -> str:
    r"""The text with ``\xff`` for each byte that is part of no character."""
    found = f"pg_catalog.regexp_matches({_hex(text)}, '({_CHARACTER})|(..)', 'g')"
    character = "pg_catalog.convert_from(pg_catalog.decode(f.m[1], 'hex'), 'SQL_ASCII')"
    part = f"CASE WHEN f.m[1] IS NULL THEN E'\\\\x' || f.m[2] ELSE {character} END"
    return (
        f"(SELECT pg_catalog.string_agg({part}, '' ORDER BY f.n)"
        f" FROM ROWS FROM ({found}) WITH ORDINALITY AS f (m, n))"
    )


def _hex(text: str) -> str:
    return f"pg_catalog.encode(pg_catalog.convert_to(({text})::text, 'SQL_ASCII'), 'hex')"
