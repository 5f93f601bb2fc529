"""What plan shows and apply does on MySQL and MariaDB, and what only a person can put right."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from cdc_daemon.demo.mysql_family import FamilyServer
from cdc_daemon.model.effects import Layout, ReferenceTable
from cdc_daemon.model.entities import Attribute, Entity, EntityType, Kind
from cdc_daemon.model.errors import ConfigurationError
from cdc_daemon.model.findings import Verdict
from cdc_daemon.sinks.mysql import MysqlControl, MysqlSink, Plan, apply_plan, plan
from cdc_daemon.sinks.versions import LEDGER_VERSION
from tests.contract.mysql_target import conninfo_of
from tests.contract.shapes import CUSTOMER, MATERIAL, ORDER, _layout, string

ITEM = Entity(
    name="item",
    key=("code",),
    attributes=(
        Attribute(name="code", type=string(40), required=True),
        Attribute(name="long", type=string(3000)),
        Attribute(name="at", type=EntityType(Kind.TIMESTAMPTZ)),
        Attribute(name="customer", type=string(40), references="customer"),
    ),
    soft_delete=True,
    surrogate_id=True,
)
ENTITIES = {one.name: one for one in (CUSTOMER, ITEM)}
LAYOUTS: tuple[Layout, ...] = (
    replace(
        _layout(ITEM, soft=True),
        reference=ReferenceTable(
            name="reference_" + "x" * 60, columns=(("id", "bigint"), ("code", "text"))
        ),
    ),
)


class Base:
    """An empty database, planned and applied as an administrator."""

    def __init__(self, server: FamilyServer) -> None:
        self.server = server
        self.conninfo = conninfo_of(server, "planned")

    def plan(self, entities: dict[str, Entity] = ENTITIES, worker: str | None = None) -> Plan:
        return plan(self.conninfo, entities, LAYOUTS, worker=worker)

    def apply(self, entities: dict[str, Entity] = ENTITIES, worker: str | None = None) -> Plan:
        return apply_plan(self.conninfo, entities, LAYOUTS, worker=worker)

    def sql(self, statements: str) -> None:
        self.server.execute(statements, database="planned")

    def refused(self) -> dict[str, str]:
        """What is refused, and the cures."""
        with pytest.raises(ConfigurationError):
            self.apply()
        return {problem.what: problem.cure for problem in self.plan().refusals}


@pytest.fixture
def base(family: FamilyServer) -> Iterator[Base]:
    family.create_database("planned")
    yield Base(family)
    family.drop_database("planned")


def test_a_plan_is_carried_out_once_and_goes_on_where_it_broke(base: Base) -> None:
    """Each change commits by itself here; a half-made ledger is made whole."""
    planned = base.plan()
    assert planned.refusals == ()
    assert base.server.query("SHOW TABLES", database="planned") == []
    for change in planned.changes[:5]:
        base.sql(change.sql)
    done = base.apply()
    assert [one.description for one in done.changes] == [one.description for one in planned.changes]
    assert base.plan().changes == ()
    sink = MysqlSink(base.conninfo, "erp", ENTITIES, LAYOUTS)
    assert {one.verdict for one in sink.examine()} <= {Verdict.OK, Verdict.WARNING}


def test_a_worker_gets_rights_on_rows_and_no_others(base: Base) -> None:
    """And its own account sees what it may not do."""
    refusals = base.plan(worker="planned_worker").refusals
    assert [one.cure for one in refusals] == ["CREATE USER 'planned_worker'@'%' IDENTIFIED BY '…'"]
    base.server.create_account("planned_worker", "not-secret")
    try:
        base.apply()
        theirs = {**base.conninfo, "user": "planned_worker", "password": "not-secret"}
        theirs["sslmode"] = "prefer"  # MySQL takes no password in clear without
        changes = base.apply(worker="planned_worker").changes
        grants = [one.sql for one in changes]
        assert all(one.startswith("GRANT SELECT") for one in grants)
        assert not any("UPDATE" in one for one in grants if "cdc_meta" in one)
        assert base.plan(worker="planned_worker").changes == ()
        sink = MysqlSink(theirs, "erp", ENTITIES, LAYOUTS)
        sink.acquire()
        assert MysqlControl(theirs).holder_alive("erp")
        sink.close()
        assert {one.verdict for one in sink.examine()} <= {Verdict.OK, Verdict.WARNING}
        base.sql("REVOKE INSERT ON planned.item FROM planned_worker@'%'")
        found = [one for one in sink.examine() if one.check.name == "target.rights"]
        assert [(one.where, one.what) for one in found] == [("item", "no right to INSERT")]
    finally:
        base.sql("DROP USER planned_worker@'%'")


def test_what_was_altered_is_told_with_its_cure(base: Base) -> None:
    """Engine, key, types, collations, what a column was made for; each cure is a cure."""
    base.apply()
    alterations = {
        "DROP PRIMARY KEY, ADD PRIMARY KEY (code, id)": "its primary key is (code, id), not (code)",
        "MODIFY code varchar(30) NOT NULL": "column code is varchar(30), not varchar(40)",
        "MODIFY `long` longtext CHARACTER SET latin1": (
            "column long has collation latin1_swedish_ci, which not every text fits into"
        ),
        "MODIFY at datetime(6) COMMENT 'timestamp'": (
            "column at was made for timestamp, not for timestamptz"
        ),
        "ADD more int NOT NULL": "column more is no attribute, is NOT NULL and has no default",
    }
    for alteration in alterations:
        base.sql(f"ALTER TABLE item {alteration}")
    found = base.refused()
    assert set(found) == set(alterations.values())
    for what, cure in found.items():
        if cure.startswith("ALTER TABLE"):
            base.sql(cure)
        elif what.startswith("its primary key"):
            base.sql("ALTER TABLE item DROP PRIMARY KEY, ADD PRIMARY KEY (code)")
        else:
            base.sql("ALTER TABLE item DROP `more`")
    assert base.plan().refusals == ()
    base.sql("DROP TABLE item; CREATE VIEW item AS SELECT 1 AS one")
    assert set(base.refused()) == {"is not a table"}
    base.sql("DROP VIEW item")
    base.apply()
    base.sql("ALTER TABLE customer ENGINE = MyISAM")
    assert set(base.refused()) == {"its engine is MyISAM, which knows no transactions"}


def test_a_collation_that_takes_keys_for_the_same_is_told(base: Base) -> None:
    """Attributes that hold another's key count too; the cure makes it well."""
    base.apply()
    for column, more in (("code", "NOT NULL COMMENT 'string(40)'"), ("customer", "")):
        base.sql(f"ALTER TABLE item MODIFY {column} varchar(40) COLLATE utf8mb4_general_ci {more}")
    sink = MysqlSink(base.conninfo, "erp", ENTITIES, LAYOUTS)
    found = [one for one in sink.examine() if one.check.name == "target.keys"]
    assert [one.verdict for one in found] == [Verdict.PROBLEM] * 2
    for one in found:
        base.sql(one.cure)
    assert "target.keys" not in {
        one.check.name for one in sink.examine() if one.verdict is Verdict.PROBLEM
    }


