"""The files in systemd/: what systemd-analyze says of the units, and that both say the same."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "systemd"
MOST = 2.0


def need(program: str) -> str:
    """Skip where a program is not installed; in CI that is a failure."""
    found = shutil.which(program)
    if found is None and os.environ.get("CI"):
        pytest.fail(f"{program} is not installed; `make servers` installs it")
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def test_systemd_finds_nothing_wrong_with_the_units_and_they_are_hardened() -> None:
    need("systemd-analyze")
    done = subprocess.run(
        [ROOT / ".ci" / "systemd-score"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    scores = re.findall(r"exposure level for (\S+): ([\d.]+)", done.stdout)
    assert [name for name, _ in scores] == ["cdc-daemon.service", "cdc-daemon@group.service"]
    assert all(float(score) <= MOST for _, score in scores)


def settings(name: str) -> list[str]:
    """A unit's lines without comments, in order."""
    lines = (UNITS / name).read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_an_instance_differs_in_its_name_and_folders_only() -> None:
    one, many = settings("cdc-daemon.service"), settings("cdc-daemon@.service")
    folder = "Environment=CDC_DAEMON_CONFIG=/etc/cdc-daemon/%i"
    assert folder in many
    many.remove(folder)
    assert [line.replace(" (%i)", "").replace("/%i", "") for line in many] == one


@pytest.mark.parametrize(
    "line",
    [
        "Type=notify",
        "WatchdogSec=60",
        "RestartPreventExitStatus=2 78",
        "KillMode=mixed",
        "User=cdc-daemon",
        "ExecStart=/opt/cdc-daemon/bin/cdc-daemon run",
    ],
)
def test_the_units_say(line: str) -> None:
    assert line in settings("cdc-daemon.service")


def test_the_account_and_its_folders_are_created(tmp_path: Path) -> None:
    program = need("systemd-sysusers")
    (tmp_path / "etc").mkdir()
    done = subprocess.run(
        [program, f"--root={tmp_path}", str(UNITS / "cdc-daemon.sysusers")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    users = (tmp_path / "etc" / "passwd").read_text()
    assert re.search(r"^cdc-daemon:x:\d+:\d+:.*:/var/lib/cdc-daemon:.*nologin$", users, re.M)
