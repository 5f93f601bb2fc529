"""A binlog that is gone, reset, lost, or another server's: refused with 78, the cure named.

The same as `test_faults_refusals` for sources on MariaDB and MySQL.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cdc_daemon import worker
from cdc_daemon.demo.mysql_family import FamilyServer
from tests.conftest import BinlogErpFactory, DatabaseFactory, FamilyServers
from tests.support.binlog_erp import BinlogErp
from tests.support.catalogue import BINLOGS, fault
from tests.support.erp import Writer
from tests.support.linked import linked
from tests.support.mysql_server import PrivateMySQL
from tests.support.refusals import CURE, cured, refused, streamed
from tests.support.waiting import until

SEED = 20_261_127


@pytest.fixture
def own(binlog_server: FamilyServers, make_binlog_erp: BinlogErpFactory) -> BinlogErp:
    """On a server of its own."""
    return make_binlog_erp(source=binlog_server())


def reset_of(server: FamilyServer) -> str:
    """The statement that makes a server forget its log and its numbers."""
    newer = isinstance(server, PrivateMySQL)
    return "RESET BINARY LOGS AND GTIDS" if newer else "RESET MASTER"


def purge(server: FamilyServer) -> None:
    """Keep only a new file; one that somebody still reads stays for a moment."""
    server.execute("FLUSH BINARY LOGS")

    def removed() -> bool:
        newest = server.query("SHOW BINARY LOGS")[-1][0]
        server.execute(f"PURGE BINARY LOGS TO '{newest}'")
        return len(server.query("SHOW BINARY LOGS")) == 1

    until(removed, what="old logs are removed")


# --- purged ---------------------------------------------------------------------------------------


@fault(21, "binlog purged that was not read", state="exit 78", sources=BINLOGS)
def test_log_that_was_not_read_is_gone(own: BinlogErp) -> None:
    streamed(own)
    own.insert_materials(4, 1)
    purge(own.origin.server)
    refused(own, "removed log that was not read yet", CURE)
    cured(own)


@fault(21, "binlog purged that was read, while it streams", ci=True, sources=BINLOGS)
def test_log_that_was_read_is_gone(own: BinlogErp, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read since the daemon was started is not missed, however long ago that was."""
    monkeypatch.setattr(worker, "RECHECK", 0.0)
    with own.worker():
        for first in (1, 11):
            own.insert_materials(first, 3)
            own.caught_up()
            purge(own.origin.server)
    own.settled()


# --- reset ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("then", ["", ", then more transactions than were read"])
@fault(22, "server reset while it streams{}", state="exit 78", ci=True, sources=BINLOGS)
def test_the_server_is_reset_under_the_daemons_eyes(own: BinlogErp, then: str) -> None:
    """The server goes on sending heartbeats; what it writes from then on never comes."""
    with own.streaming() as daemon:
        own.insert_materials(1, 3)
        own.caught_up(daemon)
        written = [f"INSERT INTO t_customer VALUES ({n}, 'C{n}', 'c')" for n in range(40)]
        own.run(reset_of(own.origin.server), *written[: len(written) if then else 1])
        assert daemon.wait(90) == 78, daemon.log
        daemon.said("pipeline stopped", error=CURE)
    assert own.target.query("SELECT count(*) FROM customer") == [(0,)]


@fault(
    22,
    "server reset while the daemon is away, then as many transactions",
    state="exit 78",
    sources=BINLOGS,
)
def test_the_server_was_reset(own: BinlogErp) -> None:
    """Equal numbers, other transactions: as after a restore from a dump."""
    streamed(own)
    own.run(reset_of(own.origin.server))
    for number in range(20):
        own.insert_materials(100 + number, 1)
    refused(own, "reset", CURE)
    cured(own)


# --- what a crash takes along ---------------------------------------------------------------------


@fault(
    10, "kill -9 of the source under load, sync_binlog=1", state="blocked", ci=True, sources=BINLOGS
)
def test_the_source_is_killed(own: BinlogErp) -> None:
    """Everything that it has told is there when it is back, and what was half done is not."""
    server = own.origin.server
    with own.streaming() as daemon:
        with Writer(own, SEED) as writer:
            for _ in range(2):
                writer.wrote(30)
                server.kill()
                daemon.shows("blocked")
                server.start()
                writer.wrote(5)
        own.healed(daemon)
        assert len(daemon.events("worker started")) == 1