def test_columns_and_indexes_are_added(base: Base) -> None:
    """A required column only while the table is empty."""
    base.apply({"customer": CUSTOMER, "item": replace(ITEM, attributes=ITEM.attributes[:2])})
    added = [one.description for one in base.apply().changes]
    assert added[:2] == ["add column at to item", "add column customer to item"]
    more = replace(
        CUSTOMER,
        attributes=(*CUSTOMER.attributes, Attribute(name="vat", type=string(9), required=True)),
    )
    base.sql("INSERT INTO customer VALUES ('a', 'b', '2020-01-01')")
    refusals = base.plan({"customer": more, "item": ITEM}).refusals
    assert [one.what for one in refusals] == [
        "column vat is missing, is required, and the table has rows"
    ]


def wide(*attributes: Attribute, key: tuple[str, ...] = ("code",), name: str = "thing") -> Entity:
    code = Attribute(name="code", type=string(40), required=True)
    return Entity(name=name, key=key, attributes=(code, *attributes))


LIMITS = {
    "MySQL's decimals": wide(Attribute(name="d", type=EntityType(Kind.DECIMAL, 66, 2))),
    "behind the point": wide(Attribute(name="d", type=EntityType(Kind.DECIMAL, 40, 31))),
    "has no limit": wide(Attribute(name="t", type=EntityType(Kind.TEXT)), key=("code", "t")),
    "at most 3072": wide(Attribute(name="t", type=string(800)), key=("code", "t")),
    "a row may take": wide(*(Attribute(name=f"t{n}", type=string(255)) for n in range(70))),
    "case does not count": wide(Attribute(name="CODE", type=string(4))),
    "the ledger's tables begin with": wide(name="cdc_thing"),
    "is no name for MySQL": wide(Attribute(name="😀", type=string(4))),
}


