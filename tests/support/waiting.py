"""Waiting for a condition with a deadline; the only place where a test sleeps."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], *, seconds: float = 30.0, what: str = "") -> T:
    """The first truthy value of `condition`, asked every 20 ms; AssertionError at the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what or condition!r}; last: {found!r}")
        time.sleep(0.02)
