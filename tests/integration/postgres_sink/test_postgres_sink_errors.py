"""What errors of a real server mean: try again, park, or stop. Values are never said."""

from __future__ import annotations

import threading

import psycopg
import pytest

from cdc_daemon.model.changes import Row
from cdc_daemon.model.effects import Delete, Patch, Step, Upsert
from cdc_daemon.model.errors import (
    CdcError,
    ConfigurationError,
    DataError,
    Disposition,
    Retryable,
    Stop,
    Unreachable,
    disposition_of,
)
from cdc_daemon.sinks.postgres import PostgresSink, session, unit
from cdc_daemon.sinks.postgres.wire import Wire
from tests.conftest import DatabaseFactory, PostgresFactory
from tests.contract.postgres_target import PostgresTarget
from tests.contract.shapes import ENTITIES, LAYOUTS, MATERIALS
from tests.support.waiting import until

SECRET = b"a-value-that-nobody-may-see"


def rows(number: int, name: bytes = SECRET) -> list[Row]:
    return [(b"k%02d" % n, name, None) for n in range(number)]


def upsert(number: int, name: bytes = SECRET, *, fresh: bool = False) -> Upsert:
    return Upsert(layout=MATERIALS, rows=rows(number, name), fresh=fresh)


def attempt(sink: PostgresSink, *steps: Step) -> CdcError | None:
    """Apply and commit; the error, which must not say any value."""
    try:
        with sink.begin() as work:
            work.apply(steps)
            work.save_checkpoint("0/1", commit_time=None, transactions=1, changes=1)
    except CdcError as error:
        if SECRET.decode() in str(error):
            pytest.fail("an error says a value")
        return error
    return None


FEW_AND_MANY = pytest.mark.parametrize("number", [1, 40], ids=["few", "many"])


