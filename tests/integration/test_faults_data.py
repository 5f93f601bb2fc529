"""What a source may do to its tables and rows while the daemon streams: DDL, huge and poison data.

After DDL either both sides are equal, or the daemon has ended with words that name what happened.
"""

from __future__ import annotations

import json
from textwrap import dedent

import pytest

from tests.conftest import ErpFactory, PostgresFactory
from tests.support.catalogue import CONTROLS, SOURCES, fault
from tests.support.databases import Database
from tests.support.erp import MAPPINGS, PUBLICATION, TABLES, Erp
from tests.support.refusals import CURE, cured, refused, streamed
from tests.support.waiting import until

# --- the slot, and transactions that wait ---------------------------------------------------------


@fault(19, "slot lost: idle_replication_slot_timeout", state="exit 78")
def test_the_slot_was_idle_for_too_long(
    postgres_factory: PostgresFactory, make_erp: ErpFactory
) -> None:
    server = postgres_factory(settings={"idle_replication_slot_timeout": "1s"})
    erp = make_erp(source=server)
    streamed(erp)
    erp.insert_materials(4, 1)

    def lost() -> bool:
        erp.source.execute("CHECKPOINT")
        return erp.source.query("SELECT invalidation_reason FROM pg_replication_slots") == [
            ("idle_timeout",)
        ]

    until(lost, what="the slot is invalidated")
    refused(erp, "idle_timeout", CURE)
    cured(erp)


@fault(42, "PREPARE TRANSACTION, daemon restarted, then commit and rollback")
def test_prepared_transactions(postgres_factory: PostgresFactory, make_erp: ErpFactory) -> None:
    """HAZARD G10: what is prepared is applied when it is committed, in the order of commits."""
    server = postgres_factory(settings={"max_prepared_transactions": 5})
    erp = make_erp(source=server)
    with erp.streaming() as daemon:
        prepared(erp, "kept", 1)
        prepared(erp, "dropped", 11)
        erp.insert_materials(21, 2)
        erp.caught_up(daemon)
        daemon.kill()
    assert erp.target.query("SELECT count(*) FROM material") == [(2,)]
    with erp.streaming() as daemon:
        erp.source.execute("COMMIT PREPARED 'kept'")
        erp.source.execute("ROLLBACK PREPARED 'dropped'")
        erp.healed(daemon)
        assert erp.target.query("SELECT count(*) FROM material") == [(4,)]


def prepared(erp: Erp, name: str, first: int) -> None:
    erp.source.execute(
        f"BEGIN; INSERT INTO t_material SELECT n, 'M' || n, 'm', 'KG', n"
        f" FROM generate_series({first}, {first + 1}) n; INSERT INTO journal (changes) VALUES (2);"
        f"PREPARE TRANSACTION '{name}'"
    )


# --- DDL ------------------------------------------------------------------------------------------

EQUAL = {
    "column added": ["ALTER TABLE t_material ADD fnew integer DEFAULT 5"],
    "unmapped column dropped": [
        "ALTER TABLE t_material ADD fnew integer",
        "UPDATE t_material SET fnew = 3",
        "ALTER TABLE t_material DROP fnew",
    ],
    "columns in another order": [
        "ALTER TABLE t_material ADD f2 text STORAGE EXTERNAL",
        "UPDATE t_material SET f2 = fremark",
        "ALTER TABLE t_material DROP fremark",
        "ALTER TABLE t_material RENAME f2 TO fremark",
    ],
    "a wider type": ["ALTER TABLE t_material ALTER fname TYPE varchar(200)"],
    "TRUNCATE": ["TRUNCATE t_material"],
    "table rewritten": ["ALTER TABLE t_material ALTER funit TYPE varchar(12)", "VACUUM FULL"],
    "an index more": ["CREATE INDEX ON t_material (fname)"],
}
NEXT_ROW = "UPDATE t_material SET fname = 'new' WHERE fid = 1"  # the log tells of it with a row
REFUSED = {
    "mapped column dropped": (["ALTER TABLE t_material DROP fremark", NEXT_ROW], "fremark"),
    "mapped column renamed": (
        ["ALTER TABLE t_material RENAME fremark TO fnote", NEXT_ROW],
        "fremark",
    ),
    "table renamed": (["ALTER TABLE t_material RENAME TO t_other"], "t_material"),
    "schema renamed in one transaction": (
        ["CREATE SCHEMA old; ALTER TABLE t_material SET SCHEMA old; ALTER SCHEMA old RENAME TO x"],
        "t_material",
    ),
    "dropped and created again": (
        [
            "DROP TABLE t_material",
            "CREATE TABLE t_material (fid bigint PRIMARY KEY, fnumber varchar(40) NOT NULL,"
            " fname varchar(300), funit varchar(10), fprice numeric(18,4), fremark text)",
            "ALTER PUBLICATION cdc_erp ADD TABLE t_material",
        ],
        "t_material",
    ),
    "another primary key": (
        ["ALTER TABLE t_material DROP CONSTRAINT t_material_pkey, ADD PRIMARY KEY (fnumber)"],
        "t_material",
    ),
}
MORE_ROWS = (
    "INSERT INTO t_material (fid, fnumber, fname, funit) VALUES (50, 'M50', 'new', 'KG')",
    "UPDATE t_material SET fname = 'changed', fremark = 'r' WHERE fid = 1",
    "DELETE FROM t_material WHERE fid = 2",
)


