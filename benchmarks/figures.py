"""The figures: how each is taken (one small function each, or one for what is taken together)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from benchmarks import decoding, failures, mysql_workload
from benchmarks.course import Course, Lap, Servers, Side
from benchmarks.cpu import Cpu, cpu_seconds, family
from benchmarks.daemon import Daemon
from benchmarks.end_to_end import EndToEnd
from benchmarks.native import Native
from benchmarks.probe import BenchmarkError, connect
from benchmarks.workload import TABLES, Backlog, many_tables
from cdc_daemon.demo.installation import ServerError
from cdc_daemon.demo.mariadb import PrivateMariaDB
from cdc_daemon.demo.mysql_family import FamilyServer
from tests.support.mysql_server import PrivateMySQL

LATENCY_RATE = 200.0
_REPEATS = (1, 2, 4, 8)
_SOURCE_DB, _TABLES_DB, _POISON_DB = "erp", "erp_tables", "erp_poison"
_IDLE_AFTER_SECONDS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is done for a figure."""

    rows: int = 1_000_000
    huge_rows: int = 5_000_000
    latency_seconds: float = 20.0
    idle_seconds: float = 60.0
    tables: int = 500
    start_tables: int = 5000

    @property
    def decoded_rows(self) -> int:
        """Enough of them for some seconds of the baseline."""
        return max(self.rows // 5, 50_000)

    @property
    def one_row_transactions(self) -> int:
        """Enough of them to outlast a large batch a few times."""
        return max(self.rows // 5, 50_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One pair's values of one figure; some have no baseline, some no CPU."""

    daemon: float
    baseline: float | None = None
    cpu: Cpu | None = None
    baseline_cpu: Cpu | None = None


Samples = dict[str, Sample]
Step = Callable[[Course, Size, Mapping[str, Sample]], Samples]
"""Takes figures on a course, knowing what was taken on it before."""


def course_of(servers: Servers) -> Course:
    """The course of most figures: native replication and the daemon on the same tables."""
    source, target = servers.source, servers.target
    sides = (Native(source, _SOURCE_DB, target), Daemon(source, _SOURCE_DB, target))
    return Course(servers, _SOURCE_DB, TABLES, sides)


def pg_insert(course: Course, size: Size, _: Mapping[str, Sample]) -> Samples:
    """Insert rows in transactions of 1,000; the worker's peak memory while at it."""
    laps = _valid(lambda n: _race(course, course.workload.insert(n)), size.rows)
    return {
        "pg.insert": _compared(laps),
        "memory.streaming_mb": Sample(daemon=laps["daemon"].peak_mb),
    }


def pg_insert_ref(course: Course, size: Size, seen: Mapping[str, Sample]) -> Samples:
    """The same into an entity keyed by a code, with references; beside our own pg.insert."""
    laps = _valid(
        lambda n: _race(course, course.workload.insert_ref(n), course.side("daemon")), size.rows
    )
    lap, plain = laps["daemon"], seen["pg.insert"]
    sample = Sample(daemon=lap.rate, baseline=plain.daemon, cpu=lap.cpu, baseline_cpu=plain.cpu)
    return {"pg.insert_ref": sample}


def pg_update(course: Course, size: Size, _: Mapping[str, Sample]) -> Samples:
    """Update every column but the key."""

    def laps(rows: int) -> dict[str, Lap]:
        _fill(course, rows)
        return _race(course, course.workload.update(rows))

    return {"pg.update": _compared(_valid(laps, size.rows))}


def pg_delete(course: Course, size: Size, _: Mapping[str, Sample]) -> Samples:
    """Delete all rows."""

    def laps(rows: int) -> dict[str, Lap]:
        _fill(course, rows)
        return _race(course, course.workload.delete())

    return {"pg.delete": _compared(_valid(laps, size.rows))}


def pg_one_row_tx(course: Course, size: Size, _: Mapping[str, Sample]) -> Samples:
    """Insert rows, one a transaction."""
    laps = _valid(lambda n: _race(course, course.workload.one_row(n)), size.one_row_transactions)
    return {"pg.one_row_tx": _compared(laps)}


def latency(course: Course, size: Size, _: Mapping[str, Sample]) -> Samples:
    """From "COMMIT returned" to "row seen", at 200 transactions a second."""
    native = course.latencies(course.side("native"), LATENCY_RATE, size.latency_seconds)
    daemon = course.latencies(course.side("daemon"), LATENCY_RATE, size.latency_seconds)
    return {
        f"latency.p{percent}_ms": Sample(
            daemon=_percentile(daemon, percent), baseline=_percentile(native, percent)
        )
        for percent in (50, 99)
    }


def idle(course: Course, size: Size, _: Mapping[str, Sample]) -> Samples:
    """CPU of the daemon's processes while nothing happens, in percent of one core."""
    daemon = course.side("daemon")
    assert isinstance(daemon, Daemon)
    with course.running(daemon):
        course.settle(daemon)
        time.sleep(_IDLE_AFTER_SECONDS)
        pids = family(daemon.pid)
        started, before = time.perf_counter(), cpu_seconds(pids)
        time.sleep(size.idle_seconds)
        used = cpu_seconds(pids) - before
        percent = 100 * used / (time.perf_counter() - started)
        if family(daemon.pid) != pids:
            raise BenchmarkError("the daemon was not left in peace: its processes changed")
    return {"idle.cpu_percent": Sample(daemon=percent)}


def memory_huge_tx(course: Course, size: Size, _: Mapping[str, Sample]) -> Samples:
    """The worker's peak memory through one huge transaction."""
    rows = size.huge_rows
    lap = course.lap(
        course.side("daemon"), course.workload.insert(rows, per_transaction=rows), patience=1800
    )
    return {"memory.huge_tx_mb": Sample(daemon=lap.peak_mb)}


def tables_500(course: Course, size: Size, _: Mapping[str, Sample]) -> Samples:
    """Insert into 500 tables, each transaction of 1,000 rows into the next; beside one table."""
    number = size.tables
    names = ["item", *many_tables(number)]
    source, target = course.servers.source, course.servers.target
    one = Daemon(source, _TABLES_DB, target, name="one", tables={"item": "id"})
    many = Daemon(source, _TABLES_DB, target, name="many", tables=dict.fromkeys(names[1:], "id"))
    with Course(course.servers, _TABLES_DB, names, [one, many]) as tables:
        work = tables.workload
        first = _valid(lambda n: _race(tables, work.insert(n), one), size.rows)["one"]
        spread = _valid(lambda n: _race(tables, work.insert_spread(n, number), many), size.rows)[
            "many"
        ]
    sample = Sample(daemon=spread.rate, baseline=first.rate, cpu=spread.cpu, baseline_cpu=first.cpu)
    return {"tables.500": sample}


def tables_5000_start(course: Course, size: Size, _: Mapping[str, Sample]) -> Samples:
    """Seconds from `cdc-daemon run` until 5,000 tables are followed; also with their first copy."""
    names = many_tables(size.start_tables)
    source, target = course.servers.source, course.servers.target
    daemon = Daemon(source, _TABLES_DB, target, name="many", tables=dict.fromkeys(names, "id"))
    with Course(course.servers, _TABLES_DB, names, [daemon]) as tables:
        again = tables.start_seconds(daemon)
        first = tables.first_start[daemon.name]
    return {
        "tables.5000_start_s": Sample(daemon=again),
        "tables.5000_first_start_s": Sample(daemon=first),
    }


def failures_poison(course: Course, size: Size, _: Mapping[str, Sample]) -> Samples:
    """Insert with one row in a hundred that the target refuses; beside the same without."""
    source, target = course.servers.source, course.servers.target
    daemon = Daemon(source, _POISON_DB, target, name="poison", tables={"item": "id"})
    with Course(course.servers, _POISON_DB, ["item"], [daemon]) as poison:
        work = poison.workload
        clean = _valid(lambda n: _race(poison, work.insert(n), daemon), size.rows)["poison"]
        with connect(daemon.dsn) as connection:
            connection.execute(failures.POISON.encode())
        bad = _valid(lambda n: _race(poison, work.insert(n), daemon), size.rows)["poison"]
    sample = Sample(daemon=bad.rate, baseline=clean.rate, cpu=bad.cpu, baseline_cpu=clean.cpu)
    return {"failures.poison_1pct": sample}


def failures_lookup(_: Course, __: Size, ___: Mapping[str, Sample]) -> Samples:
    """What it costs a row that its lane might be blocked, while none is; and a million of them."""
    return {
        "failures.lookup_us": Sample(daemon=failures.lookup_microseconds()),
        "failures.lanes_mb": Sample(daemon=failures.lanes_megabytes()),
    }


def mariadb_decode(_: Course, size: Size, __: Mapping[str, Sample]) -> Samples:
    """Make rows of a binlog, beside mysql-replication; a server and processes of its own."""
    with _found(PrivateMariaDB) as server:
        return {"mariadb.decode": _decoded(server, size)}


def mysql_decode(_: Course, size: Size, __: Mapping[str, Sample]) -> Samples:
    """The same with MySQL 9."""
    with _found(PrivateMySQL) as server:
        return {"mysql.decode": _decoded(server, size)}


def _found(kind: Callable[..., FamilyServer]) -> FamilyServer:
    try:
        return kind(settings=mysql_workload.SETTINGS)
    except ServerError as exc:
        raise BenchmarkError(str(exc)) from exc


def mariadb_end_to_end(course: Course, size: Size, _: Mapping[str, Sample]) -> Samples:
    """From MariaDB's log to rows in PostgreSQL, beside mysql-replication decoding that log."""
    with _found(PrivateMariaDB) as server:
        return _carried("mariadb", server, course, size)


def mysql_end_to_end(course: Course, size: Size, _: Mapping[str, Sample]) -> Samples:
    """The same from MySQL 9."""
    with _found(PrivateMySQL) as server:
        return _carried("mysql", server, course, size)


def _carried(kind: str, server: FamilyServer, course: Course, size: Size) -> Samples:
    seconds = size.latency_seconds
    done = EndToEnd(server, course.servers.target, size.decoded_rows, seconds)
    if not done.progress.valid:
        raise BenchmarkError("the first probe saw too much: take more rows")
    sample = Sample(
        daemon=done.progress.rate,
        baseline=done.baseline,
        cpu=done.cpu,
        baseline_cpu=done.baseline_cpu,
    )
    return {
        f"{kind}.end_to_end": sample,
        f"{kind}.memory_mb": Sample(daemon=done.peak_mb),
        f"{kind}.latency_p50_ms": Sample(daemon=_percentile(done.latencies, 50)),
        f"{kind}.latency_p99_ms": Sample(daemon=_percentile(done.latencies, 99)),
    }


def _decoded(server: FamilyServer, size: Size) -> Sample:
    mysql_workload.create(server)
    log = mysql_workload.fill(server, size.decoded_rows)
    decoding.rate(decoding.DAEMON, server, log)  # the file comes from memory then
    baseline, baseline_cpu = decoding.rate(decoding.BASELINE, server, log)
    daemon, cpu = decoding.rate(decoding.DAEMON, server, log)
    return Sample(daemon=daemon, baseline=baseline, cpu=cpu, baseline_cpu=baseline_cpu)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What is reported; `at_least` binds the ratio, `at_most` the daemon's own value."""

    name: str
    unit: str
    step: Step
    at_least: float | None = None
    at_most: float | None = None
    needs: str | None = None
    once: bool = False  # taken in the last pair only


FIGURES = (
    Figure(name="pg.insert", unit="rows/s", step=pg_insert, at_least=0.7),
    Figure(name="memory.streaming_mb", unit="MB", step=pg_insert, at_most=150),
    Figure(
        name="pg.insert_ref", unit="rows/s", step=pg_insert_ref, at_least=0.8, needs="pg.insert"
    ),
    Figure(name="pg.update", unit="rows/s", step=pg_update, at_least=0.8),
    Figure(name="pg.delete", unit="rows/s", step=pg_delete, at_least=0.7),
    Figure(name="pg.one_row_tx", unit="rows/s", step=pg_one_row_tx, at_least=1.0),
    Figure(name="latency.p50_ms", unit="ms", step=latency, at_most=10),
    Figure(name="latency.p99_ms", unit="ms", step=latency, at_most=60),
    Figure(name="idle.cpu_percent", unit="% of a core", step=idle, at_most=1, once=True),
    Figure(name="memory.huge_tx_mb", unit="MB", step=memory_huge_tx, at_most=250, once=True),
    Figure(name="tables.500", unit="rows/s", step=tables_500, at_least=0.95),
    Figure(name="tables.5000_start_s", unit="s", step=tables_5000_start, at_most=30, once=True),
    Figure(name="tables.5000_first_start_s", unit="s", step=tables_5000_start, once=True),
    Figure(name="failures.poison_1pct", unit="rows/s", step=failures_poison, at_least=0.6),
    Figure(name="failures.lookup_us", unit="µs", step=failures_lookup, at_most=0.1),
    Figure(name="failures.lanes_mb", unit="MB", step=failures_lookup, at_most=300),
    Figure(name="mariadb.decode", unit="rows/s", step=mariadb_decode, at_least=5),
    Figure(name="mysql.decode", unit="rows/s", step=mysql_decode, at_least=5),
    Figure(name="mariadb.end_to_end", unit="rows/s", step=mariadb_end_to_end, at_least=3.5),
    Figure(name="mariadb.memory_mb", unit="MB", step=mariadb_end_to_end, at_most=150),
    Figure(name="mariadb.latency_p50_ms", unit="ms", step=mariadb_end_to_end, at_most=10),
    Figure(name="mariadb.latency_p99_ms", unit="ms", step=mariadb_end_to_end, at_most=60),
    Figure(name="mysql.end_to_end", unit="rows/s", step=mysql_end_to_end, at_least=3.5),
    Figure(name="mysql.memory_mb", unit="MB", step=mysql_end_to_end, at_most=150),
    Figure(name="mysql.latency_p50_ms", unit="ms", step=mysql_end_to_end, at_most=10),
    Figure(name="mysql.latency_p99_ms", unit="ms", step=mysql_end_to_end, at_most=60),
)
"""All figures, in the order in which they are taken on a course."""


def chosen(names: frozenset[str]) -> list[Figure]:
    """The figures with these names (none: all) and those they are compared with."""
    wanted = names | {f.needs for f in FIGURES if f.name in names and f.needs}
    return [f for f in FIGURES if not names or f.name in wanted]


def take(
    course: Course, figures: list[Figure], size: Size, *, last: bool
) -> Iterator[tuple[Figure, Sample]]:
    """One pair of each of these figures; those taken once only if it is the last pair."""
    samples: Samples = {}
    for step in dict.fromkeys(f.step for f in figures if last or not f.once):
        found = step(course, size, samples)
        samples |= found
        yield from ((f, found[f.name]) for f in figures if f.name in found)


def _race(course: Course, backlog: Backlog, *sides: Side) -> dict[str, Lap]:
    return {
        side.name: course.lap(side, backlog)
        for side in sides or (course.side("native"), course.side("daemon"))
    }


def _valid(laps: Callable[[int], dict[str, Lap]], rows: int) -> dict[str, Lap]:
    """Laps with so many rows, or with more until no first probe saw more than a tenth."""
    for factor in _REPEATS:
        found = laps(rows * factor)
        if all(lap.progress.valid for lap in found.values()):
            return found
    message = f"even of {rows * _REPEATS[-1]} rows more than a tenth were there at the first probe"
    raise BenchmarkError(message)


def _fill(course: Course, rows: int) -> None:
    """Both targets have at least so many rows."""
    if missing := course.workload.missing(rows):
        _race(course, course.workload.insert(missing))


def _compared(laps: Mapping[str, Lap]) -> Sample:
    daemon, native = laps["daemon"], laps["native"]
    return Sample(daemon=daemon.rate, baseline=native.rate, cpu=daemon.cpu, baseline_cpu=native.cpu)


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
