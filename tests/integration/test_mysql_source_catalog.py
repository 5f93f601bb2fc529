"""Facts of a source are what real servers say, with the rights that the daemon is given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest

from cdc_daemon.demo.mariadb import PrivateMariaDB
from cdc_daemon.model.findings import Finding, Verdict
from cdc_daemon.model.ports import Table
from cdc_daemon.model.position import Checkpoint, Phase, SourceIdentity
from cdc_daemon.sources.mysql import checks
from cdc_daemon.sources.mysql.asked import Ask, Asked
from cdc_daemon.sources.mysql.catalog import read_tables
from cdc_daemon.sources.mysql.connection import Server as Reached
from cdc_daemon.sources.mysql.connection import query
from cdc_daemon.sources.mysql.foreign_keys import acting, read_foreign_keys
from cdc_daemon.sources.mysql.system import read_system
from tests.support.mysql_server import PrivateMySQL

Server = PrivateMariaDB | PrivateMySQL
SHOP = "shöp`s"
TABLES = """
    CREATE TABLE head (id int PRIMARY KEY, code varchar(9) NOT NULL UNIQUE);
    CREATE TABLE body (
        id bigint unsigned PRIMARY KEY, head int, code varchar(9),
        CONSTRAINT `by ON DELETE SET NULL` FOREIGN KEY (head) REFERENCES head (id)
            ON DELETE CASCADE ON UPDATE SET NULL,
        CONSTRAINT harmless FOREIGN KEY (code) REFERENCES head (code));
    CREATE TABLE tail (
        id int PRIMARY KEY, body bigint unsigned,
        CONSTRAINT tail_1 FOREIGN KEY (body) REFERENCES body (id) ON UPDATE CASCADE);
    CREATE TABLE Mixed (
        a varchar(5) CHARACTER SET latin1, b varbinary(3) NOT NULL, c int INVISIBLE,
        v int GENERATED ALWAYS AS (c + 1), s int GENERATED ALWAYS AS (c + 2) STORED,
        PRIMARY KEY (a(2), b), UNIQUE (b), UNIQUE (c)) PARTITION BY KEY (b) PARTITIONS 2;
    CREATE VIEW seen AS SELECT * FROM head;
"""
UNPARTITIONED = TABLES.replace(", UNIQUE (b), UNIQUE (c)) PARTITION BY KEY (b) PARTITIONS 2", ")")


@pytest.fixture(params=["mariadb", "mysql9"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server with the tables, and an account `cdc` that may read them and the log."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, PrivateMariaDB | PrivateMySQL)
    found.create_database(SHOP)
    found.execute(UNPARTITIONED, database=SHOP)
    yield found
    found.execute("DROP USER IF EXISTS cdc")
    found.drop_database(SHOP)


def session(server: Server, *grants: str) -> Ask:
    """The daemon's own connection, as an account with these rights."""
    spelled = SHOP.replace("`", "``")
    address = server.create_account("cdc", "pw", *(grant.format(shop=spelled) for grant in grants))
    encrypted = isinstance(server, PrivateMySQL)  # which takes a password only so
    return asking({**address, "sslmode": "require" if encrypted else "disable"})


def asking(address: dict[str, Any]) -> Ask:
    """A connection as the daemon opens it."""
    reached = Reached("shop", {name: str(value) for name, value in address.items()})
    return partial(query, reached, reached.connect())


READS = ("SELECT ON `{shop}`.*",)
WHOLE = (*READS, "LOCK TABLES ON `{shop}`.*", "REPLICATION SLAVE, REPLICATION CLIENT ON *.*")


def test_tables_are_told_as_they_are(server: Server) -> None:
    ask = session(server, *READS)
    names = [(SHOP, name) for name in ("head", "body", "Mixed", "mixed", "seen", "nowhere")]
    found = read_tables(ask, names)
    assert sorted(name for _, name in found) == ["Mixed", "body", "head", "seen"]
    head, mixed = found[SHOP, "head"], found[SHOP, "Mixed"]
    assert (head.kind, head.engine, head.primary_key) == ("BASE TABLE", "InnoDB", ("id",))
    assert head.unique_keys == (("code",),)
    assert found[SHOP, "seen"].kind == "VIEW"
    assert mixed.primary_key == ("a", "b")
    assert mixed.unique_keys == ()
    assert [column.name for column in mixed.columns] == ["a", "b", "c", "v", "s"]
    assert [column.generated for column in mixed.columns] == ["", "", "", "virtual", "stored"]
    assert [column.invisible for column in mixed.columns] == [False, False, True, False, False]
    first = mixed.columns[0]
    assert (first.native, first.charset, first.merges) == ("varchar(5)", "latin1", True)
    assert all(column.readable for column in mixed.columns)
    unsigned = found[SHOP, "body"].columns[0]
    assert (unsigned.data_type, unsigned.native.endswith(" unsigned")) == ("bigint", True)


def test_cascades_are_seen_by_who_may_only_read(server: Server) -> None:
    """MariaDB hides their rules from such an account; and a parent's own keys count."""
    keys = read_foreign_keys(session(server, *READS), [(SHOP, "tail")])
    assert [str(key) for key in acting(keys)] == [
        f"{SHOP}.body (head) follows {SHOP}.head: ON DELETE CASCADE ON UPDATE SET NULL",
        f"{SHOP}.tail (body) follows {SHOP}.body: ON UPDATE CASCADE",
    ]
    assert len(keys) == 3


