"""Where a reader stands in a binlog, and its text, which only this package reads.

One line of ``name=value`` behind the kind and version of the text:

``mysql/1 set=<GTID set> last=<GTID>@<µs> xa=<xid>@<GTID>``
    MySQL with GTIDs: everything that was read, or was there when the snapshot was taken.
``mariadb/1 at=<GTID>,<GTID> last=<GTID>@<s> before=<GTID> xa=<xid>@<GTID>/<GTID before it>``
    MariaDB: the last GTID of each domain.
``binlog/1 server=<uuid> at=<file>:<offset> last=<offset>@<s> xa=<xid>@<file>:<offset>``
    MySQL without GTIDs: the end of a transaction in a file of that server.

``last`` is the **witness**: the newest transaction and its time. A reader begins one transaction
earlier, so that the server sends this one again, which must be of this time; else the server has
another history under equal numbers (it was reset, or made from a dump). The time is one that a
replica's log repeats: MySQL's original commit timestamp; in MariaDB and in files, the header time
of the transaction's last rows, or of its statement (a GTID event's own time changes on a replica).
``xa``: transactions that were prepared and not yet ended, and from where they can be read again.

Text that is not exactly as it would be written is refused: a position is never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from cdc_daemon.model.errors import RESNAPSHOT, Stop
from cdc_daemon.sources.mysql.gtid import (
    Gtid,
    GtidSet,
    Triple,
    format_domains,
    parse_domains,
    parse_gtid,
    parse_set,
    parse_triple,
)
from cdc_daemon.sources.mysql.starts import (
    FIRST_OFFSET,
    Begun,
    FromDomains,
    FromFile,
    FromSet,
    Start,
    Witness,
    other_history,
    true_offset,
)
from cdc_daemon.sources.mysql.xid import Xid, parse_xid

__all__ = [
    "FIRST_OFFSET",
    "Begun",
    "FilePosition",
    "FromDomains",
    "FromFile",
    "FromSet",
    "MariadbPosition",
    "MysqlPosition",
    "Position",
    "Start",
    "Witness",
    "other_history",
    "parse_position",
    "true_offset",
]

_MYSQL: Final = "mysql/1"
_MARIADB: Final = "mariadb/1"
_BINLOG: Final = "binlog/1"
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,19}", re.ASCII)


@dataclass(slots=True, kw_only=True)
class MysqlPosition:
    """Everything that was read of a MySQL server with GTIDs. ``time``: of ``last``, in µs."""

    executed: GtidSet = field(default_factory=GtidSet)
    last: Gtid | None = None
    time: int = 0
    prepared: dict[Xid, Gtid] = field(default_factory=dict)

    def advance(self, gtid: Gtid, time: int) -> None:
        """A transaction was read to its end. Raises PreflightRefusal if it was before."""
        if gtid in self.executed:
            raise other_history(self.last or "its snapshot", f"sends {gtid} again")
        self.executed.add(gtid.origin, gtid.number)
        self.last, self.time = gtid, time

    @property
    def witness(self) -> Witness | None:
        """What must come once more."""
        return None if self.last is None else Witness(self.last, self.time)

    def start(self, *, witness: bool = True) -> FromSet:
        """From where to read on; with the witness first, if there is one."""
        executed = self.executed.copy()
        if witness and self.last is not None:
            executed.remove(self.last)
        return FromSet(executed)

    def again(self, xid: Xid) -> FromSet:
        """From where a prepared transaction comes first."""
        executed = self.executed.copy()
        executed.remove(self.prepared[xid])
        return FromSet(executed)

    def covers(self, mark: GtidSet) -> bool:
        """Whether everything of a server's executed set was read."""
        return self.executed >= mark

    def beyond(self, server: GtidSet) -> GtidSet:
        """What was read and the server does not have: it lost it, or is another one."""
        return self.executed - server

    def missing(self, purged: GtidSet) -> GtidSet:
        """What was not read and is in no file of the server any more."""
        return purged - self.executed

    def __str__(self) -> str:
        words = [_MYSQL, f"set={self.executed}"]
        if self.last is not None:
            words.append(f"last={self.last}@{self.time}")
        words += [f"xa={xid}@{gtid}" for xid, gtid in sorted(self.prepared.items())]
        return " ".join(words)


