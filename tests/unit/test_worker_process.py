"""A worker as a process of its own: what it is told, and what ends it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cdc_daemon import worker
from cdc_daemon.build import Parts
from cdc_daemon.config.configuration import Configuration
from cdc_daemon.engine.meter import Meter
from cdc_daemon.engine.reading import Stopping
from cdc_daemon.model.errors import EXIT_TRY_LATER, NotAdmitted, Problem, Unreachable
from cdc_daemon.model.position import Checkpoint, Phase
from tests.unit.test_worker_document import TEXT, read

WORKER = ("cdc_daemon.worker", "--pipeline", "erp", "--status-fd", "2")
VERIFICATION = ("cdc_daemon.cli.scheduled", "--pipeline", "erp", "--parent", "1")

# The main thread waits in a lock that stopping needs, which is where a signal may find it.
HELD = """
import os, signal, time
from cdc_daemon.engine.reading import Stopping
from cdc_daemon.worker import stop_when_told

stopping = Stopping()
stop_when_told(stopping)
with stopping._asked._cond:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.2)
print(stopping.wait(10))
"""


@pytest.fixture
def configured(tmp_path: Path) -> Configuration:
    return read(tmp_path, TEXT)


@pytest.mark.parametrize("command", [WORKER, VERIFICATION], ids=["worker", "verification"])
@pytest.mark.parametrize("received", ["", '{"configuration": "gASV'], ids=["nothing", "a part"])
def test_a_document_that_is_cut_short_is_told_in_one_line(
    command: tuple[str, ...], received: str
) -> None:
    """The daemon was killed while it wrote it: whoever starts next starts another."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        input=received,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == EXIT_TRY_LATER, done.stderr
    (line,) = done.stderr.splitlines()
    assert "cut short" in line
    assert "pipeline=erp" in line
    assert "gASV" not in line


class Ended(Exception):
    """In place of the end of this process."""


def test_whatever_is_received_the_end_of_the_pipe_means_stop(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line that is not understood must not leave a worker that outlives its daemon."""

    def end(code: int) -> None:
        raise Ended(code)

    levels: list[dict[str, Any]] = []
    monkeypatch.setattr(worker, "ORPHAN_GRACE", 0.0)
    monkeypatch.setattr(worker, "configure", lambda **given: levels.append(given))
    monkeypatch.setattr(os, "_exit", end)
    lines = '{"logs": {"level": "debug"}}\n["dump"]\n7\n{"logs": {"level": "info"}}\n{"du'
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    stopping = Stopping(0.0)
    with pytest.raises(Ended):
        worker._listen(stopping, Meter("erp"))
    assert stopping.asked
    assert levels == [{"level": "debug"}, {"level": "info"}]


def test_also_where_it_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(code: int) -> None:
        raise Ended(code)

    monkeypatch.setattr(worker, "ORPHAN_GRACE", 0.0)
    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\n"), "utf-8"))
    stopping = Stopping(0.0)
    with pytest.raises(Ended):
        worker._listen(stopping, Meter("erp"))
    assert stopping.asked


def test_a_signal_stops_wherever_it_finds_the_main_thread() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELD], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout == "True\n", done.stderr


def test_a_session_that_broke_leaves_no_connection_to_the_source(
    configured: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one may find another server at the address, for all of its connections."""
    closed: list[str] = []
    one = worker.Worker(configured, "erp", Meter("erp"), Stopping())
    source = SimpleNamespace(close=lambda: closed.append("source"))
    one._parts = cast("Parts", SimpleNamespace(source=source))

    def lost() -> None:
        raise Unreachable("the server ended the stream")

    monkeypatch.setattr(one, "_stream", lost)
    with pytest.raises(Unreachable):
        one._session()
    assert closed == ["source"]


def test_who_was_let_in_by_both_servers_tries_again(configured: Configuration) -> None:
    """Also during a first copy of hours, before anything was streamed."""
    begun = Checkpoint(pipeline="erp", phase=Phase.SNAPSHOTTING, epoch=1)
    parts = SimpleNamespace(
        sink=SimpleNamespace(examine=list, acquire=lambda: begun, lanes=list),
        source=SimpleNamespace(examine=lambda _: [], slot_state=lambda _: None),
        repairs=SimpleNamespace(run_commands=lambda checkpoint, only: checkpoint),
        releasing=SimpleNamespace(begin=lambda: 0),
    )
    refused = NotAdmitted([Problem(what="password authentication failed")])
    one = worker.Worker(configured, "erp", Meter("erp"), Stopping())
    assert not one._may_retry(refused)
    one._hold(cast("Parts", parts))
    assert one._may_retry(refused)
