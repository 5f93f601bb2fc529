"""How a column's value stands in a row image, and what makes text of it.

A :class:`Layout` serves both readers: the strict one takes the bytes and calls ``read``; generated
code has ``struct`` read neighbouring values at once, by the :class:`Form` for its byte order, and
pastes the form's expression. Which layout a column has: ``layouts.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Generic, TypeVar

from cdc_daemon.model.changes import Invalid

Text = bytes | Invalid
Read = Callable[[bytes], Text]
Noting = Callable[[Read], Read]
"""Wraps a reader that may say Invalid, so that it is known when it did."""
Key = TypeVar("Key", int, bytes)

CACHED: Final = 20_000
"""The most values of a column that are remembered."""

CALL: Final = "read_{i}({0})"
NUMBER: Final = 'b"%d" % {0}'
_SEEN: Final = "seen_{i}[{0}]"
_LOOKED_UP: Final = "table_{i}[{0}]"


@dataclass(frozen=True, slots=True)
class Form:
    """``letters`` for struct; an expression of its values ``{0}``, ``{1}``, ... and names that end
    in ``_{i}``, the column's position."""

    letters: str
    text: str

    @property
    def count(self) -> int:
        """How many values struct makes of the letters."""
        return 1 if self.letters[0].isdigit() else len(self.letters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A value of ``size`` bytes, or with a length of ``prefix`` bytes in front of it.

    ``read`` makes text of the value's bytes and raises ValueError for what is none. ``text``: the
    expression for the bytes; ``little`` and ``big``: forms for the byte orders, where there is one.
    ``names``: what the expressions use, by its name without the column's position.
    """

    read: Read
    size: int = 0
    prefix: int = 0
    text: str = CALL
    little: Form | None = None
    big: Form | None = None
    names: Mapping[str, object] = field(default_factory=dict)


class Seen(dict[Key, Text], Generic[Key]):
    """Texts by bytes or number, read when first seen; forgotten when they become too many."""

    def __init__(self, read: Callable[[Key], Text]) -> None:
        super().__init__()
        self._read: Callable[[Key], Text] = read

    def __missing__(self, key: Key) -> Text:
        value = self._read(key)
        if isinstance(value, bytes):  # who reads an invalid one hears of it each time
            if len(self) >= CACHED:
                self.clear()
            self[key] = value
        return value


def seen_layout(size: int, read: Read) -> Layout:
    """A fixed value whose bytes are remembered with their text."""
    return Layout(size=size, read=read, text=_SEEN, names={"seen": Seen(read)})


def table_layout(table: tuple[bytes, ...]) -> Layout:
    """A byte that is looked up in a table."""
    form = Form("B", _LOOKED_UP)
    names = {"table": table}
    return Layout(size=1, read=partial(looked_up, table), little=form, big=form, names=names)


def looked_up(table: tuple[Text, ...], raw: bytes) -> Text:
    """The text of a number. Raises ValueError for one that the table does not have."""
    number = int.from_bytes(raw, "little")
    if number >= len(table):
        raise ValueError("a number beyond the column's values")
    return table[number]
