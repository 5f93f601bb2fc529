"""The Chinook campaign: snapshot, edits, a backlog, edits while the daemon is killed.

After each of them everything must be equal. The backlog makes large batches, in which rows are
changed, renamed, deleted and inserted again many times.
"""

from __future__ import annotations

import random
import threading
from contextlib import closing

import psycopg

from cdc_daemon.verify import verify
from tests.support.chinook import Shop
from tests.support.chinook_edits import Clerk
from tests.support.waiting import until

LONGEST_LIFE = 1.5  # seconds of edits before a kill
CHANCE_TO_WORK = 0.8  # for the next worker, before the next kill


def campaign(shop: Shop, *, seed: int, edits: int, backlog: int, kills: int) -> None:
    """Run it, with ``backlog`` edits while no daemon runs; AssertionError says what differs."""
    with closing(Clerk(psycopg.connect(shop.source.dsn), seed)) as clerk, shop.running():
        shop.wait_for_snapshot()
        shop.assert_equal()
        assert shop.checkpoint("transactions, changes") == (0, 0)
        clerk.work(edits)
        settled(shop, clerk)
        shop.kill_all()
        clerk.work(backlog)
        shop.start()
        settled(shop, clerk)
        killing = random.Random(seed)
        for _ in range(kills):
            edit_through_a_kill(shop, clerk, killing)
        settled(shop, clerk)
        report = verify(shop.configuration)
        assert report.equal, report.as_dict()
        assert not report.behind
        assert all(one.match == one.source == one.target for one in report.mappings)


def settled(shop: Shop, clerk: Clerk) -> None:
    """Once the daemon has caught up, rows, tombstones and counters are what the shop committed."""
    shop.caught_up()
    shop.assert_equal()
    extra, missing = shop.tombstones() - clerk.tombstones, clerk.tombstones - shop.tombstones()
    assert not extra | missing, f"tombstones: extra {extra}, missing {missing}"
    counted, committed = (
        shop.checkpoint("transactions, changes"),
        (clerk.transactions, clerk.changes),
    )
    assert counted == committed, f"{counted} counted, {committed} committed"


def edit_through_a_kill(shop: Shop, clerk: Clerk, killing: random.Random) -> None:
    """Edit until worker, supervisor or both were killed, mostly also until another worker works."""
    epoch = shop.epoch()
    (kill,) = killing.choices(
        [shop.kill_worker, shop.kill_supervisor, shop.kill_all], weights=[2, 1, 1]
    )
    timer = threading.Timer(killing.uniform(0, LONGEST_LIFE), kill)
    timer.start()
    while timer.is_alive():
        clerk.transaction()
    timer.join()
    assert shop.daemon is not None
    if shop.daemon.poll() is not None:
        shop.start()
    if killing.random() < CHANCE_TO_WORK:
        until(lambda: worked_on(shop, clerk, epoch), seconds=60, what="a new worker")


def worked_on(shop: Shop, clerk: Clerk, epoch: int) -> bool:
    """One more transaction; whether another worker has taken over."""
    clerk.transaction()
    return shop.epoch() > epoch
