"""The transcript in the handbook's page on the failure queue is what really happens."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdc_daemon.cli import commanding
from cdc_daemon.engine import reading
from tests.support.cli import invoke
from tests.support.documents import DOCS, PROGRAM, blocks
from tests.support.erp import Erp
from tests.support.waiting import until

PAGE = DOCS / "operations" / "failures.md"
NUMBER = 500


def transcript() -> Iterator[tuple[str, str]]:
    """Each command that the page shows with its output, and that output."""
    text = PAGE.read_text("utf-8")
    told = [piece.text for piece in blocks(PAGE) if piece.language == "console"]
    for block in told:
        if text.index(block) > text.index("A test has typed these commands."):
            return
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield command, output


def ageless(output: str) -> str:
    """Without how long ago something was, and the width of its column."""
    return re.sub(r"\d+ (s|min|h) ago", "… ago", output)


def typed(command: str) -> str:
    words = shlex.split(command)
    if words[0] != PROGRAM:
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout
    done = invoke(*words[1:])
    assert done.exit_code == 0, done.output
    return done.output


def test_the_transcript_is_what_happens(
    erp: Erp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Typed beside a worker; what the page shows is what is printed, but for ages."""
    monkeypatch.setattr(reading, "TURN", 0.05)
    monkeypatch.setattr(commanding, "EVERY", 0.02)
    monkeypatch.setenv("CDC_DAEMON_CONFIG", str(erp.configuration))
    monkeypatch.chdir(tmp_path)
    commands = list(transcript())
    assert len([command for command, _ in commands if " stats" not in command]) == 4
    with erp.worker():
        erp.commit(
            "INSERT INTO t_material (fid, fnumber, fname, funit, fprice)"
            f" SELECT n, 'M' || n, 'Material ' || n, 'PCE', n FROM {erp.series(1, NUMBER)}"
        )
        until(lambda: len(erp.parked()) == NUMBER, what="they are parked")
        for command, output in commands:
            assert ageless(typed(command)) == ageless(output), command
        query = "SELECT count(*), min(unit), max(unit) FROM material"
        assert erp.target.query(query) == [(NUMBER, "EA", "EA")]
