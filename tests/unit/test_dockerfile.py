"""What can be said of the image without building it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from cdc_daemon import __version__
from cdc_daemon.cli.main import COMMANDS
from tests.support.dockerfile import ROOT, instructions

FOUND = instructions((ROOT / "Dockerfile").read_text("utf-8"))


def last(word: str) -> str:
    """What the last such instruction says."""
    return [rest for found, rest in FOUND if found == word][-1]


def test_hadolint_finds_nothing() -> None:
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert program is not None, "it is a development dependency"
    done = subprocess.run(
        [program, ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_runs_as_nobody_in_particular_and_stops_by_term() -> None:
    assert last("USER") == "10001:10001"
    assert last("STOPSIGNAL") == "SIGTERM"
    assert json.loads(last("ENTRYPOINT")) == ["cdc-daemon"]
    assert json.loads(last("CMD"))[0] in COMMANDS


def test_its_health_is_asked_of_the_daemon() -> None:
    program, command = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    assert program == "cdc-daemon"
    assert command in COMMANDS


def test_its_labels_say_what_it_is() -> None:
    labels = last("LABEL")
    for name in ("title", "description", "version", "revision"):
        assert f"org.opencontainers.image.{name}=" in labels
    assert ("ARG", f"VERSION={__version__}") in FOUND
