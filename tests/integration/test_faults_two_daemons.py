"""FAULT 36: two daemons for one pipeline. One writes; the other waits, or takes over for good."""

from __future__ import annotations

import os
import socket
import time

from tests.support.catalogue import SOURCES, fault
from tests.support.erp import Erp, Writer

SEED = 20_260_216


@fault(36, "two daemons for one pipeline", ci=True, sources=SOURCES)
def test_the_second_is_turned_away(erp: Erp) -> None:
    """Its worker ends with 75, naming the holder, and writes nothing; the first never notices."""
    with erp.streaming() as first:
        (holder,) = first.workers
        with Writer(erp, SEED) as writer, erp.daemon() as second:
            second.said("pipeline stopped", error=f"is held by {socket.gethostname()}:{holder}")
            second.said("worker ended", how="exit code 75")
            writer.wrote(20)
            assert second.events("streaming") == []
            assert second.stop() == 0
        erp.caught_up(first)
        assert first.workers == [holder]
        assert first.events("worker ended") == []
        assert erp.checkpoint()["epoch"] == 1
        erp.healed(first)


@fault(36, "SIGSTOP beyond the lease, a second takes over, SIGCONT", ci=True)
def test_a_halted_one_is_taken_over_and_can_write_no_more(erp: Erp) -> None:
    """Halted inside a unit of work for longer than the lease, then continued: its commit fails,
    its worker ends with 75, and the one that took over is left alone."""
    erp.source.execute(f"ALTER DATABASE {erp.source.name} SET wal_sender_timeout = '3s'")
    with erp.streaming() as first:
        (old,) = first.workers
        with erp.locked("material"):
            erp.insert_materials(1, 5)
            erp.waiting_for_lock(first)
            first.pause()
        lease_runs_out(erp)
        second = erp.daemon()
        with second:
            erp.wait_streaming(second)
            erp.insert_materials(6, 5)
            erp.caught_up(second)
            (new,) = second.workers
            epoch = erp.checkpoint()["epoch"]
            first.resume()
            first.said("worker ended", pid=str(old), how="exit code 75")
            first.said("pipeline stopped", error="was taken over")
            first.said("pipeline stopped", error=f"is held by {socket.gethostname()}:{new}")
            erp.insert_materials(11, 5)
            erp.healed(second)
            assert erp.checkpoint()["epoch"] == epoch
            assert second.events("worker ended") == []
            assert first.stop() == 0


def lease_runs_out(erp: Erp) -> None:
    """As if nobody had seen the holder for a minute."""
    if erp.embedded is not None:
        minute_ago = time.time() - 60
        os.utime(f"{erp.embedded.path}-holder", (minute_ago, minute_ago))
        return
    erp.target.execute("UPDATE cdc.checkpoint SET seen_at = seen_at - interval '1 minute'")


@fault(36, "two daemons, kill -9 of the first", ci=True, sources=SOURCES)
def test_the_standby_takes_over_when_the_first_dies(erp: Erp) -> None:
    """A second daemon that was turned away goes on trying, and works when the first is gone."""
    with erp.streaming() as first, erp.daemon() as second:
        second.said("worker ended", how="exit code 75")
        erp.insert_materials(1, 5)
        first.kill()
        erp.insert_materials(6, 5)
        erp.healed(second)
        assert second.stop() == 0
