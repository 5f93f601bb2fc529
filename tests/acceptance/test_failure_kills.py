"""kill -9 at random moments while changes are parked and while they are replayed.

CDC_KILLS takes the place of the number of kills, CDC_SEEDS (numbers with commas between) of the
recorded seed. A seed that has ever failed is added here and stays.
"""

from __future__ import annotations

import os
import random

import pytest

from tests.support.catalogue import fault, note
from tests.support.erp import Erp
from tests.support.ordering.killing import Poisoned, PoisonWriter, survive_kills

RECORDED = "20261128"
SEEDS = [int(seed) for seed in (os.environ.get("CDC_SEEDS") or RECORDED).split(",")]
KILLS = int(os.environ.get("CDC_KILLS") or 200)


@pytest.mark.parametrize("seed", SEEDS)
@fault("4, 5, 30", "200 random kill -9 while parking and replaying")
def test_killed_while_parking_and_replaying(erp: Erp, seed: int) -> None:
    """FAULTS 4, 5 and 30: nothing is lost, nothing doubled, and no row ever goes back."""
    poisoned = Poisoned(erp)
    with erp.streaming() as daemon:
        daemon.kill()
    with PoisonWriter(erp, seed, pause=0.1, large=50) as writer:
        done = survive_kills(poisoned, writer, random.Random(seed), KILLS)
    states = poisoned.settled()
    assert done >= KILLS
    assert min(states["replayed"], done) > 0
    note(f"{done} kills, {dict(states)}")
    print(f"\n{done} kills, {writer.committed:,} transactions, {dict(states)}")