@pytest.mark.parametrize("name", EQUAL)
@fault(26, "DDL that is followed: {}")
def test_ddl_that_is_followed(erp: Erp, name: str) -> None:
    with erp.streaming() as daemon:
        erp.insert_materials(1, 5)
        erp.caught_up(daemon)
        for statement in EQUAL[name]:
            erp.source.execute(statement)
        erp.commit(*MORE_ROWS)
        erp.caught_up(daemon)
        erp.agrees_after_copy()
        assert daemon.stop() == 0
    with erp.streaming() as daemon:
        erp.commit("UPDATE t_material SET fprice = 4")
        erp.caught_up(daemon)
        daemon.shows("streaming", "idle")
        erp.agrees_after_copy()


@pytest.mark.parametrize("name", REFUSED)
@fault(26, "DDL that is refused: {}", state="exit 78")
def test_ddl_that_is_refused(erp: Erp, name: str) -> None:
    """It ends within seconds, naming the table or the column, and keeps its slot."""
    statements, word = REFUSED[name]
    with erp.streaming() as daemon:
        erp.insert_materials(1, 5)
        erp.caught_up(daemon)
        for statement in statements:
            erp.source.execute(statement)
        wake(erp)
        assert daemon.wait(60) == 78, daemon.log
        daemon.said("pipeline stopped", error=word)
        assert "Traceback" not in daemon.log
    assert erp.source.query(
        "SELECT count(*) FROM pg_replication_slots WHERE slot_name = %s", erp.slot
    ) == [(1,)]


def wake(erp: Erp) -> None:
    """Some change of a table that is left."""
    erp.commit("INSERT INTO t_customer VALUES (77, 'C77', 'wake')")


PARTS = """
    CREATE TABLE t_stock (fid bigint PRIMARY KEY, fnumber varchar(40), fqty numeric(18,4))
        PARTITION BY RANGE (fid);
    CREATE TABLE t_stock_1 PARTITION OF t_stock FOR VALUES FROM (1) TO (100);
    CREATE TABLE t_stock_2 PARTITION OF t_stock FOR VALUES FROM (100) TO (200);
    CREATE TABLE t_stock_3 (LIKE t_stock INCLUDING ALL);
    INSERT INTO t_stock_3 VALUES (201, 'S201', 1);
"""
STOCK = """
  stock:
    key: [code]
    attributes: {code: string(40), quantity: "decimal(18,4)"}
mappings:
  - {from: erp.public.t_stock, to: stock, key: {code: fnumber}, fields: {quantity: fqty}}
"""
PARTITIONS = {
    "attached": "ALTER TABLE t_stock ATTACH PARTITION t_stock_3 FOR VALUES FROM (200) TO (300)",
    "detached": "ALTER TABLE t_stock DETACH PARTITION t_stock_2",
}


@pytest.mark.parametrize("name", PARTITIONS)
@fault(26, "partition with rows {}", state="exit 78")
def test_partitions_come_and_go(erp: Erp, name: str) -> None:
    """HAZARD G7: rows move without an event; the log says nothing, the catalogue does."""
    erp.source.execute("ALTER PUBLICATION cdc_erp SET (publish_via_partition_root = true)")
    erp.map_also(PARTS, "t_stock", MAPPINGS.replace("mappings:", STOCK.lstrip("\n").rstrip(), 1))
    with erp.streaming() as daemon:
        erp.commit("INSERT INTO t_stock SELECT n, 'S' || n, n FROM generate_series(90, 110) n")
        erp.caught_up(daemon)
        erp.source.execute(PARTITIONS[name])
        wake(erp)
        assert daemon.wait(60) == 78, daemon.log
        daemon.said("pipeline stopped", error="t_stock")


# --- much of it -----------------------------------------------------------------------------------


