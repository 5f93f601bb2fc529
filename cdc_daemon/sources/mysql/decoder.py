"""Events of a binlog in, batches of whole transactions out. No socket, no clock.

A *group* is what stands in the log for one transaction (group.py). Not in here: rows (tables.py),
what statements mean (said.py), XA transactions (prepared.py), the group that was applied before
(witness.py), how batches are cut (collected.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from cdc_daemon.model.changes import Batch, Operation, Run
from cdc_daemon.model.errors import RESNAPSHOT, Stop
from cdc_daemon.sources.mysql import statement_kinds as kinds
from cdc_daemon.sources.mysql.collected import Collected
from cdc_daemon.sources.mysql.events import (
    ARTIFICIAL,
    END,
    FLAGS,
    TIME,
    TYPE,
    Framing,
    Kind,
    incident,
    parse_xa_prepare,
)
from cdc_daemon.sources.mysql.group import MICROSECONDS, Group, advance
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
    Witness,
    true_offset,
)
from cdc_daemon.sources.mysql.prepared import Fetch, Located, Prepared
from cdc_daemon.sources.mysql.query import sql_of
from cdc_daemon.sources.mysql.said import Statements
from cdc_daemon.sources.mysql.tables import ROWS, Tables
from cdc_daemon.sources.mysql.witness import Expectation


class Decoder:
    """What has been read of a log since it was opened, and not yet taken away as a batch.

    ``position``: where the reading began; it moves along. ``witness``: what comes once more.
    """

    def __init__(
        self,
        tables: Tables,
        statements: Statements,
        position: Position,
        framing: Framing,
        *,
        fetch: Fetch,
        witness: Witness | None = None,
        piece_rows: int = 2000,
        piece_bytes: int = 1 << 20,
    ) -> None:
        self._tables = tables
        self._statements = statements
        self._framing = framing
        self._collected = Collected(piece_rows=piece_rows, piece_bytes=piece_bytes)
        self._prepared = Prepared(position, fetch)
        self._expected = Expectation(witness)
        self._queue: deque[bytes] = deque()
        self._inner: list[tuple[Iterator[Located], Callable[[], None]]] = []
        self._group: Group | None = None
        self._offset = 0  # behind the event at hand, in its file
        self._begins_at = 0
        self._time = 0  # of the event at hand, in its header
        self.position = position
        self.marks = Marks()
        self.events = 0  # how many were read
        self._handlers = self._by_kind()
        self._said = self._by_statement()

    def _by_kind(self) -> dict[int, Callable[[bytes, int], None]]:
        return {
            Kind.GTID: self._gtid,
            Kind.ANONYMOUS_GTID: self._gtid,
            Kind.GTID_TAGGED: self._gtid,
            Kind.MARIADB_GTID: self._mariadb_gtid,
            Kind.QUERY: self._query,
            Kind.QUERY_COMPRESSED: self._query,
            Kind.EXECUTE_LOAD_QUERY: self._query,
            Kind.XID: self._xid,
            Kind.TABLE_MAP: self._tables.describe,
            Kind.XA_PREPARE: self._xa_prepare,
            Kind.TRANSACTION_PAYLOAD: self._payload,
            Kind.INCIDENT: self._incident,
            **dict.fromkeys(ROWS, self._rows),
        }

    # --- reading ------------------------------------------------------------------------------

    @property
    def quiet(self) -> bool:
        """Whether nothing is held back behind the position: it may be saved as it is."""
        return self._collected.quiet

    @property
    def complete(self) -> bool:
        """Whether a whole transaction with changes waits to be taken."""
        return self._collected.complete

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
        return self._collected.take(self.position)

    def _next_inner(self) -> None:
        """The next event of a compressed transaction, or of one that is read again."""
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
            self._locate(event)
            self._pass_head()
        elif kind == Kind.ROTATE:
            self._rotate(event)
        else:
            self._locate(event)
            end = self._framing.end(event)
            if kind == Kind.PREVIOUS_GTIDS:
                self._pass_head()
            if not self._expected.is_event(event, FromFile(self._framing.file, self._offset)):
                self._handle(event, end)

    def _handle(self, event: bytes, end: int) -> None:
        handler = self._handlers.get(event[TYPE])
        if handler is None:
            self._framing.skip(event)
        else:
            handler(event, end)

    def _locate(self, event: bytes) -> None:
        """Follow the offsets; an event that is in no file has none."""
        self._time = int.from_bytes(event[TIME], "little")
        low = int.from_bytes(event[END], "little")
        self._begins_at = self._offset
        if low and not event[FLAGS] & ARTIFICIAL:
            self._offset = true_offset(self._offset, low)
            self._begins_at = self._offset - len(event)

    def _pass_head(self) -> None:
        """A new file's head is behind: a server that is idle then says that its log ends there."""
        position = self.position
        if isinstance(position, FilePosition) and position.last is None and self._group is None:
            position.at = FromFile(self._framing.file, max(self._offset, position.at.offset))

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
        time = found.time or int.from_bytes(event[TIME], "little") * MICROSECONDS
        self._open(event, Group(gtid=found.gtid, time=time, begun=False))

    def _mariadb_gtid(self, event: bytes, end: int) -> None:
        found = parse_mariadb_gtid(event, end)
        written = int.from_bytes(event[TIME], "little")
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
        group.witness = self._expected.is_group(group)
        group.from_ = FromFile(self._framing.file, self._begins_at)
        group.file = self._framing.begun
        self._group = group

    def _opened(self, event: bytes) -> Group:
        if self._group is None:
            raise self._framing.broken(event, "it stands in no transaction")
        return self._group

    def _xid(self, event: bytes, _end: int) -> None:
        self._end(event)

    def _end(self, event: bytes) -> None:
        """The group's end: what was collected of it took effect."""
        group, self._group = self._opened(event), None
        if group.witness:
            self._expected.compare(group)
            return
        self._collected.close()
        at = FromFile(self._framing.file, self._offset)
        advance(self.position, group, at, self._begins_at, self._time)

    # --- rows ---------------------------------------------------------------------------------

    def _rows(self, event: bytes, end: int) -> None:
        group = self._opened(event)
        if not self._inner:  # rows that are read again are older than the group
            group.written = int.from_bytes(event[TIME], "little")
        if group.witness or not self._tables.wants(event):
            return
        runs, size = self._tables.rows(event, end)
        if group.xid is None:
            self._collect(group, runs, size)
        else:
            self._prepared.keep(group, runs, size)

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
            self._take_effect(event, group, self._prepared.effective_at_once(group, xid))
        else:
            self._prepared.prepared(group, xid)
            self._end(event)

    def _xa_commit(self, event: bytes, group: Group, said: kinds.XaCommit) -> None:
        if not group.witness:
            effective = self._prepared.effective(said.xid)
            self._prepared.forget(said.xid)
            self._take_effect(event, group, effective)
        else:
            self._end(event)

    def _xa_rollback(self, event: bytes, group: Group, said: kinds.XaRollback) -> None:
        if not group.witness:
            self._prepared.forget(said.xid)
        self._end(event)

    def _take_effect(
        self, event: bytes, group: Group, effective: tuple[list[Run], int] | Iterator[Located]
    ) -> None:
        """Rows that were kept, or those that are read again, and then the group's end."""
        if not isinstance(effective, tuple):
            self._inner.append((effective, lambda: self._end(event)))
            return
        runs, size = effective
        if runs:
            self._collect(group, runs, size)
        self._end(event)

    # --- statements ---------------------------------------------------------------------------

    def _by_statement(self) -> dict[type[kinds.Statement], Callable[[bytes, Group, Any], None]]:
        return {
            kinds.Begin: self._begin,
            kinds.Commit: self._commit,
            kinds.Rollback: self._rollback,
            kinds.Savepoint: self._nothing,
            kinds.RollbackTo: self._rollback_to,
            kinds.XaStart: self._xa_start,
            kinds.XaEnd: self._nothing,
            kinds.XaPrepare: self._nothing,
            kinds.XaCommit: self._xa_commit,
            kinds.XaRollback: self._xa_rollback,
            kinds.Truncate: self._truncate,
            kinds.Definition: self._definition,
            kinds.RowStatement: self._row_statement,
            kinds.Other: self._other,
        }

    def _query(self, event: bytes, end: int) -> None:
        group = self._opened(event)
        if sql_of(event, end) == b"BEGIN":
            group.begun = True
            return
        group.written = int.from_bytes(event[TIME], "little")
        found = self._statements.read(event, end)
        self._said[type(found)](event, group, found)

    def _nothing(self, event: bytes, group: Group, said: object) -> None:
        """Savepoints and the inner steps of an XA transaction."""

    def _begin(self, _event: bytes, group: Group, _said: object) -> None:
        group.begun = True

    def _commit(self, event: bytes, _group: Group, _said: object) -> None:
        self._end(event)

    def _xa_start(self, _event: bytes, group: Group, said: kinds.XaStart) -> None:
        group.begun, group.xid = True, said.xid

    def _rollback(self, event: bytes, group: Group, said: object) -> None:
        self._rollback_to(event, group, said)
        self._end(event)

    def _rollback_to(self, event: bytes, group: Group, _said: object) -> None:
        """It is in the log only where tables without transactions have kept their rows: which of
        the group's rows are there, nobody can tell."""
        if self._collected.touched or group.kept:
            raise Stop(
                f"{self._framing.where(event)}: a transaction was rolled back in the log after it "
                "changed a mapped table, beside tables without transactions",
                hint="keep mapped tables in InnoDB; " + RESNAPSHOT,
            )

    def _truncate(self, event: bytes, group: Group, said: kinds.Truncate) -> None:
        relation = self._statements.emptied(said.table)
        if relation is not None and not group.witness:
            self._collect(group, [Run(relation=relation, operation=Operation.TRUNCATE)], 0)
        self._other(event, group, said)

    def _definition(self, event: bytes, group: Group, said: kinds.Definition) -> None:
        if group.alter in (None, Alter.COMMIT) and not group.witness:
            self._statements.check_definition(said)
        self._other(event, group, said)

    def _row_statement(self, event: bytes, group: Group, said: kinds.RowStatement) -> None:
        if not group.witness:
            self._statements.check_rows(said, self._framing.where(event))
        self._other(event, group, said)

    def _other(self, event: bytes, group: Group, _said: object) -> None:
        """A statement that is a transaction of its own ends it."""
        if not group.begun:
            self._end(event)

    # --- other events -------------------------------------------------------------------------

    def _payload(self, event: bytes, end: int) -> None:
        """A compressed transaction's own events, which end it too."""
        inner = ((one, len(one)) for one in nested_events(event, end))
        self._inner.append((inner, lambda: None))

    def _incident(self, event: bytes, end: int) -> None:
        raise incident(event, end, self._framing.where(event))
