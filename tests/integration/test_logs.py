"""The real daemon's log: whoever does not read it holds up nothing; files move; levels change."""

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.support.cli import COMMAND
from tests.support.erp import Erp
from tests.support.pipes import full_pipe
from tests.support.real_daemon import RealDaemon
from tests.support.waiting import until


def test_a_pipe_that_nobody_reads_stops_neither_daemon_nor_workers(erp: Erp) -> None:
    """As in `cdc-daemon run 2>&1 | sleep 3600` (FAULTS 44)."""
    erp.configure(log_level="debug", retry_max_seconds=0.1)
    command = [*COMMAND, "run", "--config", str(erp.configuration)]
    with full_pipe() as full, subprocess.Popen(command, stdout=full, stderr=full) as daemon:
        try:
            erp.insert_materials(1, 10)
            until(lambda: erp.target.query("SELECT count(*) FROM material") == [(10,)], seconds=60)
            for _ in range(5):
                daemon.send_signal(signal.SIGUSR1)
                daemon.send_signal(signal.SIGHUP)
            erp.insert_materials(11, 10)
            erp.caught_up()
            erp.same_content()
            daemon.terminate()
            assert daemon.wait(30) == 0
        finally:
            daemon.kill()


def events(path: Path) -> list[dict[str, Any]]:
    """The lines of a log file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_log_file_may_be_moved_away_and_levels_change_while_pipelines_run(
    erp: Erp, tmp_path: Path
) -> None:
    path, moved = tmp_path / "daemon.log", tmp_path / "daemon.log.1"
    erp.configure(log_file=path, log_level="warning")

    def said(event: str, **fields: object) -> list[dict[str, Any]]:
        return until(
            lambda: [
                line
                for line in events(path)
                if line["event"] == event and fields.items() <= line.items()
            ],
            what=event,
        )

    with RealDaemon(erp.configuration, tmp_path / "stderr") as daemon:
        erp.insert_materials(1, 1)
        until(lambda: erp.target.query("SELECT count(*) FROM material") == [(1,)], seconds=60)
        (worker,) = daemon.workers
        assert {line["level"] for line in events(path)} <= {"warning"}

        erp.configure(log_file=path, log_level="info")
        daemon.signal(signal.SIGHUP)
        said("configuration reloaded")
        daemon.signal(signal.SIGUSR1)
        said("state", logger="cdc_daemon.worker")

        path.rename(moved)
        daemon.signal(signal.SIGUSR1)
        said("pipeline state")
        said("state", logger="cdc_daemon.worker")

        erp.configure(log_file=tmp_path / "missing" / "daemon.log")
        daemon.signal(signal.SIGHUP)
        (refused,) = said("reload refused, the old configuration stays")
        assert "missing/daemon.log: No such file or directory" in refused["error"]

        assert daemon.workers == [worker]
        assert daemon.stop() == 0
    assert said("daemon stopped", exit_code=0)
    assert daemon.log == ""


def test_a_level_of_the_command_line_stays_over_a_reload(erp: Erp, tmp_path: Path) -> None:
    erp.configure(log_level="info")
    level = {"CDC_DAEMON_LOG_LEVEL": "warning"}
    with RealDaemon(erp.configuration, tmp_path / "log", environment=level) as daemon:
        erp.insert_materials(1, 1)
        until(lambda: erp.target.query("SELECT count(*) FROM material") == [(1,)], seconds=60)
        erp.configure(log_level="info", metrics_listen="127.0.0.2:0")
        daemon.signal(signal.SIGHUP)
        daemon.said("another address takes effect with a restart")
        assert daemon.stop() == 0
    levels = {json.loads(line)["level"] for line in daemon.log.splitlines()}
    assert levels == {"warning"}


def test_a_log_file_that_cannot_be_written_is_a_refusal_with_its_cure(
    erp: Erp, tmp_path: Path
) -> None:
    erp.configure(log_file=tmp_path / "missing" / "daemon.log")
    done = erp.call("run")
    assert done.returncode == 78
    assert "daemon.log_file: cannot write to" in done.stderr
    assert "leave log_file out" in done.stderr
