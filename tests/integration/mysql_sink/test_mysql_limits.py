"""The sink against a control database's limits: of time, of a packet, of a setting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cdc_daemon import build
from cdc_daemon.demo.mysql_family import FamilyServer
from cdc_daemon.engine.meter import Meter
from cdc_daemon.model.cascades import Child
from cdc_daemon.model.changes import LEFT_OUT
from cdc_daemon.model.errors import Stop
from cdc_daemon.sinks.mysql import MysqlSink, children, session
from cdc_daemon.sinks.mysql.session import Result
from tests.contract.mysql_target import MysqlTarget
from tests.contract.test_sink_failures import A, parked
from tests.support.family import FamilySystem
from tests.support.mysql_database import MysqlDatabase
from tests.support.mysql_sources import schema_on

PACKET = 20_000
SMALL = f"SELECT VERSION(), {PACKET}, CONNECTION_ID(), DATABASE()"
"""What a session asks of a server whose packets are small."""


def digest(n: int) -> bytes:
    return n.to_bytes(16, "big")


@pytest.mark.parametrize("number", [1, 2])
def test_a_child_is_forgotten_by_its_key(target: MysqlTarget, sink: MysqlSink, number: int) -> None:
    """Not by a scan of all that are noted: MariaDB does that where a list has one pair."""
    noted = [Child(digest(n), digest(n), "[]") for n in range(1000)]
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


def test_what_no_packet_holds_is_left_out_of_a_parked_change(sink: MysqlSink) -> None:
    """The largest values first, and no more than must be; what is short, or a key, stays."""
    sink._live().longest = PACKET
    new = {"id": "1", "a": "x" * 30_000, "b": "y" * 9_000, "c": None, "d": "z" * 100}
    old = {**new, "a": "'" * 5_000}
    payload = {"operation": "update", "new": new, "old": old, "old_full": True}
    with sink.begin() as unit:
        unit.park([parked(A, payload=payload)])
    [found] = sink.failures()
    assert found.payload == {
        "operation": "update",
        "new": {**new, "a": {"invalid": "", "reason": LEFT_OUT}},
        "old": {name: value for name, value in old.items() if name != "b"},
        "old_full": True,
    }
    assert "; left out here: a, b; raise max_allowed_packet" in found.error_message
    assert sink.lanes() == {A: "erp.material"}
    deleted = {"operation": "delete", "old": {"id": "x" * 30_000}, "old_full": False}
    with pytest.raises(Stop, match="t_material cannot be parked") as caught, sink.begin() as unit:
        unit.park([parked(A, payload=deleted)])
    assert "max_allowed_packet" in (caught.value.hint or "")
    assert len(sink.failures()) == 1


ITEMS = """
    entities:
      item: {{key: [id], attributes: {{id: integer, a: text, b: text}}}}
    mappings:
      - from: hr.{schema}.item
        to: item
        key: {{id: id}}
        fields: {{a: a, b: b}}
        on_delete: hard
"""


@pytest.fixture
def items(mariadb: FamilyServer, family: FamilyServer, tmp_path: Path) -> Iterator[FamilySystem]:
    """From a table with one row on MariaDB to an entity."""
    with schema_on(mariadb) as schema, schema_on(family) as there:
        schema.execute("CREATE TABLE item (id int PRIMARY KEY, a longtext, b longtext)")
        schema.execute("INSERT INTO item VALUES (1, 'small', 'small')")
        control = MysqlDatabase(server=family, name=there.name)
        made = FamilySystem(schema, control, tmp_path, ITEMS.format(schema=schema.name))
        made.apply()
        yield made


def test_a_retry_reads_again_what_was_left_out(
    items: FamilySystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row larger than a packet parks, and all behind it goes on; with larger packets it comes,
    whether the entity's row is there already or not."""
    rows = "SELECT id, LENGTH(a), b FROM item ORDER BY id"
    with monkeypatch.context() as patched, items.running() as running:
        patched.setattr(session, "_FACTS", SMALL)
        items.caught_up(running)
        items.schema.execute("UPDATE item SET a = REPEAT('x', 30000) WHERE id = 1")
        items.schema.execute("INSERT INTO item VALUES (2, REPEAT('y', 30000), 'b'), (3, 'z', 'b')")
        items.schema.execute("UPDATE item SET b = 'new' WHERE id = 1")
        items.caught_up(running)
    told = items.target.query("SELECT error_code, error_message FROM cdc.failure ORDER BY id")
    assert [code for code, _ in told] == ["sqlstate_54000", "sqlstate_54000", "waiting"]
    assert all("max_allowed_packet" in words for _, words in told)
    assert [row[0] for row in items.target.query(rows)] == [1, 3]
    with closing(build.open_pipeline(items.configuration, "hr", Meter("hr"))) as parts:
        parts.sink.acquire()
        assert len(parts.repairs.retry(None, actor="ann").applied) == 3
    assert items.target.query(rows) == items.schema.query(rows)
