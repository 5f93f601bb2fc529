"""Connections whose rows come as the bytes that the server prints, in their columns' own character
sets; ``selected.py`` makes texts of them."""

from __future__ import annotations

from cdc_daemon.sources.mysql.connection import Connection, Server


def connect_for_rows(server: Server) -> Connection:
    """A connection that only reads, and reads bytes. Raises as ``Server.connect``."""
    connection = server.connect()
    try:
        with server.errors("setting the session up"), connection.cursor() as cursor:
            cursor.execute("SET SESSION character_set_results = NULL")
    except BaseException:
        connection.close()
        raise
    connection.use_unicode = False
    connection.decoders = {}
    return connection
