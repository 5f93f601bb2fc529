"""A few runs of the random campaign; `tests/acceptance/test_fault_campaign.py` has them all."""

from __future__ import annotations

from tests.support.campaign import Campaign, told
from tests.support.catalogue import fault
from tests.support.erp import Erp

SEEDS = (11, 12)


@fault("1-44", "random faults: a sample", ci=True)
def test_a_sample(erp: Erp) -> None:
    """Links, processes and locks; the servers that all tests share are left alone."""
    with Campaign(erp, source=None, target=None) as campaign:
        for seed in SEEDS:
            campaign.run(seed)
        told(campaign, len(SEEDS))
