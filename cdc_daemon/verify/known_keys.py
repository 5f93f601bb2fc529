"""Which entity key the row of each identity has, for a ``ref`` to be looked up: in a temporary
database that no one else can open, so that memory is bounded however many rows there are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from cdc_daemon.verify.sorting import no_room

_AT_ONCE: Final = 500
_CACHE_KIB: Final = 16_000


class KnownKeys:
    """Entity keys of one part by identities of one part. To be closed."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)  # on disk, without a name
        for setting in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}"):
            self._database.execute(f"PRAGMA {setting}")
        self._database.execute("CREATE TABLE k (i BLOB PRIMARY KEY, key BLOB) WITHOUT ROWID")
        self._database.execute("BEGIN")

    def put(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        """Identities and keys; of two with one identity the first counts."""
        with _room():
            self._database.executemany("INSERT OR IGNORE INTO k VALUES (?, ?)", pairs)

    def get(self, identities: Collection[bytes]) -> dict[bytes, bytes]:
        """The keys of those identities that there are."""
        asked = list(identities)
        found: dict[bytes, bytes] = {}
        for start in range(0, len(asked), _AT_ONCE):
            some = asked[start : start + _AT_ONCE]
            places = ", ".join("?" * len(some))
            with _room():
                rows = self._database.execute(f"SELECT i, key FROM k WHERE i IN ({places})", some)
                found.update(rows.fetchall())
        return found

    def close(self) -> None:
        """Forget everything."""
        with suppress(sqlite3.Error):
            self._database.close()


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise no_room(str(error)) from error
