"""An operator's commands beside a running daemon, and without one."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cdc_daemon.cli.commanding import actor
from cdc_daemon.demo.server import free_port
from tests.conftest import DatabaseFactory
from tests.support.cli import COMMAND, invoke, write_configuration
from tests.support.databases import Database
from tests.support.waiting import until

CONFIGURATION = """\
sources:
  erp: {{kind: postgres, dsn: "{source}"}}
target: {{url: "{target}"}}
entities:
  material:
    key: [code]
    attributes: {{code: string(40), name: string(20)}}
mappings:
  - from: erp.public.t_bd_material
    to: material
    key: {{code: fnumber}}
    fields: {{name: fname}}
daemon: {{metrics_listen: "127.0.0.1:{port}"}}
"""
MAPPING = "erp.t_bd_material.material"


@dataclass(slots=True, kw_only=True)
class Site:
    """A source, a target that was set up, a configuration, and perhaps a daemon."""

    source: Database
    target: Database
    path: Path
    daemon: subprocess.Popen[str] | None = None

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Call the program; its stdout."""
        result = invoke(*arguments, "-c", str(self.path))
        assert "Traceback" not in result.output
        assert result.exit_code == code, result.output
        return result.stdout

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self(*arguments, "-o", "json", code=code))

    def run(self) -> None:
        """Start the daemon and wait until it streams."""
        log = self.path.with_suffix(".log").open("a")
        self.daemon = subprocess.Popen(
            [*COMMAND, "run", "-c", str(self.path)], stderr=log, stdout=log, text=True
        )
        log.close()
        until(
            lambda: self.json("status")[0]["state"] in ("streaming", "idle", "degraded"),
            seconds=120,
            what="streaming",
        )

    def stop(self) -> int:
        """TERM; the exit code."""
        assert self.daemon is not None
        self.daemon.terminate()
        return self.daemon.wait(30)

    @property
    def log(self) -> str:
        return self.path.with_suffix(".log").read_text()

    def names(self) -> dict[str, str]:
        """The target's rows."""
        return dict(self.target.query("SELECT code, name FROM material"))

    def poison(self) -> int:
        """A row that the target refuses until :meth:`cure`; the id of its failure."""
        self.target.execute("ALTER TABLE material ADD CONSTRAINT odd CHECK (name <> 'poison')")
        self.source.execute("INSERT INTO t_bd_material VALUES (9, 'M9', 'poison')")
        until(lambda: self.json("failures", "list"))
        found = self.json("failures", "list")
        assert len(found) == 1
        return int(found[0]["id"])

    def cure(self) -> None:
        self.target.execute("ALTER TABLE material DROP CONSTRAINT odd")


@pytest.fixture
def site(database_factory: DatabaseFactory, tmp_path: Path) -> Iterator[Site]:
    source, target = database_factory(), database_factory()
    source.execute(
        "CREATE TABLE t_bd_material (fid bigint PRIMARY KEY, fnumber text, fname text);"
        "INSERT INTO t_bd_material VALUES (1, 'M1', 'bolt'), (2, 'M2', '螺母')"
    )
    text = CONFIGURATION.format(source=source.dsn, target=target.dsn, port=free_port())
    site = Site(source=source, target=target, path=write_configuration(tmp_path, text))
    site("apply", "--yes")
    yield site
    if site.daemon is not None and site.daemon.poll() is None:
        site.daemon.kill()
        site.daemon.wait()


def test_run_streams_tells_its_state_and_reloads(site: Site) -> None:
    assert site.json("status", "--fail-on", "stopped", code=3)[0]["state"] == "stopped"
    site.run()
    site.source.execute("INSERT INTO t_bd_material VALUES (3, 'M3', 'nut')")
    until(lambda: site.names() == {"M1": "bolt", "M2": "螺母", "M3": "nut"})

    (standing,) = site.json("status", "--fail-on", "degraded")
    assert standing["pipeline"] == "erp"
    assert standing["live"] is True
    assert standing["held"] is True
    until(lambda: site.json("status")[0]["transactions"] == 1)
    assert "erp" in site("status").splitlines()[1]
    (checkpoint,) = site.json("checkpoint", "show")
    assert checkpoint["phase"] == "streaming"
    assert (checkpoint["transactions"], checkpoint["changes"]) == (1, 1)
    assert checkpoint["holder"]
    assert "streaming" in site("checkpoint", "show", "--pipeline", "erp")
    site("check-config")

    good = site.path.read_text()
    write_configuration(site.path.parent, good.replace("to: material", "to: materiel"))
    assert site.daemon is not None
    os.kill(site.daemon.pid, signal.SIGHUP)
    until(lambda: "reload refused" in site.log)
    write_configuration(site.path.parent, good)
    os.kill(site.daemon.pid, signal.SIGHUP)
    until(lambda: "configuration reloaded" in site.log)
    write_configuration(site.path.parent, good.replace("daemon: {", "daemon: {max_restarts: 3, "))
    os.kill(site.daemon.pid, signal.SIGHUP)
    until(lambda: site.log.count("configuration reloaded") == 2)
    assert site.log.count("worker started") == 1, "nothing changed for the pipeline"
    write_configuration(site.path.parent, good)
    assert site.stop() == 0
    assert site.json("status")[0]["held"] is False