@pytest.mark.parametrize("then", ["", ", then as many others are written"])
@fault(
    10,
    "power lost with sync_binlog=0: transactions are gone that were applied{}",
    state="exit 78",
    sources=BINLOGS,
)
def test_the_source_loses_what_was_applied(own: BinlogErp, then: str) -> None:
    """What was on its disk at a moment is all that is left: the control database has more."""
    server = own.origin.server
    server.configure(sync_binlog=0, innodb_flush_log_at_trx_commit=2)
    server.restart()
    with own.streaming() as daemon:
        own.insert_materials(1, 3)
        own.caught_up(daemon)
        with on_disk_now(server):
            for number in range(5):
                own.insert_materials(100 + number, 1)
            own.caught_up(daemon)
            if then:
                daemon.kill()
        for number in range(8 if then else 0):
            own.insert_materials(200 + number, 1)
        if not then:
            assert daemon.wait(60) == 78, daemon.log
            daemon.said("pipeline stopped", error=CURE)
    refused(own, CURE)
    cured(own)


@contextmanager
def on_disk_now(server: FamilyServer) -> Iterator[None]:
    """At the end the power fails: the server is back with what its disk held at the beginning.

    Not within the second: MariaDB's log tells a transaction's time in seconds, see docs/critiques.
    """
    image = server.data_dir.with_name("image")
    os.kill(server.pid, signal.SIGSTOP)
    subprocess.run(["cp", "-a", server.data_dir, image], check=True)
    os.kill(server.pid, signal.SIGCONT)
    yield
    server.kill()
    shutil.rmtree(server.data_dir)
    image.rename(server.data_dir)
    lost = int(time.time())
    until(lambda: time.time() >= lost + 1, what="a second is over")
    server.start()


# --- another server -------------------------------------------------------------------------------


@fault(23, "fail-over to a replica by GTID", state="blocked", sources=BINLOGS)
def test_a_replica_takes_over(
    binlog_server: FamilyServers, make_binlog_erp: BinlogErpFactory
) -> None:
    """It has all that was applied, and more: the same worker goes on there."""
    primary, replica = binlog_server(), binlog_server()
    erp = make_binlog_erp(source=primary)
    replica.follow(primary)
    with linked(erp) as links, erp.streaming() as daemon:
        with Writer(erp, SEED) as writer:
            writer.wrote(30)
        with links.source.down():
            daemon.shows("blocked")
            erp.insert_materials(1000, 5)
            replica.wait_for(primary)
            primary.kill()
            replica.promote()
            links.source.lead_to(replica.port)
            erp.source = replace(erp.origin, server=replica)  # type: ignore[assignment]
            erp.insert_materials(2000, 5)
        erp.healed(daemon)
        assert len(daemon.events("worker started")) == 1


@fault(
    23,
    "fail-over to a replica that lacks what was applied",
    state="exit 78",
    sources=BINLOGS,
)
def test_the_replica_was_behind(
    binlog_server: FamilyServers, make_binlog_erp: BinlogErpFactory
) -> None:
    """The control database holds rows that the new primary never had."""
    primary, replica = binlog_server(), binlog_server()
    erp = make_binlog_erp(source=primary)
    replica.follow(primary)
    replica.wait_for(primary)
    with linked(erp) as links, erp.streaming() as daemon:
        replica.promote()
        erp.insert_materials(1, 5)
        erp.caught_up(daemon)
        links.source.lead_to(replica.port)
        assert daemon.wait(60) == 78, daemon.log
        daemon.said("pipeline stopped", error=CURE)
        erp.source = replace(erp.origin, server=replica)  # type: ignore[assignment]
        cured(erp)


# --- how the log is written -----------------------------------------------------------------------

FOLLOWED = {
    "compression": (["log_bin_compress = 1"], ["binlog_transaction_compression = 1"]),
    "no checksums": (["binlog_checksum = 'NONE'"],) * 2,
    "parts of rows, in one session": ([], []),
    "ALTER TABLE in two phases": (["binlog_alter_two_phase = 1"], []),
    "partial documents": ([], ["binlog_row_value_options = 'PARTIAL_JSON'"]),
}
SESSIONS = {
    "parts of rows, in one session": "SET SESSION binlog_row_image = 'MINIMAL'",
    "ALTER TABLE in two phases": "SET SESSION binlog_alter_two_phase = 1",
}


@fault(
    25,
    "changed while it streams, followed: compression, checksums, images, two phases",
    sources=BINLOGS,
)
def test_the_log_is_written_in_another_way(own: BinlogErp) -> None:
    """Each is turned on and off again in the middle; the same worker reads all of it."""
    server, first = own.origin.server, 1
    with own.streaming() as daemon:
        for name, (mariadb, mysql) in FOLLOWED.items():
            settings = mariadb if own.mariadb else mysql
            before = {s.split(" = ")[0]: value_of(server, s.split(" = ")[0]) for s in settings}
            server.execute("; ".join(f"SET GLOBAL {setting}" for setting in settings) or "DO 1")
            alike(
                own, first, SESSIONS.get(name, "DO 1") if own.mariadb or "parts" in name else "DO 1"
            )
            for setting, value in before.items():
                server.execute(f"SET GLOBAL {setting} = %s", value)
            alike(own, first + 100, "DO 1")
            own.caught_up(daemon)
            first += 1000
        own.healed(daemon)
        assert len(daemon.events("worker started")) == 1


