"""Random histories of a source, through the real engine, end in the source's rows.

While the source keeps its own rules at every commit, nothing is parked at all.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.histories import History, carried
from tests.support.simulation import Simulation

SEEDS = range(100)


@pytest.mark.parametrize("ahead", [False, True], ids=["in step", "source ahead"])
@pytest.mark.parametrize("delete", ["hard", "soft"])
def test_a_source_that_keeps_its_rules(tmp_path: Path, delete: str, ahead: bool) -> None:
    """Everything arrives and nothing is parked."""
    for seed in SEEDS:
        history, simulation = History(seed, swaps=False), Simulation(tmp_path, delete)
        carried(history, simulation, ahead=ahead)
        assert [one.error.code for one in simulation.parked] == [], (seed, history)


@pytest.mark.parametrize("delete", ["hard", "soft"])
def test_a_source_whose_numbers_collide_on_the_way(tmp_path: Path, delete: str) -> None:
    """Two rows share a number for a moment: what is not parked is exact."""
    for seed in SEEDS:
        carried(History(seed, swaps=True), Simulation(tmp_path, delete), ahead=False)


@pytest.mark.parametrize("swaps", [False, True], ids=["rules kept", "numbers collide"])
@pytest.mark.parametrize("tells", [False, True], ids=["unclear", "told as sets"])
def test_rows_that_cannot_be_carried(tmp_path: Path, tells: bool, swaps: bool) -> None:
    """They hold back their own keys; everything else is exact."""
    for seed in SEEDS:
        history = History(seed, swaps=swaps, poison=True)
        carried(history, Simulation(tmp_path, "soft", tells=tells), ahead=False)
