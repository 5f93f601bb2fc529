"""Foreign keys by which a source's server changes rows without a word in its log."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

from cdc_daemon.model.changes import Relation


class Action(enum.Enum):
    """What becomes of the rows that refer to a row which is deleted, or whose key changes."""

    NONE = "none"
    CASCADE = "cascade"
    SET_NULL = "set null"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cascade:
    """``columns`` of ``child`` refer to ``parent_columns`` of ``parent`` (schema and table).

    ``padded``: which of the columns are equal to the server whatever blanks they end with.
    """

    child: tuple[str, str]
    columns: tuple[str, ...]
    parent: tuple[str, str]
    parent_columns: tuple[str, ...]
    on_delete: Action = Action.NONE
    on_update: Action = Action.NONE
    padded: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cascades:
    """The keys that change rows of mapped tables, at whatever distance.

    ``beside``: the tables among their parents and children that nobody maps. ``silent``: the log
    may lack what keys do; ``ignored``: and rows are left as they are then.
    """

    silent: bool = False
    ignored: bool = False

    keys: tuple[Cascade, ...] = ()
    beside: tuple[Relation, ...] = ()


class Child(NamedTuple):
    """A row noted under the parent that one of its foreign keys names.

    ``parent``: digest of the key and its values, 16 bytes; ``digest``: of the row; ``row``: what is
    kept of it, as text.
    """

    parent: bytes
    digest: bytes
    row: str
