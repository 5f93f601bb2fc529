"""The same table and rows in a MySQL or MariaDB server, in a binlog file of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from benchmarks.workload import COLUMNS, TRANSACTION_ROWS
from cdc_daemon.demo.mysql_family import FamilyServer, Setting

DATABASE: Final = "erp"
TABLE: Final = "item"
SETTINGS: Final[Mapping[str, Setting]] = {
    "innodb_buffer_pool_size": "256M",
    "innodb_flush_log_at_trx_commit": 0,
    "sync_binlog": 0,
}
_TYPES: Final = {"numeric(18,4)": "decimal(18,4)", "timestamp": "datetime(6)"}
_VALUES: Final = {
    "id": "i",
    "code": "CONCAT('MAT-', LPAD(i, 10, '0'), '-1')",
    "name": "CONCAT('内六角圆柱头螺钉 M', i % 24 + 3, '×', i % 90 + 10, ' DIN 912 zinc v1')",
    "specification": (
        "CONCAT('8.8 A2K, ISO 4762, socket head, lot ', LEFT(SHA2(CONCAT(i, '1'), 256), 32))"
    ),
    "category": "CONCAT('C', (i + 1) % 40)",
    "unit": "ELT((i + 1) % 4 + 1, 'EA', 'KG', 'M', 'PCS')",
    "price": "(i * 7919 + 1) % 100000007 / 10000.0",
    "quantity": "(i * 10007 + 1) % 99999989 / 1000.0",
    "valid_from": "DATE_ADD('2020-01-01', INTERVAL (i + 1) % 3000 DAY)",
    "modified_at": (
        "DATE_ADD('2026-01-01', INTERVAL (i * 977 + 1) % 31536000000 * 1000 MICROSECOND)"
    ),
    "active": "(i + 1) % 7 <> 0",
    "remark": "CASE WHEN (i + 1) % 4 > 0 THEN CONCAT('checked, certificate EN 10204-3.1.', i) END",
}
_NUMBERS: Final = (
    "WITH RECURSIVE g (i) AS (SELECT {low} UNION ALL SELECT i + 1 FROM g WHERE i < {high})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Binlog:
    """A file that holds so many inserts and nothing else."""

    file: str
    rows: int


def create(server: FamilyServer) -> None:
    """A new, empty table."""
    columns = ", ".join(f"{c.name} {_TYPES.get(c.sql_type, c.sql_type)}" for c in COLUMNS)
    server.execute(
        f"CREATE DATABASE IF NOT EXISTS {DATABASE}; DROP TABLE IF EXISTS {DATABASE}.{TABLE};"
        f"CREATE TABLE {DATABASE}.{TABLE} ({columns}, PRIMARY KEY (id))"
    )


def fill(server: FamilyServer, rows: int) -> Binlog:
    """Insert the rows 1, 2, ... in transactions of 1,000, into a file of their own."""
    server.execute("FLUSH BINARY LOGS")
    *_, (file, *_) = server.query("SHOW BINARY LOGS")
    insert(server, 1, rows)
    server.execute("FLUSH BINARY LOGS")
    return Binlog(file=str(file), rows=rows)


def insert(server: FamilyServer, first: int, last: int) -> None:
    """Insert rows in transactions of 1,000."""
    values = ", ".join(_VALUES[column.name] for column in COLUMNS)
    with server.connect(DATABASE) as connection, connection.cursor() as cursor:
        for low in range(first, last + 1, TRANSACTION_ROWS):
            numbers = _NUMBERS.format(low=low, high=min(low + TRANSACTION_ROWS - 1, last))
            cursor.execute(f"INSERT INTO {TABLE} {numbers} SELECT {values} FROM g")


@contextmanager
def singles(server: FamilyServer) -> Iterator[Callable[[int], None]]:
    """Inserts one row a transaction."""
    values = ", ".join(_VALUES[column.name] for column in COLUMNS)
    with server.connect(DATABASE) as connection, connection.cursor() as cursor:

        def write(number: int) -> None:
            cursor.execute(f"INSERT INTO {TABLE} SELECT {values} FROM (SELECT {number} AS i) g")

        yield write
