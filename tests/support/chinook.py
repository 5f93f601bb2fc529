"""The Chinook music shop: its data loaded, its entities as plain SQL says them, its real daemon.

The data are no part of the project: CDC_CHINOOK names the script or its folder, else it is looked
for beside the project. Without it the tests skip.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from pprint import pformat
from typing import Any

import pytest

from cdc_daemon import provision
from cdc_daemon.config.configuration import Configuration
from cdc_daemon.config.load import load
from cdc_daemon.demo.mysql_family import FamilyServer
from cdc_daemon.demo.processes import children
from tests.support.cli import COMMAND
from tests.support.databases import Database
from tests.support.waiting import until

SCRIPT = "Chinook_PostgreSql.sql"
ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "tests" / "data" / "chinook" / "cdc.yaml"
RECONNECT = "\\c chinook;"
MYSQL_SCRIPT = "Chinook_MySql.sql"
MYSQL_RECONNECT = "USE `Chinook`;"

Row = tuple[Any, ...]
Rows = dict[tuple[Any, ...], Row]

WIDE_TEXT = """
    ALTER TABLE customer ADD COLUMN notes text;
    ALTER TABLE track ADD COLUMN lyrics text;
    ALTER TABLE invoice_line ADD COLUMN remark text;
    UPDATE track SET lyrics = (
        SELECT string_agg(md5(track_id || '-' || n), '') FROM generate_series(1, 100) n)
     WHERE track_id % 20 = 0;
"""
"""Chinook has no text that PostgreSQL would store out of line; these columns have."""

PUBLICATION = """
    CREATE PUBLICATION chinook FOR TABLE employee, customer, track, invoice, invoice_line, album
