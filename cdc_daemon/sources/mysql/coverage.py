"""Whether a server's log holds what a position has read, and still has what follows.

It is asked before each stream: MySQL itself misses only transactions of its own UUID, and MariaDB
takes a reader that is ahead of it and then keeps from it, in silence, everything until its numbers
have caught up.
"""

from __future__ import annotations

from typing import assert_never

from cdc_daemon.model.errors import RESNAPSHOT, PreflightRefusal, Problem
from cdc_daemon.sources.mysql.connection import Connection, Server, query
from cdc_daemon.sources.mysql.gtid import format_domains, parse_domains, parse_set
from cdc_daemon.sources.mysql.position import (
    FilePosition,
    FromFile,
    MariadbPosition,
    MysqlPosition,
    Position,
    other_history,
)


def check_server(server: Server, connection: Connection, position: Position) -> None:
    """Raises PreflightRefusal where reading on would skip transactions in silence."""
    edition = server.edition(connection)
    if edition.mariadb is not isinstance(position, MariadbPosition):
        read = "MySQL" if edition.mariadb else "MariaDB"
        raise _refused(
            server,
            f"the log of a {read} server was read, and this is {edition}",
            f"connect to the right one, or {RESNAPSHOT}",
        )
    match position:
        case MysqlPosition():
            _check_set(server, connection, position)
        case MariadbPosition():
            _check_domains(server, connection, position)
        case FilePosition():
            _check_file(server, connection, position)
        case _:
            assert_never(position)


def _check_set(server: Server, connection: Connection, position: MysqlPosition) -> None:
    asked = "SELECT @@global.gtid_executed, @@global.gtid_purged"
    [(executed, purged)] = query(server, connection, asked)
    if beyond := position.beyond(parse_set(executed)):
        raise other_history(position.last or position.executed, f"does not have {beyond}")
    if missing := position.missing(parse_set(purged)):
        raise _refused(
            server,
            f"{missing} was not read, and is in no file of the server any more",
            f"{RESNAPSHOT}; keep the log for longer"
            " (binlog_expire_logs_seconds) than the daemon may be down",
        )


def _check_domains(server: Server, connection: Connection, position: MariadbPosition) -> None:
    [(here,)] = query(server, connection, "SELECT @@global.gtid_binlog_pos")
    if beyond := position.beyond(parse_domains(here)):
        found = f"its log ends at {here}" if here else "its log is empty"
        raise other_history(format_domains(beyond), f"does not have it ({found})")


def _check_file(server: Server, connection: Connection, position: FilePosition) -> None:
    [(uuid, mode)] = query(server, connection, "SELECT @@server_uuid, @@global.gtid_mode")
    if uuid != position.server:
        raise _refused(
            server,
            f"the log of the server {position.server} was read, and this one is {uuid}",
            "a place in a file means nothing on another server: connect to the right one, or"
            f" {RESNAPSHOT}",
        )
    if mode == "ON":
        raise _refused(
            server,
            "the server has GTIDs now, and the position is one in a file",
            RESNAPSHOT,
        )
    end = end_of_log(server, connection)
    if position.beyond(end):
        raise other_history(position.at, f"ends at {end}")


def end_of_log(server: Server, connection: Connection) -> FromFile:
    """Where the log of a MySQL server ends. Raises PreflightRefusal if it keeps none."""
    edition = server.edition(connection)
    newer = edition.version >= (8, 2, 0)
    rows = query(server, connection, f"SHOW {'BINARY LOG' if newer else 'MASTER'} STATUS")
    if not rows:
        raise _refused(server, "the server keeps no binary log", "turn it on: log_bin")
    return FromFile(str(rows[0][0]), int(rows[0][1]))


def _refused(server: Server, what: str, cure: str) -> PreflightRefusal:
    return PreflightRefusal([Problem(what=what, where=server.where, cure=cure)])
