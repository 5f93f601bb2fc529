"""Which of the two servers answers, in which version."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from cdc_daemon.sources.mysql.tokens import Dialect

_VERSION: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edition:
    """What answers. ``lower_case``: the server's ``lower_case_table_names`` (0, 1 or 2)."""

    mariadb: bool
    version: tuple[int, int, int]
    lower_case: int

    def __str__(self) -> str:
        return f"{'MariaDB' if self.mariadb else 'MySQL'} {'.'.join(map(str, self.version))}"

    @property
    def dialect(self) -> Dialect:
        """How it reads statements, with its usual modes."""
        major, minor, patch = self.version
        number = 10_000 * major + 100 * minor + patch
        return Dialect(mariadb=self.mariadb, version=number, lower=self.lower_case != 0)


def parse_edition(told: str, lower_case: int) -> Edition | None:
    """The edition of ``VERSION()``'s text; None: it is none of either."""
    found = _VERSION.search(told)
    if found is None:
        return None
    major, minor, patch = (int(part) for part in found.groups())
    mariadb = "mariadb" in told.lower()
    return Edition(mariadb=mariadb, version=(major, minor, patch), lower_case=lower_case)
