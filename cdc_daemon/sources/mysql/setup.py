"""What an administrator sets up at a source: the account's rights, and what the log says.

There is nothing to create: the server keeps no place for its readers. A plan over a server that is
as it should be is empty. Settings that need a restart only a person can put right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

import pymysql

from cdc_daemon.model.errors import ConfigurationError, Problem
from cdc_daemon.model.ports import Table
from cdc_daemon.sources.mysql.asked import Answer, Ask, quoted, spelled
from cdc_daemon.sources.mysql.catalog import Name, read_tables
from cdc_daemon.sources.mysql.charsets import known
from cdc_daemon.sources.mysql.connection import Connection, Server
from cdc_daemon.sources.mysql.foreign_keys import acting, read_foreign_keys
from cdc_daemon.sources.mysql.grants import Grants, parse_grants
from cdc_daemon.sources.mysql.requirements import identity_problems, table_problems
from cdc_daemon.sources.mysql.system import System, read_system

_SETTINGS: Final = {
    "binlog_format": "ROW",
    "binlog_row_image": "FULL",
    "binlog_row_metadata": "FULL",
}
_READ_SECONDS: Final = 60.0
_NO_SUCH_GRANT: Final = 1141
_NOT_ALLOWED: Final = 1142
_ON_TABLE: Final = re.compile(
    r"^GRANT (?P<what>.+?) ON (?P<table>`(?:[^`]|``)*`\.`(?:[^`]|``)*`) TO "
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One step of a plan: what it does, in words and in SQL."""

    description: str
    sql: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Ordered changes, and what only a person can put right."""

    changes: tuple[Change, ...]
    refusals: tuple[Problem, ...]


def plan(
    source: str,
    settings: Mapping[str, str],
    *,
    tables: Sequence[Table],
    worker: str,
    follows: bool = True,
) -> Plan:
    """Compare the server with the configuration. ``worker``: the account that the daemon connects
    as; ``settings``: an administrator's connection; ``follows``: whether foreign keys are followed,
    to tables that nobody maps too. Raises Unreachable, ConfigurationError."""
    server = Server(source, settings)
    with closing(_connect(server)) as connection, server.errors("planning the source"):
        return _Planning(server, connection, tables, worker, follows=follows).plan()


def apply_plan(
    source: str,
    settings: Mapping[str, str],
    *,
    tables: Sequence[Table],
    worker: str,
    follows: bool = True,
) -> Plan:
    """Plan anew and carry it out; what was done.

    Raises ConfigurationError for what is refused, and as ``plan``. Each step stands by itself:
    neither server takes a grant back.
    """
    server = Server(source, settings)
    with closing(_connect(server)) as connection, server.errors("setting up the source"):
        made = _Planning(server, connection, tables, worker, follows=follows).plan()
        if made.refusals:
            raise ConfigurationError(made.refusals)
        for change in made.changes:
            with server.errors(change.description), connection.cursor() as cursor:
                cursor.execute(change.sql)
    return made


def role_statements(worker: str) -> list[str]:
    """The SQL that creates the account of a worker; the plan grants it the rest."""
    return [f"CREATE USER {_literal(worker)}@'%' IDENTIFIED BY '…'"]


def _connect(server: Server) -> Connection:
    """With the server's own settings: a session that only reads could set nothing up."""
    return server.connect_for_replication(read_timeout=_READ_SECONDS)


