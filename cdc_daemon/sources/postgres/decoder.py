"""pgoutput, protocol version 1: CopyData payloads in, runs of changes out. No socket, no clock.

:meth:`Decoder.pump` is the hot loop. It collects row messages of one shape (``shapes.py``) and
decodes them together; runs go on over transactions as long as relation and operation stay the same,
so that a stream of one-row transactions costs little more than one large one.

Formats: "Streaming Replication Protocol" (XLogData, keepalive) and "Logical Replication Message
Formats" of the PostgreSQL documentation. Binary values, streamed transactions and two-phase commit
are never asked for, so their messages are errors here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from cdc_daemon.model.changes import Batch, Operation, Relation, Replica, Run
from cdc_daemon.model.errors import DecodeError
from cdc_daemon.model.ports import Table
from cdc_daemon.model.runs import cut, extend
from cdc_daemon.sources.postgres.lsn import format_lsn
from cdc_daemon.sources.postgres.messages import (
    HEADER,
    KEY_END,
    malformed,
    parse_begins,
    parse_commit,
    parse_keepalive,
    parse_relation,
    parse_truncate,
    parse_type,
    transaction_of,
)
from cdc_daemon.sources.postgres.relations import Described, Relations
from cdc_daemon.sources.postgres.shapes import Decoded, Shape, runs_of
from cdc_daemon.sources.postgres.types import Types

_BEGIN_LENGTH = HEADER + 21
_COMMIT_LENGTH = HEADER + 26
_BEGIN, _COMMIT = b"BC"
_NONE = memoryview(b"")  # no message
_DATA, _KEEPALIVE = b"wk"
_NO_KEY = b"no shape."  # longer than any key, so that no message begins like it
_IGNORED = "OM"  # origins and logical messages change no row

Stretch = tuple[Shape, int, int]
"""Rows of one shape without another between: where they begin among the shape's messages, and the
ordinal of the first."""

GetCopyData = Callable[[int], tuple[int, memoryview]]
"""libpq's PQgetCopyData: (length, payload), (0, _) when nothing is there, (-1, _) at the end."""


