"""`verify --repair`, and verification by itself: what is found is noted, told and put right."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cdc_daemon.config.load import load
from cdc_daemon.daemon.verifying import COMMAND, Schedule, Verifications
from cdc_daemon.model.errors import EXIT_DIFFERENCE, EXIT_TRY_LATER
from cdc_daemon.worker_document import document
from tests.conftest import DatabaseFactory
from tests.integration.test_mending import ghost
from tests.support.embedded import EmbeddedErp, SqliteFile
from tests.support.erp import Erp
from tests.support.waiting import until

MATERIAL = "erp.t_material.material"


def verified(erp: Erp, *arguments: str, code: int = 0) -> Any:
    done = erp.ask("verify", *arguments, "-o", "json")
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def spoil(erp: Erp) -> None:
    """One row missing, one different, one that the source has no more, and one of nobody's."""
    codes = [code for (code,) in erp.source.query("SELECT fnumber FROM t_material ORDER BY fid")]
    erp.target.execute("DELETE FROM material WHERE code = %s", codes[0])
    erp.target.execute("UPDATE material SET name = 'forged-name' WHERE code = %s", codes[1])
    erp.target.execute("INSERT INTO material (code, name) VALUES ('nobody', 'x')")
    ghost(erp, 4000)


def test_differences_are_shown_then_put_right(erp: Erp) -> None:
    """Dry run first; then the same rows, audited; what belongs to nobody stays and is said."""
    with erp.worker():
        erp.insert_materials(1, 8)
        erp.caught_up()
        spoil(erp)
        planned = verified(erp, "--repair", "--dry-run", code=EXIT_DIFFERENCE)["repair"]
        plan = {(row["kind"], tuple(row["source_row"]), row["would"]) for row in planned["rows"]}
        assert plan == {
            ("missing", ("1",), "write"),
            ("different", ("2",), "write"),
            ("extra", ("4000",), "delete"),
        }
        assert (planned["unowned"], planned["outcomes"]) == (1, {})
        assert erp.target.query("SELECT count(*) FROM cdc.command") == [(0,)], "nothing was asked"

        asked = erp.ask("verify", "--repair", "--no-input")
        assert asked.exit_code == 2
        assert "pass --yes" in asked.stderr
        assert "came from no source row" in asked.stderr

        done = verified(erp, "--repair", "--yes", "--reason", "tidy up", code=EXIT_DIFFERENCE)
        assert done["repair"]["outcomes"] == {"written": 2, "deleted": 1}
        audit = erp.target.query("SELECT kind, outcome, reason FROM cdc.repair ORDER BY kind")
        assert audit == [
            ("different", "written", "tidy up"),
            ("extra", "deleted", "tidy up"),
            ("missing", "written", "tidy up"),
        ]
        erp.target.execute("DELETE FROM material WHERE code = 'nobody'")
        assert verified(erp)["equal"]
        nothing = erp.ask("verify", "--repair", "--yes")
        assert nothing.exit_code == 0
        assert "nothing to repair" in nothing.stderr
        seen = erp.target.query("SELECT to_jsonb(v)::text FROM cdc.repair v")
        assert "forged-name" not in str(seen)


def test_without_a_daemon_it_is_put_right_too(erp: Erp) -> None:
    """The pipeline runs inside the command for so long."""
    with erp.worker():
        erp.insert_materials(1, 4)
        erp.caught_up()
    erp.target.execute("UPDATE material SET name = 'forged'")
    done = verified(erp, "--repair", "--yes", "--timeout", "20", code=0)
    assert done["repair"]["outcomes"] == {"written": 4}
    erp.same_content()


def test_options_of_a_repair_need_one(erp: Erp) -> None:
    asked = erp.ask("verify", "--dry-run")
    assert asked.exit_code == 2
    assert "--repair" in asked.stderr


