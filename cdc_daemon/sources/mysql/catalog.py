"""Mapped tables as the source's information_schema describes them now.

Every query names the tables one by one (a UNION of equal branches), for MariaDB opens every table
of the server for any other condition. Names are compared here, byte by byte: the server compares
them regardless of case, and the log does not. What is wrong with what is found, ``requirements.py``
says; keys that change other rows are in ``foreign_keys.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from cdc_daemon.sources.mysql.asked import Answer, Ask, spelled

Name: TypeAlias = tuple[str, str]
"""Schema and table."""

_AT_ONCE: Final = 50
_OF_TABLE: Final = "WHERE table_schema = %s AND table_name = %s"
_TABLES: Final = f"""
SELECT table_schema, table_name, table_type, engine, create_options
FROM information_schema.tables {_OF_TABLE}
"""
_COLUMNS: Final = f"""
SELECT table_schema, table_name, ordinal_position, column_name, column_type, data_type,
       character_set_name, collation_name, is_nullable, extra, privileges
FROM information_schema.columns {_OF_TABLE}
"""
_KEYS: Final = f"""
SELECT table_schema, table_name, index_name, seq_in_index, column_name, sub_part, nullable
FROM information_schema.statistics {_OF_TABLE} AND non_unique = 0
"""
_NAMES: Final = """
SELECT table_schema, table_name FROM information_schema.tables
WHERE table_schema NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys')
LIMIT 20000
"""
_PRIMARY: Final = "PRIMARY"
_NO_PAD: Final = re.compile("_0900_|_nopad_|^binary$")
_COMPRESSED: Final = re.compile(r" /\*M?!100301 COMPRESSED\*/")


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnFacts:
    """One column. ``native``: the type as the server writes it (``bigint unsigned``).

    ``data_type``: its first word; ``charset`` and ``collation``: of texts, else empty;
    ``generated``: ``virtual`` or ``stored``, else empty.
    """

    name: str
    native: str
    data_type: str
    charset: str = ""
    collation: str = ""
    nullable: bool = True
    generated: str = ""
    invisible: bool = False
    compressed: bool = False
    readable: bool = True

    @property
    def merges(self) -> bool:
        """Whether different texts are equal to the server (trailing blanks aside)."""
        return bool(self.collation) and not self.collation.endswith("_bin")

    @property
    def padded(self) -> bool:
        """Whether texts are equal to the server whatever blanks they end with.

        All collations pad but MySQL's of UCA 9.0.0 and MariaDB's that say so (PAD_ATTRIBUTE).
        """
        return bool(self.collation) and not _NO_PAD.search(self.collation)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFacts:
    """One table or view. ``kind``: the server's word (BASE TABLE, VIEW, SYSTEM VERSIONED, …).

    ``unique_keys``: columns of the unique keys without NULL and prefix, beside the primary key.
    """

    schema: str
    name: str
    kind: str
    engine: str
    columns: tuple[ColumnFacts, ...]
    primary_key: tuple[str, ...] = ()
    unique_keys: tuple[tuple[str, ...], ...] = ()
    partitioned: bool = False

    @property
    def title(self) -> str:
        """``schema.table``."""
        return f"{self.schema}.{self.name}"

    @property
    def spelled(self) -> str:
        """The same in SQL."""
        return spelled(self.schema, self.name)

    def column(self, name: str) -> ColumnFacts | None:
        """A column by name."""
        return next((column for column in self.columns if column.name == name), None)


def read_tables(ask: Ask, names: Iterable[Name]) -> dict[Name, TableFacts]:
    """What the server knows of these tables; missing ones, and those it hides, are left out."""
    wanted = sorted(set(names))
    columns = _by_table(each(ask, _COLUMNS, wanted))
    keys = _by_table(each(ask, _KEYS, wanted))
    return {
        (schema, name): TableFacts(
            schema=schema,
            name=name,
            kind=kind,
            engine=engine or "",
            columns=tuple(_column(row) for row in sorted(columns.get((schema, name), []))),
            primary_key=_primary_key(keys.get((schema, name), [])),
            unique_keys=_unique_keys(keys.get((schema, name), [])),
            partitioned="partitioned" in (options or ""),
        )
        for schema, name, kind, engine, options in each(ask, _TABLES, wanted)
    }


def each(ask: Ask, select: str, names: Sequence[Name]) -> Iterator[Answer]:
    """The rows of a SELECT with ``%s`` for a schema and a table, for each of those tables.

    Its first two columns are the table's name, which must be one of those exactly.
    """
    wanted = set(names)
    for start in range(0, len(names), _AT_ONCE):
        piece = names[start : start + _AT_ONCE]
        union = " UNION ALL ".join([select] * len(piece))
        for row in ask(union, *(part for name in piece for part in name)):
            if (row[0], row[1]) in wanted:
                yield row


def known_names(ask: Ask) -> list[str]:
    """``schema.table`` of whatever the session may see, for suggestions."""
    return sorted(f"{schema}.{name}" for schema, name in ask(_NAMES))


def _by_table(rows: Iterable[Answer]) -> dict[Name, list[Answer]]:
    """The rest of the rows by their first two columns."""
    found: dict[Name, list[Answer]] = {}
    for row in rows:
        found.setdefault((row[0], row[1]), []).append(row[2:])
    return found


def _column(row: Answer) -> ColumnFacts:
    _, name, native, data_type, charset, collation, nullable, extra, privileges = row
    extra = extra.upper()
    return ColumnFacts(
        name=name,
        native=_COMPRESSED.sub("", native),
        data_type=data_type,
        charset=charset or "",
        collation=collation or "",
        nullable=nullable == "YES",
        generated=_generated(extra),
        invisible="INVISIBLE" in extra,
        compressed=_COMPRESSED.search(native) is not None,
        readable="select" in privileges.lower().split(","),
    )


def _generated(extra: str) -> str:
    """MySQL also says DEFAULT_GENERATED, of a default that is an expression."""
    for kind, words in (("virtual", "VIRTUAL GENERATED"), ("stored", "STORED GENERATED")):
        if words in extra:
            return kind
    return ""


def _primary_key(rows: Sequence[Answer]) -> tuple[str, ...]:
    return tuple(row[2] for row in sorted(rows) if row[0] == _PRIMARY)


def _unique_keys(rows: Sequence[Answer]) -> tuple[tuple[str, ...], ...]:
    """Those that tell rows apart: no NULL, no prefix, no expression in place of a column."""
    parts: dict[str, list[tuple[str | None, bool]]] = {}
    for index, _, column, prefix, nullable in sorted(rows, key=lambda row: (row[0], row[1])):
        apart = column is not None and prefix is None and nullable != "YES"
        parts.setdefault(index, []).append((column, apart))
    return tuple(
        tuple(str(column) for column, _ in columns)
        for index, columns in parts.items()
        if index != _PRIMARY and all(apart for _, apart in columns)
    )
