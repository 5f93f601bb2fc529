"""Many things in slices, each small enough for a packet of the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from cdc_daemon.sinks.mysql.transaction import TooLong

SLICE_ROWS = 1000
"""Rows in one statement."""

T = TypeVar("T")


def sliced(
    items: Sequence[T], act: Callable[[Sequence[T]], object], *, most: int = SLICE_ROWS
) -> None:
    """Carry something out for slices; what one packet does not hold, in halves.

    Raises TooLong where one alone is too large.
    """
    for start in range(0, len(items), most):
        _halved(items[start : start + most], act)


def _halved(piece: Sequence[T], act: Callable[[Sequence[T]], object]) -> None:
    try:
        act(piece)
    except TooLong:
        if len(piece) == 1:
            raise
        middle = len(piece) // 2
        _halved(piece[:middle], act)
        _halved(piece[middle:], act)