def test_only_some_columns_may_be_read(server: Server) -> None:
    ask = session(server, "SELECT (id) ON `{shop}`.head")
    (found,) = read_tables(ask, [(SHOP, "head")]).values()
    code = found.column("code")
    assert code is None or not code.readable
    assert found.columns[0].readable


def examined(server: Server, ask: Ask, *tables: str, position: str | None = None) -> list[Finding]:
    asked = Asked(
        tables=tuple(Table(schema=SHOP, name=name, columns=frozenset({"id"})) for name in tables),
        server_id=4711,
        charsets=frozenset({"utf8mb4", "latin1"}),
    )
    checkpoint = None
    if position is not None:
        identity = SourceIdentity(
            system=read_system(ask).identity, timeline=0, database="", publication=""
        )
        checkpoint = Checkpoint(
            pipeline="shop", phase=Phase.STREAMING, epoch=1, identity=identity, position=position
        )
    at = checks.Examined(
        "source shop", ask, lambda _: nullcontext(), asked, checkpoint, loopback=True
    )
    return checks.examine(at)


def test_an_account_with_the_rights_that_are_needed_passes_every_check(server: Server) -> None:
    found = examined(server, session(server, *WHOLE), "head", "body")
    wrong = [f for f in found if f.verdict is not Verdict.OK]
    assert [(f.check.name, f.verdict) for f in wrong] == [("table.keys", Verdict.WARNING)]
    assert {f.check for f in found} == set(checks.CHECKS)


def test_what_is_missing_is_told_with_its_cure(server: Server) -> None:
    ask = session(server, *READS, "REPLICATION CLIENT ON *.*")
    found = examined(server, ask, "head", "Head")
    wanted = {"source.replication", "table.columns"}
    if not isinstance(server, PrivateMariaDB):  # which a copy locks nothing of
        wanted.add("source.copying")
    assert {f.check.name for f in found if f.verdict is Verdict.PROBLEM} == wanted
    [unseen] = [f for f in found if f.check.name == "table.columns"]
    assert f"did you mean '{SHOP}.head'" in unseen.what


def test_log_that_was_removed_and_a_place_ahead_are_found(server: Server) -> None:
    """Against the server's own words for what it has and had."""
    ask = session(server, *WHOLE)
    server.execute("INSERT INTO head VALUES (1, 'a')", database=SHOP)
    old = place_of(server)
    server.execute("INSERT INTO head VALUES (2, 'b'); FLUSH BINARY LOGS", database=SHOP)
    last = str(server.query("SHOW BINARY LOGS")[-1][0])
    server.execute("INSERT INTO head VALUES (3, 'c')", database=SHOP)
    now = place_of(server)
    assert refused(examined(server, ask, "head", position=now)) == set()
    assert refused(examined(server, ask, "head", position=old)) == set()
    server.execute(f"PURGE BINARY LOGS TO '{last}'")
    assert refused(examined(server, ask, "head", position=now)) == set()
    assert refused(examined(server, ask, "head", position=old)) == {"log.kept"}
    ahead = now[:-1] + "9" + now[-1]
    assert refused(examined(server, ask, "head", position=ahead)) == {"log.position"}


def place_of(server: Server) -> str:
    kind = "mariadb/1 at" if isinstance(server, PrivateMariaDB) else "mysql/1 set"
    return f"{kind}={server.gtid()}"


def refused(found: list[Finding]) -> set[str]:
    return {f.check.name for f in found if f.verdict is Verdict.PROBLEM and f.check.refuses}


def test_settings_are_read_from_a_real_server(mariadb: PrivateMariaDB) -> None:
    """And MariaDB's own: columns that are compressed, versioned tables (M20), sequences."""
    mariadb.create_database(SHOP)
    mariadb.execute(
        "CREATE TABLE packed (id int PRIMARY KEY, t text COMPRESSED);"
        "CREATE TABLE old (id int PRIMARY KEY) WITH SYSTEM VERSIONING; CREATE SEQUENCE steps;"
        "CREATE TABLE crash (id int PRIMARY KEY) ENGINE = Aria;"
        "SET GLOBAL binlog_row_image = MINIMAL, GLOBAL sync_binlog = 0",
        database=SHOP,
    )
    try:
        found = examined(mariadb, asking(mariadb.address), "packed", "old", "steps", "crash")
        packed = read_tables(asking(mariadb.address), [(SHOP, "packed")])[SHOP, "packed"]
    finally:
        mariadb.execute("SET GLOBAL binlog_row_image = FULL, GLOBAL sync_binlog = 1")
        mariadb.drop_database(SHOP)
    assert [(c.native, c.compressed) for c in packed.columns][1] == ("text", True)
    assert refused(found) == {"source.binlog", "table.columns"}
    assert len([f for f in found if f.check.name == "table.columns"]) == 3
    warned = {f.check.name for f in found if f.verdict is Verdict.WARNING}
    assert warned == {"source.durability", "source.role", "table.engine"}
