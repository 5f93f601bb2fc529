"""What is tried by itself stops nothing, and goes in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cdc_daemon.engine.attempting import Attempting, MakeApplier
from cdc_daemon.engine.awaiting import Awaited
from cdc_daemon.engine.blocked import Lanes
from cdc_daemon.engine.releasing import Releasing
from cdc_daemon.engine.schedule import Backoff, Schedule
from cdc_daemon.model.errors import DataError, Stop
from cdc_daemon.model.ports import Sink


class Queue:
    """A failure queue of which everything is due, until it was tried."""

    def __init__(self, numbers: Sequence[int], behind: set[int]) -> None:
        self.waiting = list(numbers)
        self.behind_others = behind
        self.noted: dict[int, dict[str, Any]] = {}

    def due(self, limit: int) -> list[int]:
        return self.waiting[:limit]

    def behind(self, failures: Sequence[int]) -> set[int]:
        return self.behind_others & set(failures)

    def failures(self, selection: Any) -> list[Any]:
        return [
            SimpleNamespace(id=number, table="erp.t", mapping="m", attempts=1)
            for number in selection.ids
        ]

    @contextmanager
    def begin(self) -> Iterator[Queue]:
        yield self

    @property
    def queue(self) -> Queue:
        return self

    def put_off(self, failures: Sequence[int]) -> None:
        self.waiting = [number for number in self.waiting if number not in failures]

    def attempted(self, failure: int, **noted: Any) -> None:
        self.waiting.remove(failure)
        self.noted[failure] = noted

    def lanes(self) -> dict[bytes, str]:
        return {}

    def awaited(self) -> set[bytes]:
        return set()


def test_what_fails_is_noted_and_the_next_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Queue([1, 2, 3, 4], behind={2})
    tried: list[int] = []

    def apply(failures: Sequence[Any], _: object, actor: str) -> None:
        assert actor == "cdc-daemon"
        (number,) = [failure.id for failure in failures]
        tried.append(number)
        if number == 1:
            raise Stop("a pipeline would stop for it")
        if number == 3:
            raise DataError("still not there", code="reference_missing", awaits=(b"x" * 16,))
        queue.waiting.remove(number)

    awaited = Awaited()
    attempting = Attempting(
        sink=cast(Sink, queue),
        compile_relation=lambda _: [],
        applier=cast(MakeApplier, None),
        awaited=awaited,
        schedule=Schedule(by_class={"reference_missing": Backoff(first=9.0, most=9.0)}),
        versions={"m": "v2"},
    )
    monkeypatch.setattr(attempting, "_apply", apply)
    releasing = Releasing(
        sink=cast(Sink, queue),
        lanes=Lanes(),
        awaited=awaited,
        relations=list,
        trying=attempting,
        versions={"m": "v2"},
        progressed=lambda: None,
    )
    assert releasing.turn() == 1
    assert tried == [1, 3, 4]
    assert {number: one["code"] for number, one in queue.noted.items()} == {
        1: "unreplayable",
        3: "reference_missing",
    }
    assert queue.noted[1]["retry_at"] is None
    assert queue.noted[3]["retry_at"] is not None
    assert (queue.noted[3]["awaits"], queue.noted[3]["version"]) == ((b"x" * 16,), "v2")
    assert awaited
    assert releasing.turn() == 0
