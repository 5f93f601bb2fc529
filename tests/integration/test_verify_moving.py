"""Verification beside writers: it waits for the pipeline, and rows in motion are no differences."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from cdc_daemon.demo.server import PrivatePostgres
from cdc_daemon.model.errors import ConfigurationError, Unreachable
from cdc_daemon.verify import content_hashes, preview, verify
from cdc_daemon.verify.progress import await_applied
from tests.conftest import DatabaseFactory
from tests.support.filled import Filled, filled

DDL = """
    CREATE TABLE t_stock (fid bigint PRIMARY KEY, fcode varchar(10), fqty integer, fstatus text);
    INSERT INTO t_stock SELECT n, 'S' || n, n, 'C' FROM generate_series(1, 200) AS n;
"""
SECTIONS = """
    entities:
      stock: {key: [code], attributes: {code: string(10), quantity: integer}}
    mappings:
      - from: erp.public.t_stock
        to: stock
        where: "fstatus = 'C'"
        key: {code: fcode}
        fields: {quantity: fqty}
"""


@pytest.fixture
def made(database_factory: DatabaseFactory, tmp_path: Path) -> Filled:
    """Two hundred rows, carried."""
    found = filled(database_factory(), database_factory(), tmp_path, DDL, SECTIONS)
    found.fill()
    return found


def lsn(made: Filled) -> str:
    """How far the source's log reaches."""
    return str(made.source.query("SELECT pg_current_wal_insert_lsn()::text")[0][0])


def test_it_waits_until_the_pipeline_has_applied_what_the_source_said(made: Filled) -> None:
    made.reach("0/1")
    made.source.execute("UPDATE t_stock SET fqty = fqty + 1")
    waiting = threading.Event()

    def apply() -> None:
        waiting.wait(30)
        made.control.execute("UPDATE stock SET quantity = quantity + 1")
        made.reach()

    def progress(text: str) -> None:
        if "waiting" in text:
            waiting.set()

    daemon = threading.Thread(target=apply)
    daemon.start()
    report = verify(made.configuration, timeout=30, progress=progress)
    daemon.join()
    assert report.equal
    assert report.behind == ()


def test_a_pipeline_that_does_not_follow_is_behind(made: Filled) -> None:
    made.reach("0/1")
    report = verify(made.configuration, timeout=0.3)
    assert report.equal
    assert report.behind == ("erp",)
    made.source.execute("UPDATE t_stock SET fqty = 0 WHERE fid = 1")
    report = verify(made.configuration, timeout=0.3)
    assert report.exit_code == 3
    assert report.behind == ("erp",)


def test_the_log_moves_past_what_is_waited_for(made: Filled) -> None:
    """An idle source: without a message of ours its log might not be flushed for minutes."""
    made.reach(lsn(made))
    before = lsn(made)
    made.verify(timeout=0)
    flushed = f"SELECT pg_current_wal_flush_lsn() > '{before}'::pg_lsn"
    assert made.source.query(flushed) == [(True,)]


@contextmanager
def writers(made: Filled, *, lag: float) -> Iterator[None]:
    """Rows 1 to 5 change all the time in both databases, in the target a little later."""
    stop = threading.Event()

    def write() -> None:
        number = 1000
        with (
            psycopg.connect(made.source.dsn, autocommit=True) as source,
            psycopg.connect(made.control.dsn, autocommit=True) as control,
        ):
            while not stop.is_set():
                number += 1
                source.execute("UPDATE t_stock SET fqty = %s WHERE fid <= 5", (number,))
                stop.wait(lag)
                control.execute(
                    "UPDATE stock SET quantity = %s WHERE code = ANY (%s)",
                    (number, [f"S{n}" for n in range(1, 6)]),
                )

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_rows_that_keep_changing_are_moving_and_real_differences_are_found(made: Filled) -> None:
    made.control.execute("UPDATE stock SET quantity = -1 WHERE code = 'S100'")
    with writers(made, lag=0.005):
        report = verify(made.configuration, timeout=5).mappings[0]
    assert report.different == 1
    assert report.examples[0].key == ("S100",)
    assert report.missing == report.extra == 0
    assert report.match + report.moving == 199
    assert report.moving <= 5


