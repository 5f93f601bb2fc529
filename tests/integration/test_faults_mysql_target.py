"""What can happen to a control database on MariaDB, in its own way: disks, locks, rights.

What every kind of server meets alike is in `test_faults_target` and its like.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pymysql
import pytest

from cdc_daemon.demo.installation import server_account
from cdc_daemon.demo.mysql_family import FamilyServer
from tests.conftest import ErpFactory, FamilyServers
from tests.support.catalogue import MARIADB, fault
from tests.support.erp import Erp, Writer
from tests.support.mounts import NOISE, SmallDisk, small_disk
from tests.support.mysql_database import MysqlDatabase

SEED = 20_261_128
ROLE = "carrier"


@pytest.fixture
def server(control_server: FamilyServers) -> FamilyServer:
    """The control database's own."""
    return control_server()


@pytest.fixture
def own(server: FamilyServer, make_erp: ErpFactory) -> Erp:
    """With a control database on a server of its own."""
    return make_erp(target=server)


# --- disks ----------------------------------------------------------------------------------------


@fault(
    16, "MariaDB: disk of the control database's tables full", state="blocked", targets=[MARIADB]
)
def test_the_tables_disk_is_full(server: FamilyServer, own: Erp) -> None:
    """Nothing is parked for it; with room again it goes on."""
    with small_disk(32) as disk, moved(server, own, disk), own.streaming() as daemon:
        disk.fill()
        own.commit(NOISE.format(1, 2000))
        daemon.shows("blocked", error="a table is full")
        assert own.target.query("SELECT count(*) FROM material") == [(0,)]
        disk.free()
        own.healed(daemon, seconds=120)
        assert daemon.stop() == 0


@contextmanager
def moved(server: FamilyServer, erp: Erp, disk: SmallDisk) -> Iterator[None]:
    """The database's tables lie on that disk; the server is gone at the end."""
    server.stop()
    home = server.data_dir / erp.target.name
    shutil.move(home, disk.path / home.name)
    home.symlink_to(disk.path / home.name)
    for path in (disk.path / home.name, *(disk.path / home.name).iterdir()):
        server_account().own(path)
    server.start()
    try:
        yield
    finally:
        server.kill()


@fault(16, "MariaDB: disk of the binary log full", state="stalled", targets=[MARIADB])
def test_the_binary_logs_disk_is_full(control_server: FamilyServers, make_erp: ErpFactory) -> None:
    """The server lets COMMIT wait until there is room, and says nothing. Another worker starts,
    finds the checkpoint locked, and goes on from wherever the commit has come to in the end."""
    with small_disk(24) as disk:
        server = control_server(log_bin=str(disk.path / "binlog"))
        erp = make_erp(target=server)
        with erp.streaming() as daemon:
            disk.fill()
            erp.commit(NOISE.format(1, 2000))
            daemon.shows("stalled", seconds=120)
            daemon.said("worker started", times=2, seconds=240)
            disk.free()
            erp.healed(daemon, seconds=240)
            assert daemon.stop() == 0
        server.kill()


# --- other transactions ---------------------------------------------------------------------------


@fault(
    31,
    "MariaDB: deadlock with another session",
    state="blocked",
    ci=[MARIADB],
    targets=[MARIADB],
)
def test_a_deadlock(erp: Erp) -> None:
    """The daemon is the victim, for the other has written more; its unit comes again."""
    erp.insert_materials(1, 3)
    erp.target.execute("CREATE TABLE heavy (n int PRIMARY KEY)")
    with erp.streaming() as daemon:
        with closing(session(erp)) as connection, connection.cursor() as other:
            other.execute("INSERT INTO heavy SELECT seq FROM seq_1_to_1000")
            other.execute("UPDATE material SET remark = 'r' WHERE code = 'M2.0'")
            erp.commit("UPDATE t_material SET fprice = 9")
            erp.waiting_for_lock(daemon)
            other.execute("UPDATE material SET remark = 'r' WHERE code = 'M1.0'")
            daemon.shows("blocked", error="lost against another")
            connection.rollback()
        erp.caught_up(daemon)
        daemon.shows("streaming", "idle")
        erp.agrees_after_copy()


