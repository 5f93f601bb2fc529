"""From a real PostgreSQL log to entity rows, through the worker's own loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import DatabaseFactory
from tests.support.pipelines import System

MATERIAL = """
    entities:
      material:
        key: [code]
        attributes:
          code: string(40)
          name: {type: string(200), required: true}
          unit: string(10)
          price: decimal(18,4)
          remark: text
    mappings:
      - from: erp.public.t_material
        to: material
        key: {code: fnumber}
        fields:
          name: fname
          unit: {from: funit, map: {PCS: EA, KG: KG}}
          price: fprice
          remark: fremark
"""
TABLE = """
    CREATE TABLE t_material (
        fid bigint PRIMARY KEY, fnumber varchar(40) NOT NULL, fname varchar(300),
        funit varchar(10), fprice numeric(18,4), fremark text)
"""
ROWS = "SELECT code, name, unit, price::text, remark FROM material ORDER BY code"

MakeSystem = Callable[[str, str], System]


@pytest.fixture
def make_system(database_factory: DatabaseFactory, tmp_path: Path) -> MakeSystem:
    """A system with these tables and this configuration, published and applied."""

    def make(ddl: str, yaml: str) -> System:
        source = database_factory()
        source.execute(ddl)
        system = System(source, database_factory(), tmp_path, yaml)
        tables = [
            row[0]
            for row in source.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        ]
        system.publish(*tables)
        system.apply()
        return system

    return make


def test_snapshot_then_stream(make_system: MakeSystem) -> None:
    """Rows from before the start and every kind of change after it arrive."""
    system = make_system(TABLE, MATERIAL)
    source = system.source
    source.execute(
        "INSERT INTO t_material VALUES"
        " (1, 'A', 'Axle', 'PCS', 1.5, NULL), (2, 'B', 'Bolt', 'KG', 2, ' ')"
    )
    with system.running() as running:
        assert system.rows(ROWS) == [
            ("A", "Axle", "EA", "1.5000", None),
            ("B", "Bolt", "KG", "2.0000", None),
        ]
        source.execute(
            "INSERT INTO t_material VALUES (3, 'C', 'Cog\\t\\n\\\\N', 'PCS', 3, repeat('x', 20000))"
        )
        source.execute("UPDATE t_material SET fprice = 9.99 WHERE fid IN (1, 3)")
        source.execute("DELETE FROM t_material WHERE fid = 2")
        source.execute("UPDATE t_material SET fnumber = 'A2' WHERE fid = 1")
        system.caught_up(running)
        assert system.rows(ROWS) == [
            ("A2", "Axle", "EA", "9.9900", None),
            ("C", "Cog\\t\\n\\\\N", "EA", "9.9900", "x" * 20000),
        ]
        source.execute("TRUNCATE t_material")
        system.caught_up(running)
        assert system.rows(ROWS) == []
    assert running.code == 0


def test_a_bad_row_parks_and_holds_back_only_its_own_key(make_system: MakeSystem) -> None:
    """Its later changes wait behind it in order; other rows go on."""
    system = make_system(TABLE, MATERIAL)
    with system.running() as running:
        system.source.execute("INSERT INTO t_material VALUES (1, 'A', 'Axle', 'BOX', 1, NULL)")
        system.source.execute("INSERT INTO t_material VALUES (2, 'B', 'Bolt', 'PCS', 2, NULL)")
        system.source.execute("UPDATE t_material SET funit = 'PCS' WHERE fid = 1")
        system.source.execute("INSERT INTO t_material VALUES (3, 'D', NULL, 'PCS', 2, NULL)")
        system.caught_up(running)
        assert system.rows(ROWS) == [("B", "Bolt", "EA", "2.0000", None)]
        assert system.rows("SELECT error_code, state FROM cdc.failure ORDER BY id") == [
            ("unmapped_value", "parked"),
            ("waiting", "parked"),
            ("required", "parked"),
        ]


def test_counters_equal_the_sources_transactions(make_system: MakeSystem) -> None:
    """The checkpoint counts commits with mapped changes, and such changes, once, over restarts."""
    system = make_system(TABLE, MATERIAL)
    for start in (0, 50):
        with system.running() as running:
            for i in range(start, start + 50):
                system.source.execute(
                    "INSERT INTO t_material SELECT %s + n, 'M' || (%s + n), 'x', 'PCS', 1, NULL"
                    " FROM generate_series(1, 3) n",
                    i * 10,
                    i * 10,
                )
            system.caught_up(running)
    assert system.rows("SELECT transactions, changes FROM cdc.checkpoint") == [(100, 300)]
    assert system.rows("SELECT count(*) FROM material") == [(300,)]
