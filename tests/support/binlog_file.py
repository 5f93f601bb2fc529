"""A private server's binlog, read from its file: the rows that statements left in it.

Not in here: how the daemon reads it over the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from cdc_daemon.demo.mysql_family import FamilyServer
from cdc_daemon.model.changes import Row
from cdc_daemon.sources.mysql.compression import inflate_rows
from cdc_daemon.sources.mysql.rows import Decoded, RowsDecoder
from cdc_daemon.sources.mysql.tablemap import TableMap, named, parse_table_map, table_id_of

HEADER: Final = 19
_MAGIC: Final = 4
_CHECKSUM: Final = 4
FORMAT, TABLE_MAP, PARTIAL = 15, 19, 39
_OPERATIONS: Final = {
    23: ("insert", 1, False), 24: ("update", 1, False), 25: ("delete", 1, False),
    30: ("insert", 2, False), 31: ("update", 2, False), 32: ("delete", 2, False),
    166: ("insert", 1, True), 167: ("update", 1, True), 168: ("delete", 1, True),
}  # fmt: skip
_ROWS: Final = {*_OPERATIONS, PARTIAL}
LIMIT: Final = 1 << 28


def new_file(server: FamilyServer) -> Path:
    """Begin a file of the binlog that holds only what follows."""
    server.execute("FLUSH BINARY LOGS")
    *_, (name, *_) = server.query("SHOW BINARY LOGS")
    return server.data_dir / str(name)


def events(file: Path) -> Iterator[tuple[int, bytes]]:
    """Type and body of each event."""
    data = file.read_bytes()
    offset, checksum = _MAGIC, 0
    while offset < len(data):
        kind, size = data[offset + 4], int.from_bytes(data[offset + 9 : offset + 13], "little")
        if kind == FORMAT:
            checksum = _CHECKSUM if data[offset + size - _CHECKSUM - 1] == 1 else 0
        yield kind, data[offset + HEADER : offset + size - checksum]
        offset += size


def is_mariadb(server: FamilyServer) -> bool:
    """Which of the two it is."""
    [(version,)] = server.query("SELECT version()")
    return "MariaDB" in str(version)


def table_map(server: FamilyServer, file: Path, table: str) -> TableMap:
    """The last description of a table in the file."""
    maps = (body for kind, body in events(file) if kind == TABLE_MAP)
    found = [parse_table_map(body, mariadb=is_mariadb(server)) for body in maps]
    return [one for one in found if one.table == table][-1]


def decoded(
    server: FamilyServer,
    file: Path,
    table: str,
    *,
    types: Mapping[str, str] | None = None,
    wanted: Sequence[int] | None = None,
    max_value_bytes: int = LIMIT,
) -> Iterator[tuple[str, Decoded]]:
    """Operation and rows of every event about a table, all columns unless told."""
    mariadb = is_mariadb(server)
    decoders: dict[int, RowsDecoder] = {}
    for kind, body in events(file):
        if kind == TABLE_MAP:
            found = named(parse_table_map(body, mariadb=mariadb), types or {})
            decoders.pop(found.table_id, None)
            if found.table == table:
                columns = wanted or range(len(found.columns))
                key = found.primary_key
                decoders[found.table_id] = RowsDecoder(
                    found, columns, key, max_value_bytes=max_value_bytes
                )
        elif kind in _ROWS and (decoder := decoders.get(table_id_of(body))):
            yield _read(decoder, kind, body)


def _read(decoder: RowsDecoder, kind: int, body: bytes) -> tuple[str, Decoded]:
    if kind == PARTIAL:
        return "update", decoder.partial_update(body)
    operation, version, compressed = _OPERATIONS[kind]
    if compressed:
        body = inflate_rows(body, update=operation == "update")
    match operation:
        case "insert":
            return operation, decoder.insert(body, version)
        case "update":
            return operation, decoder.update(body, version)
        case _:
            return operation, decoder.delete(body, version)


def inserted(
    server: FamilyServer, file: Path, table: str, types: Mapping[str, str] | None = None
) -> list[Row]:
    """The rows that were inserted into a table."""
    found = decoded(server, file, table, types=types)
    return [row for operation, rows in found if operation == "insert" for row in rows.news]
