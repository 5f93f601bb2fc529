"""The breaker trips before a queue is filled, and not for what an administrator can settle."""

from __future__ import annotations

import pytest

from cdc_daemon.engine.breaker import _SLICES, Breaker, BreakerLimits, Tripped
from cdc_daemon.model.errors import Disposition

LIMITS = BreakerLimits(window=60.0, parked=100, share=0.5, least=50, same_error=70)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(LIMITS, clock)


def pass_(breaker: Breaker, changes: int, **parked: int) -> None:
    """A unit that is judged and then committed."""
    breaker.judge(changes, parked)
    breaker.committed(changes, parked)


def test_few_among_many_pass(breaker: Breaker) -> None:
    for _ in range(10):
        pass_(breaker, 1000, required=5)
    with pytest.raises(Tripped, match=r"110 changes parked \(limit 100\) within 60 s"):
        breaker.judge(1000, {"required": 60})


def test_most_of_a_few_pass_until_there_are_enough(breaker: Breaker) -> None:
    pass_(breaker, 40, required=39)
    with pytest.raises(Tripped, match="49 of 60 changes"):
        breaker.judge(20, {"required": 10})


def test_one_error_for_many_trips_and_what_waits_behind_does_not_count_for_it(
    breaker: Breaker,
) -> None:
    pass_(breaker, 1000, required=30, waiting=20)
    pass_(breaker, 1000, loss=40)
    with pytest.raises(Tripped, match=r"71 changes failed with loss \(limit 70\)"):
        Breaker(LIMITS).judge(1000, {"loss": 71, "waiting": 20})


def test_one_row_that_changes_all_the_time_has_no_share_in_what_fails(breaker: Breaker) -> None:
    """Its later changes wait behind one; only how much is parked counts."""
    pass_(breaker, 60, required=1, waiting=59)
    pass_(breaker, 30, waiting=30)
    with pytest.raises(Tripped, match="101 changes parked"):
        breaker.judge(11, {"waiting": 11})


def test_what_parks_nothing_passes_always(breaker: Breaker) -> None:
    pass_(breaker, 100, required=50)
    breaker.judge(0, {})
    breaker.judge(10, {"required": 0})


def test_what_is_older_than_the_window_counts_no_more(breaker: Breaker, clock: Clock) -> None:
    pass_(breaker, 1000, loss=70)
    clock.now += 61
    pass_(breaker, 1000, loss=70)
    with pytest.raises(Tripped):
        breaker.judge(1000, {"loss": 1})


def test_what_is_remembered_does_not_grow_with_the_number_of_units(
    breaker: Breaker, clock: Clock
) -> None:
    """A thousand transactions a second, for minutes; 29 or 30 losses are of the last one."""
    for n in range(120_000):
        clock.now += 0.001
        pass_(breaker, 1, **({"loss": 1} if n % 2000 == 0 else {}))
    assert len(breaker._slices) <= _SLICES + 1
    breaker.judge(1_000, {"loss": 39, "required": 31})
    with pytest.raises(Tripped, match=r"10[12] changes parked"):
        breaker.judge(1_000, {"loss": 40, "required": 32})


def test_resumed_it_lets_pass_for_a_time(breaker: Breaker, clock: Clock) -> None:
    with pytest.raises(Tripped):
        breaker.judge(1000, {"loss": 1000})
    breaker.disarm(30.0)
    pass_(breaker, 1000, loss=1000)
    clock.now += 31
    with pytest.raises(Tripped):
        breaker.judge(1000, {"loss": 1})


def test_no_limit_is_no_limit() -> None:
    off = Breaker(BreakerLimits(parked=0, share=0.0, same_error=0))
    off.judge(1_000_000, {"loss": 1_000_000})


def test_the_pipeline_tries_again_and_never_blames_a_row() -> None:
    assert Tripped.disposition is Disposition.RETRY