def test_verify_and_preview_tell_equal_from_different(site: Site) -> None:
    site.run()
    report = site.json("verify")
    assert report["equal"] is True
    assert report["mappings"][0]["source"] == 2
    lines = site("verify", "--mapping", MAPPING).splitlines()
    assert lines[0].startswith("MAPPING")
    assert lines[1].split()[:5] == [MAPPING, "equal", "2", "2", "2"]
    assert "螺母" in site("mappings", "preview", MAPPING)
    assert [row["same"] for row in site.json("mappings", "preview", MAPPING)] == [True, True]
    assert len(site.json("mappings", "preview", MAPPING, "--limit", "1")) == 1

    site.target.execute("UPDATE material SET name = 'wrong' WHERE code = 'M1'")
    assert site.json("verify", code=3)["mappings"][0]["different"] == 1
    assert "different" in site("verify", code=3)
    assert site.json("mappings", "preview", MAPPING)[0]["same"] is False
    site("mappings", "preview", "erp.t_bd_materiel", code=78)
    assert MAPPING in site("mappings", "list")


@pytest.mark.parametrize("running", [True, pytest.param(False, marks=pytest.mark.acceptance)])
def test_a_parked_change_is_shown_and_retried(site: Site, running: bool) -> None:
    """With a daemon its worker does it, without one the command line."""
    site.run()
    number = site.poison()
    (listed,) = site.json("failures", "list", "--entity", "material", "--pipeline", "erp")
    assert listed["error_code"] == "sqlstate_23514"
    site("failures", "list", "--entity", "materiel", code=2)
    site("failures", "list", "--pipeline", "epr", code=2)
    site("checkpoint", "show", "--pipeline", "epr", code=2)
    assert site.json("failures", "show", str(number))["payload"]["new"]["fname"] == "poison"
    assert "poison" in site("failures", "show", str(number))
    until(lambda: site.json("status")[0]["parked"] == 1)
    site("status", "--fail-on", "degraded", code=3)
    if not running:
        assert site.stop() == 0

    assert site.json("failures", "retry", str(number), code=3)["failed"] == [number]
    assert site.json("failures", "list")[0]["attempts"] == 2
    assert "M9" not in site.names()
    site.cure()
    assert site.json("failures", "retry", "--all", "--dry-run")[0]["id"] == number
    found = site.json("failures", "retry", "--all", "--yes")
    assert found == {"applied": [number], "failed": [], "waiting": []}
    assert site.names()["M9"] == "poison"
    assert site.json("failures", "list") == []
    assert site.target.query("SELECT DISTINCT actor, state FROM cdc.command") == [(actor(), "done")]
    site("failures", "retry", str(number), code=1)
    site("failures", "retry", "--all")

    if running:
        assert site.stop() == 0
    site.run()
    site.source.execute("UPDATE t_bd_material SET fname = 'cured' WHERE fid = 9")
    until(lambda: site.names()["M9"] == "cured")


@pytest.mark.parametrize("running", [True, False])
def test_a_parked_change_is_given_up_with_a_reason(site: Site, running: bool) -> None:
    site.run()
    number = site.poison()
    if not running:
        site.stop()
    site("failures", "skip", str(number), "--yes", code=2)
    site("failures", "skip", str(number), "--reason", " ", "--yes", code=2)
    site("failures", "skip", str(number), "--reason", "test", "--no-input", code=2)
    site("failures", "skip", "12345", "--reason", "test", "--yes", code=1)
    found = site.json("failures", "skip", str(number), "--reason", "a test row", "--yes")
    assert found == {"skipped": [number], "unknown": []}
    assert site.json("failures", "list") == []
    assert site.target.query("SELECT state, actor, reason FROM cdc.failure") == [
        ("skipped", actor(), "a test row")
    ]


def test_run_without_a_valid_configuration_is_78_and_with_a_wrong_name_too(site: Site) -> None:
    site("run", "--pipeline", "crm", code=78)
    write_configuration(site.path.parent, "sources: 7\n")
    site("run", code=78)


def test_a_second_daemon_is_fenced(site: Site) -> None:
    """While one runs, another one that is started by mistake takes nothing from it."""
    site.run()
    other = site.path.parent / "other.yaml"
    text = site.path.read_text()
    port = text.rpartition("127.0.0.1:")[2].split('"')[0]
    other.write_text(text.replace(f"127.0.0.1:{port}", "127.0.0.1:0"))
    second = subprocess.Popen(
        [*COMMAND, "run", "-c", str(other)], stderr=subprocess.PIPE, text=True
    )
    try:
        assert second.stderr is not None
        for line in second.stderr:
            if "is held by" in line:
                break
        else:
            pytest.fail("it ended without a word on the holder")
    finally:
        second.terminate()
        second.communicate(timeout=30)
    assert site.json("checkpoint", "show")[0]["epoch"] == 1
