"""The sink against a control database's limits: of time, of a packet, of a setting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from cdc_daemon import build
from cdc_daemon.demo.mysql_family import FamilyServer
from cdc_daemon.engine.meter import Meter
from cdc_daemon.model.cascades import Child
from cdc_daemon.model.changes import LEFT_OUT, Row
from cdc_daemon.model.effects import Delete, Key, Rename, Upsert
from cdc_daemon.model.errors import NotAdmitted, Stop
from cdc_daemon.model.findings import Verdict
from cdc_daemon.model.ports import Command
from cdc_daemon.sinks.mysql import MysqlSink, apply_plan, children, session, sweep
from cdc_daemon.sinks.mysql.session import Result
from tests.contract.mysql_target import MysqlTarget, conninfo_of
from tests.contract.shapes import CUSTOMERS, DELIVERIES, MATERIALS, ORDERS, REFERRED, UNITS
from tests.contract.test_sink_failures import IDENTITY, A, parked
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
    new = {"id": "1", "a": "x" * 30_000, "b": "y" * 8_000, "c": None, "d": "z" * 100}
    old = {**new, "a": "'" * 5_000}
    payload = {"operation": "update", "new": new, "old": old, "old_full": True}
    with sink.begin() as unit:
        unit.queue.park([parked(A, payload=payload)])
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
        unit.queue.park([parked(A, payload=deleted)])
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
def items(mariadb: FamilyServer, tmp_path: Path) -> Iterator[FamilySystem]:
    """From a table with one row to an entity, both on MariaDB."""
    with schema_on(mariadb) as schema, schema_on(mariadb) as there:
        schema.execute("CREATE TABLE item (id int PRIMARY KEY, a longtext, b longtext)")
        schema.execute("INSERT INTO item VALUES (1, 'small', 'small')")
        control = MysqlDatabase(server=mariadb, name=there.name)
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
        retry = Command(id=1, pipeline="hr", verb="retry", arguments={}, actor="ann")
        done = parts.replay.turn(retry, hurried=False) or {}
        assert len(cast(list[int], done["applied"])) == 3
    assert items.target.query(rows) == items.schema.query(rows)


LONG = [b"%040d" % n for n in range(120)]
"""Keys that take more than the packet of the tests below."""


@pytest.fixture
def narrow(sink: MysqlSink) -> MysqlSink:
    """A sink whose server takes 4,000 bytes, less than many keys."""
    sink._live().longest = 4_000
    return sink


def test_references_are_looked_at_in_slices(target: MysqlTarget, narrow: MysqlSink) -> None:
    """Those that are broken are told, tombstones let go, and the rest is written."""
    named: list[Row] = [(code, b"n") for code in LONG]
    referring: list[Row] = [(b"%d" % n, code) for n, code in enumerate(LONG)]
    orders = Upsert(layout=ORDERS, rows=referring)
    with narrow.begin() as unit:
        assert unit.apply([orders]).counts
        assert unit.dangling([orders]) == {ORDERS.mapping: {row[:1] for row in referring}}
        unit.apply([Upsert(layout=CUSTOMERS, rows=named)])
        unit.apply([Upsert(layout=DELIVERIES, rows=referring)])
        assert unit.dangling([orders]) == {}
    keys: list[Key] = [(row[0] or b"",) for row in referring]  # type: ignore[misc]
    gone = Delete(layout=CUSTOMERS, keys=[(code,) for code in LONG], times=[])
    with narrow.begin() as unit:
        unit.apply([Delete(layout=DELIVERIES, keys=keys, times=[1] * len(keys))])
        unit.apply([Delete(layout=ORDERS, keys=keys, times=[]), gone])
        assert unit.dangling([gone]) == {}
    assert {row[1] for row, _ in target.tombstones(DELIVERIES).values()} == {None}


def test_renames_are_noted_in_slices(target: MysqlTarget, narrow: MysqlSink) -> None:
    """With tombstones in their way."""
    rows: list[Row] = [(code, None, None) for code in LONG]
    sources: list[Key] = [(b"%d" % n,) for n in range(len(LONG))]
    others: list[Key] = [(b"%d" % (n + 1000),) for n in range(len(LONG))]
    moved: list[Row] = [(b"x" + code[1:], None, None) for code in LONG]
    tombs: list[Key] = [(row[0],) for row in moved]  # type: ignore[misc]
    with narrow.begin() as unit:
        unit.apply([Upsert(layout=REFERRED, rows=rows, source_keys=sources)])
        unit.apply([Upsert(layout=MATERIALS, rows=moved)])
        unit.apply([Delete(layout=MATERIALS, keys=tombs, times=[1] * len(tombs))])
    pairs: list[tuple[Key, Row]] = [((c,), row) for c, row in zip(LONG, moved, strict=True)]
    step = Rename(layout=REFERRED, pairs=pairs, source_keys=others, old_source_keys=sources)
    with narrow.begin() as unit:
        unit.apply([step])
        assert len(unit.references(REFERRED, [*sources, *others])) == len(LONG)
    assert set(target.living(REFERRED)) == set(tombs)
    assert target.references(REFERRED) == dict(zip(others, tombs, strict=True))


def test_a_sweep_goes_around_what_it_holds_in_slices(
    target: MysqlTarget, narrow: MysqlSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many are held back: by rows that stay, and by others that are held themselves."""
    monkeypatch.setattr(sweep, "_PAGE", 100)
    units: list[Row] = [(b"b" + code[1:], code) for code in LONG]
    units += [(code, None) for code in LONG] + [(b"s" + code[1:], None) for code in LONG[:50]]
    staying: list[Row] = [(b"n%d" % n, row[0]) for n, row in enumerate(units[: len(LONG)])]
    with narrow.begin() as unit:
        unit.apply([Upsert(layout=UNITS, rows=units)])
    target.execute("UPDATE unit SET last_sync_time = '2000-01-01'")
    narrow.begin_generation("slot", IDENTITY)
    with narrow.begin() as unit:
        unit.apply([Upsert(layout=UNITS, rows=staying)])
    with narrow.begin() as unit:
        counts = unit.finish_snapshot([UNITS], IDENTITY, "1").counts
    held = 2 * len(LONG)
    assert counts == {(UNITS.mapping, "delete"): 50, (UNITS.mapping, "noop"): held}
    assert set(target.living(UNITS)) == {(row[0],) for row in [*units[:held], *staying]}