@dataclass(slots=True, kw_only=True)
class MariadbPosition:
    """The last GTID of each domain that was read. ``time``: of ``last``, in seconds.

    ``before``: the one before ``last`` in its domain. ``file``: the one that ``last`` was in.
    ``prepared``: a group's GTID, and the one before it in its domain.
    """

    domains: dict[int, Triple] = field(default_factory=dict)
    last: Triple | None = None
    time: int = 0
    before: Triple | None = None
    file: Begun | None = None
    prepared: dict[Xid, tuple[Triple, Triple | None]] = field(default_factory=dict)

    def advance(self, gtid: Triple, time: int, file: Begun | None = None) -> None:
        """A transaction was read to its end. Raises PreflightRefusal if its number goes back."""
        self.before = self.domains.get(gtid.domain)
        if self.before is not None and gtid.sequence <= self.before.sequence:
            raise other_history(self.before, f"sends {gtid}")
        self.domains[gtid.domain] = self.last = gtid
        self.time, self.file = time, file

    @property
    def witness(self) -> Witness | None:
        """What must come once more."""
        return None if self.last is None else Witness(self.last, self.time, self.file)

    def start(self, *, witness: bool = True) -> FromDomains:
        """From where to read on; with the witness first, if there is one."""
        domains = dict(self.domains)
        if witness and self.last is not None:
            _step_back(domains, self.last, self.before)
        return FromDomains(domains)

    def again(self, xid: Xid) -> FromDomains:
        """From where a prepared transaction comes first of its domain."""
        domains = dict(self.domains)
        _step_back(domains, *self.prepared[xid])
        return FromDomains(domains)

    def covers(self, mark: dict[int, Triple]) -> bool:
        """Whether everything up to a server's position was read."""
        return not _greater(mark, self.domains)

    def beyond(self, server: dict[int, Triple]) -> dict[int, Triple]:
        """The domains in which more was read than the server has."""
        return _greater(self.domains, server)

    def __str__(self) -> str:
        words = [_MARIADB, f"at={format_domains(self.domains)}"]
        if self.last is not None:
            words.append(f"last={self.last}@{self.time}")
        if self.before is not None:
            words.append(f"before={self.before}")
        if self.file is not None:
            words.append(f"file={self.file}")
        words += [
            f"xa={xid}@{gtid}/{before or ''}"
            for xid, (gtid, before) in sorted(self.prepared.items())
        ]
        return " ".join(words)


def _step_back(domains: dict[int, Triple], gtid: Triple, before: Triple | None) -> None:
    if before is None:
        del domains[gtid.domain]
    else:
        domains[gtid.domain] = before


def _greater(these: dict[int, Triple], those: dict[int, Triple]) -> dict[int, Triple]:
    return {
        domain: triple
        for domain, triple in these.items()
        if domain not in those or triple.sequence > those[domain].sequence
    }


@dataclass(slots=True, kw_only=True)
class FilePosition:
    """The end of a transaction in a file. ``server``: whose file it is.

    ``last``: where the transaction's last event begins; ``time``: its time, in seconds.
    ``prepared``: where a group begins.
    """

    server: str
    at: FromFile
    last: int | None = None
    time: int = 0
    prepared: dict[Xid, FromFile] = field(default_factory=dict)

    def advance(self, at: FromFile, *, last: int, time: int) -> None:
        """A transaction was read to its end."""
        self.at, self.last, self.time = at, last, time

    def rotate(self, file: str) -> None:
        """The file has ended, outside of a transaction, and the next one begins."""
        self.at, self.last = FromFile(file, FIRST_OFFSET), None

    @property
    def witness(self) -> Witness | None:
        """What must come once more: only its last event, which ends there."""
        return None if self.last is None else Witness(self.at, self.time)

    def start(self, *, witness: bool = True) -> FromFile:
        """From where to read on; with the last event of the witness first, if there is one."""
        if witness and self.last is not None:
            return FromFile(self.at.file, self.last)
        return self.at

    def again(self, xid: Xid) -> FromFile:
        """From where a prepared transaction comes first."""
        return self.prepared[xid]

    def covers(self, mark: FromFile) -> bool:
        """Whether everything before a server's place was read."""
        return self.at.key >= mark.key

    def beyond(self, server: FromFile) -> FromFile | None:
        """The place, if the server's log ends before it."""
        return self.at if self.at.key > server.key else None

    def __str__(self) -> str:
        words = [_BINLOG, f"server={self.server}", f"at={self.at}"]
        if self.last is not None:
            words.append(f"last={self.last}@{self.time}")
        words += [f"xa={xid}@{place}" for xid, place in sorted(self.prepared.items())]
        return " ".join(words)


