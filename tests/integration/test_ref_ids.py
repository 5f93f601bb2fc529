"""A ``ref`` whose value cannot be an id parks its row; the pipeline goes on, ``verify`` agrees."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdc_daemon.verify import verify
from tests.conftest import DatabaseFactory
from tests.support.pipelines import System
from tests.support.waiting import until

YAML = """
    entities:
      customer: {key: [code], attributes: {code: string(10)}}
      sales_order:
        key: [number]
        attributes: {number: string(10), customer: string(10)}
    mappings:
      - {from: erp.public.t_customer, to: customer, key: {code: fcode}}
      - from: erp.public.t_order
        to: sales_order
        key: {number: fnumber}
        fields: {customer: {ref: fcustomer, from: erp.public.t_customer}}
"""


@pytest.mark.parametrize(
    "meant, held, good, bad",
    [
        ("integer", "varchar(20)", "007", ("", "A12", "9999999999")),
        ("integer", "bigint", "7", ("2147483648", "-9223372036854775808")),
        ("integer", "numeric(12,2)", "7.00", ("7.50", "9999999999")),
        ("numeric(12,2)", "text", "7", ("x", "7.001")),
        ("char(5)", "varchar(9)", "7", ("123456",)),
        ("smallint", "integer", "7", ("32768",)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_only_the_row_at_fault_parks(
    database_factory: DatabaseFactory,
    tmp_path: Path,
    meant: str,
    held: str,
    good: str,
    bad: tuple[str, ...],
) -> None:
    """In the first copy and in the log, before the control database sees the value."""
    source = database_factory()
    source.execute(f"CREATE TABLE t_customer (fid {meant} PRIMARY KEY, fcode text NOT NULL)")
    source.execute(f"CREATE TABLE t_order (fnumber text PRIMARY KEY, fcustomer {held})")
    source.execute("INSERT INTO t_customer VALUES (7, 'C7')")
    source.execute("INSERT INTO t_order VALUES ('copied', %s), ('wrong', %s)", good, bad[0])
    system = System(source, database_factory(), tmp_path, YAML)
    system.publish("t_customer", "t_order")
    system.apply()
    with system.running() as running:
        source.execute("INSERT INTO t_order VALUES ('streamed', %s)", good)
        for n, value in enumerate(bad):
            source.execute("INSERT INTO t_order VALUES (%s, %s)", f"bad{n}", value)
        system.caught_up(running)
        expected = [("copied", "C7"), ("streamed", "C7")]
        until(
            lambda: system.rows("SELECT number, customer FROM sales_order ORDER BY 1") == expected,
            seconds=10,
            what="the good rows are there",
        )
        parked = system.rows("SELECT error_code FROM cdc.failure WHERE state = 'parked'")
        assert parked == [("reference_unresolved",)] * (1 + len(bad))
        assert running.code is None
        report = verify(system.configuration, timeout=10)
        assert report.equal
        assert sum(mapping.parked for mapping in report.mappings) == 1 + len(bad)
