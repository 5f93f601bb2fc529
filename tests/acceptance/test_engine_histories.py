"""Thousands of random histories; the first hundred of each kind are in unit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.histories import History, carried
from tests.support.simulation import Simulation

SEEDS = range(100, 3000)


@pytest.mark.acceptance
@pytest.mark.parametrize("poison", [False, True])
@pytest.mark.parametrize("swaps", [False, True])
@pytest.mark.parametrize("delete", ["hard", "soft"])
def test_histories(tmp_path: Path, delete: str, swaps: bool, poison: bool) -> None:
    """What is not parked is exact; of a source that keeps its rules nothing is parked."""
    for seed in SEEDS:
        history = History(seed, swaps=swaps, poison=poison)
        simulation = Simulation(tmp_path, delete, tells=seed % 2 == 0)
        carried(history, simulation, ahead=seed % 3 == 0 and not swaps and not poison)
        assert swaps or poison or not simulation.parked, (seed, history)
