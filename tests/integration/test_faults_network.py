"""Broken, silent and slow connections on the way to the source and to the control database.

The same daemon, and the same worker, goes on by itself once the network is well again.
"""

from __future__ import annotations

import psycopg
import pytest

from cdc_daemon.model.errors import Unreachable
from cdc_daemon.sinks.postgres.session import Session
from cdc_daemon.sources.postgres.connection import Server
from tests.support.catalogue import POSTGRES, SERVERS, SOURCES, fault
from tests.support.databases import Database
from tests.support.erp import Erp, Writer
from tests.support.fault_proxy import FaultProxy
from tests.support.linked import linked, through
from tests.support.real_daemon import RealDaemon
from tests.support.sources import conninfo
from tests.support.waiting import until

SEED = 20_260_301


def same_worker(daemon: RealDaemon) -> None:
    assert len(daemon.events("worker started")) == 1, daemon.log


# --- the outcome of a commit is unknown -----------------------------------------------------------


@fault(
    11,
    "connection lost with COMMIT under way: it never arrived",
    state="blocked",
    targets=SERVERS,
)
def test_a_commit_that_never_arrived(erp: Erp) -> None:
    """The checkpoint says that it did not happen, and the unit comes again."""
    unknown_commit(erp, forward=False)


@fault(
    11,
    "connection lost with COMMIT under way: its answer was lost",
    state="blocked",
    ci=True,
    targets=SERVERS,
)
def test_a_commit_whose_answer_was_lost(erp: Erp) -> None:
    """The checkpoint says that it happened, and nothing is applied twice."""
    unknown_commit(erp, forward=True)


def unknown_commit(erp: Erp, *, forward: bool) -> None:
    with linked(erp) as links, erp.streaming() as daemon:
        for n in range(3):
            links.target.break_at(erp.kind.commit, forward=forward)
            erp.insert_materials(1 + n * 10, 3)
            erp.commit(f"UPDATE t_material SET fprice = fprice + 1 WHERE fid < {n * 10 + 3}")
            erp.caught_up(daemon)
        assert links.target.sights == 3
        with links.source.down():
            daemon.shows("blocked")
        erp.insert_materials(100, 1)
        erp.healed(daemon)
        same_worker(daemon)


# --- a connection that breaks while it is opened --------------------------------------------------


@pytest.mark.parametrize("how", ["reset", "in order"])
def test_a_connection_that_breaks_while_it_is_opened_is_tried_again(
    database: Database, how: str
) -> None:
    """Though the server answers the next moment, so that it looks as if it had refused us."""
    with FaultProxy(database.server.port) as proxy:
        server = Server("erp", {**conninfo(database), "port": str(proxy.port)})
        proxy.break_at(b"user\0", forward=False, reset=how == "reset")
        with pytest.raises(Unreachable, match="connection"):
            server.connect()
        assert proxy.sights == 1
        server.connect().close()


def test_a_connection_that_breaks_before_its_first_use_is_tried_again(database: Database) -> None:
    """The same for the control database, between its opening and the first unit of work."""
    with FaultProxy(database.server.port) as proxy:
        connection = psycopg.connect(through(database.dsn, proxy), autocommit=True)
        proxy.reset()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
        with pytest.raises(Unreachable):
            Session(connection)


# --- lost connections -----------------------------------------------------------------------------


@fault(13, "TCP cut in order (FIN), each end", state="blocked", ci=True, sources=SOURCES)
def test_cut(erp: Erp) -> None:
    """Both ends, again and again while a writer works; then nobody gets through for a while."""
    broken(erp, FaultProxy.cut)


@fault(13, "TCP reset (RST) in the middle of messages, each end", state="blocked", sources=SOURCES)
def test_reset(erp: Erp) -> None:
    broken(erp, FaultProxy.reset)


def broken(erp: Erp, how: object) -> None:
    assert callable(how)
    with linked(erp) as links, erp.streaming() as daemon:
        with Writer(erp, SEED) as writer:
            for proxy in links.all * 3:
                writer.wrote(15)
                how(proxy)
            for proxy in links.all:
                with proxy.down():
                    daemon.shows("blocked", seconds=30)
                writer.wrote(10)
        erp.healed(daemon)
        same_worker(daemon)


