"""A small ERP database with a writer, mapped to entities, for tests that break things.

Every transaction of the writer also notes in `journal`, which is not mapped, how many rows it
changed. So the source itself tells what was committed, also where its client never learned it.
`agreement` compares content and counters by SQL of its own, without any code of the daemon.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from decimal import Decimal
from pathlib import Path
from textwrap import indent
from types import TracebackType
from typing import Any, Final, Self, cast

import psycopg
from click.testing import Result
from psycopg.conninfo import make_conninfo

from cdc_daemon.build import mapping_names
from cdc_daemon.config.load import load
from cdc_daemon.engine.meter import Meter
from cdc_daemon.engine.reading import Stopping
from cdc_daemon.sources.postgres.lsn import parse_lsn
from cdc_daemon.worker import Worker
from tests.support.cli import call, invoke
from tests.support.control_kinds import ControlDatabase, ControlKind, kind_of
from tests.support.databases import Database
from tests.support.real_daemon import RealDaemon
from tests.support.sqlite_database import SqliteDatabase
from tests.support.waiting import until

TABLES: Final = """
    CREATE TABLE t_customer (
        fid bigint PRIMARY KEY, fnumber varchar(40) NOT NULL, fname varchar(200));
    CREATE TABLE t_order (
        fid bigint PRIMARY KEY, fbillno varchar(30) NOT NULL, fcustid bigint,
        famount numeric(18,4) NOT NULL);
    CREATE TABLE t_material (
        fid bigint PRIMARY KEY, fnumber varchar(40) NOT NULL, fname varchar(300),
        funit varchar(10), fprice numeric(18,4), fremark text);
    ALTER TABLE t_material ALTER fremark SET STORAGE EXTERNAL;
    CREATE TABLE journal (number bigserial PRIMARY KEY, changes integer NOT NULL);
"""
PUBLICATION: Final = "CREATE PUBLICATION cdc_erp FOR TABLE t_customer, t_order, t_material"
MAPPINGS: Final = """
entities:
  customer:
    key: [code]
    attributes:
      code: string(40)
      name: {type: string(200), required: true}
  sales_order:
    key: [order_no]
    attributes:
      order_no: string(30)
      customer_code: {type: string(40), references: customer}
      amount: decimal(18,4)
  material:
    key: [code]
    attributes:
      code: string(40)
      name: {type: string(200), required: true}
      unit: string(10)
      price: decimal(18,4)
      remark: text
mappings:
  - from: erp.public.t_customer
    to: customer
    key: {code: fnumber}
    fields: {name: fname}
    on_delete: hard
  - from: erp.public.t_order
    to: sales_order
    key: {order_no: fbillno}
    fields:
      customer_code: {ref: fcustid, from: erp.public.t_customer}
      amount: famount
    on_delete: hard
  - from: erp.public.t_material
    to: material
    key: {code: fnumber}
    fields:
      name: fname
      unit: {from: funit, map: {PCS: EA, KG: KG}}
      price: fprice
      remark: fremark
    on_delete: soft
"""
SAME: Final = {
    "customer": ("SELECT fnumber, fname FROM t_customer", "SELECT code, name FROM customer"),
    "sales_order": (
        "SELECT o.fbillno, c.fnumber, o.famount FROM t_order o"
        " LEFT JOIN t_customer c ON c.fid = o.fcustid",
        "SELECT order_no, customer_code, amount FROM sales_order",
    ),
    "material": (
        "SELECT fnumber, fname, CASE funit WHEN 'PCS' THEN 'EA' ELSE funit END, fprice, fremark"
        " FROM t_material",
        "SELECT code, name, unit, price, remark FROM material WHERE deleted_at IS NULL",
    ),
}
"""What each entity holds: the same rows, asked of the source and of the control database."""

HASH: Final = """
    SELECT count(*), md5(coalesce(string_agg(r, E'\\n' ORDER BY r COLLATE "C"), ''))
    FROM (SELECT t::text AS r FROM ({}) t) rows
