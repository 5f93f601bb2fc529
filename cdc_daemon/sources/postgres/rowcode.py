"""Straight-line code for the row messages of one shape, made by ``compile``.

It reads the columns that are wanted and steps over the others; twelve columns take some two
microseconds. The generated text holds positions only, never a name from outside.
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


def compile_each(shape: Shape, strictly: Callable[..., None]) -> Callable[[list[bytes]], Decoded]:
    """Straight-line code that reads the wanted columns and steps over the others.

    It trusts the lengths, raises IndexError when they lead astray, and is right when they lead
    exactly to the message's end.
    """
    source = "".join(_each_lines(shape))
    names = {
        "U": UNCHANGED,
        "limit": min(SHORT, shape.max_value_bytes),
        "strictly": strictly,
        "again": b"N" + shape.width.to_bytes(2, "big"),
    }
    exec(compile(source, f"<decoder of {shape.relation.name}>", "exec"), names)  # noqa: S102
    return names["decode"]  # type: ignore[return-value]


def _each_lines(shape: Shape) -> list[str]:
    """The source text of that code; it holds no name from outside, only positions."""
    lines = [
        "def decode(messages):\n"
        "    news, olds, partial = [], [], []\n"
        "    u = False\n"
        "    for d in messages:\n"
        "        if len(d) > limit:\n"
        "            strictly(d, news, olds, partial)\n"
        "            continue\n"
        f"        o = {KEY_END}\n"
    ]
    if shape.old:
        lines += [_value_lines(i, "a", i in shape.old_columns, "") for i in range(shape.width)]
    if shape.old and shape.new:
        lines.append(
            "        if d[o:o + 3] != again:\n            raise IndexError\n        o += 3\n"
        )
    if shape.new:
        left_out = "c{i} = a{i}" if shape.fills else "c{i} = U; u = True"
        lines += [_value_lines(i, "c", i in shape.wanted, left_out) for i in range(shape.width)]
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
