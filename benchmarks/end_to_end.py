"""From a MySQL or MariaDB binlog to PostgreSQL: the daemon works off what a server has logged."""

from __future__ import annotations

from contextlib import closing

from benchmarks import decoding, mysql_workload
from benchmarks.cpu import Cpu, cpu_seconds, peak_mb
from benchmarks.daemon import Daemon
from benchmarks.mysql_workload import DATABASE, TABLE
from benchmarks.probe import Progress, connect, latencies, watch
from benchmarks.workload import Backlog
from cdc_daemon.demo.mysql_family import FamilyServer
from cdc_daemon.demo.server import PrivatePostgres

RATE = 200.0  # transactions a second
COUNT = f"SELECT coalesce(max(id), 0) FROM {TABLE}"
"""Rows come in the order of their keys, and transactions whole."""


class EndToEnd:
    """How the daemon did beside the library's decoding of the same file."""

    def __init__(
        self, server: FamilyServer, target: PrivatePostgres, rows: int, seconds: float
    ) -> None:
        self._server = server
        with closing(
            Daemon(server, DATABASE, target, name=TABLE, tables={TABLE: "id"}, marked=False)
        ) as daemon:
            mysql_workload.create(server)
            daemon.prepare()
            self._first_copy(daemon)
            log = mysql_workload.fill(server, rows)
            decoding.rate(decoding.DAEMON, server, log)  # the file comes from memory then
            self.baseline, self.baseline_cpu = decoding.rate(decoding.BASELINE, server, log)
            self.progress, self.cpu, self.peak_mb = self._lap(daemon, rows)
            self.latencies = self._latencies(daemon, rows, seconds)
            daemon.drop()

    def _first_copy(self, daemon: Daemon) -> None:
        """Of an empty table; what is inserted then can come by the log only."""
        daemon.start()
        mysql_workload.insert(self._server, 0, 0)
        with connect(daemon.dsn) as connection:
            watch(
                lambda: len(connection.execute(f"SELECT FROM {TABLE}").fetchall()),
                Backlog(count="", base=0, goal=1),
                check=daemon.check,
            )
        daemon.stop()

    def _lap(self, daemon: Daemon, rows: int) -> tuple[Progress, Cpu, float]:
        before: list[Cpu] = []
        daemon.start()
        with connect(daemon.dsn) as connection:

            def count() -> int:
                found = connection.execute(COUNT.encode(), prepare=True).fetchone()
                return int(found[0]) if found else 0

            progress = watch(
                count,
                Backlog(count=COUNT, base=0, goal=rows),
                at_first=lambda: before.append(self._cpu(daemon)),
                check=daemon.check,
            )
        used = self._cpu(daemon).per_million(before[0], progress.rows)
        peak = peak_mb(daemon.worker())
        daemon.stop()
        return progress, used, peak

    def _latencies(self, daemon: Daemon, after: int, seconds: float) -> list[float]:
        """Milliseconds from commit to sight, after a second to warm up."""
        daemon.start()
        with connect(daemon.dsn) as connection:
            self._server.execute(f"DELETE FROM {DATABASE}.{TABLE} WHERE id = 0")
            watch(
                lambda: int(not connection.execute(f"SELECT FROM {TABLE} WHERE id = 0").fetchall()),
                Backlog(count="", base=0, goal=1),
                check=daemon.check,
            )
        warm_up, number = round(RATE), round(RATE * seconds)
        writing = mysql_workload.singles(self._server)
        found = latencies(
            writing, daemon.dsn, after=after, rate=RATE, number=warm_up + number, count=COUNT
        )
        daemon.stop()
        return found[warm_up:]

    def _cpu(self, daemon: Daemon) -> Cpu:
        """The server's own share is that of the whole server: nobody else is at it."""
        return Cpu(
            walsender=cpu_seconds([self._server.pid]),
            worker=cpu_seconds([daemon.worker()]),
            backend=cpu_seconds(daemon.backends()),
        )
