"""What an operator does to parked changes, through the command line and the worker."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from cdc_daemon.cli import commanding
from cdc_daemon.demo.mysql_family import FamilyServer
from cdc_daemon.engine import reading
from tests.conftest import DatabaseFactory
from tests.support.databases import Database
from tests.support.erp import Erp
from tests.support.mysql_database import MysqlDatabase
from tests.support.sqlite_database import SqliteDatabase
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that looks for commands often, and a command line that looks for results."""
    monkeypatch.setattr(reading, "TURN", 0.05)
    monkeypatch.setattr(commanding, "EVERY", 0.02)


def asked(erp: Erp, *arguments: str, code: int = 0) -> Any:
    """A command of `failures`, its JSON."""
    done = erp.ask("failures", *arguments, "-o", "json")
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def told(erp: Erp, *arguments: str, code: int) -> str:
    """What a command says on stderr where it does nothing."""
    done = erp.ask("failures", *arguments)
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    return str(done.stderr)


def poisoned(erp: Erp) -> list[int]:
    """Two materials without a name, and a later change of the first; their ids."""
    erp.insert_materials(1, 2)
    erp.caught_up()
    erp.commit("INSERT INTO t_material VALUES (5, 'A', NULL, 'PCS', 1, 'r')")
    erp.commit("INSERT INTO t_material VALUES (6, 'B', NULL, 'PCS', 1, 'r')")
    erp.commit("UPDATE t_material SET fprice = 7 WHERE fid = 5")
    until(lambda: len(erp.parked()) == 3, what="three are parked")
    return [number for (number,) in erp.target.query("SELECT id FROM cdc.failure ORDER BY id")]


def test_a_change_is_edited_compared_and_applied(erp: Erp) -> None:
    """By the worker, with the old payload kept; what differs is starred."""
    with erp.worker():
        first, second, behind = poisoned(erp)
        assert [one["id"] for one in asked(erp, "list", "--key", "code=A")] == [first, behind]
        assert [one["id"] for one in asked(erp, "list", "--error", "waiting")] == [behind]
        edit = ("edit", str(first), "--reason", "named by purchasing")
        said = told(erp, *edit, "--set", "fprice=secret", code=1)
        assert f"change {first} stays as it is: column 'fprice' is numeric(18,4)" in said
        assert "secret" not in said
        assert "say what to edit" in told(erp, *edit, code=2)
        assert "nothing was done" in told(erp, *edit, "--set", "fname=bolt", "--dry-run", code=0)
        assert asked(erp, "show", str(first))["payload"]["new"]["fname"] is None

        assert asked(erp, *edit, "--set", "fname=bolt", "--null", "fremark")["edited"] == [first]
        found = asked(erp, "diff", str(first))
        assert list(found["images"]) == ["BEFORE EDIT 1", "PARKED", "SOURCE NOW"]
        names = [found["images"][image]["fname"] for image in found["images"]]
        assert names == [None, "bolt", None]
        assert (found["result"]["name"], found["target"]) == ("bolt", None)
        shown = erp.ask("failures", "diff", str(first)).stdout.splitlines()
        (line,) = [line for line in shown if line.startswith("fname")]
        assert line.split() == ["fname", "NULL", "bolt", "NULL", "*"]

        done = asked(erp, *edit, "--set", "funit=KG", "--retry")
        assert done == {"applied": [first], "failed": [], "waiting": []}
        edits = erp.target.query("SELECT reason, actor <> '' FROM cdc.failure_edit ORDER BY id")
        assert edits == [("named by purchasing", True)] * 2
        query = "SELECT code, name, unit, remark FROM material WHERE code = 'A'"
        assert erp.target.query(query) == [("A", "bolt", "KG", None)]
        assert "named by purchasing" in erp.ask("failures", "show", str(first)).stdout
        kept = erp.target.query("SELECT DISTINCT arguments FROM cdc.command WHERE verb = 'edit'")
        assert kept == [({},)]
        assert "not parked" in told(erp, *edit, "--set", "fname=nut", code=1)
        assert [one["id"] for one in asked(erp, "list")] == [second, behind]