class Decoder:
    """What has been read of a log since it was opened, and not yet taken away as a batch."""

    def __init__(
        self,
        relations: Relations,
        types: Types,
        *,
        piece_rows: int = 2000,
        piece_bytes: int = 1 << 20,
        max_value_bytes: int = 64 << 20,
    ) -> None:
        self._relations = relations
        self._types = types
        self._piece_rows = piece_rows
        self._piece_bytes = piece_bytes
        self._max_value_bytes = max_value_bytes
        self._described: dict[bytes, bytes] = {}  # relation oid -> its last Relation message
        self._mapped: dict[bytes, Relation] = {}
        self._shapes: dict[bytes, Shape] = {}
        self._stretches: list[Stretch] = []  # what was collected since the last decoding
        self._pending: list[bytes] = []  # messages of the current stretch's shape
        self._key = _NO_KEY
        self._start = 0  # the ordinal of the next change, less the length of pending
        self._runs: list[Run] = []
        self._base = 0  # ordinal of the first change that was not taken yet
        self._size = 0
        self._begin = _NONE  # the open transaction's Begin message
        self._first = 0  # ordinal of its first change
        self._begins: list[tuple[int, memoryview]] = []  # of committed transactions with changes
        self._commit = _NONE  # the last Commit message since the last batch
        self._committed = 0  # ordinal after the last committed change
        self._committed_size = 0
        self.server_end = 0  # how far the server's log was read without anything for us
        self.messages = 0  # how many were read; keepalives are among them
        self.keepalives = 0
        self.reply_requests = 0  # keepalives that asked for a reply

    @property
    def quiet(self) -> bool:
        """Whether nothing is held back: no open transaction, no change that was not taken."""
        return not self._begin and not self._begins and not self.waiting

    @property
    def data(self) -> int:
        """Messages read that were no keepalives."""
        return self.messages - self.keepalives

    @property
    def full(self) -> bool:
        """Whether a piece's limit is reached."""
        return self.waiting >= self._piece_rows or self._size >= self._piece_bytes

    @property
    def complete(self) -> bool:
        """Whether a whole transaction with changes waits to be taken."""
        return bool(self._begins)

    @property
    def waiting(self) -> int:
        """Changes read and not taken yet."""
        return self._start + len(self._pending) - self._base

    # --- reading ------------------------------------------------------------------------------

    def pump(self, get: GetCopyData) -> int:
        """Read messages until there are none, or a piece is full, or one has done its turn.

        Returns what the last ``get`` returned: 0 for nothing there, -1 for the copy's end, else
        more may be there. Raises DecodeError for what does not follow the protocol.
        """
        pending, key, start, size = self._pending, self._key, self._start, self._size
        begin, first, committed = self._begin, self._first, self._committed
        shapes, limit = self._shapes, self._piece_bytes
        found, turn = 1, 0
        for turn in range(max(1, self._piece_rows - self.waiting)):  # noqa: B007 - used behind it
            found, view = get(1)
            if found == _BEGIN_LENGTH and view[HEADER] == _BEGIN:
                first = start + len(pending)
                if begin or first != committed:
                    raise DecodeError("begin inside a transaction", kind="B", offset=HEADER)
                begin = view
            elif found == _COMMIT_LENGTH and view[HEADER] == _COMMIT and begin:
                committed, self._committed_size = start + len(pending), size
                if committed > first:
                    self._begins.append((first, begin))
                begin, self._commit = _NONE, view
            elif found <= 0:
                break
            elif (head := (message := view.tobytes())[HEADER:KEY_END]) == key:
                pending.append(message)
                size += found
                if size >= limit:
                    break
            elif head in shapes and begin:
                shape = shapes[head]
                ordinal = start + len(pending)
                pending, key = shape.pending, head
                start = ordinal - len(pending)
                self._stretches.append((shape, len(pending), ordinal))
                pending.append(message)
                size += found
            else:
                self._pending, self._key, self._start, self._size = pending, key, start, size
                self._begin = begin
                shapes = self._dispatch(message)
                pending, key, start, size = self._pending, self._key, self._start, self._size
        self._pending, self._key, self._start, self._size = pending, key, start, size
        self._begin, self._first, self._committed = begin, first, committed
        self.messages += turn + (found > 0)
        return found

    def _dispatch(self, message: bytes) -> dict[bytes, Shape]:
        """Everything that is rare; the shapes as they are now. What a parser trips over becomes a
        DecodeError."""
        try:
            if message[0] == _KEEPALIVE:
                end, reply = parse_keepalive(message)
                self.server_end = max(self.server_end, end)
                self.keepalives += 1
                self.reply_requests += reply
            elif message[0] == _DATA:
                self._other(message, chr(message[HEADER]))
            else:
                raise DecodeError("unknown copy message", kind=chr(message[0]), offset=0)
        except (IndexError, struct.error, ValueError) as exc:
            raise malformed(message) from exc
        return self._shapes

    def _other(self, message: bytes, kind: str) -> None:
        if kind == "R":
            self._relation(message)
        elif kind == "T":
            self._truncate(message)
        elif kind == "Y":
            self._types.name(*parse_type(message, self._types.codec))
        elif kind in "IUD":
            self._must_be_unmapped(message, kind)
        elif kind in "BC":
            raise DecodeError("wrong length or out of order", kind=kind, offset=HEADER)
        elif kind not in _IGNORED:
            raise DecodeError("unknown message", kind=kind, offset=HEADER)

    def _must_be_unmapped(self, message: bytes, kind: str) -> None:
        """A row message that fits no shape: nobody mapped its table, or it is malformed."""
        oid = message[26:30]
        if len(message) < KEY_END or oid not in self._described:
            raise DecodeError("row of an undescribed relation", kind=kind, offset=26)
        if oid in self._mapped:
            what = "row that its relation does not describe, or outside a transaction"
            raise DecodeError(what, kind=kind, offset=HEADER)

    def _truncate(self, message: bytes) -> None:
        """A Truncate message: one run for each mapped table that it lists.

        A partitioned table is listed as all of its partitions; some of them are refused.
        """
        oids = parse_truncate(message)
        if not self._begin or not self._described.keys() >= set(oids):
            what = "truncate of an undescribed relation, or outside a transaction"
            raise DecodeError(what, kind="T", offset=HEADER)
        numbers = {int.from_bytes(oid, "big") for oid in oids}
        emptied: dict[tuple[str, str], Relation] = {}
        for oid in oids:
            if oid in self._mapped:
                relation = self._mapped[oid]
                emptied.setdefault((relation.schema, relation.table), relation)
        for relation in emptied.values():
            self._relations.check_truncate(relation, numbers)
            self._decode()
            operation = Operation.TRUNCATE
            self._runs.append(Run(relation=relation, operation=operation, sequence=self._start))
            self._start += 1

    # --- decoding -----------------------------------------------------------------------------

    def _decode(self) -> None:
        """Make runs of what was collected: each shape's messages at once, then cut to stretches."""
        end = self._start + len(self._pending)
        stretches, self._stretches = self._stretches, []
        self._pending, self._key, self._start = [], _NO_KEY, end
        decoded: dict[bytes, Decoded] = {}
        for shape, _, _ in stretches:
            if shape.key not in decoded:
                decoded[shape.key] = shape.decode_pending()
        for index, (shape, offset, ordinal) in enumerate(stretches):
            following = stretches[index + 1][2] if index + 1 < len(stretches) else end
            rows = slice(offset, offset + following - ordinal)
            for run in runs_of(shape, decoded[shape.key], rows, ordinal):
                extend(self._runs, run)

    # --- descriptions -------------------------------------------------------------------------

    def _relation(self, message: bytes) -> None:
        """A Relation message: how the rows that follow look."""
        oid, body = message[26:30], message[30:]
        if oid in self._mapped and self._described[oid] == body:
            return
        described = parse_relation(message, self._types)
        self._decode()
        self._described[oid] = body
        self._shapes = {k: shape for k, shape in self._shapes.items() if k[1:5] != oid}
        self._mapped.pop(oid, None)
        number = int.from_bytes(oid, "big")
        xid = transaction_of(self._begin)
        table = self._relations.mapped(number, described.schema, described.table, xid)
        if table is not None:
            self._map(oid, described, table)

    def _map(self, oid: bytes, described: Described, table: Table) -> None:
        relation, wanted = self._relations.describe(described, table)
        self._mapped[oid] = relation
        identity = tuple(wanted[i] for i in relation.identity)
        old = b"O" if relation.replica is Replica.FULL else b"K"
        kinds = (
            (Operation.INSERT, b"", True),
            (Operation.UPDATE, b"", True),
            (Operation.UPDATE, old, True),
            (Operation.DELETE, old, False),
        )
        for operation, tag, new in kinds:
            shape = Shape(
                relation=relation,
                operation=operation,
                oid=oid,
                width=len(described.names),
                wanted=wanted,
                identity=identity,
                old=tag,
                new=new,
                max_value_bytes=self._max_value_bytes,
            )
            self._shapes[shape.key] = shape

    # --- taking away --------------------------------------------------------------------------

    def take(self) -> Batch | None:
        """What is complete, or a piece of an open transaction when that alone fills one."""
        if self._begins:
            return self._take_complete()
        if self._begin and self.full:
            return self._take_piece()
        return None

    def skip(self) -> None:
        """Note how far transactions without changes have brought the log."""
        if self._commit and not self._begins:
            self.server_end = max(self.server_end, parse_commit(self._commit)[0])
            self._commit = _NONE

    def _take_complete(self) -> Batch:
        """Everything up to the last commit; what is behind it stays."""
        self._decode()
        end, time = parse_commit(self._commit)
        runs, self._runs = cut(self._runs, self._committed)
        batch = Batch(
            runs=runs,
            begins=parse_begins(self._begins),
            position=format_lsn(end),
            commit_time=time,
            transactions=len(self._begins),
            changes=self._committed - self._base,
            size=self._committed_size,
        )
        self._base = self._committed
        self._size -= self._committed_size
        self._commit, self._begins, self._committed_size = _NONE, [], 0
        return batch

    def _take_piece(self) -> Batch:
        """All that is there of the open transaction."""
        self._decode()
        batch = Batch(
            runs=self._runs,
            begins=parse_begins([(self._first, self._begin)]),
            changes=self._start - self._base,
            size=self._size,
        )
        self._runs, self._size, self._base = [], 0, self._start
        return batch
