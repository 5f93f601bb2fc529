"""Which rows PostgreSQL can tell to be at fault, by its version and the table's definition."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import pytest

from cdc_daemon.model.changes import Row
from cdc_daemon.model.effects import Key, Upsert
from cdc_daemon.model.errors import DataError
from cdc_daemon.sinks.postgres.unit import PostgresUnit
from tests.conftest import DatabaseFactory
from tests.contract.postgres_target import PostgresTarget
from tests.contract.shapes import ALL, ENTITIES, LAYOUTS, MATERIALS
from tests.contract.test_sink_values import WHOLE
from tests.support.erp import Erp

NARROWER = (
    "ALTER bigint TYPE smallint",
    "ALTER decimal TYPE numeric(6,2)",
    "ALTER string TYPE varchar(3)",
    "ALTER timestamp TYPE timestamp(3)",
)
GOOD = {"bigint": b"32767", "decimal": b"9999.99", "string": "äöü".encode()}
TRIGGER = """
    CREATE FUNCTION filled() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.note := coalesce(NEW.note, 'filled'); RETURN NEW; END $$;
    CREATE TRIGGER filled BEFORE INSERT OR UPDATE ON material
        FOR EACH ROW EXECUTE FUNCTION filled();
    ALTER TABLE material ALTER note SET NOT NULL, ADD CHECK (name IS NOT NULL)"""


REJECTING = """
    CREATE FUNCTION rejected() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'not %', NEW.name; END $$;
    CREATE TRIGGER rejected BEFORE INSERT OR UPDATE ON material
        FOR EACH ROW WHEN (NEW.note = 'bad') EXECUTE FUNCTION rejected()"""


@pytest.fixture(params=["postgres18", "postgres15"])
def target(
    request: pytest.FixtureRequest, database_factory: DatabaseFactory
) -> Iterator[PostgresTarget]:
    database = database_factory(server=request.getfixturevalue(request.param))
    target = PostgresTarget(database, ENTITIES, LAYOUTS)
    yield target
    target.close()


def everything(number: int, **values: bytes) -> Row:
    changed = {**GOOD, **values, "id": str(uuid.UUID(int=number)).encode()}
    pairs = zip(ALL.columns, WHOLE, strict=True)
    return tuple(changed.get(name, value) for name, value in pairs)


def alone(unit: PostgresUnit, row: Row) -> DataError | None:
    try:
        with unit.savepoint():
            unit.apply([Upsert(layout=ALL, rows=[row])])
    except DataError as error:
        return error
    return None


@pytest.mark.parametrize("target", ["postgres18"], indirect=True)
def test_every_narrowed_type_is_told(target: PostgresTarget) -> None:
    """With the error that the row alone gives; rounding is no error. From PostgreSQL 16."""
    for change in NARROWER:
        target.alter(ALL, change)
    rows = [
        everything(1, bigint=b"32768"),
        everything(2, decimal=b"10000.00"),
        everything(3, string=b"four"),
        everything(4, decimal=b"9999.991"),
        everything(5, integer=b"one"),
        everything(6, json=b'{"a": "\\u0000"}'),
        everything(7),
    ]
    sink = target.sink()
    sink.acquire()
    with sink.begin() as unit:
        found = unit.faults([Upsert(layout=ALL, rows=rows)])[ALL.mapping]
        for row in rows:
            error, expected = found.get(ALL.key_of(row)), alone(unit, row)
            assert (error is None) == (expected is None)
            if error is not None and expected is not None:
                told = (error.code, error.message, error.attribute)
                assert told == (expected.code, expected.message, expected.attribute)
    assert len(found) == 5


def test_what_cannot_be_told_is_left_out(target: PostgresTarget) -> None:
    """Two bad values in one row: which comes first is the server's affair."""
    for change in NARROWER:
        target.alter(ALL, change)
    two = everything(1, bigint=b"32768", string=b"four")
    long = everything(2, string=b"four")
    sink = target.sink()
    sink.acquire()
    with sink.begin() as unit:
        found = unit.faults([Upsert(layout=ALL, rows=[two, long])])[ALL.mapping]
    assert ALL.key_of(long) in found
    if target.database.server.version >= 16:
        assert ALL.key_of(two) not in found


