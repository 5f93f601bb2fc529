"""A small HR database on MySQL or MariaDB, mapped to entities, and its pipeline inside the test."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from click.testing import Result

from cdc_daemon.build import mapping_names
from cdc_daemon.config.configuration import Configuration
from cdc_daemon.config.load import load
from cdc_daemon.engine.meter import Meter
from cdc_daemon.engine.reading import Stopping
from cdc_daemon.worker import Worker
from tests.support.cli import invoke
from tests.support.databases import Database
from tests.support.erp import QUICK
from tests.support.mysql_sources import Schema
from tests.support.waiting import until

TABLES: Final = """
    CREATE TABLE department (
        id int PRIMARY KEY, code varchar(20) CHARACTER SET latin1 COLLATE latin1_swedish_ci,
        name varchar(80) CHARACTER SET latin1, status char(1) NOT NULL) ENGINE = InnoDB;
    CREATE TABLE employee (
        id bigint unsigned PRIMARY KEY, number varchar(20) CHARACTER SET utf8mb4,
        name varchar(80) CHARACTER SET utf8mb4, department int, born date, left_on date,
        hired datetime(3), pay decimal(12,2), rate double, remark text CHARACTER SET gbk
    ) ENGINE = InnoDB;
    CREATE TABLE grade (
        country char(2), level decimal(6,3), title varchar(40), status char(1) NOT NULL,
        PRIMARY KEY (country, level)) ENGINE = InnoDB
"""
MAPPINGS: Final = """
entities:
  department:
    key: [code]
    attributes: {code: string(20), name: string(80)}
  employee:
    key: [number]
    attributes:
      number: string(20)
      name: {type: string(20), required: true}
      department_code: {type: string(20), references: department}
      born: date
      left_on: date
      hired: timestamp
      pay: decimal(12,2)
      rate: double
      remark: text
  grade:
    key: [country, level]
    attributes: {country: string(2), level: "decimal(8,4)", title: string(40)}
mappings:
  - from: hr.%s.department
    to: department
    where: "status = 'C'"
    key: {code: code}
    fields: {name: name}
    on_delete: soft
  - from: hr.%s.employee
    to: employee
    key: {number: number}
    fields:
      name: name
      department_code: {ref: department, from: hr.%s.department}
      born: {from: born, invalid: "null"}
      left_on: left_on
      hired: hired
      pay: pay
      rate: rate
      remark: remark
    on_delete: hard
  - from: hr.%s.grade
    to: grade
    where: "status = 'C'"
    key: {country: country, level: level}
    fields: {title: title}
    on_delete: hard
    on_leave: ignore
"""


class Hr:
    """The HR database, the control database, and the daemon's configuration between them."""

    def __init__(self, source: Schema, target: Database | Schema, folder: Path) -> None:
        self.source = source
        self.target = target
        self.file = folder / "cdc-daemon.yaml"
        self.ledger = "cdc_" if isinstance(target, Schema) else "cdc."
        server = {name: source.server.address[name] for name in ("host", "port", "user")}
        daemon = {**QUICK, "idle_checkpoint_seconds": 0.1}
        head = {
            "sources": {"hr": {"kind": "mysql", **server}},
            "target": {"url": _url(target, "hr_daemon")},
            "daemon": daemon,
        }
        text = "".join(f"{name}: {json.dumps(value)}\n" for name, value in head.items())
        self.file.write_text(text + MAPPINGS.replace("%s", source.name), "utf-8")
        self.file.chmod(0o600)
        source.execute(TABLES)

    def apply(self) -> None:
        """`cdc-daemon apply`, as superuser of the control database."""
        if isinstance(self.target, Schema):
            self.target.execute("CREATE USER IF NOT EXISTS hr_daemon@'%%'")
        done = self.ask("apply", "--yes", "--admin-dsn", _url(self.target, "root"))
        assert done.exit_code == 0, done.output

    @property
    def configuration(self) -> Configuration:
        """As the daemon reads it."""
        return load([self.file], environ={})

    def mapping(self, table: str) -> str:
        """The name of a table's mapping."""
        return f"hr.{table}.{table}"

    def change(self, statements: str) -> None:
        """Change the source; zero dates are let in."""
        self.source.execute(f"SET sql_mode = ''; {statements}")

    def spoil(self, statements: str) -> None:
        """Change the control database by hand."""
        self.target.execute(statements)

    def ask(self, *arguments: str) -> Result:
        """A command of the daemon."""
        return invoke(*arguments, "--config", str(self.file))

    def asked(self, *arguments: str, code: int = 0) -> Any:
        """The JSON that a command prints."""
        done = self.ask(*arguments, "-o", "json")
        assert done.exit_code == code, done.output
        return json.loads(done.stdout)

    @contextmanager
    def worker(self) -> Iterator[None]:
        """The pipeline's worker inside this process, streaming."""
        configuration = self.configuration
        meter, stopping = Meter("hr", mapping_names(configuration.mappings)), Stopping(5.0)
        codes: list[int] = []
        worker = Worker(configuration, "hr", meter, stopping)
        thread = threading.Thread(target=lambda: codes.append(worker.run()), daemon=True)
        thread.start()
        try:
            until(lambda: codes or meter.status().position, what="it streams")
            yield
        finally:
            stopping.ask()
            thread.join(60)
        assert codes == [0]

    def parked(self) -> dict[str, int]:
        """How many changes stand in the failure queue, by error code."""
        rows = self.target.query(
            f"SELECT error_code, count(*) FROM {self.ledger}failure WHERE state = 'parked'"
            " GROUP BY error_code"
        )
        return {str(code): int(number) for code, number in rows}

    def forget_failures(self) -> None:
        """Empty the failure queue by hand."""
        self.spoil(f"DELETE FROM {self.ledger}failure_lane; DELETE FROM {self.ledger}failure")


def _url(target: Database | Schema, user: str) -> str:
    if isinstance(target, Database):
        return target.dsn
    address = target.server.address
    return f"mysql://{user}@{address['host']}:{address['port']}/{target.name}"
