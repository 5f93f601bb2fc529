"""More than 200 runs of random faults with recorded seeds. `make acceptance` runs them.

CDC_FAULT_SEEDS (numbers with commas between) takes the place of the recorded seeds. A seed that has
ever failed stands in FAILED and stays.
"""

from __future__ import annotations

import os

import pytest

from tests.conftest import ErpFactory, PostgresFactory
from tests.support.campaign import Campaign, told
from tests.support.catalogue import POSTGRES, fault

BLOCK = 15
FAILED: tuple[int, ...] = ()
RECORDED = [*range(1, 16 * BLOCK + 1), *FAILED]
SEEDS = [int(seed) for seed in os.environ.get("CDC_FAULT_SEEDS", "").split(",") if seed] or RECORDED
BLOCKS = [SEEDS[start : start + BLOCK] for start in range(0, len(SEEDS), BLOCK)]


@pytest.mark.parametrize("seeds", BLOCKS, ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}")
@fault("1-44", "random faults, seeds")
def test_random_faults(
    postgres_factory: PostgresFactory, make_erp: ErpFactory, target_kind: str, seeds: list[int]
) -> None:
    """Everything that can be cut, killed, halted or slowed, at random, until it is well again."""
    source = postgres_factory()
    target = postgres_factory() if target_kind == POSTGRES else None
    erp = make_erp(source=source, target=target)
    with Campaign(erp, source=source, target=target) as campaign:
        for seed in seeds:
            campaign.run(seed)
        told(campaign, len(seeds))
