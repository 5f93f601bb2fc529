"""What the session may do, of what SHOW GRANTS shows.

Only privileges are kept of its text: MariaDB's also shows the password's hash.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cdc_daemon.sources.mysql.asked import Ask

_GRANT: Final = re.compile(
    r"^(GRANT|REVOKE) (?P<what>.+?) ON (?P<schema>\*|`(?:[^`]|``)*`)\.\* (TO|FROM) ", re.DOTALL
)
_ALL: Final = "ALL PRIVILEGES"
_WHOLE: Final = "*"
_SAME: Final = {
    "BINLOG MONITOR": "REPLICATION CLIENT",  # MariaDB's name since 10.5
    "SLAVE MONITOR": "REPLICA MONITOR",
}


@dataclass(frozen=True, slots=True)
class Grants:
    """Privileges by the pattern of schemas that they are for (``*``: everywhere).

    REPLICATION CLIENT stands for MariaDB's BINLOG MONITOR, too.
    """

    given: dict[str, frozenset[str]]

    def may(self, privilege: str, schema: str | None = None) -> bool:
        """Whether it was granted everywhere, or on a schema."""
        return any(
            {privilege, _ALL} & privileges
            for pattern, privileges in self.given.items()
            if pattern == _WHOLE or (schema is not None and matches(pattern, schema))
        )

    @property
    def everything(self) -> bool:
        """Whether the account could change the server as it likes."""
        return bool({_ALL, "SUPER"} & self.given.get(_WHOLE, frozenset()))


def read_grants(ask: Ask) -> Grants:
    """The session's privileges, with those of its active roles."""
    [(roles,)] = ask("SELECT CURRENT_ROLE()")
    using = roles if roles and roles.startswith("`") else ""  # MySQL's; MariaDB shows them anyway
    shown = ask(f"SHOW GRANTS FOR CURRENT_USER() USING {using}" if using else "SHOW GRANTS")
    return parse_grants(str(row[0]) for row in shown)


def parse_grants(lines: Iterable[str]) -> Grants:
    """What these lines of SHOW GRANTS give; those of tables, columns and routines are left out."""
    given: dict[str, set[str]] = {}
    for found in filter(None, map(_GRANT.match, lines)):
        if found[1] == "GRANT":
            schema = found["schema"].strip("`").replace("``", "`")
            given.setdefault(schema, set()).update(_privileges(found["what"]))
    return Grants({schema: frozenset(privileges) for schema, privileges in given.items()})


def _privileges(text: str) -> Iterable[str]:
    for word in text.upper().split(","):
        yield _SAME.get(word.strip(), word.strip())


def matches(pattern: str, schema: str) -> bool:
    r"""Whether a schema meets a grant's pattern, where ``%``, ``_`` and ``\_`` are LIKE's."""
    pieces = re.findall(r"\\.|[\s\S]", pattern)
    wild = {"%": "[\\s\\S]*", "_": "[\\s\\S]"}
    regex = "".join(wild.get(piece, re.escape(piece[-1])) for piece in pieces)
    return re.fullmatch(regex, schema) is not None
