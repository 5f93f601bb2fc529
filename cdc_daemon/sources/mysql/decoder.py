"""Events of a binlog in, batches of whole transactions out. No socket, no clock.

A *group* is what stands in the log for one transaction (group.py). Groups of XA transactions are
kept until their XA COMMIT comes, as far as they are small; others are read from the log again then
(again.py), and so are those that were prepared before this stream began. The *witness*
(position.py) was applied before, and is only compared.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from cdc_daemon.model.changes import Batch, Operation, Run
from cdc_daemon.model.errors import PreflightRefusal, Problem, Stop
from cdc_daemon.sources.mysql import statement_kinds as said
from cdc_daemon.sources.mysql.again import group_again
from cdc_daemon.sources.mysql.collected import Collected
from cdc_daemon.sources.mysql.events import (
    TYPE,
    Framing,
    Kind,
    incident,
    parse_xa_prepare,
)
from cdc_daemon.sources.mysql.group import (
    MICROSECONDS,
    Group,
    advance,
    is_witness,
    note_prepared,
    wanted_again,
    witnessed_time,
)
from cdc_daemon.sources.mysql.gtid import Gtid, Triple
from cdc_daemon.sources.mysql.groups import (
    Alter,
    parse_gtid_event,
    parse_mariadb_gtid,
    parse_tagged_event,
)
from cdc_daemon.sources.mysql.marks import Marks
from cdc_daemon.sources.mysql.payload import nested_events
from cdc_daemon.sources.mysql.position import (
    FilePosition,
    FromFile,
    Position,
    Start,
    true_offset,
)
from cdc_daemon.sources.mysql.relations import NEW_COPY
from cdc_daemon.sources.mysql.said import Statements
from cdc_daemon.sources.mysql.tables import ROWS, Tables
from cdc_daemon.sources.mysql.xid import Xid

KEPT_BYTES: Final = 16 << 20
"""Log of prepared XA transactions that is kept in memory, all of them together."""

_ARTIFICIAL: Final = 0x20

Fetch = Callable[[Start], Iterator[bytes]]
"""Opens the log once more and reads what there is; for prepared transactions."""

Located = tuple[bytes, int]
"""An event, and where its body ends."""


class Decoder:
    """What has been read of a log since it was opened, and not yet taken away as a batch.

    ``position``: where the reading began; it moves along.
    """

    def __init__(
        self,
        tables: Tables,
        statements: Statements,
        position: Position,
        framing: Framing,
        *,
        fetch: Fetch,
        piece_rows: int = 2000,
        piece_bytes: int = 1 << 20,
    ) -> None:
        self._tables = tables
        self._statements = statements
        self._framing = framing
        self._fetch = fetch
        self._collected = Collected(piece_rows=piece_rows, piece_bytes=piece_bytes)
        self._queue: deque[bytes] = deque()
        self._inner: list[tuple[Iterator[Located], Callable[[], None]]] = []
        self._group: Group | None = None
        self._kept: dict[Xid, list[Run]] = {}
        self._kept_bytes = 0
        self._offset = 0  # of the next event in its file, as far as it is in one
        self._begins_at = 0  # of the event at hand
        self._witness = position.last is not None  # it is still to come
        self.position = position
        self.marks = Marks()
        self.events = 0  # how many were read
        self._handlers: dict[int, Callable[[bytes, int], None]] = {
            Kind.GTID: self._gtid,
            Kind.ANONYMOUS_GTID: self._gtid,
            Kind.GTID_TAGGED: self._gtid,
            Kind.MARIADB_GTID: self._mariadb_gtid,
            Kind.QUERY: self._query,
            Kind.QUERY_COMPRESSED: self._query,
            Kind.EXECUTE_LOAD_QUERY: self._query,
            Kind.XID: self._committed,
            Kind.TABLE_MAP: self._table_map,
            Kind.XA_PREPARE: self._xa_prepare,
            Kind.TRANSACTION_PAYLOAD: self._payload,
            Kind.INCIDENT: self._incident,
            **dict.fromkeys(ROWS, self._rows),
        }

    # --- reading ------------------------------------------------------------------------------

    @property
    def quiet(self) -> bool:
        """Whether nothing is held back: no open group, no change that was not taken."""
        return self._group is None and not self._queue and self._collected.quiet

    @property
    def full(self) -> bool:
        """Whether a piece's limit is reached."""
        return self._collected.full

    @property
    def waiting(self) -> int:
        """Changes read and not taken yet."""
        return self._collected.waiting

    def feed(self, events: Iterable[bytes]) -> None:
        """Put events behind those that wait; whole ones, with header and checksum."""
        self._queue.extend(events)

    def pump(self) -> bool:
        """Go through what waits until a piece is full; whether some is left.

        Raises DecodeError for what does not follow the format, PreflightRefusal and Stop for what
        would lose changes.
        """
        while not self._collected.full:
            if self._inner:
                self._next_inner()
            elif self._queue:
                self._outer(self._queue.popleft())
            else:
                return False
        return True

    def take(self) -> Batch | None:
        """What is complete, or a piece of an open transaction when that alone fills one."""
        return self._collected.take(str(self.position))

    def _next_inner(self) -> None:
        """The next event of a group that stands in another, or is read again."""
        events, ended = self._inner[-1]
        found = next(events, None)
        if found is None:
            self._inner.pop()
            ended()
        else:
            self._handle(*found)

    def _outer(self, event: bytes) -> None:
        """The next event of the log itself."""
        self.events += 1
        kind = event[TYPE]
        if kind == Kind.FORMAT_DESCRIPTION:
            self._framing.describe(event)
            self._tables.forget()
        elif kind == Kind.ROTATE:
            self._rotate(event)
        else:
            self._locate(event)
            if not (self._witness and self._is_witness_event(event)):
                self._handle(event, self._framing.end(event))

    def _handle(self, event: bytes, end: int) -> None:
        handler = self._handlers.get(event[TYPE])
        if handler is None:
            self._framing.skip(event)
        else:
            handler(event, end)

    def _locate(self, event: bytes) -> None:
        """Follow the offsets; an event that is in no file has none."""
        low = int.from_bytes(event[13:17], "little")
        self._begins_at = self._offset
        if low and not event[17] & _ARTIFICIAL:
            self._offset = true_offset(self._offset, low)
            self._begins_at = self._offset - len(event)

    def _rotate(self, event: bytes) -> None:
        self._offset = self._framing.rotate(event)
        file = self._framing.file
        if isinstance(self.position, FilePosition) and self.position.at.file != file:
            if self._group is not None:
                raise self._framing.broken(event, "the file ends inside a transaction")
            self.position.rotate(file)

    # --- groups -------------------------------------------------------------------------------

    def _gtid(self, event: bytes, end: int) -> None:
        parse = parse_tagged_event if event[TYPE] == Kind.GTID_TAGGED else parse_gtid_event
        found = parse(event, end)
        time = found.time or int.from_bytes(event[:4], "little") * MICROSECONDS
        self._open(event, Group(gtid=found.gtid, time=time, begun=False))

    def _mariadb_gtid(self, event: bytes, end: int) -> None:
        found = parse_mariadb_gtid(event, end)
        written = int.from_bytes(event[:4], "little")
        group = Group(
            gtid=found.gtid,
            time=written * MICROSECONDS,
            begun=not found.standalone and found.completed is None,
            xid=found.prepared,
            alter=found.alter,
            written=written,
        )
        self._open(event, group)

    def _open(self, event: bytes, group: Group) -> None:
        if self._group is not None:
            raise self._framing.broken(event, "a transaction begins inside another")
        if group.gtid is None and not isinstance(self.position, FilePosition):
            raise self._framing.broken(event, "a transaction has no GTID: GTIDs were switched off")
        group.witness = self._witness and is_witness(self.position, group.gtid)
        group.from_ = FromFile(self._framing.file, self._begins_at)
        self._group = group

    def _opened(self, event: bytes) -> Group:
        if self._group is None:
            raise self._framing.broken(event, "it stands in no transaction")
        return self._group

    def _committed(self, event: bytes, _end: int) -> None:
        self._end(event)

    def _end(self, event: bytes) -> None:
        """The group's end: what it holds took effect."""
        group, self._group = self._opened(event), None
        if group.witness:
            self._compare(group)
            return
        self._collected.close()
        at = FromFile(self._framing.file, self._offset)
        advance(self.position, group, at, self._begins_at)

    # --- the witness --------------------------------------------------------------------------

    def _compare(self, group: Group) -> None:
        self._witness = False
        if witnessed_time(self.position, group) != self.position.time:
            raise self._another_history()

    def _is_witness_event(self, event: bytes) -> bool:
        """In a file the witness is the last event of its transaction, and comes first."""
        if not isinstance(self.position, FilePosition) or event[17] & _ARTIFICIAL:
            return False
        if event[TYPE] in (Kind.PREVIOUS_GTIDS, Kind.HEARTBEAT, Kind.HEARTBEAT_V2):
            return False
        self._witness = False
        time = int.from_bytes(event[:4], "little")
        if (self._offset, time) != (self.position.at.offset, self.position.time):
            raise self._another_history()
        return True

    def _another_history(self) -> PreflightRefusal:
        what = (
            f"transaction {self.position.last} of the server is not the one that was read: the "
            "server was reset, or restored, and gave its numbers to other transactions"
        )
        return PreflightRefusal([Problem(what=what, where="the log", cure=NEW_COPY)])

    # --- rows ---------------------------------------------------------------------------------

    def _table_map(self, event: bytes, end: int) -> None:
        self._tables.describe(event, end)

    def _rows(self, event: bytes, end: int) -> None:
        group = self._opened(event)
        group.written = int.from_bytes(event[:4], "little")
        if not group.witness and self._tables.wants(event):
            self._add(group, self._tables.rows(event, end), len(event))

    def _add(self, group: Group, runs: list[Run], size: int) -> None:
        if group.xid is None:
            self._collect(group, runs, size)
        elif group.kept is not None:
            group.kept += runs
            group.kept_size += size
            if self._kept_bytes + group.kept_size > KEPT_BYTES:
                group.kept = None

    def _collect(self, group: Group, runs: list[Run], size: int) -> None:
        self._collected.open(self.marks.number(group.gtid, group.from_), group.time)
        self._collected.add(runs, size)

    # --- XA -----------------------------------------------------------------------------------

    def _xa_prepare(self, event: bytes, end: int) -> None:
        """The group's end: its rows wait for the XA COMMIT, or take effect at once."""
        xid, one_phase = parse_xa_prepare(event, end)
        group = self._opened(event)
        if group.witness:
            self._end(event)
        elif one_phase:
            group.xid = None
            self._take_effect(event, group, group.kept, self._this_again(group, xid))
        else:
            note_prepared(self.position, group, xid)
            if group.kept is not None:
                self._kept[xid] = group.kept
                self._kept_bytes += group.kept_size
            self._end(event)

    def _xa_commit(self, event: bytes, xid: Xid) -> None:
        group = self._opened(event)
        if xid not in self.position.prepared:
            raise self._unknown(xid)
        start, wanted = self.position.again(xid), wanted_again(self.position, xid)
        kept = self._forget(xid)
        self._take_effect(event, group, kept, lambda: self._read_again(start, wanted, xid))

    def _take_effect(
        self,
        event: bytes,
        group: Group,
        kept: list[Run] | None,
        again: Callable[[], Iterator[Located]],
    ) -> None:
        """Rows that were kept, or those that are read again, and then the group's end."""
        if kept is None:
            self._inner.append((again(), lambda: self._end(event)))
            return
        if kept:
            self._collect(group, kept, group.kept_size)
        self._end(event)

    def _this_again(self, group: Group, xid: Xid) -> Callable[[], Iterator[Located]]:
        start: Start = self.position.start(witness=False)
        if isinstance(self.position, FilePosition):
            start = group.from_
        return lambda: self._read_again(start, group.gtid, xid)

    def _read_again(self, start: Start, wanted: Gtid | Triple | None, xid: Xid) -> Iterator[Located]:
        framing = Framing(checksum=self._framing.checksum)
        return group_again(self._fetch(start), framing, wanted, xid)

    def _forget(self, xid: Xid) -> list[Run] | None:
        """The transaction is over; what was kept of it."""
        self.position.prepared.pop(xid, None)  # type: ignore[arg-type]
        kept = self._kept.pop(xid, None)
        if not self._kept:
            self._kept_bytes = 0
        return kept

    def _unknown(self, xid: Xid) -> PreflightRefusal:
        what = (
            f"the XA transaction {xid} takes effect, which was prepared before the copy was taken: "
            "its rows are not known"
        )
        return PreflightRefusal([Problem(what=what, where="the log", cure=NEW_COPY)])

    # --- statements ---------------------------------------------------------------------------

    def _query(self, event: bytes, end: int) -> None:
        group = self._opened(event)
        if event.endswith(b"BEGIN", 0, end) and not group.begun:
            group.begun = True
            return
        found = self._statements.read(event, end)
        group.written = int.from_bytes(event[:4], "little")
        match found:
            case said.Begin():
                group.begun = True
            case said.Commit():
                self._end(event)
            case said.Savepoint() | said.XaEnd() | said.XaPrepare():
                pass
            case said.XaStart():
                group.begun, group.xid = True, found.xid
            case _ if group.witness:
                self._end_of_statement(event, group)
            case said.XaCommit():
                self._xa_commit(event, found.xid)
            case said.XaRollback():
                self._forget(found.xid)
                self._end(event)
            case said.Rollback() | said.RollbackTo():
                self._rolled_back(event, group, ends=isinstance(found, said.Rollback))
            case said.Truncate():
                self._truncate(group, found.table)
                self._end_of_statement(event, group)
            case said.Definition():
                if group.alter in (None, Alter.COMMIT):
                    self._statements.check_definition(found)
                self._end_of_statement(event, group)
            case said.RowStatement():
                self._statements.check_rows(found, self._framing.where(event))
                self._end_of_statement(event, group)
            case said.Other():
                self._end_of_statement(event, group)

    def _end_of_statement(self, event: bytes, group: Group) -> None:
        if not group.begun:
            self._end(event)

    def _truncate(self, group: Group, name: said.TableName) -> None:
        relation = self._statements.emptied(name)
        if relation is not None:
            run = Run(relation=relation, operation=Operation.TRUNCATE)
            self._collect(group, [run], 0)

    def _rolled_back(self, event: bytes, group: Group, *, ends: bool) -> None:
        """It is in the log only where tables without transactions have kept their rows: which of
        the group's rows are there, nobody can tell."""
        if self._collected.touched or group.kept:
            raise Stop(
                f"{self._framing.where(event)}: a transaction was rolled back in the log after it "
                "changed a mapped table, beside tables without transactions",
                hint="keep mapped tables in InnoDB; " + NEW_COPY,
            )
        if ends:
            self._end(event)

    # --- other events -------------------------------------------------------------------------

    def _payload(self, event: bytes, end: int) -> None:
        """A compressed transaction's own events, which end it too."""
        inner = ((one, len(one)) for one in nested_events(event, end))
        self._inner.append((inner, lambda: None))

    def _incident(self, event: bytes, end: int) -> None:
        raise incident(event, end, self._framing.where(event))
