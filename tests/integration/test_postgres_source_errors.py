"""A source's errors in our words: no row values; and what a shutdown looks like from outside."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from cdc_daemon.demo.server import free_port
from cdc_daemon.model.errors import CdcError
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
