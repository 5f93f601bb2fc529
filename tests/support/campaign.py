"""Random faults at random moments under a random workload, all drawn from one seed.

A run draws a few faults while a writer works, ends with everything healed, and then content,
counters and failure queue must be what the source says. Runs follow each other on the same
databases with the same daemon, unless a fault has ended it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Final, Self

import psycopg

from cdc_daemon.demo.server import PrivatePostgres
from tests.support.catalogue import note
from tests.support.erp import Erp, Writer
from tests.support.fault_proxy import FaultProxy
from tests.support.linked import Links, linked
from tests.support.real_daemon import RealDaemon

COMMIT: Final = b"cdc_commit"
FAILPOINTS: Final = (
    "before_checkpoint", "before_checkpoint_upsert", "before_sink_commit", "after_sink_commit",
)  # fmt: skip
PATIENCE: Final = 180.0  # seconds for anything to be well again on a busy machine


class Campaign:
    """A context manager: the daemon runs inside. `done` counts the faults by name.

    `source`, `target`: servers that may be killed; None leaves that end alone.
    """

    def __init__(
        self, erp: Erp, *, source: PrivatePostgres | None, target: PrivatePostgres | None
    ) -> None:
        self.erp = erp
        self.source = source
        self.target = target
        self.done: Counter[str] = Counter()
        self.links: Links
        self.daemon: RealDaemon
        self.writer: Writer
        self.draw = random.Random()
        self._stack = ExitStack()
        self._log: list[str] = []

    def __enter__(self) -> Self:
        settings: dict[str, Any] = {"max_restarts": 1000, "batch_rows": 500}
        self.links = self._stack.enter_context(linked(self.erp, **settings))
        self.start()
        self.erp.wait_streaming(self.daemon)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.daemon.running:
            self.daemon.kill()
        self._stack.close()

    def run(self, seed: int) -> None:
        """One run. Raises AssertionError naming the seed and what was done."""
        self.draw = random.Random(seed)
        self._log = []
        try:
            with Writer(self.erp, seed, large=1200) as self.writer:
                for _ in range(self.draw.randint(2, 4)):
                    self.writer.wrote(self.draw.randint(0, 15), PATIENCE)
                    self._strike(self.draw.choice(self._faults()))
            for proxy in self.links.all:
                proxy.heal()
            self.erp.healed(self.daemon, PATIENCE)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, {self._log}: {error}") from error

    def _strike(self, fault: Callable[[Campaign], None]) -> None:
        self._log.append(fault.__name__)
        self.done[fault.__name__] += 1
        fault(self)

    def _faults(self) -> list[Callable[[Campaign], None]]:
        found: list[Callable[[Campaign], None]] = [*LINKS, *PROCESSES]
        if self.source is not None:
            found += SOURCE
        if self.erp.embedded is not None:
            return [*found, hold_the_file]
        if self.target is not None:
            found += TARGET
        return [*found, a_commit_without_answer, end_sessions, lock_a_table]

    def start(self, failpoint: str | None = None) -> None:
        """Another daemon, after the one before has ended."""
        self.daemon = self.erp.daemon(failpoint)
        self.daemon.__enter__()
        self.daemon.said("daemon started", seconds=PATIENCE)  # before, SIGHUP ends any process

    def proxy(self) -> FaultProxy:
        """Either link."""
        return self.draw.choice(self.links.all)

    def some_writes(self, most: int = 12) -> None:
        """Let time pass, as the writer counts it."""
        self.writer.wrote(self.draw.randint(0, most), PATIENCE)


# --- links ----------------------------------------------------------------------------------------


def cut(run: Campaign) -> None:
    run.proxy().cut()


def reset(run: Campaign) -> None:
    run.proxy().reset()


def half_open_then_reset(run: Campaign) -> None:
    proxy = run.proxy()
    proxy.freeze()
    run.some_writes()
    proxy.reset()


def nobody_gets_through(run: Campaign) -> None:
    with run.proxy().down():
        run.some_writes(20)


def a_commit_without_answer(run: Campaign) -> None:
    run.links.target.break_at(COMMIT, forward=run.draw.random() < 1 / 2)
    run.some_writes()


def slow(run: Campaign) -> None:
    proxy = run.proxy()
    proxy.latency = run.draw.choice([0.002, 0.02])
    run.some_writes()
    proxy.heal()


def sliced(run: Campaign) -> None:
    proxy = run.proxy()
    proxy.sliced = True
    run.some_writes(5)
    proxy.heal()


# --- the daemon -----------------------------------------------------------------------------------


def kill_the_worker(run: Campaign) -> None:
    run.daemon.kill_worker()


def kill_the_daemon(run: Campaign) -> None:
    run.daemon.kill()
    run.some_writes()
    run.start()


def halt(run: Campaign) -> None:
    run.daemon.pause()
    run.some_writes()
    run.daemon.resume()


def stop_and_start(run: Campaign) -> None:
    assert run.daemon.stop(60) == 0, run.daemon.log
    run.some_writes()
    run.start()


def hang_up(run: Campaign) -> None:
    for _ in range(run.draw.randint(1, 5)):
        run.daemon.hang_up()


def die_at_a_failpoint(run: Campaign) -> None:
    run.daemon.kill()
    run.start(f"{run.draw.choice(FAILPOINTS)}:{run.draw.randint(1, 6)}")
    run.daemon.worker_died(PATIENCE)
    run.daemon.kill()
    run.start()


# --- the servers ----------------------------------------------------------------------------------


def _killed(server: PrivatePostgres | None, run: Campaign) -> None:
    assert server is not None
    server.kill()
    server.start()
    run.some_writes(3)


def _restarted(server: PrivatePostgres | None, run: Campaign) -> None:
    assert server is not None
    server.restart(run.draw.choice(("fast", "immediate")), timeout=PATIENCE)


def kill_the_source(run: Campaign) -> None:
    _killed(run.source, run)


def restart_the_source(run: Campaign) -> None:
    _restarted(run.source, run)


def kill_the_control_database(run: Campaign) -> None:
    _killed(run.target, run)


def restart_the_control_database(run: Campaign) -> None:
    _restarted(run.target, run)


def end_sessions(run: Campaign) -> None:
    run.erp.target.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name LIKE 'cdc_daemon%'"
    )


def lock_a_table(run: Campaign) -> None:
    table = run.draw.choice(["material", "customer", "sales_order", "cdc.checkpoint"])
    with psycopg.connect(run.erp.target.dsn) as connection:
        connection.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE".encode())
        run.some_writes()


def hold_the_file(run: Campaign) -> None:
    assert run.erp.embedded is not None
    with run.erp.embedded.held():
        run.some_writes()


LINKS: Final = [
    cut, reset, half_open_then_reset, nobody_gets_through, slow, sliced,
]  # fmt: skip
PROCESSES: Final = [
    kill_the_worker, kill_the_daemon, halt, stop_and_start, hang_up, die_at_a_failpoint,
]  # fmt: skip
SOURCE: Final = [kill_the_source, restart_the_source]
TARGET: Final = [kill_the_control_database, restart_the_control_database]


def told(campaign: Campaign, runs: int) -> None:
    """Say in the table how many runs it were, and how many faults."""
    note(f"{runs} runs, {sum(campaign.done.values())} faults of {len(campaign.done)} kinds")
