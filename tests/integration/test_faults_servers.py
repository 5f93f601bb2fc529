"""Servers die, freeze or shut down under the daemon, and the daemon is stopped at bad moments.

It gets over each by itself: these tests start no second daemon but where they say so.
"""

from __future__ import annotations

import time
from contextlib import closing

import psycopg
import pytest

from tests.conftest import ErpFactory, PostgresFactory
from tests.support.catalogue import POSTGRES, fault
from tests.support.erp import Erp, Writer
from tests.support.real_daemon import seconds_of
from tests.support.waiting import until

SEED = 20_260_215
LARGE = 200_000  # rows of one transaction


@fault(6, "SIGSTOP for longer than wal_sender_timeout", ci=True)
def test_a_halt_longer_than_the_servers_patience(erp: Erp) -> None:
    """FAULT 6: the server cuts the stream; after the halt the daemon opens it again."""
    erp.source.execute(f"ALTER DATABASE {erp.source.name} SET wal_sender_timeout = '3s'")
    with erp.streaming() as daemon, Writer(erp, SEED) as writer:
        writer.wrote(20)
        daemon.pause()
        until(lambda: not walsender(erp), seconds=30, what="the server has cut the stream")
        writer.wrote(5)
        daemon.resume()
        erp.caught_up(daemon)
    erp.settled()


def walsender(erp: Erp) -> bool:
    """Whether somebody reads the slot."""
    return erp.source.query(
        "SELECT active FROM pg_replication_slots WHERE slot_name = %s", erp.slot
    ) == [(True,)]


# --- TERM -----------------------------------------------------------------------------------------


@fault(7, "TERM inside a transaction of 200,000 rows", state="exit 0", ci=True)
def test_terminated_inside_a_large_transaction(erp: Erp) -> None:
    """FAULT 7: the drain time over, it rolls back and ends with 0; nobody ever sees a part."""
    erp.configure(drain_seconds=0.3)
    with erp.streaming() as daemon:
        erp.insert_materials(1, LARGE)
        erp.working(daemon)
        begun = time.monotonic()
        assert daemon.stop(seconds=20) == 0, daemon.log
        assert seconds_of(begun) < 5
    assert erp.target.query("SELECT count(*) FROM material") == [(0,)]
    assert erp.checkpoint()["transactions"] == 0
    erp.settled()


def test_terminated_inside_a_transaction_that_ends_in_time(erp: Erp) -> None:
    """Within the drain time an open transaction is finished and committed."""
    erp.configure(drain_seconds=60, batch_rows=1000)
    with erp.streaming() as daemon:
        with erp.locked("material"):
            erp.insert_materials(1, 5000)
            erp.waiting_for_lock(daemon)
            daemon.terminate()
            daemon.said("stopping")
        assert daemon.wait(60) == 0, daemon.log
    erp.agrees()


@fault(7, "TERM while the control database blocks", state="exit 0")
def test_terminated_while_the_control_database_blocks(erp: Erp) -> None:
    """A statement that waits for a lock cannot be drained; the daemon ends nonetheless."""
    erp.configure(drain_seconds=1)
    with erp.streaming() as daemon, erp.locked("material"):
        erp.insert_materials(1, 10)
        erp.waiting_for_lock(daemon)
        begun = time.monotonic()
        assert daemon.stop(seconds=30) == 0, daemon.log
        assert seconds_of(begun) < 1 + 5 + 5 + 4  # drain, the worker's grace, the force, slack
    erp.settled()


# --- the source -----------------------------------------------------------------------------------


@fault(8, "kill -9 of the source", state="blocked", ci=True)
def test_the_source_is_killed(postgres_factory: PostgresFactory, make_erp: ErpFactory) -> None:
    """FAULT 8: its slot may be back where it was at a checkpoint; what comes again is known."""
    server = postgres_factory()
    erp = make_erp(source=server)
    with erp.streaming() as daemon, Writer(erp, SEED) as writer:
        for _ in range(2):
            writer.wrote(40)
            server.kill()
            daemon.said("will try again")
            daemon.shows("blocked")
            server.start()
            writer.wrote(10)
        erp.caught_up(daemon)
        assert len(daemon.events("worker started")) == 1
    erp.settled()


@fault(9, "fast stop of the source while the sink is blocked", state="blocked", ci=True)
def test_the_source_stops_while_the_control_database_blocks(
    postgres_factory: PostgresFactory, make_erp: ErpFactory
) -> None:
    """FAULT 9: a fast shutdown waits for its walsenders; a reader whose applier is blocked must
    not keep it waiting."""
    server = postgres_factory()
    erp = make_erp(source=server)
    with erp.streaming() as daemon:
        with erp.locked("material"):
            erp.insert_materials(1, 10)
            erp.waiting_for_lock(daemon)
            begun = time.monotonic()
            server.stop("fast", timeout=60)
            assert seconds_of(begun) < 25  # the applier would wait for the lock for 30 s
        daemon.shows("blocked")
        server.start()
        erp.insert_materials(11, 10)
        erp.caught_up(daemon)
        erp.agrees()
    erp.settled()


