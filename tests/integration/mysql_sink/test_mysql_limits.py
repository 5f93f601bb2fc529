"""Statements of the sink against a control database's limits: of time, of a packet, of a setting."""

from __future__ import annotations

import pytest

from cdc_daemon.sinks.mysql import MysqlSink, children
from cdc_daemon.sinks.mysql.session import Result
from tests.contract.mysql_target import MysqlTarget


def digest(n: int) -> bytes:
    return n.to_bytes(16, "big")


@pytest.mark.parametrize("number", [1, 2])
def test_a_child_is_forgotten_by_its_key(
    target: MysqlTarget, sink: MysqlSink, number: int
) -> None:
    """Not by a scan of all that are noted: MariaDB does that where a list has one pair."""
    noted = [(digest(n), digest(n), "[]") for n in range(1000)]
    with sink.begin() as unit:
        unit.note_children("erp.line", [], noted)
    session, ways = sink._live(), list[bytes | None]()

    def explain(sql: str) -> Result:
        told = session.run(f"EXPLAIN {'' if session.mariadb else 'FORMAT=TRADITIONAL '}{sql}")
        ways.extend(told.rows[0])
        return told

    pairs = [(parent, own) for parent, own, _ in noted]
    children.note(explain, "erp", "erp.line", pairs[:number], [])
    assert b"range" in ways
    with sink.begin() as unit:
        unit.note_children("erp.line", pairs[:number], [])
    assert target.count("child_row") == 1000 - number
