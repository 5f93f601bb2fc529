"""A database that nobody here wrote, through the real daemon; the campaign is in acceptance."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import DatabaseFactory
from tests.support.chinook import Shop
from tests.support.chinook_campaign import campaign


@pytest.mark.parametrize("version", [pytest.param(15, marks=pytest.mark.acceptance), 18])
def test_chinook(
    version: int,
    request: pytest.FixtureRequest,
    database_factory: DatabaseFactory,
    tmp_path: Path,
) -> None:
    """Equal after the snapshot, after edits and after kills; counters as the shop's commits."""
    server = request.getfixturevalue(f"postgres{version}")
    shop = Shop(database_factory(server=server), database_factory(), tmp_path)
    campaign(shop, seed=version, edits=150, backlog=100, kills=2)