def test_a_row_that_changes_between_the_readings_is_read_again(
    made: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source moves on after it was read, and the target with it, each time but the last."""
    calls = 0

    def moved(*arguments: object) -> bool:
        nonlocal calls
        calls += 1
        if calls < 3:
            made.source.execute("UPDATE t_stock SET fqty = fqty + 1000 WHERE fid = 7")
            made.source.execute("UPDATE t_stock SET fstatus = 'A' WHERE fid = 8")
            made.control.execute("DELETE FROM stock WHERE code = 'S8'")
            made.control.execute("UPDATE stock SET quantity = quantity + 1000 WHERE code = 'S7'")
        return await_applied(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("cdc_daemon.verify.pipeline.await_applied", moved)
    report = made.verify().mappings[0]
    assert (report.source, report.target) == (200, 199)
    assert (report.match, report.missing, report.different, report.moving) == (199, 0, 0, 0)


def test_a_row_that_never_settles_is_moving(made: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    def moved(*_: object) -> bool:
        made.control.execute("UPDATE stock SET quantity = quantity + 1 WHERE code = 'S7'")
        return True

    monkeypatch.setattr("cdc_daemon.verify.pipeline.await_applied", moved)
    report = made.verify()
    assert report.equal
    assert report.mappings[0].moving == 1
    assert report.mappings[0].examples[0].kind == "moving"


def test_differences_beyond_what_is_kept_in_memory_count(
    made: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdc_daemon.verify.pipeline.SET_ASIDE", 10)
    made.control.execute("UPDATE stock SET quantity = -1")
    report = made.verify().mappings[0]
    assert (report.different, report.match) == (200, 0)


def test_what_cannot_be_verified_says_why(made: Filled) -> None:
    with pytest.raises(ConfigurationError, match=r"did you mean 'erp\.t_stock\.stock'"):
        made.verify(mappings=["erp.t_stok.stock"])
    made.control.execute("DROP SCHEMA cdc CASCADE")
    with pytest.raises(ConfigurationError, match="cdc-daemon apply"):
        made.verify()
    made.source.execute("ALTER TABLE t_stock DROP COLUMN fqty")
    with pytest.raises(ConfigurationError):
        made.verify()


def test_servers_that_refuse_or_do_not_answer(
    made: Filled, postgres_factory: Callable[..., PrivatePostgres]
) -> None:
    server = postgres_factory(auth="scram-sha-256")
    source = made.configuration.sources["erp"]
    right = source.conninfo
    wrong = {
        "host": "127.0.0.1",
        "port": str(server.port),
        "dbname": "postgres",
        "user": "postgres",
    }
    source._parsed = wrong | {"password": "nonsense"}
    with pytest.raises(ConfigurationError):
        made.verify()
    server.stop()
    with pytest.raises(Unreachable):
        made.verify()
    source._parsed = dict(right)
    made.configuration.target._parsed = wrong
    with pytest.raises(Unreachable):
        made.verify()
    with pytest.raises(Unreachable):
        content_hashes(made.configuration.target, [])


def test_a_role_without_rights_is_told(made: Filled) -> None:
    made.source.execute("CREATE ROLE verify_reader LOGIN")
    try:
        source = made.configuration.sources["erp"]
        source._parsed = {**source.conninfo, "user": "verify_reader"}
        with pytest.raises(ConfigurationError, match="t_stock"):
            made.verify()
        made.source.execute("GRANT SELECT ON t_stock TO verify_reader")
        assert made.verify().equal
    finally:
        made.source.execute("DROP OWNED BY verify_reader; DROP ROLE verify_reader")


def test_a_database_of_another_encoding_and_collation_orders_alike(
    postgres18: PrivatePostgres, database_factory: DatabaseFactory, tmp_path: Path
) -> None:
    source, control = database_factory(), database_factory()
    postgres18.drop_database(source.name)
    postgres18.execute(
        f"CREATE DATABASE {source.name} ENCODING 'EUC_CN' LOCALE 'C' TEMPLATE template0"
    )
    made = filled(source, control, tmp_path, DDL, SECTIONS)
    with psycopg.connect(made.source.dsn, client_encoding="UTF8") as connection:
        connection.execute("UPDATE t_stock SET fcode = '深' || fid WHERE fid % 3 = 0")
        connection.execute("UPDATE t_stock SET fcode = 'я' || fid WHERE fid % 3 = 1")
    assert not made.fill()
    assert made.verify().mappings[0].match == 200


def test_preview_shows_what_the_mapping_does_and_what_the_target_holds(made: Filled) -> None:
    made.source.execute("UPDATE t_stock SET fstatus = 'A' WHERE fid = 2")
    made.source.execute("UPDATE t_stock SET fcode = NULL WHERE fid = 3")
    made.control.execute("UPDATE stock SET quantity = 9 WHERE code = 'S4'")
    one, two, three, four = preview(made.configuration, "erp.t_stock.stock", limit=4)
    assert one.source == {"fid": "1", "fcode": "S1", "fqty": "1", "fstatus": "C"}
    assert one.result == {"code": "S1", "quantity": "1"}
    assert one.same
    assert (two.passes, two.result, two.error) == (False, None, "")
    assert three.result is None
    assert "required" in three.error
    assert four.target is not None
    assert four.target["quantity"] == "9"
    assert not four.same
    assert four.as_dict()["same"] is False
    with pytest.raises(ConfigurationError, match="did you mean"):
        preview(made.configuration, "erp.t_stok.stock")
    made.control.execute("DROP TABLE stock; DROP SCHEMA cdc CASCADE")
    assert preview(made.configuration, "erp.t_stock.stock", limit=1)[0].target is None
