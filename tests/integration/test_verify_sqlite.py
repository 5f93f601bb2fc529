"""Verification of SQLite against PostgreSQL: all types are equal, all differences found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import DatabaseFactory
from tests.support.embedded import EmbeddedErp, SqliteFile

DDL = """
    CREATE TABLE t_type (
        id numeric(10,2), at timestamptz, f varchar(40), i int, b bigint, d numeric(18,4),
        n numeric, r float8, l bool, day date, t time, ts timestamp, iv interval, u uuid,
        j jsonb, by bytea, PRIMARY KEY (id, at));
    INSERT INTO t_type SELECT n + 0.5, timestamptz '2024-01-01 12:00:00.5+08' + n * interval '1 h',
        'ü''"\\' || n, n, n * 1000000000::bigint, n / 7.0, n / 10.0, n / 3.0::float8, n % 2 = 0,
        date '2024-02-28' + n, time '23:59:59.5', timestamp '2024-01-01' + n * interval '1 ms',
        n * interval '1 day 1 second', md5(n::text)::uuid,
        jsonb_build_object('b', n, 'a', 1.10), decode(to_hex(n + 4096), 'hex')
        FROM generate_series(1, 60) n;
    INSERT INTO t_type VALUES
        (-1, '0044-03-15 00:00:00+00 BC', '', -2147483648, -9223372036854775808, 'NaN', 'Infinity',
         'NaN', NULL, 'infinity', '24:00', '-infinity', '-1 year', NULL, 'null', ''),
        (0, 'infinity', NULL, NULL, NULL, NULL, '-Infinity', '-Infinity', NULL, '0044-03-15 BC',
         NULL, '294276-12-31 23:59:59.999999', NULL, NULL, NULL, NULL),
        (1e7, 'epoch', E'\\t\\n\\r', 0, 0, -0.0001, 1e40, -0.0, NULL, '5874897-12-31',
         NULL, NULL, '1 year 2 mons -3 days 04:05:06.7', NULL, '[]', '\\x00');
    CREATE TABLE t_number (id int PRIMARY KEY, name text);
    INSERT INTO t_number SELECT n, 'name ' || n FROM generate_series(1, 120) n;
    CREATE TABLE t_child (id int PRIMARY KEY, up int);
    INSERT INTO t_child SELECT n, n FROM generate_series(1, 120) n;
"""
MAPPINGS = """
entities:
  every_type:
    key: [id, at]
    attributes:
      id: decimal(10,2)
      at: timestamptz
      f: string(40)
      i: integer
      b: bigint
      d: decimal(18,4)
      n: numeric
      r: double
      l: boolean
      day: date
      t: time
      ts: timestamp
      iv: interval
      u: uuid
      j: json
      by: bytes
  number:
    key: [id]
    attributes: {id: integer, name: text}
  child:
    key: [id]
    attributes: {id: bigint, up: {type: integer, references: number}}
mappings:
  - from: erp.public.t_type
    to: every_type
    key: {id: id, at: at}
    fields: {f: f, i: i, b: b, d: d, n: n, r: r, l: l, day: day, t: t, ts: ts, iv: iv, u: u, j: j,
             by: by}
  - from: erp.public.t_number
    to: number
    key: {id: id}
    fields: {name: name}
    on_delete: soft
    reference: true
  - from: erp.public.t_child
    to: child
    key: {id: id}
    fields: {up: up}
"""


@pytest.fixture
def erp(database_factory: DatabaseFactory, tmp_path: Path) -> EmbeddedErp:
    """Both sides filled and idle, with no daemon any longer."""
    made = EmbeddedErp(database_factory(), SqliteFile(tmp_path / "control.db"), tmp_path)
    made.source.execute("SET TimeZone = 'UTC';" + DDL)
    made.configure(MAPPINGS)
    made.apply()
    with made.worker():
        made.source.execute("UPDATE t_number SET name = name || '!' WHERE id < 10")
        made.source.execute("DELETE FROM t_child WHERE id = 7; DELETE FROM t_number WHERE id = 7")
        made.caught_up()
    return made


def verified(erp: EmbeddedErp) -> dict[str, dict[str, Any]]:
    """Reports by entity."""
    found = erp.ask("verify", "--timeout", "1", "-o", "json")
    assert found.exit_code in (0, 3), found.output
    return {one["entity"]: one for one in json.loads(found.stdout)["mappings"]}


def test_every_type_is_equal_and_every_difference_is_found(erp: EmbeddedErp) -> None:
    """Keys of every order, infinities, BC, NaN; then rows that are missing, too many, different."""
    for report in verified(erp).values():
        assert report["match"] == report["source"] == report["target"] > 60
        assert report["source_hash"] == report["target_hash"]
    erp.file.execute("UPDATE every_type SET d = '0.0001' WHERE id = '10000000.00'")
    erp.file.execute("UPDATE every_type SET r = '0.33' WHERE id = '1.50'")
    erp.file.execute("UPDATE every_type SET j = '{\"a\":1.1,\"b\":2.0}' WHERE id = '2.50'")  # equal
    erp.file.execute("DELETE FROM child WHERE id = 11")
    erp.file.execute("INSERT INTO child VALUES (500, 11, '')")
    erp.file.execute("INSERT INTO child VALUES (1000, 11, '')")
    erp.file.execute("UPDATE number SET deleted_at = '2020-01-01' WHERE id = 100")
    erp.file.execute("UPDATE number SET deleted_at = NULL WHERE id = 7")
    found = verified(erp)
    kinds = ("different", "missing", "extra")
    counts = {entity: [one[kind] for kind in kinds] for entity, one in found.items()}
    assert counts == {"every_type": [2, 0, 0], "child": [0, 1, 2], "number": [0, 1, 1]}
    named = {example["attributes"][0] for example in found["every_type"]["examples"]}
    assert named == {"d", "r"}
