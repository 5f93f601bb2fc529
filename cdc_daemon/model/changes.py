"""What a source's log says, before any mapping: values, relations, runs of changes, batches.

A value is one of four things (DESIGN section 2):

* **text**: ``bytes``, exactly what the log said, UTF-8, in PostgreSQL text form;
* **NULL**: ``None``;
* **UNCHANGED**: the log left it out (TOAST, partial row image); never NULL, never written;
* **INVALID**: an :class:`Invalid` that keeps the raw bytes of what cannot be text.

Rows are plain tuples of values; a :class:`Run` holds many of them, so that nothing on the hot path
is an object per row.
"""

from __future__ import annotations

import bisect
import enum
from dataclasses import dataclass, field


class Unset(enum.Enum):
    """The singleton for "the log did not say"."""

    UNCHANGED = "unchanged"

    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED = Unset.UNCHANGED


@dataclass(frozen=True, slots=True)
class Invalid:
    """Bytes that are no value of their column (zero date, text not in its encoding)."""

    raw: bytes
    reason: str
    codec: str = "utf-8"

    @property
    def kept(self) -> bytes:
        r"""A text with ``\xff`` for each byte that is part of no character."""
        return self.raw.decode(self.codec, "backslashreplace").encode()


LEFT_OUT = "left out: the failure queue had no room for it"
"""The reason of an INVALID that stands in a parked change for a value as the log had it."""

Value = bytes | Unset | Invalid | None
Row = tuple[Value, ...]


class Operation(enum.Enum):
    """What happened to the rows of a run."""

    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"
    TRUNCATE = "truncate"


class Replica(enum.Enum):
    """What old row images the log carries (PostgreSQL: REPLICA IDENTITY)."""

    KEY = "key"  # the identity columns only, and for updates only when they changed
    FULL = "full"  # every column, always
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A source column's type in neutral words, the same for every engine.

    ``name`` is one of: smallint integer bigint oid numeric money real double boolean date time
    timetz timestamp timestamptz interval duration uuid json jsonb bytes char varchar text citext
    array hstore other. ``length`` is characters (char, varchar), precision (numeric) or digits
    (oid: any unsigned number), ``scale`` only for numeric and money; None: unlimited. ``native`` is
    the engine's own name for messages, ``element`` the type of an array's elements.
    """

    name: str
    length: int | None = None
    scale: int | None = None
    native: str = ""
    element: ColumnType | None = None

    def __str__(self) -> str:
        return self.native or self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One decoded column of a relation."""

    name: str
    type: ColumnType


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Relation:
    """A table as the log describes it at that point; compared by identity, one per description.

    ``columns`` are only those somebody asked for, in the order of the row tuples; ``identity`` are
    the positions among them of the row's identity (primary key, or the replica identity's index).
    ``codec``: by which its texts were read, so that values may be INVALID; empty: they cannot be.
    Its rows in the database, as the log tells them: those of the table ``alone``, without tables
    that inherit from it, as far as they meet ``condition`` (in the source's SQL; empty: all).
    ``mapped`` False: it is read only for what its changes do to rows of other tables.
    """

    source: str
    schema: str
    table: str
    columns: tuple[Column, ...]
    identity: tuple[int, ...]
    replica: Replica = Replica.KEY
    codec: str = ""
    alone: bool = False
    condition: str = ""
    mapped: bool = True

    @property
    def name(self) -> str:
        """``source.schema.table``, as a mapping's ``from`` writes it."""
        return f"{self.source}.{self.schema}.{self.table}"

    def position_of(self, column: str) -> int:
        """Index of a column in the row tuples. Raises KeyError when it is not decoded."""
        for index, found in enumerate(self.columns):
            if found.name == column:
                return index
        raise KeyError(column)


@dataclass(slots=True, kw_only=True)
class Run:
    """Consecutive changes of one relation with one operation.

    ``new_rows`` (INSERT, UPDATE): full-width rows in the order of ``relation.columns``.
    ``old_rows`` (DELETE: always; UPDATE: None when the log sent no old image): identity values in
    the order of ``relation.identity``, or full-width rows where ``old_full``.
    ``partial``: some new row holds UNCHANGED or Invalid; False promises that none does.
    ``sequence``: the ordinal of the first change since the stream began; change i has
    ``sequence + i``. TRUNCATE is a run of one change without rows.
    ``acts``: what foreign keys did to other rows because of these changes is not in the log.
    """

    relation: Relation
    operation: Operation
    new_rows: list[Row] = field(default_factory=list)
    old_rows: list[Row] | None = None
    old_full: bool = False
    partial: bool = False
    sequence: int = 0
    acts: bool = False

    def __len__(self) -> int:
        if self.operation is Operation.TRUNCATE:
            return 1
        return (
            len(self.old_rows or ()) if self.operation is Operation.DELETE else len(self.new_rows)
        )


Begin = tuple[int, int, int]
"""(ordinal of a transaction's first change, the source's mark, commit time in µs since 1970)."""


@dataclass(slots=True, kw_only=True)
class Batch:
    """Whole source transactions, or a piece of one that is larger than a batch.

    ``begins`` has one entry for each transaction with changes that starts in this batch, and first,
    when the batch continues an open transaction, that transaction's entry again.
    ``position``: where to go on after this batch, in the source's own text; None while the last
    transaction is still open. ``transactions`` counts commits with changes, ``changes`` changes of
    mapped relations. ``urgent``: the source waits for an acknowledgement of ``position``. ``busy``:
    it was handed over because it was full, so that more follows at once.
    """

    runs: list[Run] = field(default_factory=list)
    begins: list[Begin] = field(default_factory=list)
    position: str | None = None
    commit_time: int | None = None  # µs since 1970 of the last commit in it
    transactions: int = 0
    changes: int = 0
    size: int = 0  # about as many bytes as in the log, uncompressed, for the queue's bound
    urgent: bool = False
    busy: bool = False

    @property
    def complete(self) -> bool:
        """Whether it ends at a transaction's end, so that it can be committed."""
        return self.position is not None

    def begin_of(self, sequence: int) -> Begin:
        """The transaction that the change with that ordinal stands in."""
        return self.begins[bisect.bisect_right(self.begins, sequence, key=lambda b: b[0]) - 1]

    def append(self, later: Batch) -> None:
        """Take in the batch that follows this one in the log."""
        if self.begins and later.begins and later.begins[0] == self.begins[-1]:
            later.begins = later.begins[1:]
        self.runs += later.runs
        self.begins += later.begins
        self.position = later.position
        self.commit_time = later.commit_time or self.commit_time
        self.transactions += later.transactions
        self.changes += later.changes
        self.size += later.size
        self.urgent |= later.urgent
        self.busy = later.busy
