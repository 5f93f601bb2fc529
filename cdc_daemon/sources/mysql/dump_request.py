"""How a binlog is asked for: who we are, what the session is told, from where.

Protocol: COM_REGISTER_SLAVE, COM_BINLOG_DUMP, COM_BINLOG_DUMP_GTID of MySQL's documentation;
"5-Slave-Registration" of MariaDB's. Positions in COM_BINLOG_DUMP are of 32 bits (M26).
"""

from __future__ import annotations

import socket
import struct
import uuid
from hashlib import sha256
from typing import Final

from cdc_daemon.model.errors import RESNAPSHOT, PreflightRefusal, Problem
from cdc_daemon.sources.mysql.connection import Connection, Edition, command
from cdc_daemon.sources.mysql.gtid import format_domains
from cdc_daemon.sources.mysql.starts import FromDomains, FromFile, FromSet, Start

REGISTER, _DUMP, _DUMP_GTID = 0x15, 0x12, 0x1E
_NON_BLOCKING, _THROUGH_GTID = 0x01, 0x04
_PATIENT: Final = 24 * 3600  # seconds that the server waits for us while we do not read
_LOWEST, _HIGHEST = 1 << 31, (1 << 32) - 2


def server_id_of(source: str, instance: str, purpose: str = "stream") -> int:
    """An id as a replica, from 2^31 to 2^32 - 2, always the same for the same reader.

    Every open stream needs one of its own: the server ends an older one with the same.
    """
    digest = sha256("\0".join((source, instance, purpose)).encode()).digest()
    return _LOWEST + int.from_bytes(digest[:8], "big") % (_HIGHEST - _LOWEST + 1)


def prepare(
    connection: Connection, edition: Edition, start: Start, server_id: int, heartbeat: float
) -> None:
    """What the session tells the server about us.

    Checksums are asked for in any case: then only a file that was written without has none, and its
    FORMAT_DESCRIPTION says so.
    """
    period = int(heartbeat * 1e9)
    name = str(uuid.uuid5(uuid.NAMESPACE_URL, f"cdc_daemon:{server_id}"))
    settings = [
        "@master_binlog_checksum = 'CRC32'",
        "@source_binlog_checksum = 'CRC32'",
        f"@master_heartbeat_period = {period}",
        f"@source_heartbeat_period = {period}",
        f"@slave_uuid = '{name}'",
        f"@replica_uuid = '{name}'",
        f"SESSION net_write_timeout = {_PATIENT}",
    ]
    if edition.mariadb:
        settings += ["@mariadb_slave_capability = 4"]  # it knows GTIDs: send events as they are
        if isinstance(start, FromDomains):
            settings += [
                f"@slave_connect_state = '{format_domains(start.domains)}'",
                "@slave_gtid_strict_mode = 1",
                "@slave_gtid_ignore_duplicates = 0",
            ]
    with connection.cursor() as cursor:
        cursor.execute("SET " + ", ".join(settings))


def registration(server_id: int) -> bytes:
    """Who we are, for SHOW REPLICAS: id and host; no user, password, port, rank and source."""
    host = socket.gethostname().encode()[:60]
    return struct.pack("<IB", server_id, len(host)) + host + bytes((0, 0)) + bytes(10)


def ask(
    connection: Connection, edition: Edition, start: Start, server_id: int, *, until_end: bool
) -> None:
    """Ask for the log: what comes then are events, or a refusal.

    Raises PreflightRefusal for a place that cannot be asked for.
    """
    flags = _NON_BLOCKING if until_end else 0
    match start:
        case FromSet(executed):
            encoded = executed.encode()
            head = struct.pack("<HIIQ", flags | _THROUGH_GTID, server_id, 0, 4)
            body = head + struct.pack("<I", len(encoded)) + encoded
            command(connection, _DUMP_GTID, body, answered=False)
        case FromDomains():
            body = struct.pack("<IHI", 4, flags, server_id)
            command(connection, _DUMP, body, answered=False)
        case FromFile(file, offset):
            if edition.mariadb:
                raise _no_file_in_mariadb()
            if offset >> 32:
                raise _beyond_protocol(start)
            body = struct.pack("<IHI", offset, flags, server_id) + file.encode()
            command(connection, _DUMP, body, answered=False)


def _no_file_in_mariadb() -> PreflightRefusal:
    """M25: in a file of MariaDB 11.4, events inside of a transaction tell no offset."""
    what = "a place in a file is no position of MariaDB"
    return PreflightRefusal([Problem(what=what, cure=RESNAPSHOT)])


def _beyond_protocol(place: FromFile) -> PreflightRefusal:
    what = f"the place {place} is beyond 4 GiB, which the protocol cannot name (a huge transaction)"
    cure = f"turn GTIDs on at the server (gtid_mode), then {RESNAPSHOT}"
    return PreflightRefusal([Problem(what=what, cure=cure)])
