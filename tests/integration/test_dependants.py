"""Dependants of parked rows wait for what decides which row they mean, and only for that."""

from __future__ import annotations

import pytest

from cdc_daemon.cli import commanding
from cdc_daemon.engine import reading
from tests.support.erp import MAPPINGS, Erp
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "TURN", 0.05)
    monkeypatch.setattr(commanding, "EVERY", 0.02)


def codes(erp: Erp, *wanted: str) -> None:
    until(
        lambda: [code for code, _, _ in erp.parked()] == list(wanted), seconds=60, what=str(wanted)
    )


def test_removed_mapping_is_not_called_replayed(erp: Erp) -> None:
    more = MAPPINGS.replace(
        "mappings:\n",
        """  unit_only:
    key: [code]
    attributes: {code: string(40), unit: {type: string(3), required: true}}
mappings:
  - from: erp.public.t_material
    to: unit_only
    key: {code: fnumber}
    fields: {unit: funit}
    on_delete: hard
""",
    )
    erp.configure(more)
    erp.apply()
    with erp.worker():
        erp.commit("INSERT INTO t_material VALUES (5, 'A', 'n', NULL, 1, 'r')")
        codes(erp, "required")
    erp.configure(MAPPINGS)
    with erp.worker():
        assert erp.ask("failures", "retry", "--all", "--yes").exit_code == 3
        assert erp.parked() == [("unmapped", "insert", "parked")]


def test_a_failed_retry_by_hand_leaves_the_schedule(erp: Erp) -> None:
    with erp.worker():
        erp.commit("INSERT INTO t_order VALUES (1, 'O1', 77, 1)")
        codes(erp, "reference_unresolved")
        assert erp.target.query("SELECT retry_at IS NULL FROM cdc.failure") == [(False,)]
        erp.ask("failures", "retry", "--all", "--yes")
        assert erp.target.query("SELECT retry_at IS NULL FROM cdc.failure") == [(False,)]


def test_a_child_of_a_parked_parent_does_not_go_to_whoever_has_its_key(erp: Erp) -> None:
    """One batch: the parent's insert waits behind a parked rename, its child goes on."""
    erp.target.execute("ALTER TABLE customer ADD CONSTRAINT poison CHECK (name <> 'poison')")
    with erp.worker():
        erp.commit("INSERT INTO t_customer VALUES (3, 'D', 'old')")
        erp.caught_up()
        erp.commit(
            "UPDATE t_customer SET fnumber = 'E', fname = 'poison' WHERE fid = 3",
            "INSERT INTO t_customer VALUES (2, 'D', 'new')",
            "INSERT INTO t_order VALUES (9, 'O9', 2, 1)",
        )
        erp.caught_up()
        erp.target.execute("ALTER TABLE customer DROP CONSTRAINT poison")
        erp.ask("failures", "retry", "--all", "--yes")
        codes(erp)
        erp.agrees()


def test_a_child_is_not_applied_before_what_its_parent_became(erp: Erp) -> None:
    """By itself: the first of the parent's parked changes takes effect, the next one fails."""
    erp.target.execute("ALTER TABLE customer ADD CONSTRAINT poison CHECK (name <> 'poison')")
    with erp.worker():
        erp.commit("INSERT INTO t_customer VALUES (4, 'D', 'poison')")
        codes(erp, "sqlstate_23514")
        erp.commit("UPDATE t_customer SET fid = 1, fname = NULL WHERE fid = 4")
        erp.commit("INSERT INTO t_customer VALUES (4, 'C', 'new')")
        erp.commit("INSERT INTO t_order VALUES (9, 'O9', 4, 1)")
        until(lambda: len(erp.parked()) == 4, what="all are parked")  # however they were batched
        erp.target.execute("ALTER TABLE customer DROP CONSTRAINT poison")
        erp.ask("failures", "retry", "1")
        codes(erp, "required", "waiting", "waiting")
        erp.commit("UPDATE t_customer SET fname = 'named' WHERE fid = 1")
        erp.ask("failures", "edit", "2", "--set", "fname=x", "--reason", "r")
        erp.ask("failures", "retry", "--all", "--yes")
        codes(erp)
        erp.agrees()


def test_a_retry_does_not_run_past_the_parent_that_a_child_waits_for(erp: Erp) -> None:
    """The parent comes and goes in one retry; its child, which stands before it, never can."""
    erp.target.execute("ALTER TABLE customer ADD CONSTRAINT poison CHECK (name <> 'poison')")
    with erp.worker():
        erp.commit("INSERT INTO t_order VALUES (9, 'O9', 77, 1)")
        codes(erp, "reference_unresolved")
        erp.commit("INSERT INTO t_customer VALUES (77, 'C77', 'poison')")
        codes(erp, "reference_unresolved", "sqlstate_23514")
        erp.commit("UPDATE t_order SET fcustid = NULL")
        erp.commit("DELETE FROM t_customer")
        codes(erp, "reference_unresolved", "sqlstate_23514", "waiting", "waiting")
        erp.target.execute("ALTER TABLE customer DROP CONSTRAINT poison")
        for _ in range(3):
            erp.ask("failures", "retry", "--all", "--yes")
        codes(erp)
        erp.agrees()
