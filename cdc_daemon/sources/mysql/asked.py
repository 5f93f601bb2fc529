"""What a source is configured to read, and how its server is asked about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from cdc_daemon.model.ports import Table

Answer: TypeAlias = tuple[Any, ...]


class Ask(Protocol):
    """Runs one statement on the source's SQL connection; the rows of its result.

    ``params`` stand for ``%s``; without them the statement is taken as it is. Raises our errors.
    """

    def __call__(self, statement: str, /, *params: object) -> Sequence[Answer]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a source is configured to read.

    ``server_id``: the number by which our reader registers. ``cascades``: what is done about rows
    that a foreign key changes without a word in the log: follow, refuse, ignore. ``charsets``: the
    character sets that texts can be read in (MySQL's names).
    """

    tables: tuple[Table, ...]
    server_id: int
    charsets: frozenset[str]
    cascades: str = "follow"

    @property
    def schemas(self) -> frozenset[str]:
        """Where the mapped tables are."""
        return frozenset(table.schema for table in self.tables)


def quoted(name: str) -> str:
    """An identifier in backticks."""
    return "`" + name.replace("`", "``") + "`"


def spelled(schema: str, name: str) -> str:
    """A table's name to be pasted into SQL."""
    return f"{quoted(schema)}.{quoted(name)}"
