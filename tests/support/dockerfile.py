"""The Dockerfile's build stage without an engine: its COPY and RUN lines, done in a folder."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLACES = ("/src", "/wheels", "/opt/cdc-daemon")
"""Folders of the image that the build writes to."""


def instructions(text: str) -> list[tuple[str, str]]:
    """(instruction, what follows it), in order; lines that go on are joined."""
    joined = re.sub(r"\\\n\s*", " ", text)
    lines = [line for line in joined.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def build(folder: Path) -> Path:
    """Carry out the first stage; the environment that the image gets. Raises CalledProcessError."""
    source = folder / "src"
    source.mkdir()
    for word, rest in _first_stage(instructions((ROOT / "Dockerfile").read_text("utf-8"))):
        if word == "COPY":
            _copy(rest.split(), source)
        elif word == "RUN":
            _run(_placed(rest, folder), source, folder)
    return folder / "opt" / "cdc-daemon"


def _first_stage(found: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    stages = [place for place, (word, _) in enumerate(found) if word == "FROM"]
    return iter(found[stages[0] + 1 : stages[1]])


def _copy(arguments: list[str], source: Path) -> None:
    *names, target = arguments
    for name in names:
        place = source / (target if len(names) == 1 and target != "./" else name)
        place.parent.mkdir(parents=True, exist_ok=True)
        origin = ROOT / name
        if origin.is_dir():
            shutil.copytree(origin, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(origin, place)


def _placed(command: str, folder: Path) -> str:
    for place in PLACES:
        command = re.sub(rf"(?<=\s){place}\b", f"{folder}{place}", command)
    return command


def _run(command: str, source: Path, folder: Path) -> None:
    """With a Python of its own in front, as the base image has it."""
    tools = folder / "tools"
    if not tools.exists():
        subprocess.run([_python(), "-m", "venv", tools], check=True)
    subprocess.run(
        ["sh", "-euc", command],
        cwd=source,
        env={**os.environ, "PATH": f"{tools / 'bin'}:{os.environ['PATH']}"},
        check=True,
        stdout=subprocess.DEVNULL,
    )


def _python() -> Path:
    """A Python of our version that every account may run: ours, unless it is in somebody's home."""
    name = f"python3.{sys.version_info.minor}"
    ours, systems = Path(sys.base_prefix, "bin", name), Path("/usr/bin", name)
    everybody = all(above.stat().st_mode & 0o001 for above in ours.resolve().parents)
    return ours if everybody or not systems.exists() else systems
