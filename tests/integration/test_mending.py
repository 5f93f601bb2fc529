"""Rows that differ are made right by the pipeline's own way, and never against the stream."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from cdc_daemon import build
from cdc_daemon.cli.commanding import command, followed
from cdc_daemon.config.load import load
from cdc_daemon.engine.meter import Meter
from cdc_daemon.model.errors import CdcError
from cdc_daemon.sinks.postgres import PostgresControl
from tests.support.erp import MAPPINGS, Erp
from tests.support.waiting import until

MATERIAL = "erp.t_material.material"
CUSTOMER = "erp.t_customer.customer"


@pytest.fixture
def control(erp: Erp) -> Iterator[PostgresControl]:
    """The control database as the command line sees it."""
    conninfo = {k: str(v) for k, v in conninfo_to_dict(erp.target.dsn).items()}
    with closing(PostgresControl(conninfo)) as made:
        yield made


def repair(
    erp: Erp, control: PostgresControl, *rows: int | str, mapping: str = MATERIAL, wait: float = 60
) -> dict[str, object]:
    """Have these source rows made right; the command's result."""
    arguments = {
        "mapping": mapping,
        "reason": "a test",
        "rows": [{"kind": "different", "key": ["K"], "source_row": [str(row)]} for row in rows],
    }
    return command(load([erp.configuration], environ={}), control, "erp", "repair", arguments, wait)


def audit(erp: Erp) -> list[tuple[Any, ...]]:
    return erp.target.query(
        "SELECT source_row ->> 0, outcome, actor <> '', reason FROM cdc.repair ORDER BY id"
    )


def materials(erp: Erp, count: int = 6) -> None:
    """Rows 1 to ``count``, carried."""
    erp.insert_materials(1, count)
    erp.caught_up()


def test_rows_are_written_again_and_deleted_as_the_source_has_them(
    erp: Erp, control: PostgresControl
) -> None:
    """Missing, different, and one whose row is gone; with a line each in the audit."""
    with erp.worker():
        materials(erp)
        names = [
            code for (code,) in erp.source.query("SELECT fnumber FROM t_material ORDER BY fid")
        ]
        erp.target.execute("DELETE FROM material WHERE code = %s", names[0])
        erp.target.execute("UPDATE material SET name = 'forged' WHERE code = %s", names[1])
        erp.target.execute("UPDATE material SET deleted_at = now() WHERE code = %s", names[2])
        ghost(erp, 4000)
        found = repair(erp, control, 1, 2, 3, 4000)
        assert found == {"written": 3, "deleted": 1}
        erp.same_content()
        assert audit(erp) == [
            ("1", "written", True, "a test"),
            ("2", "written", True, "a test"),
            ("3", "written", True, "a test"),
            ("4000", "deleted", True, "a test"),
        ]
        assert repair(erp, control, 1, 4000) == {"written": 1, "deleted": 1}, (
            "again changes nothing"
        )
        erp.same_content()
        erp.commit("UPDATE t_material SET fname = 'goes on'")
        erp.caught_up()
        erp.same_content()


def ghost(erp: Erp, row: int) -> None:
    """A row of the target that came from a source row of which there is no trace."""
    ((reference,),) = erp.target.query(
        "SELECT relname FROM pg_class WHERE relname LIKE 'reference_%material%' AND relkind = 'r'"
    )
    erp.target.execute("INSERT INTO material (code, name) VALUES ('ghost', 'x')")
    erp.target.execute(f'INSERT INTO cdc."{reference}" VALUES (%s, %s)', row, "ghost")


def test_a_parked_lane_is_not_overtaken(erp: Erp, control: PostgresControl) -> None:
    """A row behind a parked change waits; the others of the same command are written."""
    with erp.worker():
        materials(erp)
        erp.target.execute("ALTER TABLE material ADD CONSTRAINT odd CHECK (name <> 'poison')")
        erp.commit("UPDATE t_material SET fname = 'poison' WHERE fid = 1")
        until(lambda: len(erp.parked()) == 1)
        erp.target.execute("ALTER TABLE material DROP CONSTRAINT odd")
        erp.target.execute("UPDATE material SET name = 'forged'")
        assert repair(erp, control, 1, 2, 3) == {"waiting": 1, "written": 2}
        assert ("1", "waiting", True, "a test") in audit(erp)
        assert len(erp.parked()) == 1, "a repair parks nothing and opens nothing"


def test_a_row_that_the_target_refuses_is_said_to_have_failed(
    erp: Erp, control: PostgresControl
) -> None:
    """The others are written; nothing is parked, and no value is told."""
    with erp.worker():
        materials(erp)
        erp.target.execute("UPDATE material SET name = 'forged'")
        erp.target.execute(
            "ALTER TABLE material ADD CONSTRAINT odd CHECK (unit IS DISTINCT FROM 'EA') NOT VALID"
        )
        units = dict(erp.source.query("SELECT fid, funit FROM t_material"))
        found = repair(erp, control, *units)
        refused = sum(unit == "PCS" for unit in units.values())
        written = {"written": len(units) - refused} if refused < len(units) else {}
        assert found == {"failed": refused, **written}
        details = erp.target.query("SELECT detail FROM cdc.repair WHERE outcome = 'failed'")
        assert all("sqlstate_23514" in detail for (detail,) in details)
        assert erp.parked() == []


