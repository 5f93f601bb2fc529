"""Plan and apply: from an empty or older database to the configured one, losing nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from psycopg.conninfo import conninfo_to_dict

from cdc_daemon.model.changes import Row
from cdc_daemon.model.effects import Delete, Key, Layout, ReferenceTable, Upsert
from cdc_daemon.model.entities import Attribute, Entity, EntityType, Kind
from cdc_daemon.model.errors import ConfigurationError, Problem, Stop
from cdc_daemon.sinks.postgres import PostgresControl, PostgresSink, apply_plan, plan
from tests.conftest import PostgresFactory
from tests.contract.shapes import (
    CUSTOMER,
    CUSTOMERS,
    ENTITIES,
    LAYOUTS,
    MATERIAL,
    MATERIALS,
    ORDERS,
    REFERRED,
)
from tests.support.databases import Database

NEW = Attribute(name="new", type=EntityType(Kind.INTEGER))


class Catalogue:
    """A database and the configuration that it is compared with."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.conninfo = {k: str(v) for k, v in conninfo_to_dict(database.dsn).items()}

    def changes(
        self,
        entities: Mapping[str, Entity] = ENTITIES,
        layouts: Sequence[Layout] = LAYOUTS,
        worker: str | None = None,
    ) -> list[str]:
        return [
            c.description for c in plan(self.conninfo, entities, layouts, worker=worker).changes
        ]

    def refusals(self, *entities: Entity) -> list[Problem]:
        changed = {**ENTITIES, **{one.name: one for one in entities}}
        return list(plan(self.conninfo, changed, LAYOUTS).refusals)

    def apply(
        self,
        entities: Mapping[str, Entity] = ENTITIES,
        layouts: Sequence[Layout] = LAYOUTS,
        worker: str | None = None,
    ) -> None:
        apply_plan(self.conninfo, entities, layouts, worker=worker)

    def check(self, layouts: Sequence[Layout] = LAYOUTS) -> list[str]:
        return [str(p) for p in PostgresSink(self.conninfo, "erp", ENTITIES, layouts).check()]


@pytest.fixture
def catalogue(database: Database) -> Catalogue:
    return Catalogue(database)


def test_after_apply_nothing_is_left_to_do(catalogue: Catalogue) -> None:
    """And the worker's check is content."""
    assert any("has no ledger" in problem for problem in catalogue.check())
    catalogue.apply()
    assert catalogue.changes() == []
    assert catalogue.refusals() == []
    assert catalogue.check() == []
    catalogue.apply()


def test_a_worker_refuses_a_database_without_ledger_or_tables(catalogue: Catalogue) -> None:
    """Naming the cure."""
    sink = PostgresSink(catalogue.conninfo, "erp", ENTITIES, LAYOUTS)
    with pytest.raises(ConfigurationError, match="cdc-daemon apply"):
        sink.acquire()
    with pytest.raises(ConfigurationError, match="cdc-daemon apply"):
        PostgresControl(catalogue.conninfo).checkpoints()
    catalogue.apply()
    catalogue.database.execute('DROP TABLE "order"')
    assert any("public.order: the table does not exist" in found for found in catalogue.check())


@pytest.mark.parametrize("version, words", [(99, "newer"), (0, "apply")])
def test_a_ledger_of_another_version_is_refused(
    catalogue: Catalogue, version: int, words: str
) -> None:
    """A newer one by plan too."""
    catalogue.apply()
    catalogue.database.execute("UPDATE cdc.meta SET version = %s", version)
    with pytest.raises(ConfigurationError, match=words):
        PostgresSink(catalogue.conninfo, "erp", ENTITIES, LAYOUTS).acquire()
    if version:
        assert [p.where for p in catalogue.refusals()] == ["cdc.meta"]


def test_an_attribute_that_may_be_null_is_added(catalogue: Catalogue) -> None:
    """Rows stay; so it is for deleted_at when deletes become soft."""
    catalogue.apply()
    catalogue.database.execute("INSERT INTO customer VALUES ('c', 'name')")
    grown = replace(CUSTOMER, attributes=(*CUSTOMER.attributes, NEW), soft_delete=True)
    entities = {**ENTITIES, "customer": grown}
    assert catalogue.changes(entities) == [
        "add column new to public.customer",
        "add column deleted_at to public.customer",
    ]
    catalogue.apply(entities)
    assert catalogue.changes(entities) == []
    assert catalogue.database.query("SELECT code, new FROM customer") == [("c", None)]


