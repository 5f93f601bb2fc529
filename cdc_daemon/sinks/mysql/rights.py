"""What an account may do with tables: asked of the server, or read from what was granted.

A right of our own is asked for with EXPLAIN, which takes the rights that the statement takes and
does nothing: so roles and grants on databases count, whoever gave them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import pymysql

from cdc_daemon.model.effects import Layout
from cdc_daemon.model.entities import Entity
from cdc_daemon.sinks.mysql import ledger
from cdc_daemon.sinks.mysql.errors import number_of
from cdc_daemon.sinks.mysql.names import ledger_name, quote
from cdc_daemon.sinks.mysql.session import Session
from cdc_daemon.sinks.mysql.values import literal

RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")

_REFUSED = frozenset({1044, 1142, 1143, 1227})
_ASK = {
    "SELECT": "SELECT 1 FROM {0} LIMIT 0",
    "INSERT": "INSERT INTO {0} SELECT * FROM {0} WHERE FALSE",
    "UPDATE": "UPDATE {0} SET {1} = {1} WHERE FALSE",
    "DELETE": "DELETE FROM {0} WHERE FALSE",
}
_ACCOUNTS = r"""
    SELECT CONCAT('''', REPLACE(User, '''', ''''''), '''@''', REPLACE(Host, '''', ''''''), '''')
      FROM mysql.user
     WHERE User = %s AND (@@skip_name_resolve = 0 OR Host IN ('', 'localhost') OR Host LIKE '%%:%%'
                          OR Host REGEXP '^[0-9.%%_/]+$')"""
"""Where names of hosts are not looked up, an account of such a name is nobody's."""

_GRANTED = """
    SELECT '' AS name, GRANTEE, PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES
     WHERE GRANTEE IN ({0})
    UNION ALL
    SELECT '', GRANTEE, PRIVILEGE_TYPE FROM information_schema.SCHEMA_PRIVILEGES
     WHERE GRANTEE IN ({0}) AND TABLE_SCHEMA = DATABASE()
    UNION ALL
    SELECT TABLE_NAME, GRANTEE, PRIVILEGE_TYPE FROM information_schema.TABLE_PRIVILEGES
     WHERE GRANTEE IN ({0}) AND TABLE_SCHEMA = DATABASE()"""


def used_tables(entities: Mapping[str, Entity], layouts: Sequence[Layout]) -> list[str]:
    """Every table that a worker uses."""
    own = [ledger_name(name) for name in ledger.TABLES]
    references = [ledger.reference_name(layout) for layout in layouts if layout.reference]
    return own + references + list(entities)


def needed(name: str) -> frozenset[str]:
    """What a worker has to be allowed on a table."""
    return frozenset({"SELECT"} if name == ledger_name("meta") else RIGHTS)


def lacking(session: Session, name: str, column: str) -> list[str]:
    """Rights that our own account lacks on a table of which one column is known."""
    table, some = quote(name), quote(column)
    wanted = [right for right in RIGHTS if right in needed(name)]
    return [right for right in wanted if not _allowed(session, _ASK[right].format(table, some))]


def _allowed(session: Session, sql: str) -> bool:
    try:
        session.run(f"EXPLAIN {sql}")
    except pymysql.Error as exc:
        if number_of(exc) not in _REFUSED:
            raise
        return False
    return True


def accounts(session: Session, user: str) -> list[str]:
    """Accounts of that user name, as GRANT spells them."""
    return [(row[0] or b"").decode() for row in session.run(_ACCOUNTS, user).rows]


def grants(
    session: Session, names: Collection[str], account: str
) -> Iterator[tuple[str, list[str]]]:
    """(table, rights that were not granted to the account, neither there nor above)."""
    granted: dict[str, set[str]] = {}
    for row in session.run(_GRANTED.format(literal(account))).rows:
        table, right = (row[0] or b"").decode(), (row[2] or b"").decode()
        granted.setdefault(table, set()).add(right)
    above = granted.get("", set())
    for name in names:
        missing = needed(name) - above - granted.get(name, set())
        if missing:
            yield name, sorted(missing, key=RIGHTS.index)