@fault(27, "one value of 40 MB")
def test_a_large_value(erp: Erp) -> None:
    with erp.streaming() as daemon:
        erp.commit(
            "INSERT INTO t_material VALUES"
            " (1, 'M1', 'large', 'KG', 1, repeat('0123456789', 4000000))"
        )
        erp.commit("UPDATE t_material SET fprice = 2")
        erp.healed(daemon, seconds=120)


@fault(27, "a value larger than max_value_bytes", state="exit 1", sources=SOURCES)
def test_a_value_that_is_too_large(erp: Erp) -> None:
    """It stops, naming table and key; with a larger limit it goes on where it was."""
    erp.more["source"] = {"max_value_bytes": 1 << 20}
    erp.configure(max_restarts=0)
    with erp.streaming() as daemon:
        erp.commit("INSERT INTO t_material VALUES (1, 'M1', 'x', 'KG', 1, repeat('x', 2000000))")
        assert daemon.wait(60) == 1, daemon.log
        daemon.said("pipeline stopped", error="t_material")
    erp.more["source"] = {}
    erp.configure()
    erp.settled()


@fault(27, "100,000 subtransactions, a seventh of them rolled back")
def test_subtransactions(erp: Erp) -> None:
    with erp.streaming() as daemon:
        erp.changed(
            100_000 - 100_000 // 7,
            "DO $$ BEGIN FOR i IN 1..100000 LOOP BEGIN"
            " INSERT INTO t_material VALUES (i, 'M' || i, 'sub', 'KG', i);"
            " IF i % 7 = 0 THEN RAISE EXCEPTION 'no'; END IF;"
            " EXCEPTION WHEN raise_exception THEN NULL; END; END LOOP; END $$",
        )
        erp.healed(daemon, seconds=300)


HOSTILE = ('"; DROP TABLE journal; --', "Ünïcødé 物料", "x" * 63, "per%cent\nline", "SELECT")


@fault(28, "5,000 tables, one of 1,600 columns, hostile names")
def test_many_and_strange_tables(erp: Erp) -> None:
    """5,000 published tables, of which some are mapped; names that break careless SQL."""
    erp.source.execute(
        "DO $$ BEGIN FOR i IN 1..5000 LOOP"
        " EXECUTE format('CREATE TABLE many_%s (a integer PRIMARY KEY)', i);"
        " IF i % 500 = 0 THEN COMMIT; END IF; END LOOP; END $$"
    )
    wide = ", ".join(f"c{n} integer" for n in range(1, 1600))
    tables = [f"CREATE TABLE wide (id bigint PRIMARY KEY, {wide})"]
    text = MAPPINGS
    entities, mappings = "", ""
    for number, name in enumerate(HOSTILE):
        quoted = '"' + name.replace('"', '""') + '"'
        tables.append(f"CREATE TABLE {quoted} ({quoted} bigint PRIMARY KEY, v text)")
        origin = json.dumps(f"erp.public.{quoted}", ensure_ascii=False)
        column = json.dumps(name, ensure_ascii=False)
        entities += f"  h{number}: {{key: [id], attributes: {{id: integer, v: text}}}}\n"
        mappings += (
            f"  - {{from: {origin}, to: h{number}, key: {{id: {column}}}, fields: {{v: v}}}}\n"
        )
    entities += "  wide: {key: [id], attributes: {id: integer, last: integer}}\n"
    mappings += "  - {from: erp.public.wide, to: wide, key: {id: id}, fields: {last: c1599}}\n"
    text = text.replace("mappings:", f"{entities}mappings:", 1) + mappings
    published = ["wide", *('"' + name.replace('"', '""') + '"' for name in HOSTILE)]
    erp.map_also(";".join(tables), ", ".join(published), text)
    many = ", ".join(f"many_{n}" for n in range(1, 5001))
    erp.source.execute(f"ALTER PUBLICATION cdc_erp ADD TABLE {many}")
    with erp.streaming() as daemon:
        erp.commit(
            "INSERT INTO wide (id, c1599) SELECT n, n * 2 FROM generate_series(1, 50) n",
            *(f"INSERT INTO {name} VALUES (1, 'v'), (2, 'w')" for name in published[1:]),
            *(f"UPDATE {name} SET v = 'x' WHERE v = 'v'" for name in published[1:]),
        )
        erp.healed(daemon)
        assert erp.target.query("SELECT sum(last) FROM wide") == [(50 * 51,)]
        for number in range(len(HOSTILE)):
            assert erp.target.query(f"SELECT id, v FROM h{number} ORDER BY id") == [
                (1, "x"),
                (2, "w"),
            ]


