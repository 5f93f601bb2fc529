"""The binary log from outside: where it ends, its files, what it leaves out, who reads it."""

from __future__ import annotations

from dataclasses import dataclass

from cdc_daemon.sources.mysql.asked import Ask
from cdc_daemon.sources.mysql.gtid import GtidSet, Triple, parse_domains, parse_set
from cdc_daemon.sources.mysql.position import FIRST_OFFSET, FromFile
from cdc_daemon.sources.mysql.system import System


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEnd:
    """Where the log ends: file and offset. ``only``, ``never``: schemas that are logged alone, or
    not at all; both empty: every one is."""

    file: str
    offset: int
    only: frozenset[str] = frozenset()
    never: frozenset[str] = frozenset()

    @property
    def place(self) -> FromFile:
        """The same as a place."""
        return FromFile(self.file, self.offset)

    def holds(self, schema: str) -> bool:
        """Whether changes of a schema's rows are logged."""
        return schema in self.only if self.only else schema not in self.never


def read_end(ask: Ask, system: System) -> LogEnd | None:
    """The log's end; None: the server writes none."""
    word = "BINARY LOG" if not system.mariadb and system.version >= (8, 2, 0) else "MASTER"
    for file, offset, only, never, *_ in ask(f"SHOW {word} STATUS"):
        return LogEnd(file=file, offset=int(offset), only=_names(only), never=_names(never))
    return None


def _names(text: str) -> frozenset[str]:
    return frozenset(name for name in text.split(",") if name)


def read_files(ask: Ask) -> dict[str, int]:
    """The log's files and their bytes, the oldest first."""
    return {row[0]: int(row[1]) for row in ask("SHOW BINARY LOGS")}


def executed_set(ask: Ask) -> GtidSet:
    """MySQL: every transaction that the server has."""
    [(text,)] = ask("SELECT @@GLOBAL.gtid_executed")
    return parse_set(text)


def purged_set(ask: Ask) -> GtidSet:
    """MySQL: those that are in no file of its log any more."""
    [(text,)] = ask("SELECT @@GLOBAL.gtid_purged")
    return parse_set(text)


def last_of_domains(ask: Ask) -> dict[int, Triple]:
    """MariaDB: the last GTID of each domain in the log."""
    [(text,)] = ask("SELECT @@GLOBAL.gtid_binlog_pos")
    return parse_domains(text)


def purged_of_domains(ask: Ask, oldest: str) -> dict[int, Triple]:
    """MariaDB: the last GTID of each domain before the log's oldest file."""
    [(text,)] = ask("SELECT BINLOG_GTID_POS(%s, %s)", oldest, FIRST_OFFSET)
    return parse_domains(text or "")


def replicates(ask: Ask, system: System) -> bool:
    """Whether the server takes changes from another one."""
    if system.mariadb:
        return bool(ask("SHOW ALL SLAVES STATUS"))
    word = "REPLICA" if system.version >= (8, 0, 22) else "SLAVE"
    return bool(ask(f"SHOW {word} STATUS"))


def reader_ids(ask: Ask, system: System) -> list[int]:
    """The server ids of those who read its log, as they have registered."""
    known = not system.mariadb and system.version >= (8, 0, 22)
    return [int(row[0]) for row in ask("SHOW REPLICAS" if known else "SHOW SLAVE HOSTS")]