@pytest.mark.acceptance
@fault(9, "fast stop of the source with a full queue", state="blocked", ci=True)
def test_the_source_stops_with_a_full_queue(
    postgres_factory: PostgresFactory, make_erp: ErpFactory
) -> None:
    """The same while the reader may not even read on, for nobody takes what it has read."""
    server = postgres_factory()
    erp = make_erp(source=server)
    erp.configure(queue_bytes=1024, batch_rows=100)
    with erp.streaming() as daemon:
        with erp.locked("material"):
            for n in range(20):
                erp.insert_materials(1 + n * 1000, 1000)
            erp.waiting_for_lock(daemon)
            begun = time.monotonic()
            server.stop("fast", timeout=60)
            assert seconds_of(begun) < 25
        daemon.shows("blocked")
        server.start()
        erp.caught_up(daemon)
        erp.agrees()
    erp.settled()


# --- the control database -------------------------------------------------------------------------

SLOW_COMMIT = """
    CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER linger AFTER INSERT ON material DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION linger()
"""


@fault(
    11,
    "kill -9 of the control database before a commit takes effect",
    state="blocked",
    ci=True,
    targets=[POSTGRES],
)
def test_the_control_database_is_killed_before_a_commit_takes_effect(
    postgres_factory: PostgresFactory, make_erp: ErpFactory
) -> None:
    """FAULT 11: COMMIT was sent, no answer came, and it did not happen: the unit comes again."""
    server = postgres_factory()
    erp = make_erp(target=server)
    with erp.streaming() as daemon:
        erp.target.execute(SLOW_COMMIT)
        erp.insert_materials(1, 3)
        erp.committing("PgSleep", daemon)
        server.kill()
        daemon.shows("blocked")
        server.start()
        erp.target.execute("DROP TRIGGER linger ON material")
        erp.caught_up(daemon)
        erp.agrees()
        assert len(daemon.events("worker started")) == 1
    erp.settled()


@fault(
    11,
    "kill -9 of the control database after a commit took effect",
    state="blocked",
    ci=True,
    targets=[POSTGRES],
)
def test_the_control_database_is_killed_after_a_commit_took_effect(
    postgres_factory: PostgresFactory, make_erp: ErpFactory
) -> None:
    """FAULT 11: COMMIT is durable, but no answer came: the checkpoint says so, nothing doubles."""
    server = postgres_factory()
    erp = make_erp(target=server)
    with erp.streaming() as daemon:
        configuration = server.data_dir / "postgresql.auto.conf"
        before = configuration.read_text()
        with erp.locked("material"):
            erp.insert_materials(1, 3)
            erp.waiting_for_lock(daemon)  # the next that it commits are these rows
            no_commit_answers(erp)
        erp.committing("SyncRep", daemon)
        server.kill()
        daemon.shows("blocked")
        configuration.write_text(before)
        server.start()
        ((rows,),) = erp.target.query("SELECT count(*) FROM material")
        assert rows == 3, "the commit was durable"
        erp.insert_materials(4, 3)
        erp.caught_up(daemon)
        erp.agrees()
        assert len(daemon.events("worker started")) == 1
    erp.settled()


def no_commit_answers(erp: Erp) -> None:
    """COMMIT waits for a standby that nobody has, once a session was seen waiting so."""
    erp.target.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    erp.target.execute("SELECT pg_reload_conf()")
    with closing(psycopg.connect(erp.target.dsn, autocommit=True)) as probe:

        def one_waits() -> object:
            probe.pgconn.consume_input()
            if not probe.pgconn.is_busy():
                while probe.pgconn.get_result():
                    pass
                probe.pgconn.send_query(b"SELECT pg_logical_emit_message(true, 'probe', '')")
                probe.pgconn.flush()
            return erp.target.query(
                "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid = %s",
                probe.info.backend_pid,
            )

        until(one_waits, seconds=30, what="a COMMIT waits for a standby")


@pytest.mark.acceptance
@fault(
    11, "kill -9 of the control database under load", state="blocked", ci=True, targets=[POSTGRES]
)
def test_the_control_database_is_killed_under_load(
    postgres_factory: PostgresFactory, make_erp: ErpFactory
) -> None:
    """At any moment, three times; the same worker goes on."""
    server = postgres_factory()
    erp = make_erp(target=server)
    with erp.streaming() as daemon, Writer(erp, SEED) as writer:
        for _ in range(3):
            writer.wrote(30)
            server.kill()
            writer.wrote(5)
            daemon.shows("blocked")
            server.start()
        erp.caught_up(daemon)
        assert len(daemon.events("worker started")) == 1
    erp.settled()