def test_what_could_lose_something_is_refused(catalogue: Catalogue) -> None:
    """Another type or key, a required attribute for rows that are there, a column in the way."""
    catalogue.apply()
    database = catalogue.database
    database.execute("INSERT INTO customer VALUES ('c', 'name')")
    database.execute("ALTER TABLE material ADD extra integer NOT NULL")
    shorter = Attribute(name="name", type=EntityType(Kind.STRING, 9))
    required = replace(NEW, required=True)
    refusals = catalogue.refusals(
        replace(CUSTOMER, key=("name",), attributes=(CUSTOMER.attributes[0], shorter, required)),
        replace(MATERIAL, surrogate_id=True, attributes=(*MATERIAL.attributes, _named("id"))),
    )
    said = "\n".join(str(problem) for problem in refusals)
    assert "column name is text, not character varying(9)" in said
    assert "its primary key is (code), not (name)" in said
    assert "column new is missing, is required, and the table has rows" in said
    assert "attribute id has the name of a column" in said
    assert "column extra is no attribute, is NOT NULL" in said
    assert all(problem.cure for problem in refusals)
    with pytest.raises(ConfigurationError):
        catalogue.apply({**ENTITIES, "customer": replace(CUSTOMER, key=("name",))})


def _named(name: str) -> Attribute:
    return replace(NEW, name=name)


def test_a_reference_table_for_other_keys_is_refused(catalogue: Catalogue) -> None:
    """Its rows would lead deletes astray."""
    catalogue.apply()
    table = ReferenceTable(name="reference_material", columns=(("code", "text"),))
    layouts = [replace(REFERRED, reference=table)]
    assert any("other keys" in problem for problem in catalogue.check(layouts))
    with pytest.raises(ConfigurationError, match="other keys"):
        catalogue.apply(layouts=layouts)


def test_foreign_keys_wait_for_the_end_and_follow_renames(catalogue: Catalogue) -> None:
    """And deletes of what is referred to find their referrers by an index."""
    catalogue.apply()
    found = catalogue.database.query(
        "SELECT condeferrable, condeferred, confupdtype FROM pg_constraint"
        " WHERE conrelid = '\"order\"'::regclass AND contype = 'f'"
    )
    assert [(a, b, str(c)) for a, b, c in found] == [(True, True, "c")]
    catalogue.database.execute("DROP INDEX order_customer_idx")
    assert catalogue.changes() == ["index public.order.customer, for deletes of customer"]


def test_rows_that_break_a_new_foreign_key_stop_apply(catalogue: Catalogue) -> None:
    """Everything of that apply is undone, and the message names what failed, not the value."""
    catalogue.apply()
    catalogue.database.execute('ALTER TABLE "order" DROP CONSTRAINT order_customer_fkey')
    catalogue.database.execute("INSERT INTO \"order\" VALUES (1, 'secret')")
    grown = replace(CUSTOMER, attributes=(*CUSTOMER.attributes, NEW))
    with pytest.raises(Stop, match=r"order\.customer refer to customer") as caught:
        catalogue.apply({**ENTITIES, "customer": grown})
    assert "secret" not in str(caught.value)
    added = "SELECT 1 FROM information_schema.columns WHERE column_name = 'new'"
    assert catalogue.database.query(added) == []


