"""What a MySQL or MariaDB source does to tables, rows and accounts while the daemon streams."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack, closing, suppress
from textwrap import dedent

import pymysql
import pytest

from tests.conftest import BinlogErpFactory, FamilyServers
from tests.support.binlog_erp import BinlogErp
from tests.support.catalogue import BINLOGS, POSTGRES, fault
from tests.support.erp import MAPPINGS
from tests.support.linked import linked
from tests.support.waiting import until

# --- DDL ------------------------------------------------------------------------------------------

FOLLOWED = {
    "column added": ["ALTER TABLE t_material ADD fnew integer DEFAULT 5"],
    "unmapped column dropped": [
        "ALTER TABLE t_material ADD fgone integer FIRST",
        "UPDATE t_material SET fgone = 3",
        "ALTER TABLE t_material DROP fgone",
    ],
    "columns in another order": ["ALTER TABLE t_material MODIFY fremark longtext FIRST"],
    "a narrower type": ["ALTER TABLE t_material MODIFY fname varchar(200)"],
    "another character set": ["ALTER TABLE t_material CONVERT TO CHARACTER SET utf16"],
    "TRUNCATE": ["TRUNCATE t_material"],
    "table rewritten": ["ALTER TABLE t_material FORCE", "OPTIMIZE TABLE t_material"],
    "an index more": ["CREATE INDEX other ON t_material (fname)"],
    "table copied and swapped back": [
        "CREATE TABLE t_copy LIKE t_material",
        "INSERT INTO t_copy SELECT * FROM t_material",
        "DROP TABLE t_copy",
    ],
}
REFUSED = {
    "mapped column dropped": (["ALTER TABLE t_material DROP fremark"], "fremark"),
    "mapped column renamed": (
        ["ALTER TABLE t_material CHANGE fremark fnote longtext"],
        "fremark",
    ),
    "table renamed": (["RENAME TABLE t_material TO t_other"], "t_material"),
    "dropped and created again": (
        ["CREATE TABLE t_keep LIKE t_material", "DROP TABLE t_material",
         "RENAME TABLE t_keep TO t_material"],
        "t_material",
    ),
    "another primary key": (
        ["ALTER TABLE t_material DROP PRIMARY KEY, ADD PRIMARY KEY (fnumber)"],
        "t_material",
    ),
}  # fmt: skip
MORE_ROWS = (
    "INSERT INTO t_material (fid, fnumber, fname, funit) VALUES (50, 'M50', 'new', 'KG')",
    "UPDATE t_material SET fname = 'changed' WHERE fid = 1",
    "DELETE FROM t_material WHERE fid = 2",
)


@fault(26, "DDL that is followed, one after the other", sources=BINLOGS)
def test_ddl_that_is_followed(binlog_erp: BinlogErp) -> None:
    erp = binlog_erp
    with erp.streaming() as daemon:
        for statements in FOLLOWED.values():
            erp.source.execute("DELETE FROM t_material")
            erp.insert_materials(1, 5)
            erp.run(*statements)
            erp.commit(*MORE_ROWS)
            erp.caught_up(daemon)
            erp.agrees_after_copy()
        daemon.shows("streaming", "idle")
        assert daemon.stop() == 0
    with erp.streaming() as daemon:
        erp.commit("UPDATE t_material SET fprice = 4")
        erp.caught_up(daemon)
        daemon.shows("streaming", "idle")
        erp.agrees_after_copy()


@pytest.mark.parametrize("name", REFUSED)
@fault(26, "DDL that is refused: {}", state="exit 78", sources=BINLOGS)
def test_ddl_that_is_refused(binlog_erp: BinlogErp, name: str) -> None:
    """It ends within seconds, naming the table or the column."""
    statements, word = REFUSED[name]
    erp = binlog_erp
    with erp.streaming() as daemon:
        erp.insert_materials(1, 5)
        erp.caught_up(daemon)
        erp.run(*statements)
        if "renamed" not in name or "column" in name:
            erp.run("UPDATE t_material SET fname = 'new' WHERE fid = 1")
        erp.commit("INSERT INTO t_customer VALUES (77, 'C77', 'wake')")
        assert daemon.wait(60) == 78, daemon.log
        daemon.said("pipeline stopped", error=word)
        assert "Traceback" not in daemon.log


# --- much of it -----------------------------------------------------------------------------------


@pytest.fixture
def large(binlog_server: FamilyServers, make_binlog_erp: BinlogErpFactory) -> BinlogErp:
    """On a server that takes large values."""
    return make_binlog_erp(source=binlog_server(max_allowed_packet=256 << 20))


@fault(27, "one value of 40 MB", sources=BINLOGS)
def test_a_large_value(large: BinlogErp) -> None:
    """Its event is larger than a packet of the protocol."""
    with large.streaming() as daemon:
        large.commit(
            "INSERT INTO t_material VALUES"
            " (1, 'M1', 'large', 'KG', 1, repeat('0123456789', 4000000))"
        )
        large.commit("UPDATE t_material SET fprice = 2")
        large.healed(daemon, seconds=180)


@pytest.mark.timeout(1200)
@fault(27, "one transaction of 1,000,000 rows", sources=BINLOGS, targets=["postgres"])
def test_a_million_rows(large: BinlogErp) -> None:
    """In pieces inside one unit of work; nobody sees a part of it."""
    with large.streaming() as daemon:
        large.insert_materials(1, 1_000_000)
        large.working(daemon)
        assert large.target.query("SELECT count(*) FROM material") == [(0,)]
        large.caught_up(daemon, seconds=900)
        large.same_counters()
        sums = "count(*), sum({}), min({}), max({})".format(*["fprice"] * 3)
        there = large.source.query(f"SELECT {sums} FROM t_material")
        here = large.target.query(f"SELECT {sums.replace('fprice', 'price')} FROM material")
        assert here == there
        large.commit("DELETE FROM t_material WHERE fid > 100")
        large.healed(daemon, seconds=900)


@fault(27, "5,000 savepoints, a seventh of them rolled back", sources=BINLOGS)
def test_savepoints(binlog_erp: BinlogErp) -> None:
    erp, rows = binlog_erp, 5_000
    with erp.streaming() as daemon:
        with erp.session() as session:
            for n in range(1, rows + 1):
                session.execute(b"SAVEPOINT here")
                session.execute(b"INSERT INTO t_material VALUES (%s, %s, 's', 'KG', 1, '')", (n, n))
                if n % 7 == 0:
                    session.execute(b"ROLLBACK TO SAVEPOINT here")
            changes = rows - rows // 7
            session.execute(b"INSERT INTO journal (changes) VALUES (%s)", (changes,))
        erp.healed(daemon, seconds=120)


HOSTILE = ("`; DROP TABLE journal; --", "Ünïcødé 物料", "x" * 64, "per%cent", "SELECT", "a'b\"c")


@fault(28, "1,000 tables, one of 1,000 columns, hostile names", sources=BINLOGS)
def test_many_and_strange_tables(binlog_erp: BinlogErp) -> None:
    """Names that break careless SQL, in tables and columns, and among many others."""
    erp = binlog_erp
    tables = [f"CREATE TABLE many_{n} (a integer PRIMARY KEY)" for n in range(1000)]
    wide = ", ".join(f"c{n} integer" for n in range(1, 1000))
    tables.append(f"CREATE TABLE wide (id bigint PRIMARY KEY, {wide})")
    entities, mappings, names = "", "", []
    for number, name in enumerate(HOSTILE):
        quoted = "`" + name.replace("`", "``") + "`"
        names.append(quoted)
        tables.append(f"CREATE TABLE {quoted} ({quoted} bigint PRIMARY KEY, v text)")
        there = '"' + name.replace('"', '""') + '"'
        origin = json.dumps(f"erp.public.{there}", ensure_ascii=False)
        column = json.dumps(name, ensure_ascii=False)
        entities += f"  h{number}: {{key: [id], attributes: {{id: integer, v: text}}}}\n"
        mappings += (
            f"  - {{from: {origin}, to: h{number}, key: {{id: {column}}}, fields: {{v: v}}}}\n"
        )
    entities += "  wide: {key: [id], attributes: {id: integer, last: integer}}\n"
    mappings += "  - {from: erp.public.wide, to: wide, key: {id: id}, fields: {last: c999}}\n"
    erp.run(*tables)
    erp.configure(MAPPINGS.replace("mappings:", f"{entities}mappings:", 1) + mappings)
    erp.apply()
    with erp.streaming() as daemon:
        erp.commit(
            f"INSERT INTO wide (id, c999) SELECT n, n * 2 FROM {erp.series(1, 50)}",
            *(f"INSERT INTO {name} VALUES (1, 'v'), (2, 'w')" for name in names),
            *(f"UPDATE {name} SET v = 'x' WHERE v = 'v'" for name in names),
        )
        erp.healed(daemon)
        assert erp.target.query("SELECT sum(last) FROM wide") == [(50 * 51,)]
        for number in range(len(HOSTILE)):
            rows = erp.target.query(f"SELECT id, v FROM h{number} ORDER BY id")
            assert rows == [(1, "x"), (2, "w")]


# --- poison ---------------------------------------------------------------------------------------

POISON_TABLE = """
    CREATE TABLE t_poison (fid bigint PRIMARY KEY, fdate date, fstamp datetime(3),
                           ftext varchar(20) CHARACTER SET gbk, funit varchar(10));
