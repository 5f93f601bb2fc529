"""Every kind of table through the worker's own loop: copied, streamed, and verified equal."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import DatabaseFactory, PostgresOf
from tests.support.table_kinds import agree, make_kinds
from tests.support.versions import NEWEST


@pytest.mark.parametrize("version", NEWEST)
def test_every_kind_of_table(
    version: int, postgres_of: PostgresOf, database_factory: DatabaseFactory, tmp_path: Path
) -> None:
    """Partitions, heirs, filters, column lists, identities and names: nothing is left out."""
    source = database_factory(server=postgres_of(version))
    system, kinds = make_kinds(source, database_factory(), tmp_path)
    with system.running() as running:
        agree(system, kinds)
        for statements in zip(*[_padded(kind.after, 9) for kind in kinds], strict=True):
            for statement in filter(None, statements):
                source.execute(statement)
        system.caught_up(running)
        assert system.rows("SELECT error_code, error_message FROM cdc.failure") == []
        agree(system, kinds)
        source.execute("TRUNCATE parts, by_index")
        source.execute(
            "INSERT INTO parts VALUES (1, 'after', 1); INSERT INTO by_index VALUES (1, 'k', 1)"
        )
        system.caught_up(running)
        agree(system, kinds)
    assert running.code == 0


def _padded(statements: tuple[str, ...], length: int) -> tuple[str, ...]:
    return statements + ("",) * (length - len(statements))