def session(erp: Erp) -> pymysql.Connection[pymysql.cursors.Cursor]:
    """Somebody else's, in the control database; each transaction until it is ended."""
    assert isinstance(erp.control, MysqlDatabase)
    return erp.control.server.connect(erp.control.name, autocommit=False)


@fault(31, "MariaDB: the loser's error, from a trigger", state="blocked", targets=[MARIADB])
def test_serialization_failures(server: FamilyServer, own: Erp) -> None:
    """It asks for READ COMMITTED, whatever the default; 1213 from elsewhere is tried again."""
    server.execute("SET GLOBAL tx_isolation = 'SERIALIZABLE'")
    own.target.execute(
        "CREATE TRIGGER lose BEFORE INSERT ON material FOR EACH ROW"
        " SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213"
    )
    with own.streaming() as daemon:
        own.insert_materials(1, 3)
        daemon.shows("blocked", error="lost against another")
        own.target.execute("DROP TRIGGER lose")
        with Writer(own, SEED) as writer:
            writer.wrote(20)
        own.healed(daemon)


# --- read-only, rights ----------------------------------------------------------------------------


@pytest.fixture
def served(server: FamilyServer, own: Erp) -> Erp:
    """The daemon has an account of its own, with a password, and what `apply` grants it."""
    server.create_account(ROLE, "old")
    own.reached["target"] = f"mysql://{ROLE}@127.0.0.1:{server.port}/{own.target.name}"
    own.more["target"] = {"password": "old"}
    own.configure()
    done = own.ask("apply", "--yes", "--admin-dsn", f"target={own.target.dsn}")
    assert done.exit_code == 0, done.output
    return own


@fault(32, "MariaDB: read_only = 1", state="blocked", ci=[MARIADB], targets=[MARIADB])
def test_a_read_only_control_database(server: FamilyServer, served: Erp) -> None:
    """It says so, keeps trying, and goes on when it may write."""
    with served.streaming() as daemon:
        server.execute("SET GLOBAL read_only = 1")
        served.insert_materials(1, 3)
        daemon.shows("blocked", error="read-only")
        server.execute("SET GLOBAL read_only = 0")
        served.healed(daemon)


LOCKS = {
    "rotated": (f"ALTER USER {ROLE}@'%' IDENTIFIED BY 'new'", "password is wrong"),
    "expired": (f"ALTER USER {ROLE}@'%' PASSWORD EXPIRE", "password"),
    "locked": (f"ALTER USER {ROLE}@'%' ACCOUNT LOCK", "the account is locked"),
}
UNLOCK = f"ALTER USER {ROLE}@'%' IDENTIFIED BY 'old' PASSWORD EXPIRE NEVER ACCOUNT UNLOCK"


@fault(
    33,
    "MariaDB: control database's password rotated, expired, account locked, right revoked",
    state="blocked",
    targets=[MARIADB],
)
def test_the_control_databases_account_is_changed(server: FamilyServer, served: Erp) -> None:
    """It has the right words and keeps trying; put right, it goes on; a new start is refused."""
    erp = served
    with erp.streaming() as daemon:
        for n, (lock, words) in enumerate(LOCKS.values()):
            erp.insert_materials(1 + 10 * n, 2)
            erp.caught_up(daemon)
            server.execute(lock)
            erp.kind.end_sessions()
            erp.insert_materials(5 + 10 * n, 2)
            daemon.shows("blocked", error=words)
            server.execute(UNLOCK)
            erp.healed(daemon)
        server.execute(f"REVOKE INSERT ON {erp.target.name}.material FROM {ROLE}@'%'")
        erp.insert_materials(51, 2)
        daemon.shows("blocked", error="lacks a right")
        server.execute(f"GRANT INSERT ON {erp.target.name}.material TO {ROLE}@'%'")
        erp.healed(daemon)
        assert daemon.stop() == 0
        assert "'old'" not in daemon.log
    for lock, words in LOCKS.values():
        server.execute(lock)
        with erp.daemon() as daemon:
            assert daemon.wait(60) == 78, daemon.log
            daemon.said("pipeline stopped", error=words)
        server.execute(UNLOCK)
    erp.settled()
