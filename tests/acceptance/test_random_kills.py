"""Long campaigns of kill -9 and halts under load. `make acceptance` runs them.

CDC_SEEDS (numbers with commas between) takes the place of the recorded seeds, CDC_KILLS of the
number of kills for each. A seed that has ever failed is added here and stays.
"""

from __future__ import annotations

import os
import random
import socket

import pytest

from tests.conftest import ErpFactory, PostgresFactory
from tests.support.catalogue import POSTGRES, fault
from tests.support.erp import Erp, Writer, survive_kills
from tests.support.waiting import until

RECORDED = "101,102,20260214"
SEEDS = [int(seed) for seed in (os.environ.get("CDC_SEEDS") or RECORDED).split(",")]
KILLS = int(os.environ.get("CDC_KILLS") or 200)

pytestmark = pytest.mark.acceptance


@pytest.mark.parametrize("seed", SEEDS)
@fault(5, "200 random kill -9 under load")
def test_random_kills_of_the_daemon(erp: Erp, seed: int) -> None:
    """FAULT 5: 200 kills at random moments while a writer works; nothing lost, nothing doubled."""
    with erp.streaming() as daemon:
        daemon.kill()
    with Writer(erp, seed) as writer:
        assert survive_kills(erp, writer, random.Random(seed), KILLS) >= KILLS
    erp.settled()


@pytest.mark.parametrize("seed", SEEDS)
@fault(
    "5, 8, 11", "kill -9 of daemon, source and control database in random order", targets=[POSTGRES]
)
def test_random_kills_of_everything(
    postgres_factory: PostgresFactory, make_erp: ErpFactory, seed: int
) -> None:
    """FAULTS 5, 8 and 11 together: daemon, source and target die in a random order."""
    source, target = postgres_factory(), postgres_factory()
    erp = make_erp(source=source, target=target)
    draw = random.Random(seed)
    with erp.streaming() as daemon:
        daemon.kill()
    with Writer(erp, seed) as writer:
        for _ in range(max(1, KILLS // 10)):
            with erp.daemon() as daemon:
                erp.wait_streaming(daemon)
                for _ in range(draw.randint(1, 4)):
                    writer.wrote(draw.randint(1, 60))
                    victim = draw.choice([source, target])
                    victim.kill()
                    victim.start()
                    if draw.random() < 1 / 2:
                        daemon.kill_worker()
                daemon.kill()
    erp.settled()


@pytest.mark.parametrize("seed", SEEDS)
@fault("5, 27", "kill -9 inside transactions of 50,000 rows")
def test_huge_transactions_under_kills(erp: Erp, seed: int) -> None:
    """Transactions of many pieces, killed again and again inside, are applied whole and once."""
    erp.configure(batch_rows=1000)
    draw = random.Random(seed)
    with erp.streaming() as daemon:
        daemon.kill()
    for n in range(max(1, KILLS // 20)):
        erp.insert_materials(n * 100_000 + 1, 50_000)
        for _ in range(draw.randint(1, 3)):
            with erp.daemon(f"between_pieces:{draw.randint(1, 20)}") as daemon:
                daemon.worker_died(120)
                daemon.kill()
            ((rows,),) = erp.target.query("SELECT count(*) FROM material")
            assert rows == n * 50_000, "a part of a transaction was seen"
        with erp.daemon() as daemon:
            erp.caught_up(daemon, seconds=300)
            daemon.kill()
    erp.settled()


@fault("7, 27", "TERM inside a transaction of a million rows")
def test_terminated_inside_a_million_rows(erp: Erp) -> None:
    """FAULT 7 at full size: the drain time of 10 s and little more, then nothing of it is there."""
    with erp.streaming() as daemon:
        erp.insert_materials(1, 1_000_000)
        erp.working(daemon)
        assert daemon.stop(seconds=10 + 6) == 0, daemon.log
    ((rows,),) = erp.target.query("SELECT count(*) FROM material")
    assert rows in (0, 1_000_000)
    with erp.daemon() as daemon:
        erp.caught_up(daemon, seconds=600)
        daemon.kill()
    erp.settled()


@fault(36, "SIGSTOP for longer than the lease of 30 s")
def test_a_halt_longer_than_the_lease(erp: Erp) -> None:
    """FAULT 36 with a lease that really runs out: 30 s, halted inside a unit of work."""
    with erp.streaming() as first:
        (old,) = first.workers
        with erp.locked("material"):
            erp.insert_materials(1, 5)
            erp.waiting_for_lock(first)
            first.pause()
        with erp.daemon() as second:
            second.said("pipeline stopped", error=f"is held by {socket.gethostname()}:{old}")
            second.said("streaming", seconds=120)
            erp.insert_materials(6, 5)
            erp.caught_up(second)
            first.resume()
            first.said("worker ended", pid=str(old), how="exit code 75")
            until(lambda: erp.checkpoint()["epoch"] == 2, what="the epoch is the second's")
            erp.caught_up(second)
            erp.agrees()
            assert second.events("worker ended")[-1]["how"] == "exit code 75"
            first.kill()
    erp.settled()
