"""Where the configuration is, when nobody says."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from cdc_daemon.model.errors import ConfigurationError, Problem

VARIABLE = "CDC_DAEMON_CONFIG"
SYSTEM = Path("/etc/cdc-daemon")


def locate(
    given: Sequence[Path], environ: Mapping[str, str], *, system: Path = SYSTEM
) -> list[Path]:
    """The paths to load: those given, else the environment's, else the system's folder.

    ``CDC_DAEMON_CONFIG`` may name several, separated by colons. Raises ConfigurationError when
    there is none.
    """
    if given:
        return list(given)
    named = [Path(name) for name in environ.get(VARIABLE, "").split(os.pathsep) if name]
    if named:
        return named
    if system.is_dir():
        return [system]
    raise ConfigurationError(
        [
            Problem(
                what=f"no configuration: {VARIABLE} is not set and {system} does not exist",
                cure="name a file or folder with --config",
            )
        ]
    )


def shipped() -> Path:
    """The folder of the configuration that comes with the package (the demo's)."""
    package = Path(__file__).resolve().parent.parent
    checkout = package.parent / "config"
    return checkout if (checkout / "cdc-daemon.yaml").is_file() else package / "_shipped_config"
