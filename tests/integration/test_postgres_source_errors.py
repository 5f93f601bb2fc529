"""A source's errors in our words: no row values; and what a shutdown looks like from outside."""

from __future__ import annotations

import socket
from contextlib import closing

import psycopg
import pytest

from cdc_daemon.demo.server import free_port
from cdc_daemon.model.errors import CdcError, NotAdmitted, Unreachable
from cdc_daemon.sources.postgres.connection import Server
from tests.support.databases import Database
from tests.support.sources import conninfo

QUOTING = {
    "invalid text": ("SELECT 'Mrs. Secret'::int", "invalid text representation"),
    "unique": (
        "CREATE TEMP TABLE u (x text PRIMARY KEY);"
        " INSERT INTO u VALUES ('Mrs. Secret'), ('Mrs. Secret')",
        "unique violation",
    ),
    "raised": ("DO $$BEGIN RAISE EXCEPTION 'Mrs. Secret'; END$$", "raise exception"),
}


@pytest.mark.parametrize("name", QUOTING)
def test_an_error_that_may_quote_a_row_is_told_by_its_name(database: Database, name: str) -> None:
    statement, words = QUOTING[name]
    server = Server("erp", conninfo(database))
    with (
        closing(server.connect()) as connection,
        pytest.raises(CdcError) as caught,
        server.errors("reading"),
    ):
        connection.execute(statement.encode())
    assert "Secret" not in str(caught.value)
    assert f"reading: {words} (SQLSTATE" in str(caught.value)


def test_an_error_about_names_is_told_in_the_servers_words(database: Database) -> None:
    server = Server("erp", conninfo(database))
    with (
        closing(server.connect()) as connection,
        pytest.raises(CdcError, match='relation "absent" does not exist'),
        server.errors("reading"),
    ):
        connection.execute("SELECT * FROM absent")


def test_only_a_refusal_is_a_shutdown(database: Database) -> None:
    """A server that takes connections is up, and one that is slow to answer may be."""
    server = Server("erp", conninfo(database))
    with closing(server.connect()) as connection:
        info = connection.info
        assert not server.shutting_down(info.hostaddr or info.host, info.port)
    assert server.shutting_down("127.0.0.1", free_port())
    with socket.create_server(("127.0.0.1", 0)) as mute:
        assert not server.shutting_down("127.0.0.1", mute.getsockname()[1])


def test_a_server_that_only_reads_is_waited_for(database: Database) -> None:
    """What a standby looks like to ``target_session_attrs=read-write`` until it is promoted."""
    database.execute(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
    server = Server("erp", conninfo(database, target_session_attrs="read-write"))
    with pytest.raises(Unreachable, match="session is read-only") as caught:
        server.connect()
    assert "target_session_attrs" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "said",
    [
        "session is not read-only",
        "server is in hot standby mode",
        "server is not in hot standby mode",
    ],
)
def test_a_server_of_another_kind_than_asked_for_is_waited_for(
    database: Database, said: str
) -> None:
    server = Server("erp", conninfo(database))
    failed = psycopg.OperationalError(f'connection to server at "erp-b", port 5432 failed: {said}')
    assert type(server.startup_error(failed)) is Unreachable


def test_an_unknown_refusal_is_one_only_where_every_server_is_up(database: Database) -> None:
    failed = psycopg.OperationalError("connection failed: what nobody has heard of")
    given = conninfo(database)
    up, down = given["port"], str(free_port())
    host = given.pop("host")
    for ports, kind in (
        (up, NotAdmitted),
        (f"{up},{up}", NotAdmitted),
        (f"{up},{down}", Unreachable),
        (f"{down},{up}", Unreachable),
    ):
        hosts = ",".join([host] * (ports.count(",") + 1))
        server = Server("erp", {**given, "host": hosts, "port": ports})
        assert type(server.startup_error(failed)) is kind, ports
    several = Server("erp", {**given, "host": f"{host},{host}", "port": up})  # one port for all
    assert type(several.startup_error(failed)) is NotAdmitted
