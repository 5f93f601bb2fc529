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
from dataclasses import replace
from typing import cast

from cdc_daemon.model.changes import Batch, Operation, Relation, Replica, Run
from cdc_daemon.model.errors import DecodeError
from cdc_daemon.sources.postgres.lsn import format_lsn
from cdc_daemon.sources.postgres.messages import (
    HEADER,
    malformed,
    parse_begin,
    parse_commit,
    parse_keepalive,
    parse_relation,
    parse_truncate,
    parse_type,
)
from cdc_daemon.sources.postgres.relations import Described, Relations
from cdc_daemon.sources.postgres.shapes import KEY_END, Shape
from cdc_daemon.sources.postgres.types import Types

_BEGIN_LENGTH = HEADER + 21
_COMMIT_LENGTH = HEADER + 26
_IGNORED = b"OM"  # origins and logical messages change no row

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
        self._shapes: dict[bytes, Shape | None] = {}  # None: a table that nobody mapped
        self._pending: list[bytes] = []  # messages of the current shape, not decoded yet
        self._key = b""
        self._runs: list[Run] = []
        self._begins: list[tuple[int, bytes]] = []
        self._base = 0  # ordinal of the first change that was not taken yet
        self._sequence = 0  # ordinal of the first change that was not decoded yet
        self._size = 0
        self._begin = b""  # the open transaction's Begin message
        self._first = 0  # ordinal of its first change
        self._commit = b""  # the last Commit message since the last batch
        self._committed = 0  # ordinal after the last committed change
        self._committed_size = 0
        self._transactions = 0
        self.server_end = 0  # the last position that the server told about, commits and keepalives
        self.reply_requests = 0  # keepalives since the last data that asked for a reply

    @property
    def quiet(self) -> bool:
        """Whether nothing is held back: no open transaction, no change that was not taken."""
        return not self._begin and not self._commit and self._read == self._base

    @property
    def _read(self) -> int:
        """The ordinal of the next change to come."""
        return self._sequence + len(self._pending)

    @property
    def full(self) -> bool:
        """Whether a piece's limit is reached."""
        return self._read - self._base >= self._piece_rows or self._size >= self._piece_bytes

    @property
    def complete(self) -> bool:
        """Whether a whole transaction with changes waits to be taken."""
        return self._transactions > 0

    @property
    def waiting(self) -> int:
        """Changes read and not taken yet."""
        return self._read - self._base

    # --- reading ------------------------------------------------------------------------------

    def pump(self, get: GetCopyData) -> int:
        """Read messages until there are none, or a piece is full, or one has done its turn.

        Returns what the last ``get`` returned: 0 for nothing there, -1 for the copy's end, else
        more may be there. Raises DecodeError for what does not follow the protocol.
        """
        message = b""
        size = self._size
        limit = self._piece_bytes
        pending, key = self._pending, self._key
        found = 1
        try:
            for _ in range(max(1, self._piece_rows - self.waiting)):
                found, view = get(1)
                if found <= 0:
                    break
                message = cast(bytes, view.obj)
                if message[HEADER:KEY_END] == key:
                    pending.append(message)
                    size += found
                    if size >= limit:
                        break
                    continue
                self._size = size
                self._dispatch(message)
                pending, key, size = self._pending, self._key, self._size
        except (IndexError, struct.error, UnicodeDecodeError, ValueError) as exc:
            raise malformed(message, exc) from exc
        self._size = size
        return found

    def _dispatch(self, message: bytes) -> None:
        """One message that does not look like the one before."""
        if message[0] != 0x77:
            self._control(message)
            return
        self.reply_requests = 0
        kind = message[HEADER]
        if kind == 0x42:
            self._start_transaction(message)
        elif kind == 0x43:
            self._end_transaction(message)
        elif kind in b"IUD":
            self._row(message)
        elif kind == 0x52:
            self._relation(message)
        elif kind == 0x54:
            self._truncate(message)
        elif kind == 0x59:
            self._types.name(*parse_type(message))
        elif kind not in _IGNORED:
            raise DecodeError("unknown message", kind=chr(kind), offset=HEADER)

    def _control(self, message: bytes) -> None:
        if message[0] != 0x6B:
            raise DecodeError("unknown copy message", kind=chr(message[0]), offset=0)
        end, reply = parse_keepalive(message)
        self.server_end = max(self.server_end, end)
        self.reply_requests += reply

    def _start_transaction(self, message: bytes) -> None:
        read = self._read
        if self._begin or read != self._committed:
            raise DecodeError("begin inside a transaction", kind="B", offset=HEADER)
        if len(message) != _BEGIN_LENGTH:
            raise DecodeError("wrong length", kind="B", offset=HEADER)
        self._begin, self._first = message, read

    def _end_transaction(self, message: bytes) -> None:
        if not self._begin:
            raise DecodeError("commit without begin", kind="C", offset=HEADER)
        if len(message) != _COMMIT_LENGTH:
            raise DecodeError("wrong length", kind="C", offset=HEADER)
        read = self._read
        if read > self._first:
            self._transactions += 1
            self._begins.append((self._first, self._begin))
            self._commit = message
        elif not self._transactions:
            self.server_end = max(self.server_end, parse_commit(message)[0])
        else:
            self._commit = message
        self._begin = b""
        self._committed = read
        self._committed_size = self._size

    def _row(self, message: bytes) -> None:
        """A row message of another shape than the one before."""
        key = message[HEADER:KEY_END]
        if key not in self._shapes:
            self._shapes[key] = None
            self._must_be_unmapped(message)
        if self._shapes[key] is None:
            return
        if not self._begin:
            raise DecodeError("row outside a transaction", kind=chr(key[0]), offset=HEADER)
        self._flush()
        self._key = key
        self._pending.append(message)
        self._size += len(message)

    def _flush(self) -> None:
        """Decode what is pending into runs."""
        messages = self._pending
        if not messages:
            return
        shape = self._shapes[self._key]
        assert shape is not None
        self._pending, self._key = [], b""
        news, olds, partial = shape.decode(messages)
        if not partial:
            self._add(
                Run(
                    relation=shape.relation,
                    operation=shape.operation,
                    new_rows=news,
                    old_rows=olds if shape.old else None,
                    old_full=shape.old == b"O",
                    sequence=self._sequence,
                ),
                len(messages),
            )
            return
        for start, end, is_partial in _stretches(partial, len(messages)):
            self._add(
                Run(
                    relation=shape.relation,
                    operation=shape.operation,
                    new_rows=news[start:end],
                    old_rows=olds[start:end] if shape.old else None,
                    old_full=shape.old == b"O",
                    partial=is_partial,
                    sequence=self._sequence,
                ),
                end - start,
            )

    def _add(self, run: Run, count: int) -> None:
        """Append a run, or extend the last one where it is of the same kind."""
        self._sequence += count
        last = self._runs[-1] if self._runs else None
        if (
            last is not None
            and last.relation is run.relation
            and last.operation is run.operation
            and (last.old_rows is None) == (run.old_rows is None)
            and last.old_full == run.old_full
            and last.partial == run.partial
            and run.operation is not Operation.TRUNCATE
        ):
            last.new_rows += run.new_rows
            if last.old_rows is not None and run.old_rows is not None:
                last.old_rows += run.old_rows
        else:
            self._runs.append(run)

    # --- descriptions -------------------------------------------------------------------------

    def _relation(self, message: bytes) -> None:
        """A Relation message: how the rows that follow look."""
        oid, body = message[26:30], message[30:]
        if self._described.get(oid) == body:
            return
        described = parse_relation(message, self._types)
        self._flush()
        self._described[oid] = body
        self._shapes = {k: shape for k, shape in self._shapes.items() if k[1:5] != oid}
        self._mapped.pop(oid, None)
        if (described.schema, described.table) in self._relations.tables:
            self._map(oid, described)

    def _map(self, oid: bytes, described: Described) -> None:
        relation, wanted = self._relations.describe(described)
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

    def _must_be_unmapped(self, message: bytes) -> None:
        """A row message without a shape: nobody mapped its table, or it is malformed."""
        oid, kind = message[26:30], chr(message[HEADER])
        if len(message) < KEY_END or oid not in self._described:
            raise DecodeError("row of an undescribed relation", kind=kind, offset=26)
        if oid in self._mapped:
            raise DecodeError("row that its relation does not describe", kind=kind, offset=30)

    def _truncate(self, message: bytes) -> None:
        """A Truncate message: one run for each mapped relation that it lists."""
        oids = parse_truncate(message)
        if not self._begin:
            raise DecodeError("truncate outside a transaction", kind="T", offset=HEADER)
        for oid in oids:
            if oid not in self._described:
                raise DecodeError("truncate of an undescribed relation", kind="T", offset=31)
            if oid in self._mapped:
                self._flush()
                self._add(
                    Run(
                        relation=self._mapped[oid],
                        operation=Operation.TRUNCATE,
                        sequence=self._sequence,
                    ),
                    1,
                )

    # --- taking away --------------------------------------------------------------------------

    def take(self) -> Batch | None:
        """What is complete, or a piece of an open transaction when that alone fills one."""
        if self._commit:
            return self._take_complete()
        if self._begin and self.full:
            return self._take_piece()
        return None

    def _take_complete(self) -> Batch:
        """Everything up to the last commit; what is behind it stays."""
        self._flush()
        end, time = parse_commit(self._commit)
        runs, self._runs = _cut(self._runs, self._committed)
        batch = Batch(
            runs=runs,
            begins=[parse_begin(first, message) for first, message in self._begins],
            position=format_lsn(end),
            commit_time=time,
            transactions=self._transactions,
            changes=self._committed - self._base,
            size=self._committed_size,
        )
        self._base = self._committed
        self._size -= self._committed_size
        self._commit, self._begins, self._transactions, self._committed_size = b"", [], 0, 0
        return batch

    def _take_piece(self) -> Batch:
        """All that is there of the open transaction."""
        self._flush()
        batch = Batch(
            runs=self._runs,
            begins=[parse_begin(self._first, self._begin)],
            changes=self._sequence - self._base,
            size=self._size,
        )
        self._runs, self._size, self._base = [], 0, self._sequence
        return batch


def _cut(runs: list[Run], ordinal: int) -> tuple[list[Run], list[Run]]:
    """Runs before and from a change on; a run that spans it is divided."""
    before = [run for run in runs if run.sequence < ordinal]
    after = [run for run in runs if run.sequence >= ordinal]
    if before and before[-1].sequence + len(before[-1]) > ordinal:
        run = before.pop()
        at = ordinal - run.sequence
        news, olds = run.new_rows, run.old_rows
        before.append(replace(run, new_rows=news[:at], old_rows=olds and olds[:at]))
        rest = replace(run, new_rows=news[at:], old_rows=olds and olds[at:], sequence=ordinal)
        after.insert(0, rest)
    return before, after


def _stretches(partial: list[int], count: int) -> list[tuple[int, int, bool]]:
    """(start, end, whether partial) of neighbouring rows that are alike."""
    marked = set(partial)
    found: list[tuple[int, int, bool]] = []
    for index in range(count):
        is_partial = index in marked
        if found and found[-1][2] == is_partial:
            found[-1] = (found[-1][0], index + 1, is_partial)
        else:
            found.append((index, index + 1, is_partial))
    return found
