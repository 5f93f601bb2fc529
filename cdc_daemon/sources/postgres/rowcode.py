"""Code for the row messages of one shape, made by ``compile``.

A message of nothing but text values is taken apart by one split; any other one by straight-line
code, which reads the columns that are wanted and steps over the others. Twelve columns take one
microsecond the one way and two the other. The generated text holds positions only, never a name
from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from cdc_daemon.model.changes import UNCHANGED
from cdc_daemon.sources.postgres.messages import KEY_END

if TYPE_CHECKING:
    from cdc_daemon.sources.postgres.shapes import Decoded, Shape

SHORT: Final = 0xFFFF  # no value of a message up to this length has more than two length bytes

_VALUE = """\
        if d[o] == 116:
            v = o + 5
            o = v + d[o + 4] + (d[o + 3] and d[o + 3] << 8)
            {take}
        elif d[o] == 110:
            {null}
            o += 1
"""
_LEFT_OUT = """\
        elif d[o] == 117:
            {unchanged}
            o += 1
"""
_OTHERWISE = """\
        else:
            raise IndexError
"""


def compile_rows(shape: Shape, strictly: Callable[..., None]) -> Callable[[list[bytes]], Decoded]:
    """Code that reads the wanted columns and steps over the others.

    It trusts the lengths, raises IndexError when they lead astray, and is right when they lead
    exactly to the message's end.
    """
    names = {
        "U": UNCHANGED,
        "limit": min(SHORT, shape.max_value_bytes),
        "strictly": strictly,
        "again": _again(shape),
        "text": b"t\0\0",
    }
    source = "".join(_lines(shape))
    exec(compile(source, f"<decoder of {shape.relation.name}>", "exec"), names)  # noqa: S102
    return names["decode"]  # type: ignore[return-value]


def _again(shape: Shape) -> bytes:
    """What stands between an old and a new tuple."""
    return b"N" + shape.width.to_bytes(2, "big")


def _lines(shape: Shape) -> list[str]:
    """The source text of that code; it holds no name from outside, only positions."""
    lines = [
        "def decode(messages):\n"
        "    news, olds, partial = [], [], []\n"
        "    u = False\n"
        "    for d in messages:\n"
        "        if len(d) > limit:\n"
        "            strictly(d, news, olds, partial)\n"
        "            continue\n"
    ]
    if shape.old != b"K":
        lines.append(_at_once(shape))
    lines.append(f"        o = {KEY_END}\n")
    if shape.old == b"K":
        lines += _key_lines(shape)
    elif shape.old:
        lines += [_value_lines(i, "a", i in shape.old_columns, "") for i in range(shape.width)]
    if shape.old and shape.new:
        lines.append(
            "        if d[o:o + 3] != again:\n            raise IndexError\n        o += 3\n"
        )
    if shape.new:
        for i in range(shape.width):
            left_out = "c{i} = a{i}" if i in shape.filled else "c{i} = U; u = True"
            lines.append(_value_lines(i, "c", i in shape.wanted, left_out))
    lines.append("        if o != len(d):\n            raise IndexError\n")
    if shape.new:
        lines.append(
            "        if u:\n            partial.append(len(news))\n            u = False\n"
            f"        news.append({_tuple_text('c', shape.wanted)})\n"
        )
    if shape.old:
        lines.append(f"        olds.append({_tuple_text('a', shape.old_columns)})\n")
    lines.append("    return news, olds, partial\n")
    return lines


def _at_once(shape: Shape) -> str:
    """Code for a message of nothing but text values, which one split takes apart.

    The text format holds no zero byte, so ``t 00 00`` occurs only where a value's length begins
    (below 65,536), and as often as there are columns only where each holds text. The last value of
    a tuple is measured against its length, which finds cut messages.
    """
    tuples = (["a"] if shape.old else []) + (["c"] if shape.new else [])
    parts = [f"{letter}{i}" for letter in tuples for i in range(shape.width)]
    checks, rows = [], []
    for letter, into, wanted in (("a", "olds", shape.old_columns), ("c", "news", shape.wanted)):
        if letter not in tuples:
            continue
        last, tail = f"{letter}{shape.width - 1}", 0
        if letter != tuples[-1]:
            checks.append(f"{last}[-3:] == again")
            tail = 3
        checks.append(f"len({last}) == 2 + {tail} + ({last}[0] << 8) + {last}[1]")
        ends = {shape.width - 1: f"2:-{tail}"} if tail else {}
        values = "".join(f"{letter}{i}[{ends.get(i, '2:')}], " for i in wanted)
        rows.append(f"                {into}.append(({values}))\n")
    return (
        f"        p = d[{KEY_END}:].split(text)\n"
        f"        if len(p) == {len(parts) + 1}:\n"
        f"            _, {', '.join(parts)} = p\n"
        f"            if {' and '.join(checks)}:\n" + "".join(rows) + "                continue\n"
    )


def _key_lines(shape: Shape) -> list[str]:
    """Code for a key-only tuple, in which what is no part of the key stands as NULL."""
    lines: list[str] = []
    skipped = 0
    for i in range(shape.width + 1):
        if i < shape.width and i not in shape.old_columns:
            skipped += 1
            continue
        if skipped:
            nulls = b"n" * skipped
            lines.append(
                f"        if d[o:o + {skipped}] != {nulls!r}:\n"
                f"            raise IndexError\n        o += {skipped}\n"
            )
            skipped = 0
        if i < shape.width:
            lines.append(_value_lines(i, "a", True, ""))
    return lines


def _value_lines(position: int, letter: str, wanted: bool, left_out: str) -> str:
    """Code for one column. ``left_out`` is the assignment for an unchanged value, if it may be."""
    text = _VALUE.format(
        take=f"{letter}{position} = d[v:o]" if wanted else "pass",
        null=f"{letter}{position} = None" if wanted else "pass",
    )
    if left_out:
        text += _LEFT_OUT.format(unchanged=left_out.format(i=position) if wanted else "pass")
    return text + _OTHERWISE


def _tuple_text(letter: str, positions: Sequence[int]) -> str:
    return "(" + "".join(f"{letter}{i}, " for i in positions) + ")"
