"""Tables as the catalogue has them, and what may be done with them: any number in a few questions.

Not in here: what a table should be like (``tables``, ``ledger``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cdc_daemon.sinks.mysql.names import plain_type
from cdc_daemon.sinks.mysql.session import Session
from cdc_daemon.sinks.mysql.values import literal

_AT_ONCE = 500
_TABLES = """
    SELECT TABLE_NAME, TABLE_TYPE, ENGINE FROM information_schema.TABLES
     WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME IN ({})"""
_COLUMNS = """
    SELECT TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, COLUMN_DEFAULT, EXTRA,
           COLLATION_NAME, COLUMN_COMMENT
      FROM information_schema.COLUMNS
     WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME IN ({})
     ORDER BY TABLE_NAME, ORDINAL_POSITION"""
_INDEXES = """
    SELECT TABLE_NAME, INDEX_NAME, COLUMN_NAME, SEQ_IN_INDEX, SUB_PART
      FROM information_schema.STATISTICS
     WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME IN ({})
     ORDER BY TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveColumn:
    """A column as the catalogue has it. ``default``: a row need not give it a value."""

    type: str
    required: bool
    default: bool
    collation: str
    comment: str


@dataclass(slots=True, kw_only=True)
class LiveTable:
    """A table as the catalogue has it. ``indexed``: columns that lead some index, whole."""

    kind: str
    engine: str
    columns: dict[str, LiveColumn] = field(default_factory=dict)
    key: tuple[str, ...] = ()
    indexed: set[str] = field(default_factory=set)


def live_tables(session: Session, names: Collection[str]) -> Mapping[str, LiveTable]:
    """Those of the tables that exist, by the name that was asked for."""
    found: dict[str, LiveTable] = {}
    asked = {name.lower(): name for name in names}
    for name, kind, engine in _asked(session, _TABLES, names):
        known = name if name in names else asked[name.lower()]
        found[known] = LiveTable(kind=kind, engine=engine)
    by_case = {name.lower(): table for name, table in found.items()}

    def table(name: str) -> LiveTable:
        return found.get(name) or by_case[name.lower()]

    for name, column, spelt, null, default, extra, collation, comment in _asked(
        session, _COLUMNS, names
    ):
        given = default not in ("", "NULL") or "auto_increment" in extra or "DEFAULT" in extra
        table(name).columns[column] = LiveColumn(
            type=plain_type(spelt),
            required=null == "NO",
            default=given or "GENERATED" in extra.upper(),
            collation=collation,
            comment=comment,
        )
    for name, index, column, place, part in _asked(session, _INDEXES, names):
        if index == "PRIMARY":
            table(name).key += (column if not part else f"{column}({part})",)
        if place == "1" and not part:
            table(name).indexed.add(column)
    return found


def _asked(session: Session, sql: str, names: Collection[str]) -> Iterator[Sequence[str]]:
    """Rows as texts; an empty one for NULL."""
    listed = list(names)
    for start in range(0, len(listed), _AT_ONCE):
        among = ", ".join(map(literal, listed[start : start + _AT_ONCE]))
        for row in session.run(sql.format(among)).rows:
            yield [(value or b"").decode() for value in row]
