"""No change overtakes an earlier one of its key, whatever is parked, replayed, edited or crashes.

Random lives of a pipeline (`tests/support/ordering`), on real control databases. CDC_EXAMPLES takes
the place of their number.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conftest import DatabaseFactory
from tests.support.catalogue import POSTGRES, SQLITE
from tests.support.ordering.machine import OrderMachine
from tests.support.ordering.stage import Stage
from tests.support.sqlite_database import SqliteDatabase

EXAMPLES = int(os.environ.get("CDC_EXAMPLES") or 1000)
Stages = dict[bool, Stage]


@pytest.fixture(params=[POSTGRES, SQLITE])
def stages(
    request: pytest.FixtureRequest, database_factory: DatabaseFactory, tmp_path: Path
) -> Iterator[Stages]:
    """Control databases for both ways of deleting."""
    found: Stages = {}
    with ExitStack() as stack:
        for soft in (False, True):
            database = (
                database_factory()
                if request.param == POSTGRES
                else SqliteDatabase(path=tmp_path / f"control_{soft}.db")
            )
            found[soft] = stack.enter_context(closing(Stage(database, tmp_path, soft=soft)))
        yield found


def lived(stages: Stages, examples: int, steps: int) -> Counter[str]:
    """So many lives of so many steps; what they came to, printed."""
    tally: Counter[str] = Counter()
    run_state_machine_as_test(
        lambda: OrderMachine(stages, tally),  # type: ignore[arg-type]
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            phases=[Phase.generate],  # a life is read sooner than it is made smaller
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(f"\n{', '.join(f'{number:,} {word}' for word, number in tally.items())}")
    return tally


def test_a_sample(stages: Stages) -> None:
    tally = lived(stages, 12, 15)
    assert min(tally["parked"], tally["replayed"], tally["writes"]) > 0


@pytest.mark.acceptance
@pytest.mark.timeout(0)
def test_no_change_overtakes_another(stages: Stages) -> None:
    tally = lived(stages, EXAMPLES, 40)
    assert min(tally[word] for word in ("edited", "resynced", "skipped", "crashes")) > 0
    assert min(tally["parked"], tally["replayed"], tally["interruptions"]) > EXAMPLES / 10
