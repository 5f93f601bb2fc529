"""docs/man is what the commands say of themselves; `make docs` writes it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from cdc_daemon.cli.main import COMMANDS
from tests.support.man_pages import pages

FOLDER = Path(__file__).parents[2] / "docs" / "man"


def test_the_pages_are_up_to_date() -> None:
    written = {path.name: path.read_text("utf-8") for path in FOLDER.glob("*.1")}
    assert written == pages(), "run `make docs`"


def test_every_command_has_one_and_the_root_names_them() -> None:
    found = pages()
    for name in COMMANDS:
        assert f"cdc-daemon-{name}.1" in found
        assert rf"\fB{name}\fP" in found["cdc-daemon.1"]
    assert "78 configuration" in found["cdc-daemon.1"]
    assert r"\fB\-\-nagios\fP" in found["cdc-daemon-status.1"]
    assert "cdc-daemon-failures-retry.1" in found


@pytest.mark.skipif(shutil.which("groff") is None, reason="there is no groff")
def test_groff_has_nothing_to_complain_of() -> None:
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", *map(str, FOLDER.glob("*.1"))],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
