"""``status --nagios``: one line, whatever happens, and an exit code that a monitor understands."""

import re
from pathlib import Path
from typing import Any

import pytest

from cdc_daemon.cli.nagios import Thresholds, report
from cdc_daemon.cli.status import Standing
from cdc_daemon.engine.status import State
from tests.support.cli import invoke, write_configuration
from tests.unit.test_cli_config import VALID

LINE = re.compile(r"CDC (OK|WARNING|CRITICAL|UNKNOWN) - [^|\n]+( \|( \S+=\S+)*)?\n?")


def standing(state: str = "streaming", pipeline: str = "erp", **fields: Any) -> Standing:
    return Standing(pipeline=pipeline, state=state, live=True, held=True, **fields)


@pytest.mark.parametrize(
    "state,code",
    [
        ("streaming", 0),
        ("idle", 0),
        ("snapshotting", 0),
        ("starting", 1),
        ("degraded", 1),
        ("stalled", 2),
        ("blocked", 2),
        ("stopped", 2),
        ("what comes later", 3),
    ],
)
def test_the_state_decides(state: str, code: int) -> None:
    found, line = report([standing(state)], Thresholds())
    assert found == code
    assert LINE.fullmatch(line)


def test_every_state_has_a_level() -> None:
    assert all(report([standing(state.value)], Thresholds())[0] < 3 for state in State)


def test_the_worst_decides_and_who_is_at_fault_is_named() -> None:
    standings = [
        standing(pipeline="hr", lag_seconds=0.25, transactions=4),
        standing("blocked", error="no answer | from\nerp-db", lag_seconds=61.0, parked=2),
    ]
    assert report(standings, Thresholds(warning=60.0)) == (
        2,
        "CDC CRITICAL - erp blocked 2 parked lag 61.0 s: no answer / from"
        " | 'hr_lag'=0.250s;60;;0 'hr_transactions'=4c"
        " 'erp_lag'=61.000s;60;;0 'erp_parked'=2;0;;0",
    )


@pytest.mark.parametrize("lag,code", [(None, 0), (59.9, 0), (60.0, 1), (300.0, 2)])
def test_lag_has_two_thresholds(lag: float | None, code: int) -> None:
    limits = Thresholds(warning=60.0, critical=300.0)
    assert report([standing(lag_seconds=lag)], limits)[0] == code


def test_parked_changes_are_a_warning() -> None:
    assert report([standing(parked=1)], Thresholds())[0] == 1


def test_well_is_said_in_one_line() -> None:
    code, line = report([standing(parked=0, changes=3)], Thresholds())
    assert (code, line) == (0, "CDC OK - 1 pipeline well | 'erp_parked'=0;0;;0 'erp_changes'=3c")


def test_what_cannot_be_told_is_unknown_in_one_line(tmp_path: Path) -> None:
    """A wrong file, a secret that may not be read, a server that does not answer."""
    path = write_configuration(tmp_path, "targt: {}\n")
    wrong = invoke("status", "--nagios", "-c", str(path))
    assert wrong.exit_code == 3
    assert LINE.fullmatch(wrong.stdout)
    path.write_text(VALID)
    secret = invoke("status", "--nagios", "-c", str(path))
    assert secret.exit_code == 3
    assert "the credential control cannot be read" in secret.stdout
    path.write_text(
        VALID.replace("127.0.0.1/control", "cdc:hunter2@127.0.0.1:1/control").replace(
            ', password: "${cred:control}"', ""
        )
        + 'daemon: {metrics_listen: "127.0.0.1:0"}\n'
    )
    away = invoke("status", "--nagios", "-c", str(path))
    assert away.exit_code == 3, away.output
    assert LINE.fullmatch(away.stdout)
    assert "hunter2" not in away.output
