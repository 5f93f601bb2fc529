"""Values that an entity type does not hold, types that change while the log is read, and columns
that fill themselves: from PostgreSQL 18 into a control database on 15."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdc_daemon.demo.server import PrivatePostgres
from cdc_daemon.verify import verify
from tests.conftest import DatabaseFactory
from tests.support.pipelines import System

SETUP = """
CREATE EXTENSION citext;
CREATE TYPE mood AS ENUM ('sad');
CREATE TYPE part AS (a integer, b text);
CREATE TABLE amount (id integer PRIMARY KEY, n numeric, f real, m money, d date, i interval);
CREATE TABLE made (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, base integer,
    doubled integer GENERATED ALWAYS AS (base * 2) STORED, o oid, c citext, m money, p part,
    e mood, u timestamptz DEFAULT '2024-02-29 12:00:00+05:30');
CREATE PUBLICATION cdc_erp FOR TABLE amount, made WITH (publish_generated_columns = stored);
"""
CONFIGURATION = """
entities:
  amount:
    key: [id]
    attributes:
      id: integer
      n: "decimal(9,2)"
      f: "decimal(9,2)"
      m: "decimal(9,2)"
      d: timestamp
      i: interval
  made:
    key: [id]
    attributes:
      id: integer
      doubled: bigint
      tripled: bigint
      o: bigint
      c: text
      upper: string(20)
      m: "decimal(12,3)"
      p: text
      has_p: boolean
      e: string(20)
      u: text
mappings:
  - {from: erp.public.amount, to: amount, key: {id: id}, fields: {n: n, f: f, m: m, d: d, i: i}}
  - from: erp.public.made
    to: made
    key: {id: id}
    where: "m >= 0.01 AND o < 4294967295 AND CAST(c AS text) <> 'skip'"
    fields:
      doubled: doubled
      tripled: {expr: "base * 3"}
      o: {expr: "CAST(o + 1 AS bigint)"}
      c: c
      upper: {expr: "UPPER(CAST(c AS text))"}
      m: {expr: "m * 1.5"}
      p: p
      has_p: {expr: "p IS NOT NULL"}
      e: e
      u: u
"""


@pytest.fixture
def system(
    database_factory: DatabaseFactory, postgres15: PrivatePostgres, tmp_path: Path
) -> System:
    source, target = database_factory(), database_factory(server=postgres15)
    source.execute(SETUP)
    return System(source, target, tmp_path, CONFIGURATION)


def test_what_a_type_does_not_hold_parks_with_a_reason(system: System) -> None:
    system.apply()
    rows = [
        ("NaN", 0, 0, "2024-01-01", "0"),
        ("Infinity", 0, 0, "2024-01-01", "0"),
        ("12345678.1", 0, 0, "2024-01-01", "0"),
        ("0.125", 0, 0, "2024-01-01", "0"),
        ("0", "NaN", 0, "2024-01-01", "0"),
        ("0", 0, "99999999.00", "2024-01-01", "0"),
        ("0", 0, 0, "294277-01-01", "0"),
        ("0", 0, 0, "infinity", "infinity"),
        ("1.1", "0.5", "-1234.50", "-infinity", "1 day -00:00:01"),
    ]
    with system.running() as running:
        for number, row in enumerate(rows):
            system.source.execute(
                "INSERT INTO amount VALUES (%s, %s, %s, %s::text::money, %s, %s)", number, *row
            )
        system.caught_up(running)
        found = system.rows("SELECT id, n::text, f::text, m::text, d::text, i::text FROM amount")
        assert found == [(8, "1.10", "0.50", "-1234.50", "-infinity", "1 day -00:00:01")]
        parked = system.rows("SELECT error_code, error_message FROM cdc.failure ORDER BY id")
        assert verify(system.configuration, timeout=30).equal
    assert parked == [
        ("out_of_range", "decimal(9,2) cannot be NaN or Infinity"),
        ("out_of_range", "decimal(9,2) cannot be NaN or Infinity"),
        ("out_of_range", "the number is out of the range of decimal(9,2)"),
        ("loss", "the number has more than 2 digits after the point"),
        ("out_of_range", "decimal(9,2) cannot be NaN or Infinity"),
        ("out_of_range", "the number is out of the range of decimal(9,2)"),
        ("out_of_range", "the timestamp is out of range"),
        ("sqlstate_22007", "A value is no date or time, attribute i"),
    ]


def test_types_change_and_columns_fill_themselves_while_streaming(system: System) -> None:
    system.apply()
    write = system.source.execute
    moment = "2024-02-29 06:30:00+00"
    columns = "(base, o, c, m, p, e)"
    write(f"INSERT INTO made {columns} VALUES (1, 7, 'Ab', 2, '(1,x)', 'sad')")
    with system.running() as running:
        write("ALTER TYPE mood ADD VALUE 'happy'; ALTER TYPE part ADD ATTRIBUTE c numeric(5,2)")
        write(
            f"INSERT INTO made {columns} VALUES (2, 4294967294, 'x', '1,234.56', '(,,)', 'happy')"
        )
        write(f"INSERT INTO made {columns} VALUES (2, 4, ' ', 1, NULL, NULL)")  # NULL here
        write(f"INSERT INTO made {columns} VALUES (3, 1, 'skip', 1, NULL, NULL)")
        write("UPDATE made SET base = 5, p = '(2,y,1.5)' WHERE id = 1")
        system.caught_up(running)
        found = system.rows(
            "SELECT id, doubled, tripled, o, c, upper, m::text, p, has_p, e, u FROM made"
            " ORDER BY id"
        )
        assert found == [
            (1, 10, 15, 8, "Ab", "AB", "3.000", "(2,y,1.50)", True, "sad", moment),
            (2, 4, 6, 4294967295, "x", "X", "1851.840", "(,,)", True, "happy", moment),
        ]
        assert not system.rows("SELECT 1 FROM cdc.failure")
        assert verify(system.configuration, timeout=30).equal