"""
QUICK: Final = {
    "metrics_listen": "127.0.0.1:0",
    "log_format": "json",
    "retry_first_seconds": 0.05,
    "retry_max_seconds": 0.5,
    "idle_checkpoint_seconds": 0.1,
}
"""Settings that make a test wait less."""


class Erp:
    """The ERP database, the control database, and the daemon's configuration between them.

    `away`: what a session raises when the source is not there. `verifiable`: by `verify`.
    `asks`: what is said on the connection that reads the log.
    """

    away: type[Exception] = psycopg.OperationalError
    verifiable = True
    asks = b"START_REPLICATION"

    def __init__(self, source: Database, target: ControlDatabase, folder: Path) -> None:
        self.source = source
        self.control = target
        self.slot = f"cdc_{source.name}"
        self.configuration = folder / "cdc-daemon.yaml"
        self.folder = folder
        self.reached = {"source": source.dsn, "target": target.dsn}
        self.more: dict[str, dict[str, object]] = {"source": {}, "target": {}}
        self.others: dict[str, object] = {}  # more sources
        self.same = dict(SAME)
        self._logs = (folder / f"daemon-{n}.log" for n in itertools.count(1))
        self.configure()

    @property
    def random_changes(self) -> tuple[str, ...]:
        """What a writer does, one row each."""
        return CHANGES

    @property
    def target(self) -> Database:
        """The control database; what is asked of it here reads the same on every kind."""
        return cast(Database, self.control)

    @property
    def kind(self) -> ControlKind:
        """The control database in the words of its kind."""
        return kind_of(self.control)

    @property
    def embedded(self) -> SqliteDatabase | None:
        """The control database where it is a file."""
        return self.control if isinstance(self.control, SqliteDatabase) else None

    def lead(self, end: str, port: int) -> None:
        """Another port on loopback leads to "source" or "target", once it is configured."""
        if end == "source":
            self.reached[end] = make_conninfo(self.source.dsn, host="127.0.0.1", port=port)
        else:
            self.reached[end], more = self.kind.through(port)
            self.more[end] = {**self.more[end], **more}

    def _source(self) -> dict[str, object]:
        """The source in the configuration."""
        return {
            "kind": "postgres",
            "dsn": self.reached["source"],
            "slot": self.slot,
            "publication": "cdc_erp",
        }

    def configure(self, mappings: str = MAPPINGS, **settings: object) -> Path:
        """Write the configuration; `settings` go into its section `daemon`.

        `reached` and `more` say how the daemon gets to both ends, where not as the tests do.
        """
        daemon = "\n".join(f"{name}: {value}" for name, value in {**QUICK, **settings}.items())
        source = self._source() | self.more["source"]
        target = {"url": self.reached["target"]} | self.more["target"]
        sources = json.dumps({"erp": source, **self.others})
        head = f"sources: {sources}\ntarget: {json.dumps(target)}\n"
        text = f"{head}daemon:\n{indent(daemon, '  ')}\n{mappings}"
        self.configuration.write_text(text, "utf-8")
        self.configuration.chmod(0o600)
        return self.configuration

    def set_up(self) -> Self:
        """Create the tables, publish them, and apply the configuration to the target."""
        self.source.execute(TABLES)
        self.source.execute(PUBLICATION)
        self.apply()
        return self

    def map_also(self, tables: str, published: str, mappings: str) -> None:
        """More tables in the source, published and mapped beside the others."""
        self.source.execute(tables)
        self.source.execute(f"ALTER PUBLICATION cdc_erp ADD TABLE {published}")
        self.configure(mappings)
        self.apply()

    def apply(self) -> None:
        """`cdc-daemon apply`."""
        done = invoke("apply", "--yes", "--config", str(self.configuration))
        assert done.exit_code == 0, done.output

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Any command of the daemon, as a process of its own."""
        return call(*arguments, "--config", str(self.configuration))

    def ask(self, *arguments: str) -> Result:
        """Any command that ends soon, inside this process."""
        return invoke(*arguments, "--config", str(self.configuration))

    def kept_there(self) -> list[tuple[Any, ...]]:
        """What the source keeps for its reader: the slot and its position."""
        return self.source.query(
            "SELECT slot_name, confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = %s",
            self.slot,
        )

    def retry_all(self) -> None:
        """`cdc-daemon failures retry --all`; everything parked must apply now."""
        done = self.ask("failures", "retry", "--all", "--yes")
        assert done.exit_code == 0, done.output

    # --- the daemon -----------------------------------------------------------------------------

    def daemon(self, failpoint: str | None = None, **how: Any) -> RealDaemon:
        """The daemon over this configuration; a context manager. `how`: as for `RealDaemon`."""
        return RealDaemon(self.configuration, next(self._logs), failpoint=failpoint, **how)

    def crash(self, failpoint: str, seconds: float = 60.0) -> None:
        """Run the daemon until its worker dies at that failpoint; nothing of it stays."""
        with self.daemon(failpoint) as daemon:
            daemon.worker_died(seconds)
            daemon.kill()

    @contextmanager
    def streaming(self, failpoint: str | None = None, **how: Any) -> Iterator[RealDaemon]:
        """The daemon from the moment on that its checkpoint says streaming."""
        with self.daemon(failpoint, **how) as daemon:
            self.wait_streaming(daemon)
            yield daemon

    @contextmanager
    def worker(self, *, streams: bool = True) -> Iterator[Meter]:
        """The pipeline's worker inside this process, streaming: for tests of what comes after."""
        configuration = load([self.configuration], environ={})
        meter, stopping = Meter("erp", mapping_names(configuration.mappings)), Stopping(5.0)
        codes: list[int] = []
        worker = Worker(configuration, "erp", meter, stopping)
        thread = threading.Thread(target=lambda: codes.append(worker.run()), daemon=True)
        thread.start()
        try:
            until(lambda: meter.status().position or not streams, what="it streams")
            yield meter
        finally:
            stopping.ask()
            thread.join(60)
        assert codes == [0]

    def wait_streaming(self, daemon: RealDaemon) -> None:
        """Until the first copy is done."""
        daemon.said("streaming", seconds=90)

    def caught_up(self, daemon: RealDaemon | None = None, seconds: float = 60.0) -> None:
        """Until what the source has written by now is in the control database."""
        passed = self._end_of_log()

        def reached() -> bool:
            if daemon is not None and not daemon.running:
                raise AssertionError(f"the daemon ended\n{daemon.log}")
            found = self.target.query(
                "SELECT position FROM cdc.checkpoint WHERE phase = 'streaming' AND pipeline = 'erp'"
            )
            return bool(found) and passed(found[0][0])

        try:
            until(reached, seconds=seconds, what="the checkpoint reaches the source's position")
        except AssertionError as error:
            log = daemon.log if daemon is not None else ""
            raise AssertionError(f"{error}\n{log}") from None

    def _end_of_log(self) -> Callable[[str], bool]:
        """Whether a checkpoint's position is past where the source's log ends now."""
        ((end,),) = self.source.query("SELECT pg_current_wal_insert_lsn()::text")
        self.source.execute("SELECT pg_logical_emit_message(true, 'test', 'wake')")
        return lambda position: parse_lsn(position) >= parse_lsn(end)

    def settled(self) -> None:
        """The proof after a fault: the daemon started again, the source idle, nothing differs."""
        with self.streaming() as daemon:
            self.healed(daemon)
            assert daemon.stop() == 0, daemon.log
        self.agrees()

    def healed(self, daemon: RealDaemon, seconds: float = 60.0) -> None:
        """The same proof with the daemon that met the fault: it has gone on by itself."""
        self.caught_up(daemon, seconds)
        daemon.shows("streaming", "idle")
        self.agrees()

    # --- the proof ------------------------------------------------------------------------------

    def agrees(self) -> None:
        """Content, counters and failure queue are what the source says; nothing is parked."""
        assert self.parked() == []
        self.same_content()
        self.same_counters()

    def agrees_after_copy(self) -> None:
        """As `agrees`, where the journal was written before the first copy already."""
        assert self.parked() == []
        self.same_content()

    def same_content(self) -> None:
        """Every entity holds exactly the source's rows."""
        for entity, (there, here) in self.same.items():
            self.same_rows(entity, there, here)

    def same_rows(self, what: str, there: str, here: str) -> None:
        """A query of the source and one of the control database give the same rows."""
        wanted, found = self._hashes(there, here)
        assert found == wanted, f"{what}: {self._difference(there, here)}"

    @property
    def alike(self) -> bool:
        """Whether both sides are PostgreSQL, which hashes the rows itself."""
        return self.kind.hashes

    def _hashes(self, there: str, here: str) -> tuple[object, object]:
        """Content hashes of both sides; of texts where they cannot make the same one."""
        if self.alike:
            return self.source.query(HASH.format(there)), self.target.query(HASH.format(here))
        return _hash(self.source.query(there)), _hash(self.target.query(here))

    def same_counters(self) -> None:
        """Each committed transaction, and each change of a mapped table, was counted once."""
        wanted = self.source.query("SELECT count(*), coalesce(sum(changes), 0) FROM journal")
        found = self.target.query(
            "SELECT transactions, changes FROM cdc.checkpoint WHERE pipeline = 'erp'"
        )
        assert found == wanted, "transactions and changes in the checkpoint, and in the journal"

    def parked(self) -> list[tuple[Any, ...]]:
        """Error code, operation and state of what stands in the failure queue."""
        return self.target.query(
            "SELECT error_code, operation, state FROM cdc.failure"
            " WHERE state = 'parked' ORDER BY id"
        )

    def references(self) -> int:
        """How many source rows the reference tables know."""
        found = self.kind.references()
        assert found, "no mapping keeps references"
        return sum(found)

    def checkpoint(self) -> dict[str, Any]:
        """The checkpoint row."""
        return self.kind.checkpoint()

    def _difference(self, there: str, here: str) -> str:
        wanted = {canonical(row) for row in self.source.query(there)}
        found = {canonical(row) for row in self.target.query(here)}
        missing, surplus = sorted(wanted - found)[:5], sorted(found - wanted)[:5]
        return f"missing {missing}, surplus {surplus}"

    # --- writing --------------------------------------------------------------------------------

    def session(self) -> Any:
        """A connection to the source; its context is a transaction and ends it too."""
        return psycopg.connect(self.source.dsn)

    def series(self, first: int, last: int) -> str:
        """The numbers from first to last as a table's column n."""
        return f"generate_series({first}, {last}) n"

    def commit(self, *statements: str) -> int:
        """One source transaction, noted in the journal; how many rows it changed."""
        with self.session() as connection:
            changes = sum(int(connection.execute(text.encode()).rowcount) for text in statements)
            connection.execute(b"INSERT INTO journal (changes) VALUES (%s)", (changes,))
        return changes

    def changed(self, changes: int, *statements: str) -> None:
        """One source transaction whose statements do not tell how many rows they change."""
        with self.session() as connection:
            for text in statements:
                connection.execute(text.encode())
            connection.execute(b"INSERT INTO journal (changes) VALUES (%s)", (changes,))

    def insert_materials(self, first: int, count: int) -> int:
        """One source transaction that inserts so many materials."""
        return self.commit(
            "INSERT INTO t_material (fid, fnumber, fname, funit, fprice, fremark)"
            " SELECT n, 'M' || n || '.0', 'Material ' || n, 'PCS', n,"
            f" 'r' || n FROM {self.series(first, first + count - 1)}"
        )

    def working(self, daemon: RealDaemon | None = None, seconds: float = 30.0) -> None:
        """Until the worker has a transaction open in which it has written."""
        self._until(lambda: self.kind.working(daemon), "it works", daemon, seconds)

    def waiting_for_lock(self, daemon: RealDaemon | None = None, seconds: float = 30.0) -> None:
        """Until the worker waits for somebody's lock."""
        self._until(lambda: self.kind.waits_for_lock(daemon), "it waits", daemon, seconds)

    def committing(self, wait_event: str, daemon: RealDaemon | None = None) -> None:
        """Until the worker's COMMIT waits for that event."""
        self._until(lambda: self.kind.waits_for(wait_event), wait_event, daemon, 30.0)

    def _until(
        self, done: Callable[[], bool], what: str, daemon: RealDaemon | None, seconds: float
    ) -> None:
        try:
            until(done, seconds=seconds, what=what)
        except AssertionError as error:
            log = daemon.log if daemon is not None else ""
            raise AssertionError(f"{error}\n{log}") from None

    def locked(self, table: str) -> AbstractContextManager[None]:
        """Somebody holds that table of the control database, so that nobody writes to it."""
        return self.kind.locked(table)


