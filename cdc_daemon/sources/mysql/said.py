"""What statements in the log mean for mapped tables: emptied, defined anew, or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from cdc_daemon.model.changes import Invalid, Relation
from cdc_daemon.model.errors import RESNAPSHOT, Stop
from cdc_daemon.model.ports import Table
from cdc_daemon.sources.mysql.charsets import charset_of, reader_of
from cdc_daemon.sources.mysql.query import parse_query
from cdc_daemon.sources.mysql.relations import Relations
from cdc_daemon.sources.mysql.statement_kinds import (
    Definition,
    Effect,
    RowStatement,
    Statement,
)
from cdc_daemon.sources.mysql.statements import statement
from cdc_daemon.sources.mysql.tokens import Dialect, TableName

SYSTEM_SCHEMAS: Final = frozenset({"mysql", "sys", "performance_schema", "information_schema"})
"""Their tables have no triggers, so a statement that names only them changes nothing else."""


Altered = Callable[[Definition, Table], None]
"""Looks at what became of a table that is read."""

Tell = Callable[[Table, str], None]
"""Says that a definition, whose verb is given, may have changed values of a mapped table."""


class Statements:
    """The statements of one server's log. ``altered`` is called where a table that is read was."""

    def __init__(
        self,
        relations: Relations,
        dialect: Dialect,
        tell: Tell,
        altered: Altered = lambda _, __: None,
    ) -> None:
        self._relations = relations
        self._dialect = dialect
        self._tell = tell
        self._altered = altered

    def read(self, event: bytes, end: int) -> Statement:
        """What a QUERY event's statement is. Raises DecodeError."""
        query = parse_query(event, end)
        dialect = replace(
            self._dialect,
            ansi_quotes=query.ansi_quotes,
            no_backslash_escapes=query.no_backslash_escapes,
        )
        return statement(_text(query.sql, query.collation), dialect, query.schema)

    def emptied(self, name: TableName) -> Relation | None:
        """The relation of a mapped table that is truncated; None: nobody wants it."""
        table = self._relations.mapped(name.schema, name.table)
        return None if table is None else self._relations.newest(table)

    def check_definition(self, found: Definition) -> None:
        """Raise PreflightRefusal where rows of a mapped table came or went without a word; tell
        where values of mapped columns may be others by then."""
        for table in self._touched(found):
            if found.effect is not Effect.ROWS:
                self._altered(found, table)
                if found.effect is Effect.VALUES and _concerns(found, table):
                    self._tell(table, found.verb)
                continue
            what = f"in the log it is changed by {found.verb}, which does not tell its rows"
            raise self._relations.refused(table, what)

    def _touched(self, found: Definition) -> Iterable[Table]:
        for name in found.tables:
            if (table := self._relations.mapped(name.schema, name.table)) is not None:
                yield table
        yield from (table for schema in found.schemas for table in self._relations.within(schema))

    def check_rows(self, found: RowStatement, where: str) -> None:
        """Raise Stop: what a statement did to mapped tables, by triggers too, cannot be told."""
        named = {name.schema.lower() for name in found.tables or ()}
        if named and named <= SYSTEM_SCHEMAS:
            return
        raise Stop(
            f"source {self._relations.source}: at {where} the log has a statement ({found.verb}) "
            "in place of the rows that it changed",
            hint="SET GLOBAL binlog_format = 'ROW', and no session may set it otherwise; "
            + RESNAPSHOT,
        )


def _concerns(found: Definition, table: Table) -> bool:
    """Whether a definition touches mapped columns; names of columns are the same in any case."""
    if found.columns is None:
        return True
    mapped = {name.lower() for name in (*table.columns, *table.identity)}
    return not mapped.isdisjoint(name.lower() for name in found.columns)


def _text(sql: bytes, collation: int) -> str:
    """The statement's text; what is no text in its character set is never part of a keyword."""
    charset = charset_of(collation)
    found = reader_of(charset)(sql) if charset else sql
    raw = found.kept if isinstance(found, Invalid) else found
    return raw.decode("utf-8", "backslashreplace")
