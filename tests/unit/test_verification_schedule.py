"""When verification is due: cron fields, a zone's clock, and mistakes with their place."""

from __future__ import annotations

import datetime as dt
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cdc_daemon.admin.board import Board
from cdc_daemon.config.load import load
from cdc_daemon.config.verification import VerificationConfig
from cdc_daemon.daemon.verdicts import Verdicts
from cdc_daemon.daemon.verifying import Schedule, Verifications
from cdc_daemon.engine.status import WorkerStatus, verification_of
from cdc_daemon.model.ports import Verification
from tests.support.waiting import until
from tests.unit.test_config_problems import changed, problems

HOUR = 3600.0
NEXT, LATER = 1020, 1080  # when the runs below are due


def moment(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp()


def shown(config: VerificationConfig, after: str) -> str:
    due = config.next_after(moment(after))
    assert due is not None
    return dt.datetime.fromtimestamp(due, dt.UTC).isoformat()[:16]


def test_the_next_run_by_the_clock_of_a_zone() -> None:
    """Once in the night that skips a time, and once in the night in which it comes twice."""
    utc = VerificationConfig(schedule="0 3 * * *")
    assert shown(utc, "2026-07-01T02:59:59+00:00") == "2026-07-01T03:00"
    assert shown(utc, "2026-07-01T03:00:00+00:00") == "2026-07-02T03:00"
    berlin = VerificationConfig(schedule="30 2 * * *", timezone="Europe/Berlin")
    assert shown(berlin, "2026-01-10T00:00:00+00:00") == "2026-01-10T01:30"
    assert shown(berlin, "2026-07-10T00:00:00+00:00") == "2026-07-10T00:30"
    assert shown(berlin, "2026-03-28T12:00:00+00:00") == "2026-03-29T01:00"  # 02:30 is skipped
    first = shown(berlin, "2026-10-24T12:00:00+00:00")
    assert first == "2026-10-25T00:30"
    assert shown(berlin, "2026-10-25T00:30:00+00:00") == "2026-10-26T01:30"
    assert VerificationConfig().next_after(0.0) is None


@pytest.mark.parametrize(
    "text, told",
    [
        ("schedule: '61 * * * *'", "this is no schedule: bad minute"),
        ("schedule: '0 3 * *'", "a schedule has five fields"),
        ("schedule: '0 3 * * * *'", "a schedule has five fields"),
        ("schedule: '@daily'", "a schedule has five fields"),
        ("schedule: '0 3 31 2 *'", "this is no schedule"),
        ("timezone: Europe/Berlim", "there is no time zone 'Europe/Berlim'"),
        ("max_seconds: 0", "must be more than 0"),
        ("schedul: '0 3 * * *'", "did you mean 'schedule'?"),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, told: str, tmp_path: Path) -> None:
    found = problems(changed("mappings:", f"verification:\n  {text}\nmappings:"), tmp_path)
    assert len(found) == 1
    assert told in found[0]
    assert found[0].startswith("c.yaml:"), found
    assert found[0].split(":")[1].isdigit()


def test_a_configuration_has_its_schedule(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(changed("mappings:", "verification: {schedule: '0 3 * * *'}\nmappings:"))
    found = load([path], environ={})
    assert found.verification.schedule == "0 3 * * *"
    assert found.describe()["verification"]["timezone"] == "UTC"


# --- the children ---------------------------------------------------------------------------------

CHILD = """
import pathlib, sys, time
document = sys.stdin.readline()
pathlib.Path(sys.argv[1]).open("a").write(f"{sys.argv[-1]} {document}")
time.sleep(float(sys.argv[2]))
"""


class Runs:
    """Verifications whose child writes a line and then takes some time."""

    def __init__(self, folder: Path, seconds: float, max_seconds: float = HOUR) -> None:
        self.journal = folder / "journal"
        self.clock = 1000.0
        self.verifications = Verifications(
            Schedule(next_after=lambda after: after // 60 * 60 + 60, max_seconds=max_seconds),
            {"erp": {"x": "erp's"}, "crm": {"x": "crm's"}},
            [sys.executable, "-c", CHILD, str(self.journal), str(seconds)],
        )
        self.verifications._due = float(NEXT)
        self.verifications._ahead = self.clock - time.monotonic()

    def lines(self) -> list[str]:
        return self.journal.read_text().splitlines() if self.journal.exists() else []

    def tend(self) -> bool:
        self.verifications.tend(time.monotonic(), self.clock)
        return True

    def until(self, count: int) -> None:
        until(lambda: self.tend() and len(self.lines()) == count, what=f"{count} runs")


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Runs]:
    runs = Runs(tmp_path, 0)
    yield runs
    runs.verifications.close()


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Runs]:
    runs = Runs(tmp_path, HOUR)
    yield runs
    runs.verifications.close()


def test_one_pipeline_after_the_other_when_it_is_due(quick: Runs) -> None:
    """Each child has its own document, in no argument and no file."""
    quick.tend()
    assert quick.lines() == []
    quick.clock = 1021.0
    quick.until(2)
    assert quick.lines() == ['erp {"x": "erp\'s"}', 'crm {"x": "crm\'s"}']
    until(lambda: quick.tend() and quick.verifications._running is None)
    quick.clock = 1081.0
    quick.until(4)


def test_a_clock_that_is_put_back_makes_the_schedule_anew(quick: Runs) -> None:
    """Started by a clock that was years ahead; it is put right a moment later."""
    quick.clock = 1e9
    quick.verifications._due, quick.verifications._ahead = 1e9 + 20, 1e9 - time.monotonic()
    quick.clock = 1000.0
    quick.tend()
    assert quick.verifications._due == float(NEXT)
    quick.clock = 1021.0
    quick.until(2)


def test_a_clock_that_is_put_back_a_little_repeats_nothing(quick: Runs) -> None:
    quick.clock = 1020.5
    quick.until(2)
    quick.clock = 1019.5
    quick.tend()
    assert quick.verifications._due == float(LATER)


def test_what_is_due_while_a_run_goes_on_is_left_out(slow: Runs) -> None:
    slow.clock = 1021.0
    slow.until(1)
    slow.clock = 1081.0
    slow.tend()
    assert list(slow.verifications._waiting) == ["crm"], "not a second time"


def test_a_run_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    """And the next pipeline has its turn."""
    runs = Runs(tmp_path, HOUR, max_seconds=0.0)
    runs.clock = 1021.0
    started = []

    def over() -> bool:
        runs.tend()
        running = runs.verifications._running
        if running is not None and running.pipeline not in started:
            started.append(running.pipeline)
        return running is None

    until(over)
    assert started == ["erp", "crm"]


def test_no_child_outlives_the_daemon(slow: Runs) -> None:
    slow.clock = 1021.0
    slow.until(1)
    assert slow.verifications._running is not None
    process = slow.verifications._running.process
    slow.verifications.close()
    assert process.poll() is not None
    slow.clock = 2000.0
    slow.tend()
    assert len(slow.lines()) == 1, "nothing is started any more"


# --- what a worker reports ------------------------------------------------------------------------


def test_a_report_survives_the_pipe() -> None:
    when = dt.datetime(2026, 7, 1, 3, tzinfo=dt.UTC)
    found = Verification(
        pipeline="erp",
        state="failed",
        started_at=when,
        error="behind",
        last_started=when,
        last_finished=when + dt.timedelta(seconds=90),
        last_equal=None,
        mappings={"m": {"missing": 1}},
    )
    said = verification_of(found, 7.0)
    assert said is not None
    assert (said["failed"], said["duration"], said["last_equal"], said["due"]) == (
        True,
        90.0,
        None,
        7.0,
    )
    status = WorkerStatus(pipeline="erp", verification=said)
    assert WorkerStatus.from_json(status.to_json()).verification == said
    assert verification_of(None, None) is None
    assert verification_of(None, 5.0) == {"state": "none", "due": 5.0, "mappings": {}}


def told(**changed: Any) -> dict[str, Any]:
    rows = dict.fromkeys(("matching", "missing", "extra", "different", "moving", "parked"), 0)
    found = {
        "state": "different",
        "failed": False,
        "started": 10.0,
        "error": "",
        "last_run": 20.0,
        "last_equal": None,
        "duration": 10.0,
        "due": 100.0,
        "mappings": {"m": {**rows, "matching": 5, "extra": 2}},
    }
    return {**found, **changed}


def test_each_run_is_shown_and_counted_once() -> None:
    """Of one that failed it is kept what the one before had found."""
    board = Board()
    verdicts = Verdicts("erp", board)
    verdicts.take(None)
    assert board.verifications() == {}
    verdicts.take({"state": "none", "due": 50.0, "mappings": {}})
    assert board.verifications()["erp"].due == told(due=50.0)["due"]
    verdicts.take(told())
    verdicts.take(told())
    shown = board.verifications()["erp"]
    assert shown.runs == {"equal": 0, "different": 1, "failed": 0}
    assert shown.due == told()["due"]
    assert shown.last is not None
    assert (shown.last.time, shown.last.seconds, shown.last.differences) == (20.0, 10.0, {"m": 2})
    assert shown.last.rows["m", "match"] == 5
    for _ in range(2):
        verdicts.take(told(state="failed", failed=True, started=30.0))
    shown = board.verifications()["erp"]
    assert shown.runs == {"equal": 0, "different": 1, "failed": 1}
    assert shown.last is not None
    assert shown.last.differences == {"m": 2}