def _hash(rows: list[tuple[Any, ...]]) -> str:
    return hashlib.sha256("\n".join(sorted(map(canonical, rows))).encode()).hexdigest()


def canonical(row: tuple[Any, ...]) -> str:
    """One text for a row, however its database tells a number."""
    return repr(tuple(_plain(value) for value in row))


def _plain(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]+\.[0-9]{4}", value):
        value = Decimal(value)
    return f"{value.normalize():f}" if isinstance(value, Decimal) else value


class Writer:
    """Random transactions in a thread of its own, until its context ends. Seeded.

    It survives the death of the source: it connects again and goes on. `pause` is the longest
    rest between two transactions.
    """

    ROWS = 60

    def __init__(self, erp: Erp, seed: int, *, pause: float = 0.02, large: int = 1500) -> None:
        self._erp = erp
        self._random = random.Random(seed)
        self._pause = pause
        self._large = large
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self.committed = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "the writer did not end"
        if error is None and self._failure is not None:
            raise self._failure

    def wrote(self, transactions: int, seconds: float = 60.0) -> None:
        """Until it has committed so many more."""
        goal = self.committed + transactions

        def reached() -> bool:
            if self._failure is not None:
                raise self._failure
            return self.committed >= goal

        until(reached, seconds=seconds, what=f"{transactions} more transactions")

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    self._write()
                except self._erp.away:
                    self._stop.wait(0.05)  # the source is away
        except BaseException as error:  # noqa: BLE001 - raised again in the test's thread
            self._failure = error

    def _write(self) -> None:
        with self._erp.session() as connection:
            while not self._stop.is_set():
                self._transaction(connection)
                self._stop.wait(self._random.uniform(0, self._pause))

    def _transaction(self, connection: Any) -> None:
        changes = 0 if self._random.randrange(30) else self._bulk(connection)
        for _ in range(self._random.randint(1, 8)):
            statement, params = self._change()
            changes += connection.execute(statement.encode(), params).rowcount
        if not changes:
            connection.rollback()
            return
        connection.execute(b"INSERT INTO journal (changes) VALUES (%s)", (changes,))
        connection.commit()
        self.committed += 1

    def _bulk(self, connection: Any) -> int:
        """Many rows that come, or all of them that go."""
        gone = int(connection.execute(b"DELETE FROM t_material WHERE fid > 100000").rowcount)
        if gone:
            return gone
        many = self._erp.series(100_001, 100_000 + self._large)
        text = (
            f"INSERT INTO t_material SELECT n, 'M' || n || '.0', 'many', 'KG', n, NULL FROM {many}"
        )
        return int(connection.execute(text.encode()).rowcount)

    def _change(self) -> tuple[str, dict[str, object]]:
        draw = self._random
        params: dict[str, object] = {
            "fid": draw.randint(1, self.ROWS),
            "other": draw.randint(1, self.ROWS),
            "text": f"text {draw.randint(0, 999)} \\t\t\n\\N 物料",
            "suffix": draw.randint(0, 2),
            "amount": draw.randint(-10_000, 10_000_000) / 100,
            "unit": draw.choice(["PCS", "KG", None]),
            "length": draw.choice([0, 10, 3000]),
        }
        return draw.choice(self._erp.random_changes), params