def test_every_run_is_noted(erp: Erp) -> None:
    """When, by whom, what it found; keys, and never a value. `status` shows the newest."""
    with erp.worker():
        erp.insert_materials(1, 4)
        erp.caught_up()
        verified(erp)
        erp.target.execute("UPDATE material SET name = 'forged-name'")
        verified(erp, "--mapping", MATERIAL, code=EXIT_DIFFERENCE)
        runs = erp.target.query(
            "SELECT origin, state, whole, actor <> '', finished_at >= started_at"
            " FROM cdc.verification ORDER BY id"
        )
        assert runs == [
            ("command", "equal", True, True, True),
            ("command", "different", False, True, True),
        ]
        assert erp.target.query(
            "SELECT different, matching FROM cdc.verification_mapping"
            " WHERE mapping = %s ORDER BY verification", MATERIAL
        ) == [(0, 4), (4, 0)]  # fmt: skip
        noted = erp.target.query("SELECT to_jsonb(d)::text FROM cdc.verification_difference d")
        assert len(noted) == 4
        assert all('"name"' in text and "forged-name" not in text for (text,) in noted)
        (standing,) = json.loads(erp.ask("status", "-o", "json").stdout)
        assert (standing["verification"], standing["differences"]) == ("equal", 0)
        verified(erp, code=EXIT_DIFFERENCE)
        (standing,) = json.loads(erp.ask("status", "-o", "json").stdout)
        assert (standing["verification"], standing["differences"]) == ("different", 4)
        assert "different, " in erp.ask("status").stdout


def test_a_run_that_breaks_off_is_noted_as_failed(erp: Erp) -> None:
    with erp.worker():
        erp.insert_materials(1, 1)
        erp.caught_up()
    erp.source.execute("ALTER TABLE t_material RENAME TO t_away")
    asked = erp.ask("verify")
    assert asked.exit_code == 78
    ((state, error),) = erp.target.query("SELECT state, error FROM cdc.verification")
    assert state == "failed"
    assert "t_material" in error


@pytest.fixture
def scheduled(erp: Erp) -> Erp:
    """A daemon that would verify each minute."""
    text = erp.configuration.read_text("utf-8")
    erp.configuration.write_text(text + '\nverification: {schedule: "* * * * *"}\n', "utf-8")
    return erp


def test_a_run_of_the_daemon_is_noted_and_logged(
    erp: Erp, capfd: pytest.CaptureFixture[str]
) -> None:
    """The child that the supervisor starts: with its document in memory, and nothing else."""
    with erp.worker():
        erp.insert_materials(1, 4)
        erp.caught_up()
        erp.target.execute("UPDATE material SET name = 'forged-name' WHERE code LIKE '%1%'")
        configuration = load([erp.configuration], environ={})
        runs = Verifications(
            Schedule(next_after=lambda _: 0.0, max_seconds=60.0),
            {"erp": document(configuration, "erp")},
        )
        with closing(runs):
            runs.tend(time.monotonic(), 1.0)
            runs.plan(None, runs._documents)  # once is enough

            def over() -> bool:
                runs.tend(time.monotonic(), 2.0)
                return runs._running is None

            until(over, seconds=60)
    assert erp.target.query("SELECT origin, state FROM cdc.verification") == [
        ("schedule", "different")
    ]
    said = capfd.readouterr().err
    assert "verification found differences" in said
    assert "forged-name" not in said


@pytest.fixture
def hindered(erp: Erp) -> Iterator[Verifications]:
    """A run that the daemon has begun, and that cannot end: its table is locked."""
    with erp.worker():
        erp.insert_materials(1, 4)
        erp.caught_up()
        runs = Verifications(
            Schedule(next_after=lambda _: 0.0, max_seconds=60.0),
            {"erp": document(load([erp.configuration], environ={}), "erp")},
        )
        with psycopg.connect(erp.source.dsn) as holder, closing(runs):
            holder.execute("LOCK TABLE t_material IN ACCESS EXCLUSIVE MODE")
            runs.tend(time.monotonic(), 1.0)
            runs.plan(None, runs._documents)  # once is enough
            begun = "the run is noted"
            until(lambda: erp.target.query(RUNS) == [("running", None)], seconds=60, what=begun)
            yield runs


RUNS = "SELECT state, error FROM cdc.verification"


def test_a_run_that_takes_too_long_is_noted_as_failed(erp: Erp, hindered: Verifications) -> None:
    """Not only ended: what was found before is not the newest any more."""
    assert hindered._running is not None
    hindered._running.until = 0.0

    def over() -> bool:
        hindered.tend(time.monotonic(), 2.0)
        return hindered._running is None

    until(over, seconds=9)  # before it would be killed
    assert erp.target.query(RUNS) == [("failed", "it took more than 21600 seconds")]
    (standing,) = json.loads(erp.ask("status", "-o", "json").stdout)
    assert standing["verification"] == "failed"