Position = MysqlPosition | MariadbPosition | FilePosition


# --- reading ------------------------------------------------------------------------------------


def parse_position(text: str) -> Position:
    """The position that was written as this text. Raises Stop for any other."""
    kind, *words = text.split(" ")
    parse = _PARSERS.get(kind)
    if parse is None:
        raise Stop(f"a position of the kind {kind[:40]!r} is not one of a MySQL or MariaDB binlog")
    position = parse(_Words(words))
    if str(position) != text:
        raise _damaged("it is not as it was written")
    return position


class _Words:
    """``name=value`` in order; each is asked for by name."""

    def __init__(self, words: list[str]) -> None:
        self._words = words

    def one(self, name: str) -> str:
        value = self.maybe(name)
        if value is None:
            raise _damaged(f"it has no {name}")
        return value

    def maybe(self, name: str) -> str | None:
        if not self._words or not self._words[0].startswith(f"{name}="):
            return None
        return self._words.pop(0)[len(name) + 1 :]

    def timed(self) -> tuple[str, int] | None:
        """What ``last`` names, and its time."""
        value = self.maybe("last")
        if value is None:
            return None
        what, _, time = value.rpartition("@")
        return what, _number(time)

    def prepared(self) -> Iterator[tuple[Xid, str]]:
        """The prepared transactions; then nothing more may come."""
        while (value := self.maybe("xa")) is not None:
            xid, _, place = value.partition("@")
            yield parse_xid(xid), place
        if self._words:
            raise _damaged(f"it ends in {self._words[0][:40]!r}")


def _mysql(words: _Words) -> MysqlPosition:
    position = MysqlPosition(executed=parse_set(words.one("set")))
    if (last := words.timed()) is not None:
        position.last, position.time = parse_gtid(last[0]), last[1]
        if position.last not in position.executed:
            raise _damaged("its last transaction is not in its set")
    position.prepared = {xid: parse_gtid(place) for xid, place in words.prepared()}
    return position


def _mariadb(words: _Words) -> MariadbPosition:
    position = MariadbPosition(domains=parse_domains(words.one("at")))
    if (last := words.timed()) is not None:
        position.last, position.time = parse_triple(last[0]), last[1]
        if position.domains.get(position.last.domain) != position.last:
            raise _damaged("its last transaction is not its place")
    if (before := words.maybe("before")) is not None:
        position.before = parse_triple(before)
        if position.last is None or position.before.domain != position.last.domain:
            raise _damaged("what was before its last transaction is of another domain")
    if (file := words.maybe("file")) is not None:
        server, _, time = file.partition("@")
        position.file = Begun(_number(server), _number(time))
    position.prepared = {xid: _mariadb_group(place) for xid, place in words.prepared()}
    return position


def _mariadb_group(place: str) -> tuple[Triple, Triple | None]:
    gtid, _, before = place.partition("/")
    return parse_triple(gtid), parse_triple(before) if before else None


def _file(words: _Words) -> FilePosition:
    server = words.one("server")
    if _UUID.fullmatch(server) is None:
        raise _damaged("its server is not a UUID")
    position = FilePosition(server=server, at=_place(words.one("at")))
    if (last := words.timed()) is not None:
        position.last, position.time = _number(last[0]), last[1]
    position.prepared = {xid: _place(place) for xid, place in words.prepared()}
    return position


def _place(text: str) -> FromFile:
    file, _, offset = text.partition(":")
    place = FromFile(unquote(file), _number(offset))
    if place.number == 0 or place.offset < FIRST_OFFSET:
        raise _damaged(f"{text[:80]!r} is no place in a binlog file")
    return place


def _number(text: str) -> int:
    if _NUMBER.fullmatch(text) is None:
        raise _damaged(f"{text[:40]!r} is not a number")
    return int(text)


def _damaged(why: str) -> Stop:
    return Stop(
        f"the position of the checkpoint is damaged: {why}",
        hint=f"restore the checkpoint row, or {RESNAPSHOT}",
    )


_PARSERS: Final[dict[str, Callable[[_Words], Position]]] = {
    _MYSQL: _mysql,
    _MARIADB: _mariadb,
    _BINLOG: _file,
}
