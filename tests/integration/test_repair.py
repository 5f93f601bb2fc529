"""Commands to a pipeline at their edges: keys that wait for each other, and rows made by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cdc_daemon.engine.status import State
from tests.support.erp import Erp
from tests.support.waiting import until


def retried(erp: Erp, *arguments: str) -> Any:
    done = erp.ask("failures", "retry", *arguments, "--yes", "-o", "json")
    return json.loads(done.stdout)


def parked(erp: Erp, *codes: str) -> None:
    """Until these errors stand in the failure queue, in this order."""
    until(lambda: [code for code, _, _ in erp.parked()] == list(codes), what=str(codes))


def duplicate(erp: Erp) -> None:
    """Row 1 has the key A, and row 2 comes to it."""
    erp.commit("INSERT INTO t_material VALUES (1, 'A', 'first', 'PCS', 1, NULL)")
    erp.caught_up()
    erp.commit("INSERT INTO t_material VALUES (2, 'A', 'second', 'PCS', 2, NULL)")
    parked(erp, "duplicate_entity_key")


FREEING = {
    "the first row is deleted": "DELETE FROM t_material WHERE fid = 1",
    "the first row moves to another key": "UPDATE t_material SET fnumber = 'C' WHERE fid = 1",
}


@pytest.mark.parametrize("name", FREEING)
def test_what_frees_a_key_waits_behind_the_row_that_wants_it(erp: Erp, name: str) -> None:
    """Each alone fails or waits for ever; together they hold."""
    with erp.worker():
        duplicate(erp)
        erp.commit(FREEING[name])
        parked(erp, "duplicate_entity_key", "waiting")
        found = retried(erp, "--all")
        assert (len(found["applied"]), found["failed"], found["waiting"]) == (2, [], [])
        erp.commit("UPDATE t_material SET fname = 'goes on'")
        erp.caught_up()
        erp.agrees()


def test_a_key_that_nothing_frees_fails_again_and_what_is_elsewhere_applies(erp: Erp) -> None:
    with erp.worker():
        duplicate(erp)
        erp.commit("UPDATE t_material SET fname = 'later' WHERE fid = 2")
        parked(erp, "duplicate_entity_key", "waiting")
        found = retried(erp, "--all")
        assert [len(found[fate]) for fate in ("applied", "failed", "waiting")] == [0, 1, 1]
        assert erp.target.query("SELECT name FROM material") == [("first",)]


def test_what_is_parked_is_counted_as_it_comes_and_goes(erp: Erp) -> None:
    """Also where a change joins a lane that is blocked already."""
    mapping = "erp.t_material.material"
    with erp.worker() as meter:
        erp.commit("INSERT INTO t_material VALUES (1, 'A', NULL, 'PCS', 1, NULL)")
        until(lambda: meter.status().parked[mapping] == 1, what="one is parked")
        assert meter.status().state is State.DEGRADED
        first = meter.status().parked_since
        for price in (2, 3):
            erp.commit(f"UPDATE t_material SET fprice = {price}")
        until(lambda: meter.status().parked[mapping] == 3, what="three are parked")
        assert meter.status().parked_since == first
        numbers = [str(n) for (n,) in erp.target.query("SELECT id FROM cdc.failure")]
        assert erp.ask("failures", "skip", *numbers, "--reason", "r", "--yes").exit_code == 0
        until(lambda: meter.status().parked[mapping] == 0, what="none is parked")
        assert meter.status().parked_since is None


def test_the_slot_is_looked_at(erp: Erp) -> None:
    with erp.worker() as meter:
        slot = until(lambda: meter.status().slot, what="the slot was looked at")
        assert slot is not None
        assert (slot.active, slot.status, slot.safe_bytes) == (True, "reserved", None)
        assert slot.retained_bytes is not None
        assert meter.status().lag_bytes is not None
        erp.insert_materials(1, 3)
        erp.caught_up()
        assert meter.status().events["insert"] == 3


COMMANDS = {
    "ids that are no numbers": ("retry", '{"ids": ["x"]}', "ids must be a list of whole numbers"),
    "ids that are no list": ("skip", '{"ids": 7, "reason": "r"}', "ids must be a list"),
    "a verb that nobody knows": ("dance", "{}", "unknown command 'dance'"),
    "arguments that are no object": ("retry", "[1]", "unexpected"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_made_by_hand_that_cannot_be_done_fails_and_harms_nobody(
    erp: Erp, name: str
) -> None:
    verb, arguments, words = COMMANDS[name]
    with erp.worker():
        erp.target.execute(
            "INSERT INTO cdc.command (pipeline, verb, arguments, actor)"
            f" VALUES ('erp', '{verb}', '{arguments}', 'somebody')"
        )
        query = "SELECT state, result ->> 'error' FROM cdc.command"
        until(lambda: erp.target.query(query)[0][0] == "failed", what="it failed")
        ((_, said),) = erp.target.query(query)
        assert words in said
        erp.insert_materials(1, 1)
        erp.caught_up()
        erp.agrees()


def test_a_payload_that_cannot_be_read_fails_alone(erp: Erp) -> None:
    """The change beside it applies, and the worker goes on."""
    with erp.worker():
        erp.commit("INSERT INTO t_material VALUES (1, 'A', NULL, 'PCS', 1, NULL)")
        erp.commit("INSERT INTO t_material VALUES (2, 'B', NULL, 'PCS', 1, NULL)")
        parked(erp, "required", "required")
        ((first,), (second,)) = erp.target.query("SELECT id FROM cdc.failure ORDER BY id")
        erp.target.execute(
            f"UPDATE cdc.failure SET payload = '{{\"new\": 7}}' WHERE id = {first};"
            f"UPDATE cdc.failure SET payload = jsonb_set(payload, '{{new,fname}}', '\"named\"')"
            f" WHERE id = {second}"
        )
        found = retried(erp, "--all")
        assert found == {"applied": [second], "failed": [first], "waiting": []}
        assert erp.target.query("SELECT error_code FROM cdc.failure WHERE state = 'parked'") == [
            ("unreadable_payload",)
        ]