def test_rows_are_read_again_and_their_changes_settled(erp: Erp) -> None:
    """All changes of a row, also those that nobody named; a row that still fails keeps its own."""
    with erp.worker():
        first, second, _ = poisoned(erp)
        erp.commit("INSERT INTO t_material VALUES (9, 'C', NULL, 'PCS', 1, 'r')")
        erp.commit("UPDATE t_material SET fname = 'bolt', fid = 50 WHERE fid = 5")
        erp.commit("DELETE FROM t_material WHERE fid = 6")
        until(lambda: len(erp.parked()) == 6, what="six are parked")
        ids = [one["id"] for one in asked(erp, "list")]
        resync = ("resync", "--error", "required", "--reason", "mended at the source")
        assert [one["id"] for one in asked(erp, *resync, "--dry-run")] == [first, second, ids[3]]
        found = asked(erp, *resync, "--yes", code=3)
        settled = [one for one in ids if one != ids[3]]
        assert found == {"resynced": settled, "left": [ids[3]]}
        assert [one["id"] for one in asked(erp, "list")] == [ids[3]]
        query = "SELECT state, count(*), min(reason) FROM cdc.failure GROUP BY 1 ORDER BY 1"
        assert erp.target.query(query)[1] == ("resynced", 5, "mended at the source")
        assert erp.target.query(
            "SELECT source_row ->> 0, kind, outcome FROM cdc.repair ORDER BY source_row"
        ) == [
            ("5", "parked", "deleted"),
            ("50", "parked", "written"),
            ("6", "parked", "deleted"),
            ("9", "parked", "failed"),
        ]
        details = erp.target.query("SELECT outcome, detail FROM cdc.repair ORDER BY source_row")
        assert all(detail.startswith("as of 0/") for _, detail in details[:3])
        assert details[3] == ("failed", "required: attribute 'name' is required")
        erp.commit("UPDATE t_material SET fname = 'nut' WHERE fid = 9")
        erp.commit("UPDATE t_material SET fprice = 8 WHERE fid = 50")
        assert asked(erp, "resync", "--all", "--reason", "r", "--yes")["left"] == []
        erp.caught_up()
        erp.agrees()


def test_a_row_whose_key_another_one_blocks_waits(erp: Erp) -> None:
    """Another row's parked change holds the key that it has by now: neither is written over."""
    with erp.worker():
        _, second, _ = poisoned(erp)
        erp.commit("UPDATE t_material SET fnumber = 'A' || fid, fname = 'bolt' WHERE fid = 5")
        erp.commit("UPDATE t_material SET fnumber = 'A' WHERE fid = 6")
        until(lambda: len(erp.parked()) == 5, what="five are parked")
        waits = asked(erp, "resync", str(second), "--reason", "r", "--yes", code=3)
        assert second in waits["left"]
        outcomes = erp.target.query("SELECT source_row ->> 0, outcome FROM cdc.repair")
        assert outcomes == [("6", "waiting")]
        assert len(erp.parked()) == 5


def test_changes_are_exported_edited_and_imported(erp: Erp, tmp_path: Path) -> None:
    """All lines or none: what is bad is named by line and column, and nothing is done."""
    file = tmp_path / "parked.jsonl"
    with erp.worker():
        first, second, behind = poisoned(erp)
        done = erp.ask("failures", "export", "--table", "t_material", "--out", str(file))
        assert (done.exit_code, done.stdout) == (0, "")
        assert file.stat().st_mode & 0o777 == 0o600
        assert erp.ask("failures", "export", "--all").stdout == file.read_text()
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        assert [line["id"] for line in lines] == [first, second, behind]
        assert lines[0]["payload"]["new"]["fnumber"] == "A"
        bring = ("import", str(file), "--reason", "from purchasing")
        assert asked(erp, *bring)["unchanged"] == [first, second, behind]

        whole = file.read_text()
        file.write_text(whole.replace('"fname": null', '"fname": "bolt"', 1) + "{]\n[1]\n")
        said = told(erp, *bring, code=1)
        assert f"{file}:4:2: this is no JSON" in said
        assert f"{file}:5:1: a line holds one JSON object" in said
        assert "nothing was done" in said
        bad = whole.replace('"fname": null', '"fname": "bolt"', 1)
        file.write_text(bad.replace('"fname": null', '"fprice": "secret"', 1))
        said = told(erp, *bring, code=1)
        assert f"{file}:2:1: change {second} stays as it is: column 'fname' is missing" in said
        assert asked(erp, "show", str(first))["payload"]["new"]["fname"] is None

        file.write_text(whole.replace('"fname": null', '"fname": "螺母"'))
        assert asked(erp, *bring, "--dry-run")["edited"] == [first, second, behind]
        assert erp.target.query("SELECT count(*) FROM cdc.failure_edit") == [(0,)]
        found = asked(erp, *bring, "--retry")
        assert (found["edited"], found["unchanged"]) == ([first, second, behind], [])
        assert (found["applied"], found["failed"]) == ([first, second, behind], [])
        query = "SELECT code, name, price::int FROM material WHERE code < 'C' ORDER BY code"
        assert erp.target.query(query) == [("A", "螺母", 7), ("B", "螺母", 1)]
        assert "not parked (any longer)" in told(erp, *bring, code=1)
        purged(erp)