CHANGES: Final = (
    "INSERT INTO t_customer VALUES (%(fid)s, 'C' || %(fid)s || '.0', %(text)s)"
    " ON CONFLICT DO NOTHING",
    "UPDATE t_customer SET fname = %(text)s WHERE fid = %(fid)s",
    "UPDATE t_customer SET fnumber = 'C' || fid || '.' || %(suffix)s WHERE fid = %(fid)s",
    "DELETE FROM t_customer c WHERE fid = %(fid)s"
    " AND NOT EXISTS (SELECT FROM t_order o WHERE o.fcustid = c.fid)",
    "INSERT INTO t_order SELECT %(other)s, 'O' || %(other)s, fid, %(amount)s FROM t_customer"
    " WHERE fid = %(fid)s ON CONFLICT DO NOTHING",
    "UPDATE t_order SET famount = %(amount)s WHERE fid = %(fid)s",
    "UPDATE t_order SET fcustid = c.fid FROM t_customer c"
    " WHERE t_order.fid = %(fid)s AND c.fid = %(other)s",
    "DELETE FROM t_order WHERE fid = %(fid)s",
    "INSERT INTO t_material VALUES (%(fid)s, 'M' || %(fid)s || '.' || %(suffix)s, %(text)s,"
    " %(unit)s, %(amount)s, repeat('r', %(length)s)) ON CONFLICT DO NOTHING",
    "UPDATE t_material SET fprice = %(amount)s WHERE fid = %(fid)s",
    "UPDATE t_material SET fremark = repeat('u', %(length)s) WHERE fid = %(fid)s",
    "UPDATE t_material SET fnumber = 'M' || fid || '.' || %(suffix)s WHERE fid = %(fid)s",
    "DELETE FROM t_material WHERE fid = %(fid)s",
)
"""One row each; a statement that finds no row changes nothing, so no state need be remembered."""


def survive_kills(erp: Erp, writer: Writer, draw: random.Random, kills: int) -> int:
    """Kill the daemon at random moments, whole or only its worker; how often it was done.

    A moment is a number of transactions that the writer has committed since the worker began to
    stream, or since it was started.
    """
    done = 0
    while done < kills:
        with erp.daemon() as daemon:
            said = {"streaming": 0, "worker started": 0}
            for _ in range(draw.randint(1, 5)):
                event = draw.choices([*said], (4, 1))[0]
                daemon.said(event, times=said[event] + 1, seconds=120)
                writer.wrote(draw.randint(1, 40))
                daemon.kill_worker()
                said = {event: len(daemon.events(event)) for event in said}
                done += 1
            writer.wrote(draw.choice([0, 1, 40]))
            daemon.kill()
            done += 1
    return done
