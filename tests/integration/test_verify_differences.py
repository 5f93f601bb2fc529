"""Verification finds every difference between a source and a control database, and only those."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cdc_daemon.mapping.compile import CompiledMapping
from cdc_daemon.model.changes import Row
from cdc_daemon.model.errors import DataError
from cdc_daemon.verify import MappingReport, content_hashes, verify
from cdc_daemon.verify.verification import compile_source
from tests.conftest import DatabaseFactory
from tests.support.filled import Filled, filled

DDL = """
    CREATE TABLE t_customer (
        fid bigint PRIMARY KEY, fnumber varchar(40) NOT NULL, fname varchar(200), fstatus char(1));
    CREATE TABLE t_material (
        fid bigint PRIMARY KEY, fnumber varchar(40) NOT NULL, fname varchar(300), funit char(5),
        fprice numeric(20,6), fstatus char(1), fnote text, fqty text, fmade timestamp,
        ftime timestamptz, fdata jsonb, fflag boolean, fblob bytea);
    CREATE TABLE t_order (
        fbillno varchar(30) PRIMARY KEY, fcustid bigint, famount numeric(18,2), fdate date);
    INSERT INTO t_customer VALUES (1, 'C1', 'Müller', 'C'), (2, 'C2', '深圳', 'C'),
        (3, 'C3', 'x', 'A'), (4, 'Ä', 'y', 'C');
    INSERT INTO t_material SELECT n, 'M' || n, '  name ' || n || '  ',
        (ARRAY['PCS', 'KGM', ' ', 'ODD', NULL])[n % 5 + 1], n * 1.01, 'C', ' ', n::text,
        timestamp '2024-01-01' + n * interval '1 hour', timestamptz '2024-01-01 12:00+08',
        jsonb_build_object('b', n, 'a', 1.10), n % 2 = 0, decode(to_hex(n + 4096), 'hex')
        FROM generate_series(1, 50) AS n;
    INSERT INTO t_order SELECT 'B' || n, (ARRAY[1, 2, 4, 0])[n % 4 + 1], n * 10, '2024-02-03'
        FROM generate_series(1, 20) AS n;
"""
SECTIONS = """
    entities:
      customer:
        key: [code]
        attributes: {code: string(40), name: string(200)}
      material:
        key: [code]
        attributes:
          code: string(40)
          name: {type: string(20), required: true}
          unit: {type: string(10), required: true}
          price: "decimal(18,4)"
          taxed: "decimal(18,4)"
          note: text
          quantity: integer
          made: timestamp
          changed: timestamptz
          data: json
          flag: boolean
          flag_word: string(3)
          blob: bytes
          system: string(3)
      sales_order:
        key: [order_no]
        attributes:
          order_no: string(30)
          customer_code: {type: string(40), references: customer}
          amount: decimal(18,2)
          ordered: date
    mappings:
      - from: erp.public.t_customer
        to: customer
        where: "fstatus = 'C'"
        key: {code: fnumber}
        fields: {name: fname}
        on_delete: soft
      - from: erp.public.t_material
        to: material
        where: "fstatus = 'C'"
        key: {code: fnumber}
        fields:
          name: {from: fname, trim: true}
          unit: {from: funit, map: {PCS: EA, KGM: KG}, default: EA}
          price: {from: fprice, round: true}
          taxed: {expr: "ROUND(fprice * 1.13, 4)"}
          note: fnote
          quantity: fqty
          made: fmade
          changed: ftime
          data: fdata
          flag: fflag
          flag_word: {from: fflag, map: {t: yes, f: no}, default: null}
          blob: fblob
          system: {const: erp}
      - from: erp.public.t_order
        to: sales_order
        key: {order_no: fbillno}
        fields:
          customer_code: {ref: fcustid, from: erp.public.t_customer}
          amount: famount
          ordered: fdate