def purged(erp: Erp) -> None:
    """What was settled, three changes, leaves the queue when it is old; a dry run deletes none."""
    purge = ("purge", "--older-than", "1h", "--yes")
    assert asked(erp, *purge) == {"meant": 0, "purged": 0}
    erp.target.execute("UPDATE cdc.failure SET resolved_at = now() - interval '2 hours'")
    assert asked(erp, *purge, "--state", "skipped")["purged"] == 0
    assert asked(erp, *purge, "--dry-run") == {"meant": 3, "purged": 0}
    assert asked(erp, *purge) == {"meant": 3, "purged": 3}
    assert asked(erp, "list", "--state", "any") == []


@pytest.fixture(params=[pytest.param("sqlite", marks=pytest.mark.acceptance), "mariadb"])
def other(
    request: pytest.FixtureRequest, database_factory: DatabaseFactory, tmp_path: Path
) -> Iterator[Erp]:
    """The same pipeline into another kind of control database."""
    source = database_factory()
    if request.param == "sqlite":
        (tmp_path / "control").mkdir()
        control: object = SqliteDatabase(path=tmp_path / "control" / "control.db")
        yield Erp(source, cast(Database, control), tmp_path).set_up()
        return
    server: FamilyServer = request.getfixturevalue("mariadb")
    server.create_database(source.name)
    control = MysqlDatabase(server=server, name=source.name)
    yield Erp(source, cast(Database, control), tmp_path).set_up()
    server.drop_database(source.name)


def test_the_same_on_every_control_database(other: Erp, tmp_path: Path) -> None:
    """Edit, import, resync and purge, each once."""
    erp, file = other, tmp_path / "parked.jsonl"
    with erp.worker():
        first, second, behind = poisoned(erp)
        edit = ("edit", str(first), "--set", "fname=bolt", "--reason", "r", "--retry")
        assert asked(erp, *edit)["applied"] == [first]
        assert [one["id"] for one in asked(erp, "list", "--key", "A")] == [behind]
        names = [image["fname"] for image in asked(erp, "diff", str(first))["images"].values()]
        assert names == [None, "bolt", None]
        assert erp.ask("failures", "export", str(second), "--out", str(file)).exit_code == 0
        file.write_text(file.read_text("utf-8").replace('"fname": null', '"fname": "螺母"'))
        assert asked(erp, "import", str(file), "--reason", "r", "--retry")["applied"] == [second]
        erp.commit("UPDATE t_material SET fname = 'bolt' WHERE fid = 5")
        erp.commit("UPDATE t_material SET fname = '螺母' WHERE fid = 6")
        erp.caught_up()
        found = asked(erp, "resync", "--key", "A", "--reason", "r", "--yes")
        assert (len(found["resynced"]), found["left"]) == (2, [])
        tallies = asked(erp, "stats", "--state", "any")
        states = Counter[str]()
        for one in tallies["changes"]:  # by error class, too: what waited may have been tried
            states[one["state"]] += one["number"]
        assert states == {"replayed": 2, "resynced": 2}
        assert tallies["blocked_lanes"] == {}
        assert asked(erp, "purge", "--older-than", "0s", "--yes")["purged"] == 4
        assert asked(erp, "list", "--state", "any") == []
    query = "SELECT code, name FROM material WHERE code < 'C' ORDER BY code"
    assert erp.target.query(query) == [("A", "bolt"), ("B", "螺母")]
