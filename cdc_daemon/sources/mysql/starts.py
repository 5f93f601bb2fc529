"""From where a log is read, and by what it is known again.

What each is for, says ``position``, which holds them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import quote

from cdc_daemon.model.errors import RESNAPSHOT, PreflightRefusal, Problem
from cdc_daemon.sources.mysql.gtid import Gtid, GtidSet, Triple

_FILE: Final = re.compile(r".+\.([0-9]{6,10})", re.ASCII | re.DOTALL)
FIRST_OFFSET: Final = 4  # behind a file's magic number


@dataclass(frozen=True, slots=True)
class FromSet:
    """Begin with the first transaction that is not in the set."""

    executed: GtidSet


@dataclass(frozen=True, slots=True)
class FromDomains:
    """Begin behind the last GTID of each domain; a domain that is not here, at its beginning."""

    domains: dict[int, Triple]


@dataclass(frozen=True, slots=True, order=True)
class FromFile:
    """Begin at an offset, which must be that of an event."""

    file: str
    offset: int

    def __str__(self) -> str:
        return f"{quote(self.file, safe='')}:{self.offset}"

    @property
    def number(self) -> int:
        """The file's number; 0: it has none, and is no file of a binlog."""
        found = _FILE.fullmatch(self.file)
        return int(found[1]) if found else 0

    @property
    def key(self) -> tuple[int, int]:
        """In order of the log, for files of one name."""
        return self.number, self.offset


Start = FromSet | FromDomains | FromFile


class Begun(NamedTuple):
    """Which server began a file of its log (``server_id``), and when (seconds since 1970)."""

    server: int
    time: int

    def __str__(self) -> str:
        return f"{self.server}@{self.time}"


@dataclass(frozen=True, slots=True)
class Witness:
    """The transaction that must come once more: a GTID, or where it ends in a file; its time.

    Other transactions may come before it, for replicas may write in another order; in a domain of
    MariaDB and in a file they may not. ``file``: the file that it was in, where times have whole
    seconds only.
    """

    place: Gtid | Triple | FromFile
    time: int
    file: Begun | None = None

    def meets(self, place: Gtid | Triple | FromFile) -> bool:
        """Whether a transaction is the witness, and so was read already. Raises PreflightRefusal
        where it stands in the witness's place."""
        if place == self.place:
            return True
        match self.place:
            case Gtid():
                return False
            case Triple(domain=domain) if isinstance(place, Triple) and place.domain != domain:
                return False
        raise other_history(self.place, f"has {place} there")

    def confirm(self, time: int, file: Begun | None = None) -> None:
        """The witness was read again to its end. Raises PreflightRefusal if it is another one."""
        if time != self.time and time and self.time:
            raise other_history(self.place, "has it with another time")
        if self._was_elsewhere(file):
            raise other_history(self.place, "has it in a file that was begun later")

    def _was_elsewhere(self, file: Begun | None) -> bool:
        """Whether a server that has forgotten its log wrote another transaction of that number
        within the same second. One that got its transactions anew from another server began the
        file that holds them after they were made."""
        if self.file is None or file is None or self.file.server != file.server:
            return False
        return self.file.time < file.time <= self.time


def other_history(read: object, found: str) -> PreflightRefusal:
    """The server's log is not the one that was read up to there."""
    problem = Problem(
        what=f"the log was read up to {read}, and the server {found}: it was reset or restored,"
        " lost transactions in a fail-over, or is another one",
        cure=f"if this is the right server, {RESNAPSHOT}",
    )
    return PreflightRefusal([problem])


def true_offset(before: int, low: int) -> int:
    """An event's end in its file, of which a header has the lower 32 bits: behind ``before``."""
    return before + ((low - before) & 0xFFFF_FFFF)
