"""When a worker is started again, and when no more."""

import pytest

from cdc_daemon.daemon.restarts import Limits, Restarts, worst

LIMITS = Limits(max_restarts=3, restart_window=100, backoff_first=1, backoff_most=8)


def test_pauses_double_up_to_the_longest_and_are_spread() -> None:
    restarts = Restarts(LIMITS)
    pauses = [restarts.delay(now, 69, None) for now in range(6)]
    for pause, most in zip(pauses, [1, 2, 4, 8, 8, 8], strict=True):
        assert pause is not None
        assert most / 2 <= pause <= most


def test_crashes_without_progress_are_bounded_within_the_window() -> None:
    restarts = Restarts(LIMITS)
    assert all(restarts.delay(now, 1, None) is not None for now in range(3))
    assert restarts.delay(4, 1, None) is None


def test_crashes_far_apart_are_not() -> None:
    restarts = Restarts(LIMITS)
    assert all(restarts.delay(now * 60, -9, None) is not None for now in range(20))


def test_a_position_never_reached_before_is_progress_and_the_same_again_is_not() -> None:
    restarts = Restarts(LIMITS)
    assert all(restarts.delay(now, 1, f"0/{now}") is not None for now in range(20))
    results = [restarts.delay(20, 1, "0/19") for _ in range(3)]
    assert results[-1] is None


@pytest.mark.parametrize("code", [2, 78])
def test_a_wrong_configuration_is_final(code: int) -> None:
    assert Restarts(LIMITS).delay(0, code, "0/1") is None


@pytest.mark.parametrize(
    "codes,code", [([], 0), ([78, 78], 78), ([78, 1], 1), ([2, 75], 75), ([69, 1], 1), ([134], 1)]
)
def test_the_worst_code_is_the_one_that_another_try_may_cure(codes: list[int], code: int) -> None:
    assert worst(codes) == code
