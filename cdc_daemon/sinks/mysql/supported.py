"""Which servers there is a sink for."""

from __future__ import annotations

from collections.abc import Iterator

from cdc_daemon.sinks.mysql.session import Session

OLDEST_MYSQL = (8, 0, 17)
"""The first with a binary collation in which blanks at the end of a text count."""

OLDEST_MARIADB = (10, 6, 0)
"""The first with JSON_TABLE."""

NEWEST_MYSQL = (9, 99, 99)
NEWEST_MARIADB = (11, 99, 99)


def unsupported(session: Session) -> Iterator[tuple[str, str]]:
    """What is wrong with the server's version, and the cure."""
    oldest = OLDEST_MARIADB if session.mariadb else OLDEST_MYSQL
    if session.version < oldest:
        name = "MariaDB" if session.mariadb else "MySQL"
        yield f"{name} {'.'.join(map(str, oldest))} or later is needed", "upgrade the server"


def untested(session: Session) -> bool:
    """Whether the server is newer than any that was tested."""
    return session.version > (NEWEST_MARIADB if session.mariadb else NEWEST_MYSQL)
