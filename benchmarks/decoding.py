"""Decoding a binlog: the daemon's row decoder beside mysql-replication, each in its own process.

Both ask the same server for the same file over TCP and make all rows of it; what counts is the time
from the first event to the last (`python -m benchmarks.decoding SIDE PORT FILE` prints it).
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import pymysql
from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.row_event import WriteRowsEvent

from benchmarks.cpu import Cpu
from benchmarks.mysql_workload import Binlog
from benchmarks.probe import BenchmarkError
from cdc_daemon.demo.mysql_family import HOST, SUPERUSER, FamilyServer
from cdc_daemon.sources.mysql.rows import RowsDecoder
from cdc_daemon.sources.mysql.tablemap import description_of, parse_table_map, table_id_of

DAEMON, BASELINE = "daemon", "mysql-replication"
_DUMP: Final = 0x12
_DO_NOT_WAIT: Final = 1
_SERVER_ID: Final = 4_000_000_001
_HEADER, _CHECKSUM, _TYPE = 20, 4, 5  # with the byte in front that says that it is an event
_TABLE_MAP, _INSERT_1, _INSERT_2 = 19, 23, 30
_LARGEST: Final = 1 << 24


def rate(side: str, server: FamilyServer, log: Binlog) -> tuple[float, Cpu]:
    """Rows per second of one side, and CPU-seconds per million rows of its process."""
    command = [sys.executable, "-m", "benchmarks.decoding", side, str(server.port), log.file]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"{side} did not read the binlog")
    found = json.loads(done.stdout)
    if found["rows"] != log.rows:
        raise BenchmarkError(f"{side} found {found['rows']} rows, there are {log.rows}")
    per_million = found["cpu"] * 1_000_000 / log.rows
    return log.rows / found["seconds"], Cpu(walsender=0.0, worker=per_million, backend=0.0)


def _ours(address: dict[str, Any], file: str) -> int:
    """Rows that the daemon's decoder makes of the file."""
    decoders: dict[bytes, RowsDecoder] = {}
    by_id: dict[int, RowsDecoder] = {}
    rows = 0
    connection = pymysql.connect(**address)
    mariadb = _is_mariadb(connection)
    for packet in _events(connection, file):
        kind, body = packet[_TYPE], packet[_HEADER:-_CHECKSUM]
        if kind == _TABLE_MAP:
            description = description_of(body)
            if description not in decoders:
                found = parse_table_map(body, mariadb=mariadb)
                wanted = range(len(found.columns))
                decoders[description] = RowsDecoder(
                    found, wanted, found.primary_key, max_value_bytes=_LARGEST
                )
            by_id[table_id_of(body)] = decoders[description]
        elif kind in {_INSERT_1, _INSERT_2}:
            decoder = by_id[table_id_of(body)]
            rows += len(decoder.insert(body, 1 if kind == _INSERT_1 else 2).news)
    return rows


def _is_mariadb(connection: Any) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT version()")
        return "MariaDB" in cursor.fetchone()[0]


def _events(connection: Any, file: str) -> Iterator[bytes]:
    """The file's events, each behind a byte that is 0."""
    with connection.cursor() as cursor:
        cursor.execute("SET @master_binlog_checksum = 'CRC32', @source_binlog_checksum = 'CRC32'")
        cursor.execute("SET @mariadb_slave_capability = 4")
    where = struct.pack("<IHI", 4, _DO_NOT_WAIT, _SERVER_ID) + file.encode()
    connection._execute_command(_DUMP, where)
    while True:
        packet = connection._read_packet()
        if packet.is_eof_packet():
            return
        yield packet.get_all_data()


def _theirs(address: dict[str, Any], file: str) -> int:
    """Rows that mysql-replication makes of the file."""
    rows = 0
    stream = BinLogStreamReader(
        connection_settings={**address, "passwd": address["password"]},
        server_id=_SERVER_ID + 1,
        log_file=file,
        log_pos=4,
        only_events=[WriteRowsEvent],
        enable_logging=False,
    )
    for event in stream:
        rows += len(event.rows)
    return rows


_SIDES: Final[dict[str, Callable[[dict[str, Any], str], int]]] = {DAEMON: _ours, BASELINE: _theirs}


def main(side: str, port: str, file: str) -> None:
    """Read the file once; print rows, seconds and CPU-seconds."""
    address = {"host": HOST, "port": int(port), "user": SUPERUSER, "password": ""}
    started, used = time.perf_counter(), time.process_time()
    rows = _SIDES[side](address, file)
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    print(json.dumps({"rows": rows, "seconds": seconds, "cpu": cpu}))


if __name__ == "__main__":
    main(*sys.argv[1:])
