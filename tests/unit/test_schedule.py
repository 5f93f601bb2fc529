"""When a parked change is tried again by itself."""

from __future__ import annotations

import pytest

from cdc_daemon.engine.schedule import Backoff, Schedule

PLAIN = Schedule(dice=lambda: 0.0)


def test_what_may_cure_itself_is_tried_again_ever_more_seldom() -> None:
    delays = [PLAIN.delay("reference_missing", attempts) for attempts in range(1, 9)]
    assert delays == [60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 3600.0, 3600.0]
    assert PLAIN.delay("reference_missing", 10_000) == delays[-1]


@pytest.mark.parametrize("code", ["required", "sqlstate_23514", "waiting", "unheard of"])
def test_everything_else_waits_for_somebody(code: str) -> None:
    assert PLAIN.delay(code, 1) is None


def test_not_all_come_at_once() -> None:
    late = Schedule(dice=lambda: 1.0)
    assert [late.delay("still_referenced", attempts) for attempts in (1, 2)] == [75.0, 150.0]


def test_a_configured_class_goes_its_own_way_until_its_tries_are_used_up() -> None:
    mine = {
        "required": Backoff(first=5.0, most=8.0, tries=3),
        "reference_missing": Backoff(first=1.0, most=1.0, tries=1),
    }
    schedule = Schedule(by_class=mine, dice=lambda: 0.0)
    assert [schedule.delay("required", n) for n in range(1, 5)] == [5.0, 8.0, None, None]
    found = [schedule.delay(f"reference_{code}", 1) for code in ("missing", "unresolved")]
    assert found == [None, 60.0]