class _Planning:
    def __init__(
        self,
        server: Server,
        connection: Connection,
        tables: Sequence[Table],
        worker: str,
        *,
        follows: bool,
    ) -> None:
        self._where = server.where
        self._connection = connection
        self._tables = tables
        self._worker = worker
        self._follows = follows

    def plan(self) -> Plan:
        system = read_system(self._ask)
        accounts = self._accounts()
        refusals = [*self._server_problems(system), *self._table_problems()]
        if not accounts:
            what = f"there is no account {self._worker!r}"
            cure = role_statements(self._worker)[0]
            refusals.append(Problem(what=what, where=self._where, cure=cure))
        changes = [*self._settings(system)]
        for account in accounts:
            changes += self._grants(system, account)
        return Plan(changes=tuple(changes), refusals=tuple(refusals))

    @property
    def _ask(self) -> Ask:
        def ask(statement: str, *params: object) -> Sequence[Answer]:
            with self._connection.cursor() as cursor:
                cursor.execute(statement, params or None)
                return cursor.fetchall()

        return ask

    # --- what only a person can do --------------------------------------------------------------

    def _server_problems(self, system: System) -> Iterator[Problem]:
        if not system.on("log_bin"):
            what = "the server writes no binary log"
            cure = "set log_bin and server_id in its option file, and restart it"
            yield Problem(what=what, where=self._where, cure=cure)
        elif not system.number("server_id"):
            what = "server_id is 0: the server sends its log to nobody"
            cure = "set server_id to a number of its own, in its option file too"
            yield Problem(what=what, where=self._where, cure=cure)

    def _table_problems(self) -> Iterator[Problem]:
        found = read_tables(self._ask, [(table.schema, table.name) for table in self._tables])
        for table in self._tables:
            where = f"{self._where}, table {table.schema}.{table.name}"
            facts = found.get((table.schema, table.name))
            if facts is None:
                what, cure = "the table does not exist", "correct the mapping's from"
                yield Problem(what=what, where=where, cure=cure)
                continue
            whats = [*table_problems(table, facts, known(), self._worker)]
            whats += identity_problems(table, facts)
            yield from (Problem(what=what, where=where, cure=cure) for what, cure in whats)

    # --- what can be set ------------------------------------------------------------------------

    def _settings(self, system: System) -> Iterator[Change]:
        """MySQL keeps what is persisted; MariaDB forgets it with a restart, and is said to."""
        verb = "SET GLOBAL" if system.mariadb else "SET PERSIST"
        more = " (also into the server's option file)" if system.mariadb else ""
        for name, value in _SETTINGS.items():
            if name in system.variables and system.value(name).upper() != value:
                description = f"log whole rows: {name} = {value}{more}"
                yield Change(description=description, sql=f"{verb} {name} = '{value}'")

    # --- rights ---------------------------------------------------------------------------------

    def _accounts(self) -> list[str]:
        """The worker's accounts. Without a right to read them: our own, if that is one of them.

        Raises ConfigurationError for somebody who can see no accounts at all.
        """
        statement = "SELECT user, host FROM mysql.user WHERE user = %s ORDER BY host"
        try:
            found = self._ask(statement, self._worker)
        except pymysql.err.Error as exc:
            if exc.args[:1] != (_NOT_ALLOWED,):
                raise
            [(account,)] = self._ask("SELECT CURRENT_USER()")
            found = [str(account).rpartition("@")[::2]]
            if found[0][0] != self._worker:
                what, cure = "no right to read mysql.user", "name an administrator: --admin-dsn"
                raise ConfigurationError(
                    [Problem(what=what, where=self._where, cure=cure)]
                ) from exc
        return [f"{_literal(str(user))}@{_literal(str(host))}" for user, host in found]

    def _grants(self, system: System, account: str) -> Iterator[Change]:
        lines = self._shown(account)
        if lines is None:
            return
        given, on_tables = parse_grants(lines), _on_tables(lines)
        monitor = "BINLOG MONITOR" if system.mariadb else "REPLICATION CLIENT"
        rights = {"REPLICATION SLAVE": "REPLICATION SLAVE", "REPLICATION CLIENT": monitor}
        lacking = [name for right, name in rights.items() if not given.may(right)]
        if lacking:
            sql = f"GRANT {', '.join(lacking)} ON *.* TO {account}"
            yield Change(description=f"let {account} read the log", sql=sql)
        for schema, table in self._read():
            name = spelled(schema, table)
            if not given.may("SELECT", schema) and "SELECT" not in on_tables.get(name, ""):
                sql = f"GRANT SELECT ON {name} TO {account}"
                yield Change(description=f"let {account} read {name}", sql=sql)
        if not system.mariadb:
            yield from self._locks(given, account)

    def _read(self) -> list[Name]:
        """The mapped tables, and those at the ends of keys that are followed."""
        names = [(table.schema, table.name) for table in self._tables]
        keys = acting(read_foreign_keys(self._ask, names)) if self._follows else []
        others = {end for key in keys for end in (key.child, key.parent)}.difference(names)
        return [*names, *sorted(others)]

    def _shown(self, account: str) -> list[str] | None:
        """What SHOW GRANTS says; None: with skip_name_resolve nobody can be that account."""
        try:
            return [str(row[0]) for row in self._ask(f"SHOW GRANTS FOR {account}")]
        except pymysql.err.Error as exc:
            if exc.args[:1] == (_NO_SUCH_GRANT,):
                return None
            raise

    def _locks(self, given: Grants, account: str) -> Iterator[Change]:
        """MySQL's copies begin under a lock of the mapped tables."""
        for schema in sorted({schema for schema, _ in self._read()}):
            if not given.may("LOCK TABLES", schema):
                sql = f"GRANT LOCK TABLES ON {_pattern(schema)}.* TO {account}"
                description = f"let {account} lock the mapped tables of {schema} for a moment"
                yield Change(description=description, sql=sql)


def _on_tables(lines: Sequence[str]) -> dict[str, str]:
    """What is granted on single tables, by their name in SQL."""
    found = filter(None, map(_ON_TABLE.match, lines))
    return {one["table"]: one["what"].upper() for one in found}


def _pattern(schema: str) -> str:
    """A schema's name in a grant, where ``_`` and ``%`` would stand for others."""
    return quoted(schema.replace("_", "\\_").replace("%", "\\%"))


def _literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
