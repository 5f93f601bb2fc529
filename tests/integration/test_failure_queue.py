"""What an operator does to parked changes, through the command line and the worker."""

from __future__ import annotations

import json
from typing import Any

from tests.support.erp import Erp
from tests.support.waiting import until


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
        assert "not parked" in told(erp, *edit, "--set", "fname=nut", code=1)
        assert [one["id"] for one in asked(erp, "list")] == [second, behind]
