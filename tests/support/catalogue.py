"""The catalogue of faults: a marker on each test that causes one, which the table is made of.

A fault is a test with :func:`fault`: number in the catalogue, what is done, and the state that the
daemon must have shown (`RealDaemon.shows`, and `Erp.settled` for the end of each). It runs once for
each kind of source and of control database if it asks for `source_kind` and `target_kind`. What is
not in `ci` runs with the acceptance tests. The pytest plugin that makes this true is `fault_table`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pytest

POSTGRES: Final = "postgres"
SQLITE: Final = "sqlite"
TARGETS: Final = (POSTGRES, SQLITE)
"""Kinds of control database that a fault runs on unless it says more."""

MARIADB: Final = "mariadb"
MYSQL: Final = "mysql"
SERVERS: Final = (POSTGRES, MARIADB)
CONTROLS: Final = (*TARGETS, MARIADB)
"""Kinds that the faults of a control database run on: servers, and all of them."""

BINLOGS: Final = (MARIADB, MYSQL)
SOURCES: Final = (POSTGRES, *BINLOGS)
"""Kinds of source; a fault is PostgreSQL's alone unless it says so."""

KEY: Final = "fault"
seen: list[str] = []
"""States and exit codes that the daemon has shown in the present test, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One entry. `numbers` as in the catalogue; `state`: what must have been shown."""

    numbers: str
    injection: str
    state: str
    ci: tuple[str, ...]
    targets: tuple[str, ...]
    sources: tuple[str, ...] = (POSTGRES,)
    ci_source: str = POSTGRES

    @property
    def order(self) -> int:
        """The first number."""
        return int("".join(c if c.isdigit() else " " for c in self.numbers).split()[0])


def fault(
    numbers: int | str,
    injection: str,
    *,
    state: str = "streaming",
    ci: bool | Sequence[str] = False,
    targets: Sequence[str] = TARGETS,
    sources: Sequence[str] = (POSTGRES,),
) -> pytest.MarkDecorator:
    """Mark a test as an entry of the catalogue.

    `ci`: the kinds of control database in `make test`, True is PostgreSQL; from the first source.
    """
    where = ((POSTGRES,) if ci else ()) if isinstance(ci, bool) else tuple(ci)
    entry = Fault(
        numbers=str(numbers),
        injection=injection,
        state=state,
        ci=where,
        targets=tuple(targets),
        sources=tuple(sources),
        ci_source=sources[0],
    )
    return pytest.mark.fault(entry)


def note(state: str) -> None:
    """A state, or an exit code, that the daemon has shown."""
    if not seen or seen[-1] != state:
        seen.append(state)