WORDS = """
  word:
    key: [word]
    attributes: {word: text, name: string(20)}
mappings:
  - from: erp.public.t_word
    to: word
    key: {word: fword}
    fields: {name: fname}
    on_delete: hard
"""
BANDS = """
  band:
    key: [amount]
    attributes: {amount: "decimal(10,2)", name: string(20)}
mappings:
  - from: erp.public.t_band
    to: band
    key: {amount: famount}
    fields: {name: fname}
    on_delete: hard
"""
BAND = "erp.t_band.band"


def bands(erp: Erp) -> None:
    """A table whose rows a number names, without a reference table; 1.50 is one of them."""
    erp.map_also(
        "CREATE TABLE t_band (famount numeric(10,2) PRIMARY KEY, fname text)",
        "t_band",
        MAPPINGS.replace("mappings:", BANDS.lstrip("\n").rstrip(), 1),
    )
    erp.source.execute("INSERT INTO t_band VALUES (1.5, 'a'), (2.5, 'b'), (3, 'c')")


def test_a_living_row_is_not_deleted_whatever_way_it_is_named(
    erp: Erp, control: PostgresControl
) -> None:
    """1.5 as the target spells it, 1.50 as the log does: one row, and it lives."""
    bands(erp)
    with erp.worker():
        erp.caught_up()
        erp.target.execute("UPDATE band SET name = 'forged'")
        found = repair(erp, control, "1.5", "1.50", "3", "4.0", mapping=BAND)
        assert found == {"written": 3, "deleted": 1}
        assert erp.target.query("SELECT amount::text, name FROM band ORDER BY amount") == [
            ("1.50", "a"),
            ("2.50", "forged"),
            ("3.00", "c"),
        ]
        assert sorted(row[:2] for row in audit(erp)) == [
            ("1.5", "written"),
            ("1.50", "written"),
            ("3", "written"),
            ("4.0", "deleted"),
        ]


def test_an_identity_that_cannot_be_written_down_is_not_taken_for_gone(
    erp: Erp, control: PostgresControl
) -> None:
    """A replacement character stands for bytes that nobody can ask for."""
    erp.map_also(
        "CREATE TABLE t_word (fword text PRIMARY KEY, fname text)",
        "t_word",
        MAPPINGS.replace("mappings:", WORDS.lstrip("\n").rstrip(), 1),
    )
    erp.source.execute("INSERT INTO t_word VALUES ('whole \ufffd', 'a')")
    with erp.worker():
        erp.caught_up()
        erp.target.execute("UPDATE word SET name = 'forged'")
        erp.target.execute("INSERT INTO word (word, name) VALUES ('half \ufffd', 'x')")
        found = repair(erp, control, "whole \ufffd", "half \ufffd", mapping="erp.t_word.word")
        assert found == {"written": 1, "failed": 1}
        rows = erp.target.query("SELECT word, name FROM word ORDER BY word")
        assert rows == [("half \ufffd", "x"), ("whole \ufffd", "a")]
        details = erp.target.query("SELECT detail FROM cdc.repair WHERE outcome = 'failed'")
        assert "unnameable" in details[0][0]


def test_what_is_no_longer_asked_for_is_forgotten(erp: Erp, control: PostgresControl) -> None:
    """The rows that a command was read for go with the command, also where it is withdrawn."""
    with erp.worker():
        materials(erp)
    configuration = load([erp.configuration], environ={})
    meter = Meter("erp")
    parts = build.open_pipeline(configuration, "erp", meter)
    try:
        checkpoint = parts.sink.acquire()
        arguments: dict[str, object] = {
            "mapping": MATERIAL,
            "rows": [{"kind": "different", "key": ["K"], "source_row": ["1"]}],
        }
        number = control.submit("erp", "repair", arguments, "me")
        parts.repairs.run_commands(checkpoint)
        mending = parts.repairs._mending
        assert list(mending._looks) == [number]
        assert control.withdraw(number, "no longer")
        parts.repairs.run_commands(checkpoint, only="snapshot")
        parts.repairs.run_commands(checkpoint)
        assert mending._looks == {}
    finally:
        parts.close()


def test_what_cannot_be_meant_is_refused(erp: Erp, control: PostgresControl) -> None:
    """And the worker goes on."""
    with erp.worker():
        materials(erp)
        with pytest.raises(CdcError, match="no mapping 'nothing'"):
            repair(erp, control, 1, mapping="nothing")
        with pytest.raises(CdcError, match="1 to 1000 rows"):
            repair(erp, control)
        erp.commit("UPDATE t_material SET fname = 'goes on'")
        erp.caught_up()