def value_of(server: FamilyServer, name: str) -> object:
    [(value,)] = server.query(f"SELECT @@GLOBAL.{name}")
    return value


def alike(erp: BinlogErp, first: int, setting: str) -> None:
    """Rows that come, change and go, and a column more, in one session with that setting."""
    erp.run(
        setting,
        "START TRANSACTION",
        f"INSERT INTO t_material SELECT n, 'M' || n, repeat('x', 200), 'KG', n, 'r'"
        f" FROM {erp.series(first, first + 49)}",
        f"UPDATE t_material SET fprice = fprice + 1 WHERE fid BETWEEN {first} AND {first + 9}",
        f"UPDATE t_material SET fid = fid + 50 WHERE fid = {first}",
        f"DELETE FROM t_material WHERE fid BETWEEN {first + 20} AND {first + 29}",
        "INSERT INTO journal (changes) VALUES (71)",
        "COMMIT",
        f"ALTER TABLE t_material ADD f{first} integer",
        f"ALTER TABLE t_material DROP f{first}",
    )


REFUSED = {
    "statements in place of rows": ("binlog_format = 'STATEMENT'", "binlog_format"),
    "no names of columns": ("binlog_row_metadata = 'MINIMAL'", "binlog_row_metadata"),
    "parts of rows": ("binlog_row_image = 'MINIMAL'", "binlog_row_image"),
}


@pytest.mark.parametrize("name", REFUSED)
@fault(25, "changed while it streams, refused: {}", state="exit 78", sources=BINLOGS)
def test_the_log_says_too_little(own: BinlogErp, name: str) -> None:
    """It ends, naming the setting, before a row is guessed."""
    setting, word = REFUSED[name]
    with own.streaming() as daemon:
        own.insert_materials(1, 3)
        own.caught_up(daemon)
        own.origin.server.execute(f"SET GLOBAL {setting}")
        own.insert_materials(11, 3)
        own.commit("UPDATE t_material SET fprice = 7 WHERE fid = 1")
        assert daemon.wait(60) == 78, daemon.log
        daemon.said("pipeline stopped", error=word)
        assert "Traceback" not in daemon.log


# --- two readers, and transactions that wait ------------------------------------------------------


@fault(36, "two daemons with one server_id", state="exit 78", sources=BINLOGS)
def test_one_server_id(
    binlog_erp: BinlogErp, database_factory: DatabaseFactory, tmp_path: Path
) -> None:
    """The server ends the one when the other comes: it says so; the other loses nothing."""
    erp = binlog_erp
    erp.more["source"] = {"server_id": 4_001}
    erp.configure()
    folder = tmp_path / "other"
    folder.mkdir()
    other = BinlogErp(erp.origin, database_factory(), folder)
    other.more["source"] = {"server_id": 4_001}
    other.configure()
    other.apply()
    with erp.streaming() as first:
        erp.insert_materials(1, 3)
        erp.caught_up(first)
        with other.streaming() as second:
            assert first.wait(60) == 78, first.log
            first.said("pipeline stopped", error="server_id")
            erp.insert_materials(11, 3)
            other.caught_up(second)
            other.same_content()
            assert second.stop() == 0, second.log
    erp.settled()


@fault(42, "XA PREPARE, daemon restarted, then commit and rollback", sources=BINLOGS)
def test_prepared_transactions(own: BinlogErp) -> None:
    """HAZARD M17: what is prepared takes effect at its commit, also a restart of both later."""
    with own.streaming() as daemon:
        for number, name in enumerate(("kept", "dropped", "late")):
            prepared(own, name, 1 + 10 * number)
        own.insert_materials(51, 2)
        own.caught_up(daemon)
        daemon.kill()
    assert own.target.query("SELECT count(*) FROM material") == [(2,)]
    with own.streaming() as daemon:
        own.run("XA COMMIT 'kept'", "XA ROLLBACK 'dropped'")
        own.healed(daemon)
        assert own.target.query("SELECT count(*) FROM material") == [(4,)]
        daemon.kill()
    own.origin.server.restart()
    own.run("XA ROLLBACK 'late'")
    own.settled()
    assert " xa=" not in own.checkpoint()["position"]


def prepared(erp: BinlogErp, name: str, first: int) -> None:
    erp.run(
        f"XA START '{name}'",
        f"INSERT INTO t_material SELECT n, 'M' || n, 'm', 'KG', n, 'r'"
        f" FROM {erp.series(first, first + 1)}",
        "INSERT INTO journal (changes) VALUES (2)",
        f"XA END '{name}'",
        f"XA PREPARE '{name}'",
    )
