"""Row messages of one relation, decoded by generated code: bytes in, tuples out.

A *shape* is one layout that row messages of a relation can have: an insert, an update without, with
key-only or with full old tuple, a delete with key-only or full old tuple. All messages of a shape
begin with the same eight bytes (kind, relation oid, tuple tag, number of columns), its ``key``.

Generated code does the work (``rowcode.py``); a message that it cannot read, or that is long, goes
through :func:`read_strictly`, which knows where it went wrong.

Protocol: "Logical Replication Message Formats" of the PostgreSQL documentation (Insert, Update,
Delete, TupleData), version 1, text values. Messages carry the 25-byte XLogData header in front.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from cdc_daemon.model.changes import UNCHANGED, Operation, Relation, Row, Run, Value
from cdc_daemon.model.errors import DecodeError, Stop
from cdc_daemon.sources.postgres.encodings import read_rows
from cdc_daemon.sources.postgres.messages import HEADER, KEY_END
from cdc_daemon.sources.postgres.rowcode import compile_rows

Decoded = tuple[list[Row], list[Row], list[int]]
"""New rows, old rows (either may be empty), and the indexes of new rows that hold UNCHANGED or
INVALID."""


@dataclass(slots=True, kw_only=True)
class Shape:
    """How one kind of row message of one relation is read.

    ``width`` is the number of columns in its tuples, ``wanted`` the positions of the relation's
    columns in them, ``identity`` those that a key-only tuple fills. ``old`` and ``new`` say which
    tuples there are; ``old`` is ``b"K"``, ``b"O"`` or empty.
    """

    relation: Relation
    operation: Operation
    oid: bytes
    width: int
    wanted: tuple[int, ...]
    identity: tuple[int, ...]
    old: bytes
    new: bool
    max_value_bytes: int
    key: bytes = b""
    pending: list[bytes] = field(default_factory=list)  # collected, not decoded yet
    _rows: Callable[[list[bytes]], Decoded] | None = None  # compiled when first needed

    def __post_init__(self) -> None:
        self.key = self._kind + self.oid + (self.old or b"N") + self._count

    @property
    def _kind(self) -> bytes:
        kinds = {Operation.INSERT: b"I", Operation.UPDATE: b"U", Operation.DELETE: b"D"}
        return kinds[self.operation]

    @property
    def _count(self) -> bytes:
        return self.width.to_bytes(2, "big")

    @property
    def old_columns(self) -> tuple[int, ...]:
        """The positions that make an old row."""
        if not self.old:
            return ()
        return self.identity if self.old == b"K" else self.wanted

    @property
    def filled(self) -> frozenset[int]:
        """The positions whose value stands in the old tuple where the new one leaves it out."""
        if not self.new or not self.old:
            return frozenset()
        return frozenset(range(self.width) if self.old == b"O" else self.identity)

    def decode(self, messages: list[bytes]) -> Decoded:
        """Rows of messages that all begin with ``key``. Raises DecodeError, or Stop for a value
        longer than ``max_value_bytes``."""
        if self._rows is None:
            self._rows = compile_rows(self, self._append)
        try:
            decoded = self._rows(messages)
        except IndexError:
            decoded = self._strictly(messages)
        return _read(decoded, self.relation.codec) if self.relation.codec else decoded

    def decode_pending(self) -> Decoded:
        """Decode what was collected."""
        messages, self.pending = self.pending, []
        return self.decode(messages)

    def _append(self, message: bytes, *decoded: Any) -> None:
        append_strictly(self, message, decoded)

    def _strictly(self, messages: Sequence[bytes]) -> Decoded:
        decoded: Decoded = ([], [], [])
        for message in messages:
            append_strictly(self, message, decoded)
        return decoded


def _read(decoded: Decoded, codec: str) -> Decoded:
    """In UTF-8, with INVALID for what is no text; rows that hold any are partial."""
    news, olds, partial = decoded
    news, marked = read_rows(news, codec)
    return news, read_rows(olds, codec)[0], sorted({*partial, *marked})


def runs_of(shape: Shape, decoded: Decoded, rows: slice, sequence: int) -> Iterator[Run]:
    """The runs of neighbouring rows: one, or more where rows with and without UNCHANGED mix."""
    news, olds, partial = decoded
    start, end = rows.start, rows.stop
    marked = {i for i in partial if start <= i < end} if partial else ()
    while start < end:
        stop = end
        if marked:
            alike = (i for i in range(start, end) if (i in marked) != (start in marked))
            stop = next(alike, end)
        whole = start == 0 and stop == len(news or olds)
        yield Run(
            relation=shape.relation,
            operation=shape.operation,
            new_rows=news if whole else news[start:stop],
            old_rows=(olds if whole else olds[start:stop]) if shape.old else None,
            old_full=shape.old == b"O",
            partial=start in marked,
            sequence=sequence,
        )
        sequence += stop - start
        start = stop


def append_strictly(shape: Shape, message: bytes, decoded: Decoded) -> None:
    """Decode one message with every check, and append what it holds."""
    news, olds, partial = decoded
    kind = chr(message[HEADER])
    offset = KEY_END
    old: list[Value] = []
    if shape.old:
        old, offset = read_strictly(message, offset, shape.width, kind)
        olds.append(tuple([old[i] for i in shape.old_columns]))
    if shape.new:
        if shape.old:
            if message[offset : offset + 3] != b"N" + shape.width.to_bytes(2, "big"):
                raise DecodeError("new tuple expected", kind=kind, offset=offset)
            offset += 3
        new, offset = read_strictly(message, offset, shape.width, kind)
        if shape.filled:
            known = shape.filled
            new = [old[i] if v is UNCHANGED and i in known else v for i, v in enumerate(new)]
        row = tuple([new[i] for i in shape.wanted])
        if UNCHANGED in row:
            partial.append(len(news))
        news.append(row)
    if offset != len(message):
        raise DecodeError("bytes after the end", kind=kind, offset=offset)
    for values in (olds[-1:], news[-1:]):
        _check_sizes(shape, values)


def read_strictly(data: bytes, offset: int, width: int, kind: str) -> tuple[list[Value], int]:
    """All values of one tuple and the offset after it. Raises DecodeError where it is malformed."""
    values: list[Value] = []
    for _ in range(width):
        match data[offset : offset + 1]:
            case b"n":
                values.append(None)
                offset += 1
            case b"u":
                values.append(UNCHANGED)
                offset += 1
            case b"t":
                start = offset + 5
                end = start + int.from_bytes(data[offset + 1 : start], "big")
                if not start <= end <= len(data):
                    raise DecodeError("value longer than its message", kind=kind, offset=offset)
                values.append(data[start:end])
                offset = end
            case b"":
                raise DecodeError("tuple cut short", kind=kind, offset=offset)
            case tag:
                raise DecodeError(f"unknown value kind {tag!r}", kind=kind, offset=offset)
    return values, offset


def _check_sizes(shape: Shape, rows: Sequence[Row]) -> None:
    """Stop at a value over the limit, naming table, column and key columns, never values."""
    relation = shape.relation
    for row in rows:
        for index, value in enumerate(row):
            if isinstance(value, bytes) and len(value) > shape.max_value_bytes:
                key = ", ".join(relation.columns[i].name for i in relation.identity)
                raise Stop(
                    f"{relation.name}: a value of {len(value)} bytes (column "
                    f"{relation.columns[index].name}, row identified by {key}) is longer than "
                    f"max_value_bytes ({shape.max_value_bytes})",
                    hint="raise max_value_bytes or leave the column out of the mapping",
                )
