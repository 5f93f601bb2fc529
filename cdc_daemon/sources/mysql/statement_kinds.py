"""The closed family of statements that a binlog carries.

``Effect`` says what a definition does to rows without an event for each.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from cdc_daemon.sources.mysql.tokens import TableName
from cdc_daemon.sources.mysql.xid import Xid


class Effect(enum.Enum):
    """What becomes of a table's rows by its definition."""

    NONE = "none"
    VALUES = "values"  # columns come, go or change: values of its rows may be others
    ROWS = "rows"  # rows may come or go


@dataclass(frozen=True, slots=True)
class Begin:
    """A transaction begins."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A transaction ends (of tables without transactions, or without GTID)."""


@dataclass(frozen=True, slots=True)
class Rollback:
    """A transaction that is in the log because of tables without transactions is taken back."""


@dataclass(frozen=True, slots=True)
class Savepoint:
    """A name for this point of the transaction."""

    name: str


@dataclass(frozen=True, slots=True)
class RollbackTo:
    """What came since the savepoint is taken back; not so in tables without transactions."""

    name: str


@dataclass(frozen=True, slots=True)
class XaStart:
    """The rows that follow belong to this XA transaction."""

    xid: Xid


@dataclass(frozen=True, slots=True)
class XaEnd:
    """No more rows of this XA transaction."""

    xid: Xid


@dataclass(frozen=True, slots=True)
class XaPrepare:
    """The XA transaction is prepared."""

    xid: Xid


@dataclass(frozen=True, slots=True)
class XaCommit:
    """A prepared XA transaction takes effect."""

    xid: Xid


@dataclass(frozen=True, slots=True)
class XaRollback:
    """A prepared XA transaction is dropped."""

    xid: Xid


@dataclass(frozen=True, slots=True)
class Truncate:
    """All rows of the table go."""

    table: TableName


@dataclass(frozen=True, slots=True)
class Definition:
    """Tables, or all of a schema's, are defined anew. ``verb``: for messages. ``columns``: those
    whose values may be others by then; None: they cannot be told. ``dropped``: constraints that
    go; ``acts``: a foreign key comes that changes rows."""

    verb: str
    tables: tuple[TableName, ...]
    effect: Effect
    schemas: tuple[str, ...] = ()
    columns: frozenset[str] | None = frozenset()
    dropped: frozenset[str] = frozenset()
    acts: bool = False


@dataclass(frozen=True, slots=True)
class RowStatement:
    """A statement that changes rows. ``tables``: those it names; None: they cannot be told."""

    verb: str
    tables: tuple[TableName, ...] | None = None


@dataclass(frozen=True, slots=True)
class Other:
    """Nothing about rows or tables: accounts, views, routines, settings, maintenance."""

    verb: str


Statement = (
    Begin
    | Commit
    | Rollback
    | Savepoint
    | RollbackTo
    | XaStart
    | XaEnd
    | XaPrepare
    | XaCommit
    | XaRollback
    | Truncate
    | Definition
    | RowStatement
    | Other
)
