"""A MySQL control database that is stopped, killed, locked and cut off under load."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from time import sleep
from typing import cast

import pymysql
import pytest

from cdc_daemon.demo.mariadb import PrivateMariaDB
from cdc_daemon.demo.mysql_family import FamilyServer
from tests.conftest import DatabaseFactory
from tests.support.databases import Database
from tests.support.erp import Erp, Writer
from tests.support.mysql_database import MysqlDatabase
from tests.support.mysql_server import PrivateMySQL

SEED = 20_261_127


@pytest.mark.acceptance
@pytest.mark.parametrize("kind", [PrivateMariaDB, PrivateMySQL])
def test_every_transaction_takes_effect_once_whatever_happens_to_the_target(
    kind: type[PrivateMariaDB | PrivateMySQL], database_factory: DatabaseFactory, tmp_path: Path
) -> None:
    """Rows are equal by verification, and the checkpoint has counted each change once."""
    source = database_factory()
    with kind() as server:
        server.create_database(source.name)
        control = MysqlDatabase(server=server, name=source.name)
        erp = Erp(source, cast(Database, control), tmp_path).set_up()
        with erp.streaming() as daemon:
            with Writer(erp, SEED) as writer:
                for end in (server.stop, server.kill) * 3:
                    writer.wrote(60)
                    end()
                    sleep(1)  # so that the daemon meets a server that is not there
                    server.start()
                writer.wrote(30)
                disturb(server, source.name)
                writer.wrote(60)
            erp.caught_up(daemon)
            done = erp.ask("verify", "--timeout", "30")
            assert done.exit_code == 0, f"{done.output}\n{daemon.log}"
        wanted = source.query("SELECT count(*), coalesce(sum(changes), 0)::bigint FROM journal")
        assert control.query("SELECT transactions, changes FROM cdc.checkpoint") == wanted


def disturb(server: FamilyServer, database: str) -> None:
    """Somebody holds the checkpoint's row; connections are killed; the server only reads."""
    with server.connect(database, autocommit=False) as other, other.cursor() as cursor:
        cursor.execute("SELECT * FROM cdc_checkpoint FOR UPDATE")
        sleep(2)
        other.rollback()
    ours = "SELECT id FROM information_schema.processlist WHERE db = %s"
    for _ in range(5):
        for (number,) in server.query(ours, database):
            with suppress(pymysql.Error):
                server.execute(f"KILL {number}")
        sleep(0.5)
    server.execute("SET GLOBAL read_only = 1")
    sleep(1)
    server.execute("SET GLOBAL read_only = 0")