@fault(13, "half-open to the source: the log alone falls silent", state="stalled", sources=SOURCES)
def test_the_log_falls_silent(erp: Erp) -> None:
    """TCP is content, for the proxy acknowledges, and the server answers on other connections;
    that it answers no request for a word gives the stream away."""
    with linked(erp) as links, erp.streaming() as daemon:
        erp.insert_materials(1, 3)
        erp.caught_up(daemon)
        links.source.freeze(erp.asks)
        erp.insert_materials(11, 3)
        daemon.shows("stalled", seconds=60)
        erp.healed(daemon, seconds=400)
        same_worker(daemon)


@fault(
    13, "half-open to the source: every connection falls silent", state="stalled", sources=SOURCES
)
def test_the_source_falls_silent(erp: Erp) -> None:
    """A query that never ends: the supervisor sees no turn of the loop and starts another."""
    with linked(erp) as links, erp.streaming() as daemon:
        erp.insert_materials(1, 3)
        erp.caught_up(daemon)
        links.source.freeze()
        erp.insert_materials(11, 3)
        daemon.shows("stalled", seconds=60)
        erp.healed(daemon, seconds=300)


@fault(
    13,
    "half-open to the control database, inside a unit of work",
    state="stalled",
    targets=[POSTGRES],
)
def test_half_open_to_the_control_database(erp: Erp) -> None:
    """The statement never ends; the supervisor sees no turn of the loop and starts another."""
    with linked(erp) as links, erp.streaming() as daemon:
        erp.insert_materials(1, 3)
        erp.caught_up(daemon)
        links.target.freeze()
        erp.insert_materials(11, 3)
        daemon.shows("stalled", seconds=60)
        erp.healed(daemon, seconds=300)


# --- slow connections -----------------------------------------------------------------------------


@fault(14, "one byte a packet, each end")
def test_sliced(erp: Erp) -> None:
    """Messages fall apart at every place; nothing but their bytes counts."""
    with linked(erp) as links:
        for proxy in links.all:
            proxy.sliced = True
        with erp.streaming() as daemon:
            with Writer(erp, SEED, large=60) as writer:
                writer.wrote(25)
            erp.healed(daemon, seconds=120)
            same_worker(daemon)


@fault(14, "300 ms of latency, each end")
def test_latency(erp: Erp) -> None:
    with linked(erp) as links, erp.streaming() as daemon:
        for proxy in links.all:
            proxy.latency = 0.3
        with Writer(erp, SEED) as writer:
            writer.wrote(100)
        erp.healed(daemon, seconds=180)
        same_worker(daemon)


@fault(14, "64 KB/s, each end")
def test_a_narrow_way(erp: Erp) -> None:
    with linked(erp) as links, erp.streaming() as daemon:
        for n, proxy in enumerate(links.all):
            proxy.rate = 64 << 10
            erp.insert_materials(1 + 10_000 * n, 2000)
            erp.commit("UPDATE t_material SET fprice = 7 WHERE fid % 2 = 0")
            erp.caught_up(daemon, seconds=180)
            proxy.heal()
        erp.healed(daemon)
        same_worker(daemon)


# --- one of several -------------------------------------------------------------------------------


@fault(41, "control database gone for a while (scaled: 10 s)", state="blocked", targets=SERVERS)
def test_the_control_database_is_away_for_a_while(erp: Erp) -> None:
    """Nothing is read into memory meanwhile beyond the queue; afterwards all of it is applied."""
    with linked(erp, queue_bytes=100_000) as links, erp.streaming() as daemon:
        with Writer(erp, SEED) as writer:
            with links.target.down():
                daemon.shows("blocked")
                writer.wrote(300, seconds=120)
                retries = daemon.status()["retries"]
                until(lambda: daemon.status()["retries"] > retries + 10, what="it tries again")
                assert daemon.status()["queue_bytes"] < 2_000_000
            writer.wrote(5)
        erp.healed(daemon)
        same_worker(daemon)
