"""Every kind of table on every version at hand, written to at random: always the source's rows.

15 and 18 are there in any case; set ``CDC_TEST_POSTGRES_BINARIES`` to the folders of 14, 16 and 17
(each with bin, lib and share) for those. A seed can be run alone: ``-k seed4``.
"""

from __future__ import annotations

import random
from pathlib import Path

import psycopg
import pytest

from tests.conftest import DatabaseFactory, PostgresOf
from tests.support.table_kinds import Kind, agree, make_kinds, random_statement
from tests.support.versions import OTHERS, VERSIONS

pytestmark = pytest.mark.acceptance
SEEDS = range(1, 7)
ROUNDS = 4


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed{seed}")
@pytest.mark.parametrize("version", VERSIONS)
def test_random_work_on_every_kind_of_table(
    version: int,
    seed: int,
    postgres_of: PostgresOf,
    database_factory: DatabaseFactory,
    tmp_path: Path,
) -> None:
    """Transactions over several tables, new partitions, restarts in between."""
    draw = random.Random(seed * 100 + version)
    source = database_factory(server=postgres_of(version))
    system, kinds = make_kinds(source, database_factory(), tmp_path)
    for round_ in range(ROUNDS):
        with system.running() as running:
            for _ in range(40):
                _transaction(source.dsn, kinds, draw)
            first = 1000 * (round_ + 1)
            source.execute(
                f"CREATE TABLE parts_{first} PARTITION OF parts FOR VALUES"
                f" FROM ({first}) TO ({first + 1000})"
            )
            source.execute(f"INSERT INTO parts VALUES ({first}, 'in a new one', {seed})")
            system.caught_up(running)
            agree(system, kinds)
        assert running.code == 0
        for _ in range(10):
            _transaction(source.dsn, kinds, draw)  # while nobody reads
    with system.running() as running:
        system.caught_up(running)
        assert system.rows("SELECT error_code FROM cdc.failure") == []
        agree(system, kinds)


def _transaction(dsn: str, kinds: list[Kind], draw: random.Random) -> None:
    with psycopg.connect(dsn) as connection:
        for _ in range(draw.randint(1, 8)):
            kind = draw.choice(kinds)
            connection.execute(random_statement(kind, draw).encode())
        if not draw.randrange(10):
            connection.rollback()


def test_the_other_versions_were_named() -> None:
    """Says which versions the campaign ran on; without the variable it is two of five."""
    missing = sorted({14, 16, 17} - set(OTHERS))
    if missing:
        pytest.skip(f"CDC_TEST_POSTGRES_BINARIES names no PostgreSQL {missing}")
    assert set(VERSIONS) >= {14, 15, 16, 17, 18}