@FEW_AND_MANY
def test_a_lock_that_is_not_to_be_had_in_time_is_tried_again(
    target: PostgresTarget, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setitem(session._SETTINGS, "lock_timeout", "'200ms'")
    sink = target.sink()
    sink.acquire()
    assert attempt(sink, upsert(number)) is None
    with psycopg.connect(target.database.dsn) as other:
        other.execute("LOCK TABLE material")
        error = attempt(sink, upsert(number))
    assert isinstance(error, Retryable)
    assert "lock" in str(error)
    assert attempt(sink, upsert(number)) is None, "the session is of use still"


def test_a_deadlock_is_tried_again(target: PostgresTarget, sink: PostgresSink) -> None:
    """Against somebody who writes the same rows in the other order."""
    target.database.execute("ALTER SYSTEM SET deadlock_timeout = '100ms'")
    target.database.execute("SELECT pg_reload_conf()")
    attempt(sink, upsert(2))
    errors: list[CdcError | None] = []
    with psycopg.connect(target.database.dsn) as other:
        other.execute("SET deadlock_timeout = '10s'")
        other.execute("UPDATE material SET note = 'x' WHERE code = 'k01'")
        step = upsert(2)
        thread = threading.Thread(target=lambda: errors.append(attempt(sink, step)))
        thread.start()
        waiting = "SELECT 1 FROM pg_locks WHERE NOT granted"
        until(lambda: target.database.query(waiting), what="the sink waits for the row")
        other.execute("UPDATE material SET note = 'x' WHERE code = 'k00'")
        thread.join(20)
    assert isinstance(errors[0], Retryable)
    assert "40P01" in str(errors[0])


@FEW_AND_MANY
def test_a_read_only_database_is_tried_again(
    target: PostgresTarget, sink: PostgresSink, number: int
) -> None:
    connection = sink._live().connection
    connection.execute("SET default_transaction_read_only = on")
    error = attempt(sink, upsert(number))
    assert isinstance(error, Retryable)
    assert "25006" in str(error)
    connection.execute("SET default_transaction_read_only = off")
    assert attempt(sink, upsert(number)) is None


@FEW_AND_MANY
def test_a_missing_right_is_tried_again(target: PostgresTarget, number: int) -> None:
    """Rights are given back by somebody; no row is at fault."""
    database = target.database
    database.execute("DROP ROLE IF EXISTS cdc_poor; CREATE ROLE cdc_poor LOGIN")
    database.execute(
        "GRANT USAGE ON SCHEMA cdc, public TO cdc_poor;"
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA cdc, public TO cdc_poor"
    )
    conninfo = {**target.conninfo, "user": "cdc_poor"}
    sink = PostgresSink(conninfo, "erp", ENTITIES, LAYOUTS)
    try:
        assert sink.check() == []
        sink.acquire()
        assert attempt(sink, upsert(number)) is None
        database.execute("REVOKE UPDATE ON material FROM cdc_poor")
        error = attempt(sink, upsert(number))
        assert isinstance(error, Retryable)
        assert "material" in str(error)
        assert any("UPDATE" in str(problem) for problem in sink.check())
    finally:
        sink.close()
        database.execute("DROP OWNED BY cdc_poor; DROP ROLE cdc_poor")


@FEW_AND_MANY
@pytest.mark.parametrize(
    "ddl, code, named",
    [
        ("ADD CONSTRAINT short CHECK (length(name) < 5)", "sqlstate_23514", "short"),
        ("ADD CONSTRAINT single UNIQUE (name)", "sqlstate_23505", "single"),
        ("ALTER note SET NOT NULL", "sqlstate_23502", "note"),
    ],
)
def test_a_constraint_of_the_groups_own_parks_the_row(
    target: PostgresTarget, sink: PostgresSink, number: int, ddl: str, code: str, named: str
) -> None:
    """It names the constraint, not the value; the unit goes on."""
    target.database.execute("INSERT INTO material VALUES ('other', %s, 'x')", SECRET.decode())
    if "short" in ddl:
        target.database.execute("UPDATE material SET name = 'x'")
    target.database.execute(f"ALTER TABLE material {ddl}")
    for fresh in (True, False):
        error = attempt(sink, upsert(number, fresh=fresh))
        assert isinstance(error, DataError)
        assert disposition_of(error) is Disposition.PARK
        assert error.code == code
        assert named in str(error)


@FEW_AND_MANY
@pytest.mark.parametrize(
    "ddl",
    [
        "ALTER TABLE material DROP COLUMN note",
        "ALTER TABLE material RENAME TO stuff",
        "ALTER TABLE material ALTER note TYPE integer USING 1",
        "ALTER TABLE material DROP CONSTRAINT material_pkey",
        "ALTER TABLE material DROP COLUMN deleted_at",
    ],
)
@pytest.mark.parametrize("warm", [True, False])
def test_a_table_altered_by_hand_stops_or_parks_nothing(
    target: PostgresTarget, sink: PostgresSink, number: int, ddl: str, warm: bool
) -> None:
    """The pipeline stops with the table named, or goes on rightly; no row is blamed for it."""
    row: Row = (b"k99", b"x", b"12")
    step = Upsert(layout=MATERIALS, rows=[*rows(number), row])
    if warm:
        attempt(sink, upsert(number))
    target.database.execute(ddl)
    assert any("material" in problem.where for problem in sink.check())
    error = attempt(sink, step)
    assert error is None or isinstance(error, Stop)
    if error is not None:
        assert error.hint is not None or "material" in str(error)


@pytest.mark.parametrize("busy", [True, False])
def test_a_session_ended_by_an_administrator_is_recovered(
    target: PostgresTarget, sink: PostgresSink, busy: bool
) -> None:
    """Unreachable, then the engine recovers; what was under way is gone."""
    step = upsert(40)
    terminate = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'cdc_daemon:erp'"
    )
    with pytest.raises(Unreachable), sink.begin() as work:  # noqa: PT012
        if busy:
            work.apply([step])
        target.database.execute(terminate)
        work.apply([step])
        work.save_checkpoint("0/1", commit_time=None, transactions=1, changes=1)
    with pytest.raises(Unreachable), sink.begin():
        pass
    assert sink.recover().position is None
    assert target.living(MATERIALS) == {}
    assert attempt(sink, step) is None


