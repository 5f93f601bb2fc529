"""Sets of whole numbers as sorted bounds: [first, end, first, end, …), each range half open."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator


def pairs(bounds: list[int]) -> Iterator[tuple[int, int]]:
    """First number and the one after the last, of each range."""
    return zip(bounds[::2], bounds[1::2], strict=True)


def insert(bounds: list[int], first: int, end: int) -> None:
    """Put [first, end) in, joined to what it touches."""
    left = bisect_right(bounds, first - 1)
    right = bisect_right(bounds, end)
    middle = [first] if left % 2 == 0 else []
    if right % 2 == 0:
        middle.append(end)
    bounds[left:right] = middle


def minus(bounds: list[int], other: list[int]) -> list[int]:
    """What of the first is not in the second."""
    if not other:
        return list(bounds)
    rest: list[int] = []
    i = 0
    for first, end in pairs(bounds):
        while i < len(other) and other[i + 1] <= first:
            i += 2
        at, j = first, i
        while j < len(other) and other[j] < end:
            if other[j] > at:
                rest += (at, other[j])
            at = max(at, other[j + 1])
            j += 2
        if at < end:
            rest += (at, end)
    return rest