"""
NULLS = '{text: [" "], integer: ["0"]}'
MATERIAL = "erp.t_material.material"
CUSTOMER = "erp.t_customer.customer"
ORDER = "erp.t_order.sales_order"

Make = Callable[..., Filled]


@pytest.fixture
def make(database_factory: DatabaseFactory, tmp_path: Path) -> Make:
    """Databases with the tables above, and changes to them before the target is filled."""

    def made(change: str = "", *, parking: bool = True, sections: str = SECTIONS) -> Filled:
        found = filled(database_factory(), database_factory(), tmp_path, DDL, sections, nulls=NULLS)
        if change:
            found.source.execute(change)
        found.fill(parking=parking)
        return found

    return made


def of(made: Filled, mapping: str) -> MappingReport:
    (report,) = made.verify(mappings=[mapping]).mappings
    return report


def test_what_was_carried_is_equal_with_equal_hashes(make: Make) -> None:
    made = make()
    report = made.verify()
    assert report.equal
    assert report.exit_code == 0
    assert report.behind == ()
    numbers = [(one.source, one.target, one.match) for one in report.mappings]
    assert numbers == [(3, 3, 3), (50, 50, 50), (20, 20, 20)]
    target = made.configuration.target
    hashes = content_hashes(target, made.configuration.entities.values())
    for one in report.mappings:
        assert one.source_hash == one.target_hash == hashes[one.entity]
        assert one.parked == one.moving == one.kept == 0
        assert one.examples == ()


MUTATIONS = {
    "a row is missing": ("DELETE FROM material WHERE code = 'M7'", "missing", ()),
    "a row too many": ("INSERT INTO material (code, name, unit) VALUES ('M7x', 'n', 'EA')",
                       "extra", ()),
    "a tombstone for a living row": ("UPDATE customer SET deleted_at = now() WHERE code = 'C2'",
                                     "missing", ()),
    "another text": ("UPDATE material SET name = 'Name 7' WHERE code = 'M7'", "different",
                     ("name",)),
    "blanks at the end": ("UPDATE material SET name = name || ' ' WHERE code = 'M7'", "different",
                          ("name",)),
    "a NULL": ("UPDATE material SET price = NULL WHERE code = 'M7'", "different", ("price",)),
    "an empty text for NULL": ("UPDATE material SET note = '' WHERE code = 'M7'", "different",
                               ("note",)),
    "the last digit": ("UPDATE material SET taxed = taxed + 0.0001 WHERE code = 'M7'",
                       "different", ("taxed",)),
    "a microsecond": ("UPDATE material SET made = made + interval '1 us' WHERE code = 'M7'",
                      "different", ("made",)),
    "an hour": ("UPDATE material SET changed = changed + interval '1 h' WHERE code = 'M7'",
                "different", ("changed",)),
    "a number in json": ("""UPDATE material SET data = '{"a": 1.11, "b": 7}' WHERE code = 'M7'""",
                         "different", ("data",)),
    "a byte": (r"UPDATE material SET blob = '\x1008' WHERE code = 'M7'", "different", ("blob",)),
    "a flag": ("UPDATE material SET flag = NOT flag WHERE code = 'M7'", "different", ("flag",)),
    "a constant": ("UPDATE material SET system = 'crm' WHERE code = 'M7'", "different",
                   ("system",)),
    "the unit of the map": ("UPDATE material SET unit = 'PCS' WHERE code = 'M5'", "different",
                            ("unit",)),
    "another customer": ("UPDATE sales_order SET customer_code = 'C1' WHERE order_no = 'B1'",
                         "different", ("customer_code",)),
    "a customer for nobody": ("UPDATE sales_order SET customer_code = 'C1' WHERE order_no = 'B3'",
                              "different", ("customer_code",)),
    "a day": ("UPDATE sales_order SET ordered = '2024-02-04' WHERE order_no = 'B1'", "different",
              ("ordered",)),
    "a key": ("UPDATE sales_order SET order_no = 'B1x' WHERE order_no = 'B1'", "missing+extra", ()),
}  # fmt: skip


def test_every_mutation_of_the_target_is_found(make: Make) -> None:
    made = make()
    for name, (sql, kind, attributes) in MUTATIONS.items():
        backup(made)
        made.control.execute(sql)
        report = made.verify()
        assert not report.equal, name
        assert report.exit_code == 3
        examples = [e for one in report.mappings for e in one.examples]
        assert "+".join(e.kind for e in examples) == kind, name
        assert examples[0].attributes == attributes, name
        wrong = [one for one in report.mappings if not one.equal]
        assert len(wrong) == 1
        assert wrong[0].source_hash != wrong[0].target_hash
        restore(made)
    assert made.verify().equal


def backup(made: Filled) -> None:
    for table in ("customer", "material", "sales_order"):
        made.control.execute(f"CREATE TABLE saved_{table} AS TABLE {table}")


def restore(made: Filled) -> None:
    tables = ("customer", "material", "sales_order")
    made.control.execute(f"TRUNCATE {', '.join(tables)}")
    for table in tables:
        made.control.execute(f"INSERT INTO {table} TABLE saved_{table}; DROP TABLE saved_{table}")


def test_rows_the_mapping_rejects_are_parked_or_a_difference(make: Make) -> None:
    bad = """
        UPDATE t_material SET fname = repeat('x', 21) WHERE fid = 1;      -- too long
        UPDATE t_material SET fname = NULL WHERE fid = 2;                 -- no name
        UPDATE t_material SET fqty = 'many' WHERE fid = 3;                -- no number
        UPDATE t_material SET fqty = '1.5' WHERE fid = 4;                 -- no whole number
        UPDATE t_material SET fqty = '3000000000' WHERE fid = 5;          -- out of range
        UPDATE t_material SET fprice = 99999999999999.999999 WHERE fid = 6; -- rounds out of range
        INSERT INTO t_order VALUES ('B98', 3, 1, '2024-01-01');           -- customer not approved
        INSERT INTO t_order VALUES ('B99', 77, 1, '2024-01-01');          -- no such customer
    """
    made = make(bad)
    report = made.verify()
    assert report.equal
    assert [(one.source, one.match, one.parked) for one in report.mappings] == [
        (3, 3, 0), (50, 44, 6), (22, 20, 2),
    ]  # fmt: skip
    reasons = {e.reason for one in report.mappings for e in one.examples if e.kind == "parked"}
    assert reasons == {
        "name: too_long", "name: required", "quantity: invalid_value", "quantity: loss",
        "quantity: out_of_range", "price: out_of_range", "customer_code: reference_unresolved",
    }  # fmt: skip
    made.control.execute("DELETE FROM cdc.failure")
    report = made.verify()
    assert [one.missing for one in report.mappings] == [0, 6, 2]
    assert report.exit_code == 3


def test_a_rounded_value_that_the_mapping_rejects_is_a_difference(make: Make) -> None:
    """What COPY would have rounded in silence must not pass."""
    sections = SECTIONS.replace("price: {from: fprice, round: true}", "price: fprice")
    made = make("UPDATE t_material SET fprice = 1.23456 WHERE fid = 1", sections=sections)
    assert of(made, MATERIAL).parked == 1
    made.control.execute(
        "DELETE FROM cdc.failure; INSERT INTO material SELECT * FROM material WHERE false;"
        "INSERT INTO material (code, name, unit, price, taxed, quantity, made, changed, data, flag,"
        " flag_word, blob, system) SELECT 'M1', 'name 1', 'KG', 1.2346, 1.3951, 1,"
        " '2024-01-01 01:00', changed, '{\"a\": 1.10, \"b\": 1}', false, 'no', '\\x1001', 'erp'"
        " FROM material WHERE code = 'M2'"
    )
    report = of(made, MATERIAL)
    assert (report.different, report.missing) == (1, 0)
    assert report.examples[0].reason == "price: loss"


@pytest.mark.parametrize("version", [15, 18])
def test_rows_that_cannot_be_computed_are_found_and_the_others_compared(
    version: int, database_factory: DatabaseFactory, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    ddl = """
        CREATE TABLE t_rate (fid integer, fpart integer, fcode varchar(10), fa integer, fb integer,
            fqty text, PRIMARY KEY (fid, fpart)) PARTITION BY LIST (fpart);
        CREATE TABLE "t rate ""0" PARTITION OF t_rate FOR VALUES IN (0) WITH (fillfactor = 10);
        CREATE TABLE t_rate_1 PARTITION OF t_rate FOR VALUES IN (1);
        INSERT INTO t_rate SELECT n, n % 2, 'R' || n, n, n, n::text
            FROM generate_series(1, 300) AS n;
        UPDATE t_rate SET fb = 0 WHERE fid IN (7, 70, 81);
        UPDATE t_rate SET fqty = 'x' WHERE fid IN (8, 70, 288);
        UPDATE t_rate SET fcode = '0' WHERE fid = 9;
    """
    sections = """
        entities:
          rate:
            key: [code]
            attributes: {code: integer, ratio: numeric, quantity: integer}
        mappings:
          - from: erp.public.t_rate
            to: rate
            where: "100 / fa > -1"
            key: {code: {expr: "10000 / (CASE fcode WHEN '0' THEN 0 ELSE 1 END) + fid"}}
            fields: {ratio: {expr: "fa * 1.0 / fb"}, quantity: fqty}
    """
    server = request.getfixturevalue(f"postgres{version}")
    source, control = database_factory(server=server), database_factory()
    made = filled(source, control, tmp_path, ddl, sections)
    assert len(made.fill()) == 6
    (report,) = made.verify().mappings
    assert (report.source, report.match, report.parked) == (300, 294, 6)
    made.control.execute("DELETE FROM cdc.failure; DELETE FROM rate WHERE code = 10010")
    (report,) = made.verify().mappings
    assert (report.match, report.missing) == (293, 7)
    unkeyed = [example for example in report.examples if example.of_source]
    assert [example.key for example in unkeyed] == [("9", "1")]


def test_a_parked_delete_and_a_parked_rename_are_parked(make: Make) -> None:
    made = make()
    compiled = compile_source(made.configuration, "erp")
    made.source.execute("DELETE FROM t_order WHERE fbillno = 'B2'")
    made.source.execute("DELETE FROM t_material WHERE fid = 5")
    made.source.execute("UPDATE t_material SET fnumber = 'M6new' WHERE fid = 6")
    report = made.verify()
    assert [(one.extra, one.missing) for one in report.mappings] == [(0, 0), (2, 1), (1, 0)]
    error = DataError("held", code="waiting")
    order, material = compiled[ORDER], compiled[MATERIAL]
    made.park(order, identity_row(order, b"B2"), error)
    made.park(material, identity_row(material, b"5"), error)
    made.park(material, identity_row(material, b"6"), error)
    report = made.verify()
    assert report.equal
    assert [one.parked for one in report.mappings] == [0, 3, 1]


def identity_row(compiled: CompiledMapping, identity: bytes) -> Row:
    relation = compiled.relation
    return tuple(identity if i in relation.identity else None for i in range(len(relation.columns)))


def test_two_source_rows_with_one_key_are_one_match_and_one_parked(make: Make) -> None:
    made = make("INSERT INTO t_customer VALUES (9, 'C1', 'another', 'C')")
    report = of(made, CUSTOMER)
    assert (report.source, report.match, report.parked) == (4, 3, 1)
    made.control.execute("DELETE FROM cdc.failure")
    assert (of(made, CUSTOMER).match, of(made, CUSTOMER).missing) == (3, 1)


def test_a_child_keeps_the_key_of_a_parent_that_was_deleted_softly(make: Make) -> None:
    made = make()
    made.source.execute("UPDATE t_customer SET fstatus = 'B' WHERE fid = 1")
    made.source.execute("DELETE FROM t_customer WHERE fid = 2")
    assert of(made, ORDER).different == 10  # the parents still live
    made.control.execute("UPDATE customer SET deleted_at = now() WHERE code IN ('C1', 'C2')")
    assert made.verify().equal
    made.control.execute("UPDATE sales_order SET amount = 0 WHERE order_no = 'B4'")
    assert of(made, ORDER).examples[0].attributes == ("amount",)


@pytest.mark.parametrize(
    "rules, kept, extra",
    [
        ("on_delete: ignore", 2, 0),
        ("{on_delete: hard, on_leave: ignore}", 1, 1),
        ("{on_delete: ignore, on_leave: soft}", 1, 1),
        ("on_delete: hard", 0, 2),
    ],
)
def test_rows_that_a_mapping_leaves_on_purpose_are_kept(
    make: Make, rules: str, kept: int, extra: int
) -> None:
    wanted = rules.strip("{}").replace(", ", "\n        ")
    before, after = SECTIONS.split("fields: {name: fname}\n        on_delete: soft")
    made = make(sections=f"{before}fields: {{name: fname}}\n        {wanted}{after}")
    made.control.execute("DELETE FROM sales_order")
    made.source.execute("DELETE FROM t_customer WHERE fid = 1")
    made.source.execute("UPDATE t_customer SET fstatus = 'A' WHERE fid = 2")
    report = of(made, CUSTOMER)
    assert (report.kept, report.extra, report.match) == (kept, extra, 1)


def test_examples_show_keys_and_never_values(make: Make) -> None:
    made = make()
    made.control.execute("UPDATE material SET name = 'secret'")
    report = verify(made.configuration, timeout=10, examples=3)
    material = next(one for one in report.mappings if one.mapping == MATERIAL)
    assert material.different == 50
    assert [example.key for example in material.examples] == [("M1",), ("M10",), ("M11",)]
    text = json.dumps(report.as_dict())
    assert "secret" not in text
    assert "name 1" not in text