def test_a_commit_whose_answer_is_lost_is_read_from_the_checkpoint(
    target: PostgresTarget, sink: PostgresSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody tries again blindly: the sink is of no use until it has recovered."""

    def lose(self: Wire) -> None:
        original(self)
        self._pgconn.finish()
        raise psycopg.OperationalError("lost")

    original = Wire._pipeline_results
    with pytest.raises(Unreachable), sink.begin() as work:  # noqa: PT012
        work.apply([upsert(40)])
        work.save_checkpoint("0/7", commit_time=None, transactions=1, changes=40)
        monkeypatch.setattr(Wire, "_pipeline_results", lose)
    monkeypatch.undo()
    with pytest.raises(Unreachable), sink.begin():
        pass
    checkpoint = sink.recover()
    assert (checkpoint.position, checkpoint.changes) == ("0/7", 40)
    assert len(target.living(MATERIALS)) == 40


def test_a_server_killed_before_the_commit_loses_the_whole_unit(
    postgres_factory: PostgresFactory,
    database_factory: DatabaseFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And a server that is down is unreachable until it is there again."""
    server = postgres_factory()
    target = PostgresTarget(database_factory("t", server=server), ENTITIES, LAYOUTS)
    sink = target.sink()
    sink.acquire()
    monkeypatch.setattr(
        unit, "failpoint", lambda name: server.kill() if name == "before_sink_commit" else None
    )
    error = attempt(sink, upsert(40))
    assert isinstance(error, Unreachable)
    with pytest.raises(Unreachable):
        sink.recover()
    with pytest.raises(Unreachable):
        sink.heartbeat()
    server.start()
    monkeypatch.undo()
    assert sink.recover().position is None
    sink.heartbeat()
    assert target.living(MATERIALS) == {}
    assert attempt(sink, upsert(40)) is None
    target.close()


def test_a_failing_feed_leaves_the_unit_of_use(sink: PostgresSink, target: PostgresTarget) -> None:
    """A row that is no row is a bug of ours; the COPY ends, and the transaction with it."""
    broken: list[Row] = [*rows(40), (b"k99", 5, None)]  # type: ignore[list-item]
    with pytest.raises(TypeError), sink.begin() as work:
        work.apply([Upsert(layout=MATERIALS, rows=broken)])
    assert attempt(sink, upsert(40)) is None
    assert len(target.living(MATERIALS)) == 40


def test_wrong_settings_are_told_from_a_server_that_is_down(
    postgres_factory: PostgresFactory, database_factory: DatabaseFactory
) -> None:
    """The first are a matter of configuration; nothing of the password is said."""
    server = postgres_factory(auth="scram-sha-256")
    good = PostgresTarget(database_factory("t", server=server), ENTITIES, LAYOUTS).conninfo
    for change, words in (
        ({"password": "wrong-secret"}, "password"),
        ({"dbname": "missing"}, "database does not exist"),
        ({"user": "nobody", "password": "wrong-secret"}, "password"),
        ({"sslmode": "require"}, "TLS"),
    ):
        with pytest.raises(ConfigurationError, match=words) as caught:
            PostgresSink({**good, **change}, "erp", ENTITIES, LAYOUTS).acquire()
        assert "wrong-secret" not in str(caught.value)
    server.stop("immediate")
    with pytest.raises(Unreachable):
        PostgresSink(good, "erp", ENTITIES, LAYOUTS).acquire()


def test_steps_on_rows_that_are_not_there(target: PostgresTarget, sink: PostgresSink) -> None:
    """Deleting them counts as nothing to do; patching them is for the engine to resolve."""
    with sink.begin() as work:
        outcome = work.apply(
            [
                Delete(layout=MATERIALS, keys=[(b"k1",)], times=[1]),
                Patch(layout=MATERIALS, unchanged=frozenset({1}), rows=rows(1)),
            ]
        )
    assert outcome.counts == {(MATERIALS.mapping, "noop"): 1}
    assert [row for _, row in outcome.missing] == rows(1)
    assert target.living(MATERIALS) == {}
