"""PostgreSQL → MySQL and MariaDB: set up by an administrator, carried by an account with few
rights; all types equal, all differences found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from cdc_daemon.demo.mariadb import PrivateMariaDB
from cdc_daemon.demo.mysql_family import FamilyServer
from tests.conftest import DatabaseFactory
from tests.integration.test_verify_sqlite import MAPPINGS
from tests.support.databases import Database
from tests.support.erp import Erp
from tests.support.mysql_database import MysqlDatabase

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
        (1e7, 'epoch', E'\\t\\n\\r', 0, 0, -0.0001, 1e40, -0.0, NULL, '9999-12-31', '24:00',
         '0001-01-01', '1 year 2 mons -3 days 04:05:06.7', NULL, '[]', '\\x00'),
        (1e6, '9999-12-31 23:59:59.999999+00', '', -2147483648, -9223372036854775808,
         99999999999999.9999, 'Infinity', 1e-300, true, '0001-01-01', '00:00', '9999-12-31', '0',
         'ffffffff-ffff-ffff-ffff-ffffffffffff', 'null', ''),
        (-1, '0044-03-15 00:00:00+00 BC', '', 1, 1, 1, 1, 1, true, 'epoch', '00:00', 'epoch', '0',
         NULL, 'null', ''),
        (-2, 'epoch', '', 1, 1, 1, 1, 1, true, 'infinity', '00:00', 'epoch', '0', NULL, '1', ''),
        (-3, 'epoch', '', 1, 1, 'NaN', 1, 1, true, 'epoch', '00:00', 'epoch', '0', NULL, '1', ''),
        (-4, 'epoch', '', 1, 1, 1, 1, 'NaN', true, 'epoch', '00:00', 'epoch', '0', NULL, '1', '');
    CREATE TABLE t_number (id int PRIMARY KEY, name text);
    INSERT INTO t_number SELECT n, 'name ' || n FROM generate_series(1, 120) n;
    CREATE TABLE t_child (id int PRIMARY KEY, up int);
    INSERT INTO t_child SELECT n, n FROM generate_series(1, 120) n;
"""


@pytest.fixture
def erp(family: FamilyServer, database_factory: DatabaseFactory, tmp_path: Path) -> Iterator[Erp]:
    """Both sides filled and idle, with no daemon any longer."""
    source = database_factory()
    family.create_database(source.name)
    family.create_account(source.name, "not-secret")
    control = MysqlDatabase(
        server=family, name=source.name, user=source.name, password="not-secret"
    )
    made = Erp(source, cast(Database, control), tmp_path)
    source.execute("SET TimeZone = 'UTC';" + DDL)
    made.configure(MAPPINGS)
    admin = MysqlDatabase(server=family, name=source.name)
    done = made.ask("apply", "--yes", "--admin-dsn", f"target={admin.dsn}")
    assert done.exit_code == 0, done.output
    with made.worker():
        source.execute("UPDATE t_number SET name = name || '!' WHERE id < 10")
        source.execute("DELETE FROM t_child WHERE id = 7; DELETE FROM t_number WHERE id = 7")
        made.caught_up()
    yield made
    family.drop_database(source.name)
    family.execute(f"DROP USER '{source.name}'@'%'")


def verified(erp: Erp) -> dict[str, dict[str, Any]]:
    """Reports by entity."""
    found = erp.ask("verify", "--timeout", "1", "-o", "json")
    assert found.exit_code in (0, 3), found.output
    return {one["entity"]: one for one in json.loads(found.stdout)["mappings"]}


def test_every_type_is_equal_and_every_difference_is_found(erp: Erp) -> None:
    """What MySQL cannot hold is parked with its reason; the rest is as in the source, hash by hash;
    and an account with rights on rows only has done it."""
    parked = erp.target.query("SELECT error_code, error_message FROM cdc.failure ORDER BY id")
    assert [code for code, _ in parked] == ["sqlstate_22008"] * 2 + ["sqlstate_22003"] * 2
    assert [words.rpartition(" ")[2] for _, words in parked] == ["at", "day", "d", "r"]
    for entity, report in verified(erp).items():
        assert report["match"] == report["target"] > 60, entity
        assert (
            report["source"] - report["match"]
            == report["parked"]
            == (4 if entity == "every_type" else 0)
        )
    target = erp.target
    target.execute("UPDATE every_type SET d = 0.0001 WHERE id = 10000000.00")
    target.execute("UPDATE every_type SET r = 0.33 WHERE id = 1.50")
    target.execute('UPDATE every_type SET j = \'{"a":1.1,"b":2.0}\' WHERE id = 2.50')  # equal
    target.execute("DELETE FROM child WHERE id = 11")
    target.execute("INSERT INTO child VALUES (500, 11, '2020-01-01'), (1000, 11, '2020-01-01')")
    target.execute("UPDATE number SET deleted_at = '2020-01-01' WHERE id = 100")
    target.execute("UPDATE number SET deleted_at = NULL WHERE id = 7")
    found = verified(erp)
    kinds = ("different", "missing", "extra")
    counts = {entity: [one[kind] for kind in kinds] for entity, one in found.items()}
    assert counts == {"every_type": [2, 0, 0], "child": [0, 1, 2], "number": [0, 1, 1]}
    findings = json.loads(erp.ask("doctor", "-o", "json").stdout)["findings"]
    told = {one["check"]: one["state"] for one in findings}
    assert {told[f"target.{name}"] for name in ("ledger", "rights", "tables", "keys")} == {"ok"}


@pytest.mark.acceptance
def test_killed_around_the_commit(
    mariadb: PrivateMariaDB, database_factory: DatabaseFactory, tmp_path: Path
) -> None:
    """Rows and checkpoint are one transaction; what is committed stays so, and both ends agree."""
    source = database_factory()
    mariadb.create_database(source.name)
    erp = Erp(
        source, cast(Database, MysqlDatabase(server=mariadb, name=source.name)), tmp_path
    ).set_up()
    try:
        with erp.streaming() as daemon:
            daemon.kill()
        erp.commit(
            "INSERT INTO t_customer VALUES (1, 'C1', 'one'), (2, 'C2', 'two')",
            "INSERT INTO t_order VALUES (1, 'O1', 1, 10), (2, 'O2', 2, 20)",
            "INSERT INTO t_material VALUES (1, 'M1', 'bolt', 'PCS', 1, NULL)",
        )
        state = "SELECT position, transactions, changes, (SELECT count(*) FROM customer) FROM"
        before = erp.target.query(f"{state} cdc.checkpoint")
        erp.crash("before_sink_commit")
        assert erp.target.query(f"{state} cdc.checkpoint") == before
        erp.crash("after_sink_commit")
        ((_, *counted),) = erp.target.query(f"{state} cdc.checkpoint")
        assert counted == [1, 5, 2]
        erp.commit(
            "UPDATE t_order SET famount = 2 WHERE fid = 1", "DELETE FROM t_order WHERE fid=2"
        )
        with erp.streaming() as daemon:
            erp.caught_up(daemon)
            done = erp.ask("verify", "--timeout", "5")
        assert done.exit_code == 0, done.output
        assert erp.target.query("SELECT order_no, amount FROM sales_order") == [("O1", 2)]
    finally:
        mariadb.drop_database(source.name)