def test_without_a_worker_one_runs_here(erp: Erp, control: PostgresControl) -> None:
    """It takes the epoch, follows the log as long as the block takes, and lets go."""
    with erp.worker():
        materials(erp)
    erp.target.execute("UPDATE material SET name = 'forged'")
    erp.commit("UPDATE t_material SET fname = 'meanwhile' WHERE fid = 6")
    with followed(load([erp.configuration], environ={}), control, "erp"):
        assert repair(erp, control, 1, 2, 3, 4, 5, 6) == {"written": 6}
    erp.same_content()
    assert not control.holder_alive("erp")


def test_before_the_first_copy_nothing_is_repaired(erp: Erp, control: PostgresControl) -> None:
    configuration = load([erp.configuration], environ={})
    with (
        pytest.raises(CdcError, match="not finished its first copy"),
        followed(configuration, control, "erp"),
    ):
        pass
    with pytest.raises(CdcError, match="no worker runs"):
        repair(erp, control, 1)
    states = erp.target.query("SELECT state FROM cdc.command")
    assert states == [("failed",)], "no worker does later what its sender was told had failed"


class Moving:
    """A writer that changes, deletes, inserts and re-keys a few rows without pause."""

    def __init__(self, erp: Erp, seed: int) -> None:
        self._erp = erp
        self._draw = random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.error: BaseException | None = None
        self.written = 0

    def __enter__(self) -> Moving:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            with psycopg.connect(self._erp.source.dsn, autocommit=True) as connection:
                while not self._over.wait(self._draw.uniform(0, 0.3)):
                    self._change(connection)
                    self.written += 1
        except BaseException as error:  # noqa: BLE001 - raised at the end
            self.error = error

    def _change(self, connection: psycopg.Connection[Any]) -> None:
        draw = self._draw
        row, key = draw.randint(1, 8), f"K{draw.randint(1, 8)}"
        others = "SELECT FROM t_material WHERE fnumber = %(key)s::varchar AND fid <> %(row)s"
        free = f"NOT EXISTS ({others})"
        statements = (
            "INSERT INTO t_material SELECT %(row)s, %(key)s::varchar, %(name)s, 'PCS', 1, NULL"
            f" WHERE {free} ON CONFLICT DO NOTHING",
            "UPDATE t_material SET fname = %(name)s WHERE fid = %(row)s",
            f"UPDATE t_material SET fnumber = %(key)s::varchar WHERE fid = %(row)s AND {free}",
            "DELETE FROM t_material WHERE fid = %(row)s",
            "UPDATE t_material SET fid = %(new)s WHERE fid = %(row)s"
            " AND NOT EXISTS (SELECT FROM t_material WHERE fid = %(new)s)",
        )
        values = {
            "row": row,
            "key": key,
            "new": draw.randint(1, 8),
            "name": f"name {draw.random()}",
        }
        with connection.transaction():
            connection.execute(draw.choice(statements).encode(), values)


@pytest.mark.parametrize(
    "seed", [pytest.param(n, marks=pytest.mark.acceptance) for n in range(11, 18)]
)
def test_repairs_beside_a_writer_converge(erp: Erp, control: PostgresControl, seed: int) -> None:
    """Whatever is repaired while its rows change, delete, return and take each other's keys: in the
    end the target says what the source says, and nothing was parked that need not be."""
    converges(erp, control, seed, repairs=3)


def converges(erp: Erp, control: PostgresControl, seed: int, repairs: int) -> None:
    """Repairs of all rows, forged in between, beside a writer."""
    draw = random.Random(seed)
    with erp.worker():
        with Moving(erp, seed) as moving:
            until(lambda: moving.written > 10)
            for _ in range(repairs):
                forged = f"K{draw.randint(1, 8)}"
                erp.target.execute("UPDATE material SET name = 'forged' WHERE code = %s", forged)
                found = repair(erp, control, *range(1, 9))
                assert sum(found.values()) == 8, found  # type: ignore[arg-type]
                assert found.keys() <= {"written", "deleted", "moving"}, found
        erp.caught_up()
        assert erp.parked() == []
        assert sum(repair(erp, control, *range(1, 9)).values()) == 8  # type: ignore[arg-type]
        erp.same_content()


def test_a_pipeline_that_cannot_be_run_here_is_waited_for_so_long_only(erp: Erp) -> None:
    """The source is away: what runs here tries again for good, who asked for it does not."""
    with erp.worker():
        erp.commit("INSERT INTO t_material VALUES (5, 'A', NULL, 'PCS', 1, 'r')")
        until(erp.parked, what="it is parked")
    with socket.socket() as closed:  # bound and never listened at
        closed.bind(("127.0.0.1", 0))
        erp.lead("source", closed.getsockname()[1])
        erp.configure()
        ask = ("failures", "resync", "--all", "--reason", "r", "--yes", "--timeout", "3")
        done = erp.ask(*ask)
    assert done.exit_code == 75, done.output
    assert "pipeline erp does not run after 3 s" in done.stderr
    assert "Connection refused" in done.stderr
