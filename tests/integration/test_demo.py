"""The demo leaves nothing behind, whatever ends it."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from cdc_daemon.demo.mariadb import find_mariadb
from cdc_daemon.demo.processes import children, die_with, lives
from tests.support.cli import COMMAND
from tests.support.waiting import until


def offspring(pid: int) -> list[int]:
    found = children(pid)
    return found + [grandchild for child in found for grandchild in offspring(child)]


def test_an_embedded_control_database_ends_equal(tmp_path: Path) -> None:
    """``--target sqlite``: one source, no server for the target, exit code 0 only if all is equal;
    nothing stays."""
    done = subprocess.run(
        [*COMMAND, "demo", "--target", "sqlite", "--seconds", "1"],
        env={**os.environ, "TMPDIR": str(tmp_path), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stderr.split())
    assert "an SQLite file, which takes one source" in said
    assert "equal: " in done.stdout + said
    assert "erp.t_bd_material.material" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.acceptance
def test_an_hr_system_and_a_control_database_on_mariadb_end_equal(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """``--target mysql``: both pipelines, compared on both sides; nothing stays."""
    if find_mariadb() is None:
        request.getfixturevalue("mariadb")  # says so
    done = subprocess.run(
        [*COMMAND, "demo", "--target", "mysql", "--seconds", "1"],
        env={**os.environ, "TMPDIR": str(tmp_path), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stderr.split())
    assert "an HR system on MariaDB, the control database on MariaDB" in said
    assert "equal: " in done.stdout + said
    assert "hr.t_sec_user.employee" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGKILL, marks=pytest.mark.acceptance),
        pytest.param(signal.SIGHUP, marks=pytest.mark.acceptance),
    ],
)
def test_a_signal_ends_servers_and_daemon_too(tmp_path: Path, number: signal.Signals) -> None:
    log = tmp_path / "log"
    with log.open("wb") as out:
        demo = subprocess.Popen(
            [*COMMAND, "demo", "--seconds", "300"],
            stdout=out,
            stderr=out,
            env={**os.environ, "TMPDIR": str(tmp_path), "NO_COLOR": "1"},
            start_new_session=True,
            preexec_fn=die_with(os.getpid()),  # noqa: PLW1509 - one libc call, see there
        )

    def started() -> bool:
        assert demo.poll() is None, log.read_text()
        return "Starting the daemon" in log.read_text() and len(children(demo.pid)) == 4

    until(started, seconds=60, what="three servers and the daemon run")
    running = offspring(demo.pid)
    demo.send_signal(number)
    code = demo.wait(60)
    assert code == (-signal.SIGKILL if number is signal.SIGKILL else 130), log.read_text()
    until(lambda: not any(map(lives, running)), seconds=60, what="everything has ended")
