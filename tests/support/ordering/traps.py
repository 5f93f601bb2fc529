"""A process that ends, or a connection that breaks, at a named point of a unit of work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final
from unittest import mock

from cdc_daemon.engine import pipeline
from cdc_daemon.sinks.postgres import failure_queue as postgres_queue
from cdc_daemon.sinks.postgres import unit as postgres_unit
from cdc_daemon.sinks.sqlite import failures as sqlite_failures
from cdc_daemon.sinks.sqlite import unit as sqlite_unit

POINTS: Final = (
    "between_pieces", "dlq_insert", "before_checkpoint", "before_checkpoint_upsert",
    "before_sink_commit", "after_sink_commit",
)  # fmt: skip
"""The last one is behind the commit."""

_MODULES: Final = (pipeline, postgres_queue, postgres_unit, sqlite_failures, sqlite_unit)


class Crash(BaseException):
    """The process ends here."""


@contextmanager
def trap(point: str, passes: int, error: BaseException) -> Iterator[None]:
    """Raise the error where a crash test would end the process, after so many passes."""
    left = passes

    def failpoint(name: str) -> None:
        nonlocal left
        if name == point:
            left -= 1
            if left < 0:
                raise error

    with ExitStack() as stack:
        for module in _MODULES:
            stack.enter_context(mock.patch.object(module, "failpoint", failpoint))
        yield
