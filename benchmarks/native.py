"""The baseline: PostgreSQL's own logical replication, a subscription with its defaults."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.probe import BenchmarkError
from benchmarks.workload import MARKER_DDL, TABLE_DDL
from cdc_daemon.demo.server import PrivatePostgres

_NAME = "bench_native"
_TABLES = ("item", "single")


class Native:
    """A subscription in a database of the target server; it stands still until `start`."""

    name = "native"
    slot = _NAME

    def __init__(self, source: PrivatePostgres, dbname: str, target: PrivatePostgres) -> None:
        self._source, self._source_db = source, dbname
        self._target, self._target_db = target, "native"
        self.dsn = target.dsn(self._target_db)

    def prepare(self) -> None:
        """Make tables with equal columns and the running subscription."""
        self._source.execute(
            f"CREATE PUBLICATION {_NAME} FOR TABLE marker, {', '.join(_TABLES)}",
            dbname=self._source_db,
        )
        self._target.create_database(self._target_db)
        for table in _TABLES:
            self._execute(TABLE_DDL.format(table))
        self._execute(MARKER_DDL)
        address = self._source.dsn(self._source_db)
        self._execute(f"CREATE SUBSCRIPTION {_NAME} CONNECTION '{address}' PUBLICATION {_NAME}")
        self._await("SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel")

    def start(self) -> None:
        """Let it read on."""
        self._execute(f"ALTER SUBSCRIPTION {_NAME} ENABLE")

    def stop(self) -> None:
        """Make it stand still, and wait until it does."""
        self._execute(f"ALTER SUBSCRIPTION {_NAME} DISABLE")
        self._await("SELECT count(pid) = 0 FROM pg_stat_subscription")

    def check(self) -> None:
        """The server starts a failed worker again, so there is nothing that ends for good."""

    def worker(self) -> int:
        """Process id of the apply worker."""
        pids = self._execute("SELECT pid FROM pg_stat_subscription WHERE worker_type = 'apply'")
        return int(pids[0][0])

    def backends(self) -> list[int]:
        """None: the worker writes itself."""
        return []

    def close(self) -> None:
        """Nothing runs outside the servers."""

    def drop(self) -> None:
        """Drop the subscription, which stands still, and its database."""
        self._execute(f"ALTER SUBSCRIPTION {_NAME} SET (slot_name = NONE)")
        self._execute(f"DROP SUBSCRIPTION {_NAME}")
        self._target.drop_database(self._target_db)

    def _execute(self, statement: str) -> list[tuple[Any, ...]]:
        return self._target.execute(statement, dbname=self._target_db)

    def _await(self, condition: str, timeout: float = 60.0) -> None:
        deadline = time.monotonic() + timeout
        while not self._execute(condition)[0][0]:
            if time.monotonic() > deadline:
                raise BenchmarkError(f"native replication: not true in time: {condition}")
            time.sleep(0.02)
