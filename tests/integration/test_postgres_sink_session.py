"""A worker's session does not depend on what a server, database or role has set."""

from __future__ import annotations

import pytest

from cdc_daemon.model.changes import Row
from cdc_daemon.model.effects import Upsert
from cdc_daemon.sinks.caution import Caution
from tests.conftest import DatabaseFactory
from tests.contract.postgres_target import PostgresTarget
from tests.contract.shapes import ALL, ENTITIES, LAYOUTS, MATERIALS
from tests.contract.test_sink_values import WHOLE
from tests.support.databases import Database

HOSTILE = {
    "synchronous_commit": "off",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "iso_8601",
    "bytea_output": "escape",
    "TimeZone": "Asia/Kolkata",
    "extra_float_digits": "0",
    "standard_conforming_strings": "off",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "statement_timeout": "1ms",
    "idle_in_transaction_session_timeout": "1ms",
    "search_path": "nowhere",
    "client_encoding": "LATIN1",
    "jit_above_cost": "0",
}


def hostile(database: Database) -> None:
    """From a connection to another database: this one's next would have the timeout of 1 ms."""
    for name, value in HOSTILE.items():
        database.server.execute(f"ALTER DATABASE {database.name} SET {name} = '{value}'")


@pytest.mark.parametrize("server", ["postgres18", "postgres15"])
def test_hostile_defaults_change_nothing(
    request: pytest.FixtureRequest, database_factory: DatabaseFactory, server: str
) -> None:
    """Durable commits, texts in and out as the model has them, no timeouts."""
    database = database_factory(server=request.getfixturevalue(server))
    target = PostgresTarget(database, ENTITIES, LAYOUTS)
    hostile(database)
    sink = target.sink()
    sink.acquire()
    connection = sink._live().connection
    first: Row = (b"6d6cf5e1-9d3e-4a5a-bbf5-2d0a5f8a3b00", *WHOLE[1:])
    for number in (1, 40):
        rows: list[Row] = [
            (b"6d6cf5e1-9d3e-4a5a-bbf5-2d0a5f8a3b%02d" % n, *WHOLE[1:]) for n in range(number)
        ]
        with sink.begin() as unit:
            unit.apply([Upsert(layout=ALL, rows=rows)])
            shown = connection.execute(
                "SELECT current_setting('synchronous_commit'), current_setting('client_encoding'),"
                " current_setting('transaction_isolation')"
            ).fetchone()
            assert shown == ("on", "UTF8", "read committed")
            unit.save_checkpoint("0/1", commit_time=1, transactions=1, changes=1)
    connection.execute("SELECT pg_sleep(0.05)")
    database.server.execute(f"ALTER DATABASE {database.name} RESET ALL")
    assert target.living(ALL)[ALL.key_of(first)] == first
    sink.heartbeat()
    target.close()


def test_stronger_durability_is_left_alone(database: Database) -> None:
    """remote_apply promises more than on."""
    target = PostgresTarget(database, ENTITIES, LAYOUTS)
    database.execute(f"ALTER DATABASE {database.name} SET synchronous_commit = remote_apply")
    sink = target.sink()
    sink.acquire()
    shown = sink._live().connection.execute("SHOW synchronous_commit").fetchone()
    assert shown == ("remote_apply",)
    target.close()


def test_a_session_is_seen_by_its_pipelines_name(database: Database) -> None:
    """An administrator finds it in pg_stat_activity."""
    target = PostgresTarget(database, ENTITIES, LAYOUTS)
    sink = target.sink()
    sink.acquire()
    sink.heartbeat()
    names = database.query("SELECT application_name FROM pg_stat_activity ORDER BY 1")
    assert {"cdc_daemon:erp", "cdc_daemon:erp:heartbeat"} <= {name for (name,) in names}
    target.close()


def test_rows_larger_than_a_page_go_through(database: Database) -> None:
    """Straight, and as arrays."""
    target = PostgresTarget(database, ENTITIES, LAYOUTS)
    sink = target.sink()
    sink.acquire()
    rows: list[Row] = [(b"k%d" % n, bytes([65 + n % 26]) * 100_000, b"x") for n in range(30)]
    for fresh in (True, False, True):
        with sink.begin() as unit:
            unit.apply([Upsert(layout=MATERIALS, rows=rows, fresh=fresh)])
    assert target.living(MATERIALS)[(b"k7",)] == rows[7]
    target.close()


def test_inserts_that_conflict_go_as_arrays_for_a_while() -> None:
    """Longer after each conflict, up to a bound; a clean one forgets."""
    caution = Caution()
    assert caution.direct()
    caution.conflicted()
    assert [caution.direct() for _ in range(5)] == [False] * 4 + [True]
    caution.conflicted()
    assert [caution.direct() for _ in range(9)] == [False] * 8 + [True]
    caution.went_well()
    caution.conflicted()
    assert [caution.direct() for _ in range(5)] == [False] * 4 + [True]
