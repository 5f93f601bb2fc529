"""Data on stdout: aligned tables for people, JSON for programs.

Tables have no frames, so that ``cut`` and ``awk`` can read them; wide characters count double.
Colour only on a terminal without NO_COLOR. The form of tables may change, that of JSON is kept.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
from collections.abc import Iterable, Sequence
from unicodedata import category, east_asian_width

import click

_STYLES = {
    "streaming": "green",
    "idle": "green",
    "equal": "green",
    "starting": "yellow",
    "snapshotting": "yellow",
    "degraded": "yellow",
    "stalled": "red",
    "blocked": "red",
    "stopped": "red",
    "different": "red",
    "ok": "green",
    "warning": "yellow",
    "unknown": "yellow",
    "unreachable": "red",
    "problem": "red",
}


def print_json(data: object) -> None:
    """One JSON document."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False, default=_plain))


def print_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A head and rows with aligned columns; numbers to the right, ``-`` for nothing."""
    body = [list(row) for row in rows]
    texts = [[_text(value) for value in row] for row in body]
    widths = [max(map(_width, column)) for column in zip(head, *texts, strict=True)]
    numeric = [
        bool(body) and all(isinstance(row[i], int | float | None) for row in body)
        for i in range(len(head))
    ]
    paint = _may_paint()
    for line in (list(head), *texts):
        cells = [
            _painted(_padded(text, widths[i], right=numeric[i]), text, paint=paint)
            for i, text in enumerate(line)
        ]
        click.echo("  ".join(cells).rstrip())


def print_aligned(rows: Iterable[Sequence[str]]) -> None:
    """Rows of different lengths without a head; what a row's last cell holds widens no column."""
    body = [["".join(map(_shown, text)) for text in row] for row in rows]
    widths: dict[int, int] = {}
    for row in body:
        for i, text in enumerate(row[:-1]):
            widths[i] = max(widths.get(i, 0), _width(text))
    paint = _may_paint()
    for row in body:
        cells = [
            _painted(_padded(text, widths[i], right=False), text.strip(), paint=paint)
            for i, text in enumerate(row[:-1])
        ]
        click.echo("  ".join([*cells, *row[-1:]]).rstrip())


def words(text: str) -> None:
    """A line for people, on stderr."""
    click.echo(text, err=True)


def ago(moment: dt.datetime | None) -> str | None:
    """How long since a moment, as people say it."""
    if moment is None:
        return None
    seconds = max(0, int((dt.datetime.now(dt.UTC) - moment).total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def row_value(value: object) -> str:
    """A row's value; NULL is told from the texts NULL and -."""
    if value is None:
        return "NULL"
    if not isinstance(value, str):
        return str(value)
    return f"'{value}'" if value in ("NULL", "-", "") or value != value.strip() else value


def _text(value: object) -> str:
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.3f}"
        case dt.datetime():
            return value.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        case _:
            return "".join(map(_shown, str(value)))


def _shown(character: str) -> str:
    """The character, or a sign in place of one that would steer the terminal."""
    if character.isprintable() or category(character) == "Zs":
        return character
    return "\N{REPLACEMENT CHARACTER}"


def _plain(value: object) -> object:
    match value:
        case dt.datetime():
            return value.isoformat()
        case bytes():
            return value.hex()
        case set() | frozenset():
            return sorted(value)
        case _:
            return str(value)


def _width(text: str) -> int:
    return sum(2 if east_asian_width(c) in "WF" else 1 for c in text)


def _padded(text: str, width: int, *, right: bool) -> str:
    blanks = " " * (width - _width(text))
    return blanks + text if right else text + blanks


def _painted(padded: str, text: str, *, paint: bool) -> str:
    colour = _STYLES.get(text) if paint else None
    return click.style(padded, fg=colour) if colour else padded


def _may_paint() -> bool:
    dumb = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not dumb
