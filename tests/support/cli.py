"""The command line as an operator calls it: in a process of its own, or in this one."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from click.testing import CliRunner, Result

from cdc_daemon.cli.main import root

COMMAND = (sys.executable, "-m", "cdc_daemon.cli.main")


def invoke(
    *arguments: str, input: str | None = None, env: Mapping[str, str] | None = None
) -> Result:
    """Call it inside this process."""
    return CliRunner().invoke(
        root, list(arguments), prog_name="cdc-daemon", input=input, env=dict(env or {})
    )


def call(
    *arguments: str, env: Mapping[str, str] | None = None, timeout: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Call it as a process of its own."""
    return subprocess.run(
        [*COMMAND, *arguments],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def write_configuration(folder: Path, text: str) -> Path:
    """The text as a configuration file that nobody else may read."""
    path = folder / "cdc-daemon.yaml"
    path.write_text(text)
    path.chmod(0o600)
    return path
