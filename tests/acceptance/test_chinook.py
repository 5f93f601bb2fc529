"""The whole Chinook campaign; a sample of it is in integration."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import DatabaseFactory
from tests.support.chinook import Shop
from tests.support.chinook_campaign import campaign

SEEDS = (20250711, 4711)


@pytest.mark.acceptance
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("version", [15, 18])
def test_chinook(
    version: int,
    seed: int,
    request: pytest.FixtureRequest,
    database_factory: DatabaseFactory,
    tmp_path: Path,
) -> None:
    """Equal after the snapshot, 3,000 edits and 20 kills; counters as the shop's commits."""
    server = request.getfixturevalue(f"postgres{version}")
    shop = Shop(database_factory(server=server), database_factory(), tmp_path)
    campaign(shop, seed=seed, edits=3000, backlog=1000, kills=20)