def test_a_run_that_ends_with_the_daemon_is_nobodys_failure(
    erp: Erp, hindered: Verifications
) -> None:
    hindered.stop()
    assert hindered._running is not None
    assert hindered._running.process.wait(30) == EXIT_TRY_LATER
    assert erp.target.query(RUNS) == [("abandoned", "the daemon ended")]
    (standing,) = json.loads(erp.ask("status", "-o", "json").stdout)
    assert standing["verification"] is None


def test_a_run_whose_daemon_is_gone_already_does_not_go_on(erp: Erp) -> None:
    """It was started by somebody who died before it could look."""
    with erp.worker():
        erp.caught_up()
    with psycopg.connect(erp.source.dsn) as holder:
        holder.execute("LOCK TABLE t_material IN ACCESS EXCLUSIVE MODE")
        sent = json.dumps(document(load([erp.configuration], environ={}), "erp"))
        gone = subprocess.Popen(["true"])
        gone.wait()
        command = [*COMMAND, "--parent", str(gone.pid), "--pipeline", "erp"]
        ended = subprocess.run(command, input=sent + "\n", text=True, timeout=60, check=False)
    assert ended.returncode == EXIT_TRY_LATER
    assert erp.target.query(RUNS) in ([], [("abandoned", "the daemon ended")])


@pytest.mark.acceptance
def test_the_daemon_verifies_by_itself(scheduled: Erp) -> None:
    """In a process of its own; what it finds is noted, logged and reported by the worker."""
    erp = scheduled
    with erp.streaming() as daemon:
        erp.insert_materials(1, 4)
        erp.caught_up(daemon)
        erp.target.execute("UPDATE material SET name = 'forged-name'")
        daemon.said("verification begins", pipeline="erp", seconds=90)
        found = daemon.said("verification found differences", mapping=MATERIAL, seconds=60)
        assert '"different": 4' in found[0]
        daemon.said("verification ended", seconds=60)
        runs = erp.target.query("SELECT origin, state FROM cdc.verification")
        assert runs[0] == ("schedule", "different")

        def reported() -> bool:
            os.kill(daemon._started.pid, signal.SIGUSR1)
            states = daemon.events("state")
            return any(
                (one.get("verification") or {}).get("state") == "different" for one in states
            )

        until(reported, seconds=60, what="the worker reports it")
        state = daemon.events("state")[-1]["verification"]
        assert state["due"] > state["last_run"] - 61
        assert state["mappings"][MATERIAL]["different"] == 4
        assert "forged-name" not in daemon.log
        assert daemon.stop() == 0


# --- an embedded control database -----------------------------------------------------------------


@pytest.fixture
def embedded(database_factory: DatabaseFactory, tmp_path: Path) -> EmbeddedErp:
    """An ERP database and a file, applied, with no daemon yet."""
    made = EmbeddedErp(database_factory(), SqliteFile(tmp_path / "control.db"), tmp_path)
    made.set_up()
    return made


@pytest.mark.acceptance
def test_an_sqlite_file_is_put_right_too(embedded: EmbeddedErp) -> None:
    """By the worker that holds it, and by one inside the command; noted and audited alike."""
    erp = embedded
    with erp.worker():
        erp.insert_materials(1, 5)
        erp.caught_up()
        ((reference,),) = erp.file.query(
            "SELECT name FROM sqlite_schema WHERE name LIKE 'cdc_reference_%material%'"
        )
        erp.file.execute(
            "INSERT INTO material (code, name, last_sync_time)"
            " SELECT 'ghost', 'x', max(last_sync_time) FROM material"
        )
        erp.file.execute(f"INSERT INTO {reference} VALUES (4000, 'ghost')")
        erp.file.execute("UPDATE material SET name = 'forged' WHERE code <> 'ghost'")
        done = verified(erp, "--repair", "--yes", "--reason", "a test")
        assert done["repair"]["outcomes"] == {"written": 5, "deleted": 1}
        erp.same_content()
    erp.file.execute("DELETE FROM material WHERE rowid IN (SELECT rowid FROM material LIMIT 1)")
    done = verified(erp, "--repair", "--yes")
    assert done["repair"]["outcomes"] == {"written": 1}
    erp.same_content()
    runs = erp.file.query("SELECT origin, state FROM cdc_verification ORDER BY id")
    assert runs == [("command", "different")] * 2
    assert erp.file.query("SELECT count(*), min(reason) FROM cdc_repair") == [(7, "")]