# --- poison ---------------------------------------------------------------------------------------

POISON_TABLE = """
    CREATE TABLE t_poison (fid bigint PRIMARY KEY, fdate date, fstamp timestamp, fnumber numeric,
                           ftext text, funit varchar(10))
"""
POISON = """
  poison:
    key: [id]
    attributes:
      id: integer
      day: date
      moment: timestamp
      amount: decimal(18,4)
      words: string(10)
      unit: string(10)
mappings:
  - from: erp.public.t_poison
    to: poison
    key: {id: fid}
    fields:
      day: fdate
      moment: fstamp
      amount: {from: fnumber, round: true}
      words: ftext
      unit: {from: funit, map: {PCS: EA}}
"""


@fault(
    29,
    "poison rows: NaN, infinity, BC, too long, out of range, an unknown code",
    state="degraded",
    ci=True,
    targets=CONTROLS,
)
def test_poison_rows(erp: Erp) -> None:
    """Each parks alone or arrives as it was; every good row is there, and nothing is counted
    wrong. What was parked leaves the queue when the source mends it and the change is skipped."""
    text = dedent(POISON).strip("\n")
    erp.map_also(POISON_TABLE, "t_poison", MAPPINGS.replace("mappings:", text, 1))
    with erp.streaming() as daemon:
        erp.commit(
            "INSERT INTO t_poison SELECT n, '2026-01-01', '2026-01-01 10:00', n, 'fine', 'PCS'"
            " FROM generate_series(1, 100) n",
            "INSERT INTO t_poison (fid, fdate) VALUES (201, 'infinity'), (202, '0044-03-15 BC')",
            "INSERT INTO t_poison (fid, fstamp) VALUES (203, '-infinity'), (204, '290000-01-01')",
            "INSERT INTO t_poison (fid, fnumber) VALUES (205, 'NaN'), (206, 'Infinity'),"
            " (207, 1e30)",
            "INSERT INTO t_poison (fid, ftext) VALUES (208, repeat('x', 11))",
            "INSERT INTO t_poison (fid, funit) VALUES (209, 'BOX')",
        )
        erp.insert_materials(1, 2)
        erp.caught_up(daemon)
        daemon.shows("degraded")
        erp.same_counters()
        erp.same_content()
        good = erp.target.query("SELECT count(*) FROM poison WHERE id <= 100 AND words = 'fine'")
        assert good == [(100,)]
        arrived = {n for (n,) in erp.target.query("SELECT id FROM poison WHERE id > 100")}
        parked = len(erp.parked())
        assert parked + len(arrived) == 9
        assert not arrived & {205, 206, 207, 208, 209}, arrived
        if not erp.alike:  # the forms of other kinds' texts are the contract suite's
            return
        there = erp.source.query(
            "SELECT fid, fdate::text, fstamp::text FROM t_poison WHERE fid = ANY(%s) ORDER BY fid",
            sorted(arrived),
        )
        assert there == erp.target.query(
            "SELECT id, day::text, moment::text FROM poison WHERE id > 100 ORDER BY id"
        )


@fault(29, "a byte that is not UTF-8, in a source in SQL_ASCII", state="degraded", targets=CONTROLS)
def test_a_source_without_an_encoding(make_erp: ErpFactory) -> None:
    """HAZARD P13: the row parks; the log goes on behind it."""
    erp = make_erp()
    server, name = erp.source.server, f"{erp.source.name}_ascii"
    server.execute(
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII'"
        " LOCALE 'C' LOCALE_PROVIDER libc"
    )
    try:
        server.execute(f"ALTER DATABASE {name} SET client_encoding = 'UTF8'")  # for the test
        server.execute(f"{TABLES}; {PUBLICATION}", dbname=name)
        erp.source = Database(server=server, name=name)
        erp.reached["source"] = erp.source.dsn
        erp.configure()
        with erp.streaming() as daemon:
            erp.commit(
                "INSERT INTO t_customer VALUES (1, 'C1', 'fine'), (2, 'C2', E'caf\\351')",
                "UPDATE t_customer SET fname = 'mended' WHERE fid = 2",
            )
            erp.commit("INSERT INTO t_customer VALUES (3, 'C3', 'fine')")
            erp.caught_up(daemon)
            daemon.shows("degraded")
            assert [op for _, op, _ in erp.parked()] == ["insert", "update"]
            rows = erp.target.query("SELECT code FROM customer ORDER BY code")
            assert rows == [("C1",), ("C3",)]
            daemon.kill()
    finally:
        server.drop_database(name)