def test_a_worker_with_the_granted_rights_can_do_its_work(catalogue: Catalogue) -> None:
    """And cannot change a table."""
    database = catalogue.database
    with_role = {**catalogue.conninfo, "user": "cdc_worker"}
    missing = plan(catalogue.conninfo, ENTITIES, LAYOUTS, worker="cdc_worker")
    assert "CREATE ROLE" in missing.refusals[0].cure
    database.execute(f"REVOKE TEMP ON DATABASE {database.name} FROM PUBLIC")
    database.execute("CREATE ROLE cdc_worker LOGIN")
    sink = PostgresSink(with_role, "erp", ENTITIES, LAYOUTS)
    try:
        catalogue.apply(worker="cdc_worker")
        assert catalogue.changes(worker="cdc_worker") == []
        assert sink.check() == []
        sink.acquire()
        for number in (1, 40):
            _work(sink, number)
        sink.heartbeat()
        with pytest.raises(Exception, match="must be owner"):
            sink._live().connection.execute("DROP TABLE public.material")
    finally:
        sink.close()
        database.execute("DROP OWNED BY cdc_worker; DROP ROLE cdc_worker")


def _work(sink: PostgresSink, number: int) -> None:
    rows: list[Row] = [(b"%d-%d" % (number, n), b"x") for n in range(number)]
    keys = [CUSTOMERS.key_of(row) for row in rows]
    materials: list[Row] = [(*row, None) for row in rows]
    source_keys: list[Key] = [(b"%d" % (number * 1000 + n),) for n in range(number)]
    with sink.begin() as unit:
        unit.apply(
            [
                Upsert(layout=CUSTOMERS, rows=rows, fresh=True),
                Upsert(layout=CUSTOMERS, rows=rows),
                Upsert(layout=ORDERS, rows=[(b"%d" % number, rows[0][0])]),
                Upsert(layout=REFERRED, rows=materials, source_keys=source_keys),
                Delete(layout=MATERIALS, keys=keys, times=[1] * number),
            ]
        )
        unit.save_checkpoint("0/1", commit_time=None, transactions=1, changes=1)


def test_names_that_need_quoting_go_through(database: Database) -> None:
    """Quotes, percent signs, spaces, semicolons, long and Chinese names; nothing is pasted."""
    nasty = "a\"; DROP TABLE x; -- %s %(b)s ' 物料"
    long = "ö" * 31
    key = Attribute(name=nasty, type=EntityType(Kind.STRING, 9), required=True)
    entity = Entity(name=nasty, key=(nasty,), attributes=(key, _named(long)), soft_delete=True)
    table = ReferenceTable(name="reference_x", columns=(((long + "a"), "bigint"), (long, "text")))
    layout = Layout(
        mapping=nasty, entity=entity, columns=entity.names, key=(0,), soft=True, reference=table
    )
    catalogue = Catalogue(database)
    entities = {nasty: entity}
    catalogue.apply(entities, [layout])
    assert catalogue.changes(entities, [layout]) == []
    sink = PostgresSink(catalogue.conninfo, nasty, entities, [layout], schema="public")
    sink.acquire()
    for number in (1, 40):
        rows: list[Row] = [(b"%d" % n, b"1") for n in range(number)]
        keys: list[Key] = [(b"%d" % n, b"x") for n in range(number)]
        gone = Delete(layout=layout, keys=[(b"%d" % n,) for n in range(number)], times=[1] * number)
        with sink.begin() as unit:
            unit.apply([Upsert(layout=layout, rows=rows, fresh=True, source_keys=keys)])
            unit.apply([Upsert(layout=layout, rows=rows, source_keys=keys)])
            assert len(unit.references(layout, keys)) == number
            unit.apply([gone])
            unit.save_checkpoint("0/1", commit_time=None, transactions=1, changes=1)
    sink.close()


def test_more_tables_than_the_server_has_room_to_lock(postgres_factory: PostgresFactory) -> None:
    """One transaction over all of them would fail: SQLSTATE 53200."""
    settings = {"max_locks_per_transaction": 10, "max_connections": 12, "max_wal_senders": 0}
    server = postgres_factory(settings=settings)
    server.create_database("control")
    key = Attribute(name="id", type=EntityType(Kind.INTEGER), required=True)
    entities = {
        name: Entity(name=name, key=("id",), attributes=(key,))
        for name in (f"t{number}" for number in range(800))
    }
    catalogue = Catalogue(Database(server=server, name="control"))
    catalogue.apply(entities, ())
    assert catalogue.changes(entities, ()) == []
    made = catalogue.database.query("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
    assert made == [(800,)]