@pytest.mark.parametrize("what", LIMITS)
def test_what_mysql_cannot_have_is_refused_by_plan(base: Base, what: str) -> None:
    """Before anything is made, with a cure."""
    entity = LIMITS[what]
    refusals = plan(base.conninfo, {entity.name: entity}, ()).refusals
    assert [what in one.what and bool(one.cure) for one in refusals] == [True]


def test_widest_and_most_exact_is_made(base: Base) -> None:
    """Up to the limits themselves."""
    widest = wide(
        Attribute(name="d", type=EntityType(Kind.DECIMAL, 65, 30)),
        Attribute(name="k", type=string(728)),
        *(Attribute(name=f"t{n}", type=string(255)) for n in range(58)),
        *(Attribute(name=f"l{n}", type=string(9000)) for n in range(20)),
        key=("code", "k"),
    )
    apply_plan(base.conninfo, {"thing": widest, "order": ORDER, "material": MATERIAL}, ())


_BACK = """
    ALTER TABLE cdc_failure DROP KEY cdc_failure_settled, DROP KEY cdc_failure_due,
        DROP COLUMN retry_at, DROP COLUMN awaits;
    DROP TABLE cdc_failure_edit; DROP TABLE cdc_failure_await; DROP TABLE cdc_breaker;
    UPDATE cdc_meta SET version = 3;
    INSERT INTO cdc_checkpoint (pipeline, epoch) VALUES ('erp', 7);
    INSERT INTO cdc_failure (pipeline, mapping, entity, source_table, operation, position, sequence,
                             parked_at, error_code, error_message, payload, mapping_version, lanes)
         VALUES ('erp', 'm', 'item', 't', 'insert', 'x:1', 3, '2026-01-01', 'required', 'no',
                 '{"a": 1}', 'v', '["00ff"]')"""
_NOTED = "SELECT version, epoch FROM cdc_meta, cdc_checkpoint"
_SHAPE = """
    SELECT TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, COLUMN_DEFAULT, COLUMN_KEY
      FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'planned' AND TABLE_NAME LIKE 'cdc%'
     ORDER BY TABLE_NAME, ORDINAL_POSITION"""


def test_apply_carries_the_oldest_ledger_forward(base: Base) -> None:
    """What it holds stays; a migration that broke in the middle goes on; old workers are fenced."""
    base.apply()
    new = base.server.query(_SHAPE)
    base.sql(_BACK)
    with pytest.raises(ConfigurationError, match=r"version 3, this program needs.*apply"):
        MysqlControl(base.conninfo).failures()
    planned = [change.description for change in base.plan().changes]
    assert planned[0] == "add what a parked change waits for, and when it is tried again"
    assert planned[-1].startswith(f"note the ledger's version {LEDGER_VERSION}")
    base.sql(base.plan().changes[0].sql)
    assert planned[0] not in [change.description for change in base.plan().changes]

    base.apply()

    assert base.server.query(_SHAPE) == new
    assert base.plan().changes == ()
    assert base.server.query(_NOTED, database="planned") == [(LEDGER_VERSION, 8)]
    with closing(MysqlControl(base.conninfo)) as control:
        (failure,) = control.failures()
    assert (failure.error_code, failure.lanes, failure.awaits) == ("required", (b"\0\xff",), ())


def test_no_ledger_is_migrated_under_a_worker_or_from_a_newer_version(base: Base) -> None:
    """Whoever holds it is named; a newer one names the way."""
    base.apply()
    with closing(MysqlSink(base.conninfo, "erp", ENTITIES, LAYOUTS, instance="host:1")) as sink:
        sink.acquire()
        base.sql("UPDATE cdc_meta SET version = 3")
        with pytest.raises(ConfigurationError, match=r"host:1 holds the pipeline.*stop the daemon"):
            base.apply()
    base.sql("UPDATE cdc_meta SET version = 99")
    with pytest.raises(ConfigurationError, match="or a newer one"):
        base.apply()
