"""Random histories with random work at the failure queue between their transactions.

Rows are refused and taken again, released, retried (all, or some in the middle of a lane), read
again at the source, forgotten by a restart; rows change keys and identities, tables are truncated.
When everything is cured the queue is empty and each entity holds what the source does: nothing was
lost, doubled or overtaken.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from cdc_daemon.engine import replay
from tests.support.histories import History, exact
from tests.support.queued import QueuedSimulation, played

SEEDS = range(25)


@pytest.mark.parametrize("ahead", [False, True], ids=["in step", "source ahead"])
@pytest.mark.parametrize("delete", ["hard", "soft"])
def test_the_queue_empties_into_what_the_source_holds(
    tmp_path: Path, delete: str, ahead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "_SECONDS", 0.0)  # a retry takes a turn for each change
    monkeypatch.setattr(replay, "_PAGE", 3)
    for seed in SEEDS:
        history = History(seed, swaps=False, poison=True, refers=False, more=4)
        simulated = QueuedSimulation(tmp_path, delete)
        played(history, simulated, seed, ahead=ahead)
        left = [(one.id, one.error_code) for one in simulated.queue.parked()]
        assert left == [], (seed, history, simulated.done)
        exact(simulated, history.tables)
