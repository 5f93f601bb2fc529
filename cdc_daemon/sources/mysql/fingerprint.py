"""By what the rows of each mapped table are known, as a text that a checkpoint keeps. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from cdc_daemon.model.ports import Table
from cdc_daemon.sources.mysql.catalog import Name, TableFacts

_HEAD: Final = "binlog"
_DIGITS: Final = 12


def fingerprint(tables: Iterable[Table], facts: Mapping[Name, TableFacts]) -> str:
    """A word for each table: digests of its name and of the columns that identify a row."""
    words = [_HEAD]
    for table in tables:
        found = facts.get((table.schema, table.name))
        identity = found.primary_key if found and found.primary_key else table.identity
        words.append(_of_table(table) + _digest(identity))
    return " ".join(words)


def known_otherwise(tables: Iterable[Table], then: str, now: str) -> Iterator[Table]:
    """The tables whose rows were known by other columns; those of only one text are left out."""
    before, after = _by_table(then), _by_table(now)
    for table in tables:
        name = _of_table(table)
        if name in before and name in after and before[name] != after[name]:
            yield table


def _by_table(text: str) -> dict[str, str]:
    return {word[:_DIGITS]: word[_DIGITS:] for word in text.split(" ")[1:]}


def _of_table(table: Table) -> str:
    return _digest((table.schema, table.name))


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_DIGITS]