def test_a_trigger_may_mend_a_row(target: PostgresTarget) -> None:
    """So nothing is told of a table where rows are changed before they are looked at."""
    target.database.execute(TRIGGER)
    rows: list[Row] = [(b"mended", b"x", None), (b"bad", None, None)]
    sink = target.sink()
    sink.acquire()
    with sink.begin() as unit:
        assert unit.faults([Upsert(layout=MATERIALS, rows=rows)]) == {}
        unit.apply([Upsert(layout=MATERIALS, rows=rows[:1])])


def test_a_row_that_a_trigger_rejects_is_at_fault(target: PostgresTarget) -> None:
    """As on other control databases; what RAISE says may hold a value, and is not told."""
    target.database.execute(REJECTING)
    sink = target.sink()
    sink.acquire()
    with sink.begin() as unit:
        with pytest.raises(DataError) as raised, unit.savepoint():
            unit.apply([Upsert(layout=MATERIALS, rows=[(b"k", b"secret", b"bad")])])
        unit.apply([Upsert(layout=MATERIALS, rows=[(b"k", b"secret", b"good")])])
    assert raised.value.code == "sqlstate_P0001"
    assert raised.value.message == "A trigger rejects the row"


@pytest.mark.parametrize("target", ["postgres18"], indirect=True)
def test_a_check_that_is_not_enforced_tells_nothing(target: PostgresTarget) -> None:
    """PostgreSQL 18 has such; the rows go in."""
    target.alter(MATERIALS, "ADD CHECK (length(note) < 3) NOT ENFORCED")
    rows: list[Row] = [(b"k", None, b"long")]
    sink = target.sink()
    sink.acquire()
    with sink.begin() as unit:
        assert unit.faults([Upsert(layout=MATERIALS, rows=rows)]) == {}
        unit.apply([Upsert(layout=MATERIALS, rows=rows)])


def test_a_whole_batch_is_told_at_once(target: PostgresTarget) -> None:
    """Far faster than rows one by one could be tried, however many are at fault."""
    target.alter(MATERIALS, "ADD CHECK (length(note) < 8), ALTER name TYPE varchar(20)")
    rows: list[Row] = [
        (b"k%d" % n, b"name" * (1 + 9 * (n % 7 == 0)), b"note" * (1 + n % 2)) for n in range(20_000)
    ]
    expected: set[Key] = {row[:1] for row in rows if len(row[1]) > 20 or len(row[2]) > 7}  # type: ignore[arg-type,misc]
    sink = target.sink()
    sink.acquire()
    with sink.begin() as unit:
        began = time.monotonic()
        found = unit.faults([Upsert(layout=MATERIALS, rows=rows)])[MATERIALS.mapping]
        assert time.monotonic() - began < 5
    assert set(found) == expected


def test_a_constraint_that_somebody_put_off_is_checked_at_once_from_its_first_violation_on(
    erp: Erp,
) -> None:
    """Else it fails at the unit's end, where no row is at hand, again and again."""
    erp.target.execute(
        "ALTER TABLE material ADD CONSTRAINT only_one UNIQUE (name) DEFERRABLE INITIALLY DEFERRED"
    )
    with erp.worker():
        for n in (1, 2, 3):
            name = "twice" if n < 3 else "once"
            erp.commit(f"INSERT INTO t_material VALUES ({n}, 'M{n}', '{name}', 'PCS', 1, NULL)")
        erp.caught_up()
        assert erp.parked() == [("sqlstate_23505", "insert", "parked")]
        erp.target.execute("ALTER TABLE material DROP CONSTRAINT only_one")
        erp.ask("failures", "retry", "--all", "--yes")
        erp.caught_up()
        erp.agrees()
