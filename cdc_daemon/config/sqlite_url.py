"""Addresses of SQLite databases: ``sqlite:///control.db``, ``sqlite:////var/lib/control.db``.

As SQLAlchemy writes them: what follows the third slash is the file's path, relative to the working
directory unless it begins with a slash itself.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

from cdc_daemon.config.scalars import Complaint

SCHEME = "sqlite:"
_CURE = "write sqlite:///control.db, or sqlite:////var/lib/cdc-daemon/control.db"


def is_sqlite(text: str) -> bool:
    """Whether an address is meant for SQLite."""
    return text.lower().startswith(SCHEME)


def parse_sqlite(text: str) -> str:
    """The path of the file. Raises Complaint."""
    scheme, slashes, rest = text[: len(SCHEME)], text[len(SCHEME) :][:3], text[len(SCHEME) + 3 :]
    if scheme.lower() != SCHEME or slashes != "///":
        raise Complaint("the address of an SQLite database has no host", _CURE)
    if "?" in rest or "#" in rest:
        raise Complaint("the address of an SQLite database takes no options", _CURE)
    path = unquote(rest)
    if not path or path.endswith("/") or path == ":memory:" or "\0" in path:
        raise Complaint("the address names no SQLite database's file", _CURE)
    return path


def render_sqlite(path: str) -> str:
    """The address of a file."""
    return f"sqlite:///{quote(path)}"