"""
POISON = """
  poison:
    key: [id]
    attributes: {id: integer, day: date, moment: timestamp, words: string(10), unit: string(10)}
mappings:
  - from: erp.public.t_poison
    to: poison
    key: {id: fid}
    fields:
      day: fdate
      moment: fstamp
      words: ftext
      unit: {from: funit, map: {PCS: EA}}
"""
LENIENT = {
    "day: fdate": "day: {from: fdate, invalid: 'null'}",
    "moment: fstamp": "moment: {from: fstamp, invalid: 'null'}",
    "words: ftext": "words: {from: ftext, invalid: 'null', truncate: true}",
    "{PCS: EA}": "{PCS: EA, BOX: BX}",
}


@fault(
    29,
    "poison rows: zero and impossible dates, undecodable text, too long, an unknown code",
    state="degraded",
    sources=BINLOGS,
)
def test_poison_rows(binlog_erp: BinlogErp) -> None:
    """Each parks alone and every good row is there; changes that follow one wait behind it. With
    rules for such values all of them apply, in order."""
    erp = binlog_erp
    strict = MAPPINGS.replace("mappings:", dedent(POISON).strip("\n"), 1)
    erp.map_also(POISON_TABLE, "t_poison", strict)
    with erp.streaming() as daemon:
        erp.commit(
            "INSERT INTO t_poison SELECT n, '2026-01-01', '2026-01-01 10:00', 'fine', 'PCS'"
            f" FROM {erp.series(1, 100)}"
        )
        erp.run(
            "SET SESSION sql_mode = 'ALLOW_INVALID_DATES'",
            "START TRANSACTION",
            *BAD,
            f"INSERT INTO journal (changes) VALUES ({len(BAD)})",
            "COMMIT",
        )
        erp.insert_materials(1, 2)
        erp.caught_up(daemon)
        daemon.shows("degraded")
        erp.same_counters()
        erp.same_content()
        assert erp.target.query("SELECT count(*), max(id) FROM poison") == [(100, 100)]
        codes = [code for code, operation, _ in erp.parked() if operation == "insert"]
        assert len(codes) == len(BAD) - 1, erp.parked()
        assert ("waiting", "update", "parked") in erp.parked()
        for before, after in LENIENT.items():
            strict = strict.replace(before, after)
        erp.configure(strict)
        daemon.hang_up()
        daemon.said("worker started", times=2)
        daemon.said("streaming", times=2)
        erp.retry_all()
        erp.healed(daemon)
    rows = erp.target.query(
        "SELECT id, day, moment, words, unit FROM poison WHERE id > 200 ORDER BY id"
    )
    moment, day = "2026-01-01 10:00:00", "2026-01-01"
    assert [tuple(None if v is None else str(v) for v in row) for row in rows] == [
        ("201", "2026-05-05", moment, "fine", "EA"),
        ("202", None, moment, "fine", "EA"),
        ("203", day, None, "fine", "EA"),
        ("204", day, moment, None, "EA"),
        ("205", day, moment, "longer tha", "EA"),
        ("206", day, moment, "fine", "BX"),
    ]


BAD = (
    "INSERT INTO t_poison VALUES (201, '0000-00-00', '2026-01-01 10:00', 'fine', 'PCS')",
    "INSERT INTO t_poison VALUES (202, '2026-02-31', '2026-01-01 10:00', 'fine', 'PCS')",
    "INSERT INTO t_poison VALUES (203, '2026-01-01', '0000-00-00', 'fine', 'PCS')",
    "INSERT INTO t_poison VALUES (204, '2026-01-01', '2026-01-01 10:00', _gbk x'FEFE', 'PCS')",
    "INSERT INTO t_poison VALUES (205, '2026-01-01', '2026-01-01 10:00', 'longer than it', 'PCS')",
    "INSERT INTO t_poison VALUES (206, '2026-01-01', '2026-01-01 10:00', 'fine', 'BOX')",
    "UPDATE t_poison SET fdate = '2026-05-05' WHERE fid = 201",
)

# --- who is let in, and who is slow ---------------------------------------------------------------

LOCKS = {
    "password rotated": ("IDENTIFIED BY 'new'", "IDENTIFIED BY 'old'", "denied"),
    "account locked": ("ACCOUNT LOCK", "ACCOUNT UNLOCK", "locked"),
    "password expired": (
        "PASSWORD EXPIRE",
        "IDENTIFIED BY 'old' PASSWORD EXPIRE NEVER",
        "password",
    ),
}


@fault(33, "source: password rotated, expired, account locked", state="blocked", sources=BINLOGS)
def test_the_sources_account_is_changed(large: BinlogErp) -> None:
    """Whoever was let in before waits for it to be put right; a new start is refused."""
    erp, server = large, large.origin.server
    carried(erp)
    for n, (lock, unlock, word) in enumerate(LOCKS.values()):
        with erp.streaming() as daemon:
            erp.insert_materials(1 + 10 * n, 2)
            erp.caught_up(daemon)
            server.execute(f"ALTER USER 'carrier'@'%' {lock}")
            sessions_ended(erp)
            daemon.shows("blocked", error=word)
            assert "'old'" not in daemon.log
            server.execute(f"ALTER USER 'carrier'@'%' {unlock}")
            erp.insert_materials(5 + 10 * n, 2)
            erp.healed(daemon)
            assert daemon.stop() == 0, daemon.log
        server.execute(f"ALTER USER 'carrier'@'%' {lock}")
        with erp.daemon() as daemon:
            assert daemon.wait(60) == 78, daemon.log
            daemon.said("pipeline stopped", error=word)
        server.execute(f"ALTER USER 'carrier'@'%' {unlock}")
    erp.settled()


def carried(erp: BinlogErp) -> None:
    """The daemon has an account of its own, which may do no more than it needs."""
    rights = "SELECT, RELOAD, REPLICATION SLAVE, REPLICATION CLIENT, LOCK TABLES ON *.*"
    erp.origin.server.create_account("carrier", "old", rights)
    erp.more["source"] = {"user": "carrier", "password": "old"}
    erp.configure()


def sessions_ended(erp: BinlogErp) -> None:
    """Whoever reads has to connect again."""
    for (number,) in erp.source.query(
        "SELECT id FROM information_schema.processlist WHERE user = 'carrier'"
    ):
        with suppress(pymysql.err.OperationalError):
            erp.source.execute(f"KILL {number}")


@fault(39, "max_connections reached on the source", state="blocked", sources=BINLOGS)
def test_the_source_takes_no_more_connections(
    binlog_server: FamilyServers, make_binlog_erp: BinlogErpFactory
) -> None:
    server = binlog_server()
    erp = make_binlog_erp(source=server)
    carried(erp)
    with erp.streaming() as daemon, ExitStack() as crowd:
        erp.insert_materials(1, 2)
        erp.caught_up(daemon)
        first, *_ = [crowd.enter_context(closing(server.connect())) for _ in range(10)]
        with first.cursor() as cursor:
            cursor.execute("SET GLOBAL max_connections = 10")
            cursor.execute("SELECT id FROM information_schema.processlist WHERE user = 'carrier'")
            for (number,) in cursor.fetchall():
                with suppress(pymysql.err.OperationalError):
                    cursor.execute(f"KILL {number}")
        daemon.shows("blocked", error="connections")
        crowd.close()
        erp.insert_materials(11, 2)
        erp.healed(daemon)


@fault(
    14,
    "control database slower than the source's net_write_timeout (2 s)",
    sources=BINLOGS,
    targets=[POSTGRES],  # SQLite's own patience with a lock, 10 s, is told as a retry
)
def test_a_slow_control_database(
    binlog_server: FamilyServers, make_binlog_erp: BinlogErpFactory
) -> None:
    """Nobody takes the log for a while, and the server waits: the stream is not lost for it."""
    erp = make_binlog_erp(source=binlog_server(net_write_timeout=2, net_read_timeout=2))
    erp.configure(queue_bytes=1024)
    with linked(erp), erp.streaming() as daemon:
        with erp.locked("material"):
            for n in range(30):
                erp.commit(
                    "INSERT INTO t_material SELECT n, 'M' || n, 'm', 'KG', n, repeat('r', 4000)"
                    f" FROM {erp.series(1 + n * 500, 500 + n * 500)}"
                )
            began = time.monotonic()
            until(lambda: time.monotonic() - began > 8, what="the server's patience is over")
        erp.healed(daemon, seconds=180)
        assert daemon.events("will try again") == [], daemon.log