"""
"""With a table that nobody maps."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """One entity's living rows: ``source`` in the shop's SQL, ``target`` in the control database's;
    the first ``key`` columns identify a row."""

    source: str
    target: str
    key: int = 1


EXPECTED = {
    "employee": Expectation(
        """SELECT lower(split_part(e.email, '@', 1)),
                  e.first_name || ' ' || e.last_name, nullif(e.title, ' '),
                  lower(split_part(m.email, '@', 1)),
                  e.birth_date::text, e.hire_date::date, nullif(e.city, ' '), nullif(e.email, ' ')
             FROM employee e LEFT JOIN employee m ON m.employee_id = e.reports_to""",
        "SELECT code, name, title, reports_to, born::text, hired, city, email FROM employee",
    ),
    "customer": Expectation(
        """SELECT c.email, c.first_name || ' ' || c.last_name, nullif(c.company, ' '),
                  nullif(c.address, ' '), nullif(c.city, ' '), nullif(c.state, ' '),
                  CASE c.country WHEN 'USA' THEN 'US' WHEN 'Canada' THEN 'CA'
                       WHEN 'Brazil' THEN 'BR' ELSE 'other' END,
                  nullif(c.postal_code, ' '), nullif(c.phone, ' '),
                  lower(split_part(e.email, '@', 1)), nullif(c.notes, ' ')
             FROM customer c LEFT JOIN employee e ON e.employee_id = c.support_rep_id""",
        """SELECT email, name, company, address, city, state, country, postal_code, phone,
                  support_rep, notes FROM customer WHERE deleted_at IS NULL""",
    ),
    "track": Expectation(
        """SELECT track_id, name, nullif(composer, ' '), round(milliseconds / 1000.0, 3), bytes,
                  unit_price, nullif(lyrics, ' ') FROM track""",
        "SELECT track_id, name, composer, seconds, bytes, price, lyrics FROM track",
    ),
    "invoice": Expectation(
        """SELECT i.invoice_id, c.email, i.invoice_date::text, nullif(i.billing_address, ' '),
                  nullif(i.billing_city, ' '), nullif(i.billing_country, ' '), i.total
             FROM invoice i JOIN customer c USING (customer_id)""",
        "SELECT invoice_no, customer, issued::text, address, city, country, total FROM invoice",
    ),
    "invoice_line": Expectation(
        """SELECT invoice_id, invoice_line_id, track_id, unit_price, quantity,
                  unit_price * quantity, nullif(remark, ' ')
             FROM invoice_line WHERE quantity > 0""",
        """SELECT invoice_no, line_no, track_id, unit_price, quantity, amount, remark
             FROM invoice_line""",
        key=2,
    ),
}


def script(name: str = SCRIPT) -> Path:
    """The data, or the test is skipped."""
    named = os.environ.get("CDC_CHINOOK")
    place = Path(named) if named else ROOT.parent / "shared" / "data" / "chinook"
    found = place / name if place.is_dir() else place.with_name(name)
    if not found.is_file():
        pytest.skip(f"no Chinook data: {found} is not there, CDC_CHINOOK may name it")
    return found


def statements_of(name: str, reconnect: str) -> str:
    """What a script does after it has reconnected to a database of its own."""
    _, found, statements = script(name).read_text("utf-8").partition(reconnect)
    assert found, f"{name} has no line {reconnect}"
    return statements


def load_mysql_shop(server: FamilyServer, database: str) -> None:
    """Fill an empty database of MariaDB or MySQL with the same rows, by names as `AlbumId`."""
    statements = statements_of(MYSQL_SCRIPT, MYSQL_RECONNECT)
    server.execute(statements, database=database)


def load_shop(database: Database) -> None:
    """Fill an empty database: what the script does after it has reconnected to its own."""
    database.execute(statements_of(SCRIPT, RECONNECT))
    database.execute(WIDE_TEXT)
    database.execute(PUBLICATION)


class Shop:
    """The shop, its control database, and the daemon between them."""

    def __init__(self, source: Database, target: Database, folder: Path) -> None:
        self.source = source
        self.target = target
        self.log = folder / "daemon.log"
        self.daemon: subprocess.Popen[bytes] | None = None
        load_shop(source)
        provision.apply_all(
            self.configuration,
            {
                "shop": self.configuration.sources["shop"].conninfo,
                "target": self.configuration.target.conninfo,
            },
        )

    @property
    def environment(self) -> dict[str, str]:
        """What the configuration's placeholders stand for."""
        return {"CHINOOK_SHOP": self.source.dsn, "CHINOOK_CONTROL": self.target.dsn}

    @cached_property
    def configuration(self) -> Configuration:
        """The configuration with these databases."""
        return load([CONFIG], environ=self.environment)

    # --- the daemon ---------------------------------------------------------------------------

    def start(self) -> None:
        """Start the real daemon: supervisor and worker, each a process of its own."""
        with self.log.open("ab") as log:
            self.daemon = subprocess.Popen(
                [*COMMAND, "run", "--config", str(CONFIG)],
                env={**os.environ, **self.environment, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the daemon; at the end it must drain and exit 0."""
        self.start()
        try:
            yield
            assert self.daemon is not None
            self.daemon.terminate()
            assert self.daemon.wait(60) == 0, self.end_of_log()
        finally:
            self.kill_all()

    def workers(self) -> list[int]:
        """The daemon's worker, once it has one."""
        return children(self.daemon.pid) if self.daemon is not None else []

    def kill_worker(self) -> None:
        """SIGKILL the worker; the supervisor starts another."""
        for pid in self.workers():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def kill_supervisor(self) -> None:
        """SIGKILL the supervisor; its worker finds itself alone."""
        assert self.daemon is not None
        self.daemon.kill()
        self.daemon.wait()

    def kill_all(self) -> None:
        """SIGKILL the supervisor and its worker."""
        if self.daemon is None:
            return
        self.daemon.send_signal(signal.SIGSTOP)  # or it would start another worker
        self.kill_worker()
        self.kill_supervisor()

    def end_of_log(self) -> str:
        """What the daemon said last."""
        return self.log.read_text(errors="replace")[-4000:]

    # --- where it stands ----------------------------------------------------------------------

    def checkpoint(self, columns: str) -> Row:
        """Columns of the checkpoint row; none before there is one."""
        rows = self.target.query(f"SELECT {columns} FROM cdc.checkpoint WHERE pipeline = 'shop'")
        return rows[0] if rows else ()

    def epoch(self) -> int:
        """Grows with each worker that takes over."""
        return int(self.checkpoint("epoch")[0])

    def wait_for_snapshot(self) -> None:
        """Until the first copy is done."""

        def done() -> bool:
            assert self.daemon is not None
            assert self.daemon.poll() is None, self.end_of_log()
            return self.checkpoint("phase") == ("streaming",)

        until(done, seconds=60, what="the snapshot")

    def caught_up(self) -> None:
        """Until what the shop has committed by now is in the control database."""
        (position,) = self.source.query("SELECT pg_current_wal_insert_lsn()::text")[0]
        self.source.execute("SELECT pg_logical_emit_message(true, 'test', 'wake')")

        def reached() -> bool:
            assert self.daemon is not None
            assert self.daemon.poll() is None, self.end_of_log()
            return self.checkpoint(f"position::pg_lsn >= '{position}'::pg_lsn") == (True,)

        until(reached, seconds=120, what=f"the checkpoint reaches {position}")

    # --- what must hold -----------------------------------------------------------------------

    def assert_equal(self) -> None:
        """Every entity holds exactly the rows that SQL on the shop says; nothing is parked."""
        parked = self.target.query(
            "SELECT id, mapping, operation, error_code, error_message, left(payload::text, 300)"
            " FROM cdc.failure WHERE state = 'parked' ORDER BY error_code = 'waiting', id LIMIT 5"
        )
        found = {
            entity: differences(
                _by_key(self.source.query(expected.source), expected.key),
                _by_key(self.target.query(expected.target), expected.key),
            )
            for entity, expected in EXPECTED.items()
        }
        wrong = {entity: texts for entity, texts in found.items() if texts}
        assert not parked, pformat({"parked": parked, **wrong}, width=150)
        assert not wrong, pformat(wrong, width=150)

    def tombstones(self) -> set[str]:
        """Customers that were deleted softly and are still there."""
        rows = self.target.query("SELECT email FROM customer WHERE deleted_at IS NOT NULL")
        return {row[0] for row in rows}


def _by_key(rows: list[Row], key: int) -> Rows:
    found = {row[:key]: row[key:] for row in rows}
    assert len(found) == len(rows), "two rows with one key"
    return found


def differences(expected: Rows, found: Rows, most: int = 5) -> list[str]:
    """The first differences in words; none if both are equal."""
    texts = [f"missing {key}" for key in expected.keys() - found.keys()]
    texts += [f"extra {key}" for key in found.keys() - expected.keys()]
    texts += [
        f"{key}: {_shortened(expected[key])} expected, {_shortened(found[key])} found"
        for key in expected.keys() & found.keys()
        if expected[key] != found[key]
    ]
    return texts[:most] + ([f"{len(texts) - most} more"] if len(texts) > most else [])


def _shortened(row: Row) -> Row:
    return tuple(
        f"{value[:20]}... ({len(value)})" if isinstance(value, str) and len(value) > 40 else value
        for value in row
    )
