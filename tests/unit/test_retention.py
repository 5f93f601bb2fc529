"""How long a slot lasts at the rate of late."""

import pytest

from cdc_daemon.engine.retention import WINDOW, Retention


def test_one_look_says_nothing() -> None:
    retention = Retention()
    retention.note(100.0, 1000)
    assert retention.seconds_left is None


def test_what_grows_less_will_end() -> None:
    retention = Retention()
    for now, safe in [(0.0, 1000), (10.0, 900), (20.0, 600)]:
        retention.note(now, safe)
    assert retention.seconds_left == pytest.approx(30.0)  # 20 bytes a second


def test_an_acknowledgement_sets_it_back() -> None:
    retention = Retention()
    for now, safe in [(0.0, 1000), (10.0, 500), (20.0, 1000)]:
        retention.note(now, safe)
    assert retention.seconds_left is None


def test_only_the_last_minutes_count() -> None:
    retention = Retention()
    for now, safe in [(0.0, 10_000), (WINDOW, 1000), (WINDOW + 100.0, 900)]:
        retention.note(now, safe)
    assert retention.seconds_left == pytest.approx(900.0)


def test_a_bound_that_is_gone_is_forgotten() -> None:
    retention = Retention()
    for now, safe in [(0.0, 1000), (10.0, 500), (20.0, None), (30.0, 400)]:
        retention.note(now, safe)
        assert safe is not None or retention.seconds_left is None
    assert retention.seconds_left is None


def test_a_slot_past_its_bound_has_no_time_left() -> None:
    retention = Retention()
    retention.note(0.0, 10)
    retention.note(10.0, -5)
    assert retention.seconds_left == 0
