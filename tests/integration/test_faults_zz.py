"""A binlog that is gone, reset, lost, or another server's: refused with 78, the cure named.

The same as `test_faults_refusals` for sources on MariaDB and MySQL.
"""

from __future__ import annotations

import pytest

from cdc_daemon import worker
from cdc_daemon.demo.mysql_family import FamilyServer
from tests.conftest import BinlogErpFactory, BinlogServers
from tests.support.binlog_erp import BinlogErp
from tests.support.catalogue import BINLOGS, fault
from tests.support.mysql_server import PrivateMySQL
from tests.support.refusals import CURE, cured, refused, streamed
from tests.support.waiting import until

SEED = 20_261_127


@pytest.fixture
def own(binlog_server: BinlogServers, make_binlog_erp: BinlogErpFactory) -> BinlogErp:
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


@fault(21, "binlog purged that was not read", state="exit 78", ci=True, sources=BINLOGS)
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
        print("WHY", daemon.log[-1500:])
    assert own.target.query("SELECT count(*) FROM customer") == [(0,)]
