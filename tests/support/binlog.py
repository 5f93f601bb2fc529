"""Real binlog files, event by event, and events made by hand."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cdc_daemon.sources.mysql.dump import Dump
from cdc_daemon.sources.mysql.events import HANDLING, HEADER, Framing, Handling, Kind, parse_header
from cdc_daemon.sources.mysql.groups import (
    MariadbGroup,
    MysqlGroup,
    parse_gtid_event,
    parse_mariadb_gtid,
    parse_tagged_event,
)
from cdc_daemon.sources.mysql.gtid import Gtid, Triple
from cdc_daemon.sources.mysql.payload import nested_events
from cdc_daemon.sources.mysql.position import FromFile, true_offset
from cdc_daemon.sources.mysql.query import parse_query
from cdc_daemon.sources.mysql.statements import (
    Commit,
    Definition,
    Other,
    Rollback,
    Statement,
    Truncate,
    XaCommit,
    XaRollback,
    statement,
)

TAKEN = Handling.TAKEN
_FOLDER = Path(__file__).parents[1] / "data" / "binlog"
_MAGIC = b"\xfebin"


def events_of(name: str) -> list[bytes]:
    """Every event of a file that a server wrote, as a server sends it."""
    data = (_FOLDER / name).read_bytes()
    assert data.startswith(_MAGIC)
    found, offset = [], len(_MAGIC)
    while offset < len(data):
        (size,) = struct.unpack_from("<I", data, offset + 9)
        found.append(data[offset : offset + size])
        offset += size
    return found


def kinds_of(events: list[bytes]) -> list[Kind]:
    return [Kind(event[4]) for event in events]


def opened(events: list[bytes]) -> tuple[Framing, list[bytes]]:
    """How the file's events are framed, and those behind its description."""
    framing = Framing(checksum=True, file="bin.000001")
    framing.describe(events[0])
    return framing, events[1:]


def event(  # everything that a header has
    kind: int,
    body: bytes,
    *,
    checksum: bool = False,
    when: int = 1_795_805_298,
    server: int = 1,
    end: int = 0,
    flags: int = 0,
) -> bytes:
    """An event made by hand."""
    size = HEADER + len(body) + (4 if checksum else 0)
    made = struct.pack("<IBIIIH", when, kind, server, size, end, flags) + body
    return made + struct.pack("<I", zlib.crc32(made)) if checksum else made


@dataclass(slots=True)
class Group:
    """One transaction as the log has it. ``time``: as a position's witness wants it."""

    place: Gtid | Triple | FromFile | None
    time: int = 0
    kinds: list[Kind] = field(default_factory=list)
    said: list[Statement] = field(default_factory=list)
    head: MysqlGroup | MariadbGroup | None = None
    began: FromFile | None = None
    last: int = 0  # where its last event begins


_ROWS = frozenset(kind for kind in Kind if "ROWS" in kind.name and HANDLING[kind][0] is TAKEN)
_GROUPS: dict[Kind, Callable[[bytes, int], MysqlGroup | MariadbGroup]] = {
    Kind.GTID: parse_gtid_event,
    Kind.ANONYMOUS_GTID: parse_gtid_event,
    Kind.GTID_TAGGED: parse_tagged_event,
    Kind.MARIADB_GTID: parse_mariadb_gtid,
}
_ENDS = (Commit, Rollback, XaCommit, XaRollback, Truncate, Definition, Other)


class LogReader:
    """Cuts a stream of events into groups, as simply as a test can."""

    def __init__(self, dump: Dump) -> None:
        self.dump = dump
        self.framing = Framing()
        self.open: Group | None = None
        self.done: list[Group] = []
        self.offset = 4

    def groups(self, count: int, seconds: float = 10.0) -> list[Group]:
        """So many groups that are whole; at the log's end, what there is."""
        deadline = time.monotonic() + seconds
        while len(self.done) < count and time.monotonic() < deadline:
            events = self.dump.read(0.5)
            if events == []:
                break
            for one in events or []:
                self._take(one)
        found, self.done = self.done[:count], self.done[count:]
        return found

    def _take(self, event: bytes) -> None:
        header = parse_header(event)
        kind = Kind(header.type)
        if kind is Kind.FORMAT_DESCRIPTION:
            self.framing.describe(event)
        elif kind is Kind.ROTATE:
            self.offset = self.framing.rotate(event)
        else:
            begin = self.offset
            if header.end and not header.artificial:
                self.offset = true_offset(begin, header.end)
            self._judge(event, self.framing.end(event), kind, header.time, begin)

    def _judge(self, event: bytes, end: int, kind: Kind, when: int, begin: int) -> None:
        if (parse := _GROUPS.get(kind)) is not None:
            head = parse(event, end)
            self.open = Group(head.gtid, head=head, began=FromFile(self.framing.file, begin))
            if isinstance(head, MysqlGroup):
                self.open.time = head.time
            return
        if kind is Kind.TRANSACTION_PAYLOAD:
            for inner in nested_events(event, end):
                self._judge(inner, len(inner), Kind(inner[4]), when, begin)
            return
        if HANDLING[kind][0] is not TAKEN:
            self.framing.skip(event)
            return
        group = self.open = self.open or Group(None)
        group.kinds.append(kind)
        group.last = begin
        said = None
        if kind in (Kind.QUERY, Kind.QUERY_COMPRESSED, Kind.EXECUTE_LOAD_QUERY):
            query = parse_query(event, end)
            sql = query.sql.decode("latin-1")
            said = statement(sql, self.dump.edition.dialect, query.schema)
            group.said.append(said)
        if isinstance(group.head, MariadbGroup) and (kind in _ROWS or len(group.kinds) == 1):
            group.time = when
        if kind in (Kind.XID, Kind.XA_PREPARE) or self._ends(group, said):
            if group.place is None:
                group.place = FromFile(self.framing.file, self.offset)
                group.time = when
            self.done.append(group)
            self.open = None

    def _ends(self, group: Group, said: Statement | None) -> bool:
        if isinstance(group.head, MariadbGroup) and not isinstance(said, (Commit, Rollback)):
            return group.head.standalone and said is not None
        return isinstance(said, _ENDS)