def test_children_are_noted_in_slices(target: MysqlTarget, narrow: MysqlSink) -> None:
    """And forgotten, and found, whatever is kept of them."""
    noted = [Child(digest(n), digest(n), "x" * 100) for n in range(100)]
    with narrow.begin() as unit:
        unit.note_children("erp.line", [], noted)
        assert len(unit.children([child.parent for child in noted], 99)) == 99
        unit.note_children("erp.line", [child[:2] for child in noted[:90]], [])
    assert target.count("child_row") == 10


def test_a_setting_that_is_refused_is_named(
    target: MysqlTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that answers is not said to be away, and nobody waits for it."""
    for name, value, number in (("no_such_setting", "1", 1193), ("unique_checks", "'x'", 1231)):
        with monkeypatch.context() as patched:
            patched.setitem(session._SETTINGS, name, value)
            with pytest.raises(NotAdmitted) as caught:
                target.sink().acquire()
        assert f"session setting {name} (error {number})" in str(caught.value)


def test_a_binary_log_of_statements_is_told_with_its_cure(target: MysqlTarget) -> None:
    """By the check, and by an apply to which the server says no."""
    with schema_on(target.server) as there:
        target.execute("SET GLOBAL binlog_format = 'STATEMENT'")
        try:
            found = {one.check.name: one for one in target.sink().examine()}["target.binlog"]
            with pytest.raises(Stop, match=r"STATEMENT.*\(error 1665\)") as caught:
                apply_plan(conninfo_of(target.server, there.name), {}, [])
        finally:
            target.execute("SET GLOBAL binlog_format = 'ROW'")
    assert found.check.refuses
    assert found.verdict is Verdict.PROBLEM
    for cure in (found.cure, caught.value.hint or ""):
        assert cure.startswith("SET GLOBAL binlog_format = ROW")
    assert {one.check.name: one for one in target.sink().examine()}["target.binlog"].what == "ROW"
