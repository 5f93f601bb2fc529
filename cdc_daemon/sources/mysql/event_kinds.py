"""Which kinds of events there are, and what becomes of each.

A kind is **taken** (the decoder has a place for it), **skipped** (it says nothing about rows), or
**refused** (rows would be lost without it). What is not in here is refused by its number.
"""

from __future__ import annotations

import enum
from typing import Final


class Kind(enum.IntEnum):
    """Event types by number."""

    UNKNOWN = 0
    START_V3 = 1
    QUERY = 2
    STOP = 3
    ROTATE = 4
    INTVAR = 5
    LOAD = 6
    SLAVE = 7
    CREATE_FILE = 8
    APPEND_BLOCK = 9
    EXEC_LOAD = 10
    DELETE_FILE = 11
    NEW_LOAD = 12
    RAND = 13
    USER_VAR = 14
    FORMAT_DESCRIPTION = 15
    XID = 16
    BEGIN_LOAD_QUERY = 17
    EXECUTE_LOAD_QUERY = 18
    TABLE_MAP = 19
    PRE_GA_WRITE_ROWS = 20
    PRE_GA_UPDATE_ROWS = 21
    PRE_GA_DELETE_ROWS = 22
    WRITE_ROWS_V1 = 23
    UPDATE_ROWS_V1 = 24
    DELETE_ROWS_V1 = 25
    INCIDENT = 26
    HEARTBEAT = 27
    IGNORABLE = 28
    ROWS_QUERY = 29
    WRITE_ROWS = 30
    UPDATE_ROWS = 31
    DELETE_ROWS = 32
    GTID = 33
    ANONYMOUS_GTID = 34
    PREVIOUS_GTIDS = 35
    TRANSACTION_CONTEXT = 36
    VIEW_CHANGE = 37
    XA_PREPARE = 38
    PARTIAL_UPDATE_ROWS = 39
    TRANSACTION_PAYLOAD = 40
    HEARTBEAT_V2 = 41
    GTID_TAGGED = 42
    LARGE_TRANSACTION_HEADER = 43
    ANNOTATE_ROWS = 160
    BINLOG_CHECKPOINT = 161
    MARIADB_GTID = 162
    MARIADB_GTID_LIST = 163
    START_ENCRYPTION = 164
    QUERY_COMPRESSED = 165
    WRITE_ROWS_COMPRESSED_V1 = 166
    UPDATE_ROWS_COMPRESSED_V1 = 167
    DELETE_ROWS_COMPRESSED_V1 = 168
    WRITE_ROWS_COMPRESSED = 169
    UPDATE_ROWS_COMPRESSED = 170
    DELETE_ROWS_COMPRESSED = 171
    PARTIAL_ROW_DATA = 172


class Handling(enum.Enum):
    """What becomes of a kind of event."""

    TAKEN = "taken"
    SKIPPED = "skipped"
    REFUSED = "refused"


_TOO_OLD: Final = "it is of a server older than MySQL 5.6"

HANDLING: Final[dict[Kind, tuple[Handling, str]]] = {
    Kind.UNKNOWN: (Handling.REFUSED, "it has no meaning"),
    Kind.START_V3: (Handling.REFUSED, _TOO_OLD),
    Kind.QUERY: (Handling.TAKEN, "statements that end a transaction, define or are refused"),
    Kind.STOP: (Handling.SKIPPED, "the server was shut down in order"),
    Kind.ROTATE: (Handling.TAKEN, "the next file"),
    Kind.INTVAR: (Handling.SKIPPED, "belongs to a statement, which is judged itself"),
    Kind.LOAD: (Handling.REFUSED, _TOO_OLD),
    Kind.SLAVE: (Handling.REFUSED, _TOO_OLD),
    Kind.CREATE_FILE: (Handling.REFUSED, _TOO_OLD),
    Kind.APPEND_BLOCK: (Handling.SKIPPED, "data of a LOAD DATA, which is judged itself"),
    Kind.EXEC_LOAD: (Handling.REFUSED, _TOO_OLD),
    Kind.DELETE_FILE: (Handling.SKIPPED, "data of a LOAD DATA that was rolled back"),
    Kind.NEW_LOAD: (Handling.REFUSED, _TOO_OLD),
    Kind.RAND: (Handling.SKIPPED, "belongs to a statement, which is judged itself"),
    Kind.USER_VAR: (Handling.SKIPPED, "belongs to a statement, which is judged itself"),
    Kind.FORMAT_DESCRIPTION: (Handling.TAKEN, "lengths and checksum of the file's events"),
    Kind.XID: (Handling.TAKEN, "commit"),
    Kind.BEGIN_LOAD_QUERY: (Handling.SKIPPED, "data of a LOAD DATA, which is judged itself"),
    Kind.EXECUTE_LOAD_QUERY: (Handling.TAKEN, "a LOAD DATA in statement format"),
    Kind.TABLE_MAP: (Handling.TAKEN, "the table of the rows that follow"),
    Kind.PRE_GA_WRITE_ROWS: (Handling.REFUSED, _TOO_OLD),
    Kind.PRE_GA_UPDATE_ROWS: (Handling.REFUSED, _TOO_OLD),
    Kind.PRE_GA_DELETE_ROWS: (Handling.REFUSED, _TOO_OLD),
    Kind.WRITE_ROWS_V1: (Handling.TAKEN, "rows"),
    Kind.UPDATE_ROWS_V1: (Handling.TAKEN, "rows"),
    Kind.DELETE_ROWS_V1: (Handling.TAKEN, "rows"),
    Kind.INCIDENT: (Handling.TAKEN, "changes are missing from the log: stops with its message"),
    Kind.HEARTBEAT: (Handling.SKIPPED, "the server is there"),
    Kind.IGNORABLE: (Handling.SKIPPED, "says of itself that it may be"),
    Kind.ROWS_QUERY: (Handling.SKIPPED, "the statement behind the rows, for people"),
    Kind.WRITE_ROWS: (Handling.TAKEN, "rows"),
    Kind.UPDATE_ROWS: (Handling.TAKEN, "rows"),
    Kind.DELETE_ROWS: (Handling.TAKEN, "rows"),
    Kind.GTID: (Handling.TAKEN, "begin"),
    Kind.ANONYMOUS_GTID: (Handling.TAKEN, "begin"),
    Kind.PREVIOUS_GTIDS: (Handling.SKIPPED, "what is before the file"),
    Kind.TRANSACTION_CONTEXT: (Handling.SKIPPED, "certification of group replication"),
    Kind.VIEW_CHANGE: (Handling.SKIPPED, "membership of group replication"),
    Kind.XA_PREPARE: (Handling.TAKEN, "prepared, or committed in one phase"),
    Kind.PARTIAL_UPDATE_ROWS: (Handling.TAKEN, "rows whose JSON is written as differences"),
    Kind.TRANSACTION_PAYLOAD: (Handling.TAKEN, "a transaction's events, compressed"),
    Kind.HEARTBEAT_V2: (Handling.SKIPPED, "the server is there"),
    Kind.GTID_TAGGED: (Handling.TAKEN, "begin"),
    Kind.LARGE_TRANSACTION_HEADER: (
        Handling.SKIPPED,
        "where a large transaction ends, for recovery",
    ),
    Kind.ANNOTATE_ROWS: (Handling.SKIPPED, "the statement behind the rows, for people"),
    Kind.BINLOG_CHECKPOINT: (Handling.SKIPPED, "up to where the server's own recovery reads"),
    Kind.MARIADB_GTID: (Handling.TAKEN, "begin"),
    Kind.MARIADB_GTID_LIST: (Handling.SKIPPED, "what is before the file"),
    Kind.START_ENCRYPTION: (Handling.SKIPPED, "the file is encrypted; what is sent is not"),
    Kind.QUERY_COMPRESSED: (Handling.TAKEN, "as QUERY"),
    Kind.WRITE_ROWS_COMPRESSED_V1: (Handling.TAKEN, "rows"),
    Kind.UPDATE_ROWS_COMPRESSED_V1: (Handling.TAKEN, "rows"),
    Kind.DELETE_ROWS_COMPRESSED_V1: (Handling.TAKEN, "rows"),
    Kind.WRITE_ROWS_COMPRESSED: (Handling.TAKEN, "rows"),
    Kind.UPDATE_ROWS_COMPRESSED: (Handling.TAKEN, "rows"),
    Kind.DELETE_ROWS_COMPRESSED: (Handling.TAKEN, "rows"),
    Kind.PARTIAL_ROW_DATA: (
        Handling.REFUSED,
        "rows in pieces (MariaDB 12.3) are not read; raise binlog_row_event_fragment_threshold",
    ),
}


def name_of(kind: int) -> str:
    """The type's name; for one that is not known, its number."""
    try:
        return Kind(kind).name
    except ValueError:
        return f"number {kind}"
