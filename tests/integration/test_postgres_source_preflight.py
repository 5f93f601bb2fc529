"""Start-up refusals: every state in which changes would be skipped in silence, with its cure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import psycopg
import pytest

from cdc_daemon.demo.server import PrivatePostgres
from cdc_daemon.model.errors import ConfigurationError, Unreachable
from cdc_daemon.model.findings import Finding, Verdict, refusals
from cdc_daemon.model.ports import Table
from cdc_daemon.model.position import Checkpoint, Phase
from cdc_daemon.sources.postgres.source import PostgresSource
from tests.conftest import DatabaseFactory, PostgresFactory, PostgresOf
from tests.support.databases import Database
from tests.support.sources import (
    PUBLICATION,
    checkpoint_of,
    conninfo,
    copy,
    last_position,
    make_source,
    read_changes,
    streaming,
    table,
    whats,
)
from tests.support.versions import VERSIONS

T = table("t", "id", "a")
DDL = (
    "CREATE TABLE t (id bigint PRIMARY KEY, a text, b int);"
    f"CREATE PUBLICATION {PUBLICATION} FOR TABLE t"
)


@pytest.fixture(params=VERSIONS)
def database(
    request: pytest.FixtureRequest, postgres_of: PostgresOf, database_factory: DatabaseFactory
) -> Database:
    """An empty database on both versions, with a publication of table t."""
    found = database_factory(server=postgres_of(request.param))
    found.execute(DDL)
    return found


@pytest.fixture
def source(database: Database) -> PostgresSource:
    return make_source(database, T)


def test_nothing_is_wrong(source: PostgresSource) -> None:
    assert source.check(None) == []
    checkpoint = checkpoint_of(source)
    assert source.check(checkpoint) == []
    assert checkpoint.identity
    assert refusals(source.watch(checkpoint, None)) == []


# --- publication (G1, G2) ------------------------------------------------------------------------

CHANGES: dict[str, str] = {
    "dropped and created again": (
        f"DROP PUBLICATION {PUBLICATION}; CREATE PUBLICATION {PUBLICATION} FOR TABLE t"
    ),
    "table taken out and put back": (
        f"ALTER PUBLICATION {PUBLICATION} ADD TABLE u;"
        f"ALTER PUBLICATION {PUBLICATION} DROP TABLE t;"
        f"ALTER PUBLICATION {PUBLICATION} ADD TABLE t"
    ),
    "actions changed and changed back": (
        f"ALTER PUBLICATION {PUBLICATION} SET (publish = 'insert');"
        f"ALTER PUBLICATION {PUBLICATION} SET (publish = 'insert, update, delete, truncate')"
    ),
    "table created again": (
        "ALTER TABLE t RENAME TO t_old; CREATE TABLE t (id bigint PRIMARY KEY, a text);"
        f"ALTER PUBLICATION {PUBLICATION} DROP TABLE t_old;"
        f"ALTER PUBLICATION {PUBLICATION} ADD TABLE t"
    ),
    "replica identity changed": "ALTER TABLE t REPLICA IDENTITY FULL",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_publication_that_was_changed(
    database: Database, source: PostgresSource, change: str
) -> None:
    """The stream has no trace of it; the catalogue's row versions have."""
    database.execute("CREATE TABLE u (id int PRIMARY KEY)")
    checkpoint = checkpoint_of(source)
    database.execute(change)
    assert "may have been skipped" in whats(source.check(checkpoint))
    assert checkpoint.identity
    assert "may have been skipped" in whats(refusals(source.watch(checkpoint, None)))


HARMLESS: dict[str, str] = {
    "grant": "GRANT SELECT ON t TO PUBLIC",
    "another table joins": f"ALTER PUBLICATION {PUBLICATION} ADD TABLE u",
    "added column": "ALTER TABLE t ADD c int DEFAULT 1",
    "added index": "CREATE INDEX t_a ON t (a)",
    "rebuilt key": "REINDEX TABLE CONCURRENTLY t",
    "vacuum": "VACUUM FULL pg_publication_rel",
    "rewritten table": "ALTER TABLE t ALTER b TYPE bigint",
    "analyze": "ANALYZE t",
}


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
def test_what_cannot_lose_changes_is_no_problem(
    database: Database, source: PostgresSource, change: str
) -> None:
    database.execute("CREATE TABLE u (id int PRIMARY KEY)")
    checkpoint = checkpoint_of(source)
    database.execute(change)
    assert source.check(checkpoint) == []


def test_a_publication_of_a_schema(database: Database) -> None:
    """A table's membership may come from its schema."""
    database.execute(
        f"DROP PUBLICATION {PUBLICATION};"
        f"CREATE PUBLICATION {PUBLICATION} FOR TABLES IN SCHEMA public"
    )
    source = make_source(database, T)
    checkpoint = checkpoint_of(source)
    assert source.check(checkpoint) == []
    database.execute(
        f"ALTER PUBLICATION {PUBLICATION} DROP TABLES IN SCHEMA public;"
        f"ALTER PUBLICATION {PUBLICATION} ADD TABLES IN SCHEMA public"
    )
    assert "may have been skipped" in whats(source.check(checkpoint))


def test_a_table_mapped_later_was_never_copied(database: Database, source: PostgresSource) -> None:
    database.execute(
        f"CREATE TABLE u (id int PRIMARY KEY);ALTER PUBLICATION {PUBLICATION} ADD TABLE u"
    )
    checkpoint = checkpoint_of(source)
    more = make_source(database, T, table("u", "id"))
    assert "public.u is mapped now but was never copied" in whats(more.check(checkpoint))


def test_a_table_no_longer_mapped_does_not_matter(database: Database) -> None:
    database.execute(
        f"CREATE TABLE u (id int PRIMARY KEY);ALTER PUBLICATION {PUBLICATION} ADD TABLE u"
    )
    checkpoint = checkpoint_of(make_source(database, T, table("u", "id")))
    database.execute(f"ALTER PUBLICATION {PUBLICATION} DROP TABLE u")
    assert make_source(database, T).check(checkpoint) == []


# --- publication and tables as they are (G3 and others) ------------------------------------------

NAMED = f"ALTER PUBLICATION {PUBLICATION} ADD TABLE x"

STATES: dict[str, tuple[str, Table, str]] = {
    "no publication": (f"DROP PUBLICATION {PUBLICATION}", T, "it does not exist"),
    "cure of an odd name": (
        'CREATE TABLE "x; y" (id int PRIMARY KEY)',
        table("x; y", "id"),
        f'ALTER PUBLICATION {PUBLICATION} ADD TABLE public."x; y"',
    ),
    "not published": ("CREATE TABLE x (id int PRIMARY KEY)", table("x", "id"), "is not in it"),
    "actions missing": (
        f"ALTER PUBLICATION {PUBLICATION} SET (publish = 'insert, update')",
        T,
        "does not publish delete, truncate",
    ),
    "no key": (f"CREATE TABLE x (id int); {NAMED}", table("x", "id"), "no primary key"),
    "identity nothing": (
        f"CREATE TABLE x (id int PRIMARY KEY); ALTER TABLE x REPLICA IDENTITY NOTHING; {NAMED}",
        table("x", "id"),
        "REPLICA IDENTITY NOTHING",
    ),
    "identity index gone": (
        "CREATE TABLE x (id int NOT NULL); CREATE UNIQUE INDEX x_id ON x (id);"
        f"ALTER TABLE x REPLICA IDENTITY USING INDEX x_id; DROP INDEX x_id; {NAMED}",
        table("x", "id"),
        "index of its replica identity is gone",
    ),
    "full without key": (
        f"CREATE TABLE x (id int); ALTER TABLE x REPLICA IDENTITY FULL; {NAMED}",
        table("x", "id"),
        "nothing identifies a row",
    ),
    "unknown column": (
        f"CREATE TABLE x (id int PRIMARY KEY, fname text); {NAMED}",
        table("x", "fnme"),
        "'fnme' does not exist; did you mean 'fname'?",
    ),
    "generated column": (
        "CREATE TABLE x (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id * 2) STORED);" + NAMED,
        table("x", "g"),
        "'g' is generated",
    ),
    "column list": (
        "CREATE TABLE x (id int PRIMARY KEY, a text, b text);"
        f"ALTER PUBLICATION {PUBLICATION} ADD TABLE x (id, a)",
        table("x", "a", "b"),
        "column list for public.x lacks b",
    ),
    "row filter": (
        "CREATE TABLE x (id int PRIMARY KEY, b int, c int);"
        f"ALTER PUBLICATION {PUBLICATION} ADD TABLE x WHERE (id > 0 AND b < c)",
        table("x", "id"),
        "row filter on public.x reads b, c, which is no part of its replica identity",
    ),
    "view": ("CREATE VIEW x AS SELECT 1 AS id", table("x", "id"), "it is a view"),
    "unlogged": ("CREATE UNLOGGED TABLE x (id int PRIMARY KEY)", table("x", "id"), "unlogged"),
    "missing table": ("SELECT 1", table("T", "id"), "the table does not exist"),
    "partition of a foreign server": (
        "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;"
        "CREATE TABLE x (id int NOT NULL) PARTITION BY RANGE (id);"
        "ALTER TABLE x REPLICA IDENTITY FULL;"
        "CREATE FOREIGN TABLE x1 PARTITION OF x FOR VALUES FROM (0) TO (10) SERVER s",
        table("x", "id", identity=("id",)),
        "partition public.x1 is a foreign table",
    ),
    "partitions published one by one": (
        "CREATE TABLE x (id int PRIMARY KEY) PARTITION BY RANGE (id);"
        "CREATE TABLE x1 PARTITION OF x FOR VALUES FROM (0) TO (10);"
        f"ALTER PUBLICATION {PUBLICATION} ADD TABLE x1",
        table("x", "id"),
        "table public.x is not in it",
    ),
    "heir that nobody maps": (
        "CREATE TABLE x (id int PRIMARY KEY); CREATE TABLE y (PRIMARY KEY (id)) INHERITS (x);"
        + NAMED,
        table("x", "id"),
        "public.y inherits from public.x and is published, but nobody maps it",
    ),
    "full identity and a column list": (
        "CREATE TABLE x (id int PRIMARY KEY, a text); ALTER TABLE x REPLICA IDENTITY FULL;"
        f"ALTER PUBLICATION {PUBLICATION} ADD TABLE x (id)",
        table("x", "id"),
        "column list for public.x lacks a",
    ),
    "partition": (
        "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);"
        "CREATE TABLE x PARTITION OF p FOR VALUES FROM (0) TO (10);"
        f"ALTER PUBLICATION {PUBLICATION} ADD TABLE p;"
        f"ALTER PUBLICATION {PUBLICATION} SET (publish_via_partition_root = true)",
        table("x", "id"),
        "under its partitioned table's name",
    ),
    "partition with another identity": (
        "CREATE TABLE x (id int PRIMARY KEY) PARTITION BY RANGE (id);"
        "CREATE TABLE x1 PARTITION OF x FOR VALUES FROM (0) TO (10);"
        "ALTER TABLE x1 REPLICA IDENTITY FULL;" + NAMED + ";"
        f"ALTER PUBLICATION {PUBLICATION} SET (publish_via_partition_root = true)",
        table("x", "id"),
        "another replica identity",
    ),
}


@pytest.mark.parametrize("ddl, mapped, expected", STATES.values(), ids=STATES)
def test_a_state_that_is_refused(
    database: Database, ddl: str, mapped: Table, expected: str
) -> None:
    database.execute(ddl)
    assert expected in whats(make_source(database, mapped).check(None))


def test_full_identity_with_an_unpublished_generated_column(database: Database) -> None:
    """G3: on PostgreSQL 18 every UPDATE at the source would fail."""
    database.execute(
        "CREATE TABLE x (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id * 2) STORED);"
        f"ALTER TABLE x REPLICA IDENTITY FULL; {NAMED}"
    )
    problems = make_source(database, table("x", "id")).check(None)
    if database.server.version >= 18:
        assert "unpublished generated column g" in whats(problems)
    else:
        assert problems == []
        database.execute("INSERT INTO x VALUES (1); UPDATE x SET id = 2")


def test_all_problems_come_at_once(database: Database) -> None:
    database.execute("CREATE TABLE x (id int)")
    source = make_source(database, table("x", "idd"), table("nowhere", "id"))
    assert len(source.check(None)) >= 4


def test_rights_that_are_missing(database: Database) -> None:
    """No SELECT on a mapped column, no REPLICATION: named, not met half-way."""
    database.execute("CREATE ROLE reader LOGIN; GRANT SELECT (id) ON t TO reader")
    try:
        source = make_source(database, T, conninfo_=conninfo(database, user="reader"))
        assert "REPLICATION" in whats(source.check(None))
        database.execute("ALTER ROLE reader REPLICATION")
        assert "no right to read a" in whats(source.check(None))
        database.execute("GRANT SELECT (a) ON t TO reader")
        assert source.check(None) == []
        copy(source)
        database.execute("ALTER TABLE t ENABLE ROW LEVEL SECURITY")
        assert "row security" in whats(source.check(None))
        source.close()
    finally:
        database.execute("DROP OWNED BY reader; DROP ROLE reader")


def test_wal_level(postgres_factory: PostgresFactory) -> None:
    server = postgres_factory(18, settings={"wal_level": "replica"})
    source = make_source(Database(server=server, name="postgres"), T)
    assert "wal_level is replica" in whats(source.check(None))


# --- slot and checkpoint (P6, P7, P9) ------------------------------------------------------------


def test_a_slot_advanced_by_somebody_else(database: Database, source: PostgresSource) -> None:
    """P6, fault 18: the server would fast-forward in silence."""
    checkpoint = checkpoint_of(source)
    database.execute("INSERT INTO t VALUES (51, 'lost', 1)")
    database.execute("SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn())", source.slot)
    assert "past the checkpoint" in whats(source.check(checkpoint))


def test_a_checkpoint_ahead_of_the_server(source: PostgresSource) -> None:
    """P7, fault 24: the server would accept it and skip everything."""
    checkpoint = dataclasses.replace(checkpoint_of(source), position="FFFF/0")
    assert "ahead of the server's log" in whats(source.check(checkpoint))


def test_a_slot_that_is_gone(database: Database, source: PostgresSource) -> None:
    """P9, fault 17: never created again by itself."""
    checkpoint = checkpoint_of(source)
    database.execute("SELECT pg_drop_replication_slot(%s)", source.slot)
    assert "the slot is gone" in whats(source.check(checkpoint))


def test_a_slot_whose_log_is_gone(postgres_factory: PostgresFactory) -> None:
    """P9, fault 19: wal_status lost."""
    server = postgres_factory(18, settings={"max_slot_wal_keep_size": "1MB"})
    database = Database(server=server, name="postgres")
    database.execute(DDL)
    source = make_source(database, T)
    checkpoint = checkpoint_of(source)
    for _ in range(3):
        database.execute("INSERT INTO t SELECT i, 'x' FROM generate_series(1, 1000) i; TRUNCATE t")
        database.execute("SELECT pg_switch_wal()")
    (log,) = [f for f in source.watch(checkpoint, None) if f.check.name == "slot.log"]
    assert log.verdict is Verdict.WARNING
    assert "the server's next checkpoint may remove it" in log.what
    database.execute("CHECKPOINT")
    assert "changes are lost" in whats(source.check(checkpoint))
    with pytest.raises(ConfigurationError):
        source.stream(checkpoint.position or "")


@pytest.fixture(scope="module")
def tight() -> Iterator[Database]:
    """A server with little room, and a table that is published."""
    limits: dict[str, str | int] = {
        "max_slot_wal_keep_size": "2GB",
        "max_wal_senders": 2,
        "max_replication_slots": 1,
    }
    with PrivatePostgres(18, settings=limits) as server:
        database = Database(server=server, name="postgres")
        database.execute(DDL)
        yield database


def one(findings: list[Finding], check: str) -> Finding:
    (found,) = [finding for finding in findings if finding.check.name == check]
    return found


def test_the_time_left_at_the_present_rate(
    tight: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G13: what is left of max_slot_wal_keep_size, at a growth that is known, or measured."""
    source = make_source(tight, T)
    checkpoint = checkpoint_of(source)
    assert one(source.watch(checkpoint, None), "slot.retention").verdict is Verdict.OK
    fast = one(source.watch(checkpoint, 1e9), "slot.retention")
    assert fast.verdict is Verdict.WARNING
    assert "at 1,000,000,000 bytes a second 2 s" in fast.what

    def write_log(_: float) -> None:
        tight.execute("SELECT pg_logical_emit_message(true, '', repeat('x', 8 << 20))")

    monkeypatch.setattr("cdc_daemon.sources.postgres.checks.examined.time.sleep", write_log)
    measured = one(source.examine(checkpoint, sample_seconds=0.01), "slot.retention")
    assert measured.verdict is Verdict.WARNING
    source.close()
    tight.execute("SELECT pg_drop_replication_slot(%s)", source.slot)


def test_no_free_place_is_waited_for(tight: Database) -> None:
    """No walsender, no slot: said by the doctor; a worker tries again instead of ending."""
    tight.execute("SELECT pg_create_physical_replication_slot('other')")
    source = make_source(tight, T)
    with ExitStack() as held:
        for _ in range(2):
            dsn = tight.server.dsn(replication="true")
            held.enter_context(closing(psycopg.connect(dsn, autocommit=True)))
        findings = source.examine(None)
        with pytest.raises(Unreachable, match="max_wal_senders"):
            source.check(None)
    tight.execute("SELECT pg_drop_replication_slot('other')")
    assert "all 2 of max_wal_senders" in one(findings, "source.walsenders").what
    assert "all 1 of max_replication_slots" in one(findings, "source.slots").what
    assert one(findings, "source.replication").verdict is Verdict.UNREACHABLE
    assert one(findings, "source.identity").verdict is Verdict.UNKNOWN
    source.close()


FOREIGN: dict[str, tuple[str, str]] = {
    "plugin": ("SELECT pg_create_logical_replication_slot('{}', 'test_decoding')", "test_decoding"),
    "physical": ("SELECT pg_create_physical_replication_slot('{}')", "physical slot"),
}


@pytest.mark.parametrize("make, expected", FOREIGN.values(), ids=FOREIGN)
def test_a_slot_of_another_kind(
    database: Database, source: PostgresSource, make: str, expected: str
) -> None:
    try:
        database.execute(make.format(source.slot))
    except Exception as exc:  # noqa: BLE001 - the wheel has no test_decoding
        pytest.skip(str(exc))
    try:
        assert expected in whats(source.check(None))
    finally:
        database.execute("SELECT pg_drop_replication_slot(%s)", source.slot)


def test_a_slot_of_another_database(database: Database, database_factory: DatabaseFactory) -> None:
    other = database_factory(server=database.server)
    source = make_source(database, T)
    other.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", source.slot)
    assert f"belongs to database {other.name}" in whats(source.check(None))


def test_a_slot_without_a_checkpoint(database: Database, source: PostgresSource) -> None:
    """Section 4: refused, unless a snapshotting checkpoint names it."""
    database.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", source.slot)
    new = Checkpoint(pipeline="erp", phase=Phase.NEW, epoch=1)
    assert "no checkpoint belongs to it" in whats(source.check(new))
    begun = dataclasses.replace(new, phase=Phase.SNAPSHOTTING, slot=source.slot)
    assert source.check(begun) == []
    other = dataclasses.replace(begun, slot="other")
    assert "no checkpoint belongs to it" in whats(source.check(other))


def test_a_slot_in_use_is_no_reason_to_refuse(database: Database, source: PostgresSource) -> None:
    """A doctor may look at a running pipeline, whose slot goes on while it looks."""
    checkpoint = checkpoint_of(source)
    assert checkpoint.position
    database.execute("INSERT INTO t VALUES (1, 'x', 1)")
    with streaming(source, checkpoint.position) as stream:
        stream.acknowledge(last_position(read_changes(stream, 1)))
        stream.read(0.3)
        assert source.check(checkpoint) == []


IDENTITIES: dict[str, tuple[Callable[[Checkpoint], Checkpoint], str]] = {
    "system": (lambda c: _with(c, system="1"), "is not the one that the checkpoint belongs to"),
    "database": (lambda c: _with(c, database="other"), "belongs to database other"),
    "timeline": (lambda c: _with(c, timeline=7), "not part of its history"),
}


def _with(checkpoint: Checkpoint, **changes: object) -> Checkpoint:
    assert checkpoint.identity
    identity = dataclasses.replace(checkpoint.identity, **changes)  # type: ignore[arg-type]
    return dataclasses.replace(checkpoint, identity=identity)


@pytest.mark.parametrize("change, expected", IDENTITIES.values(), ids=IDENTITIES)
def test_another_server(
    source: PostgresSource, change: Callable[[Checkpoint], Checkpoint], expected: str
) -> None:
    assert expected in whats(source.check(change(checkpoint_of(source))))


def test_a_timeline_change_is_fine_before_the_fork(postgres_factory: PostgresFactory) -> None:
    """After a promotion: only if the checkpoint lies before the switch point."""
    server = postgres_factory(18)
    database = Database(server=server, name="postgres")
    database.execute(DDL)
    source = make_source(database, T)
    checkpoint = checkpoint_of(source)
    source.close()
    server.stop()
    (server.data_dir / "standby.signal").touch()
    server.start()
    server.execute("SELECT pg_promote()")
    assert source.identify().timeline == 2
    assert source.check(checkpoint) == []
    (timeline,) = [f for f in source.examine(checkpoint) if f.check.name == "source.timeline"]
    assert timeline.verdict is Verdict.WARNING  # G14: published before a standby had it
    assert "cdc-daemon verify" in timeline.cure
    server.execute("CHECKPOINT")
    with pytest.raises(Unreachable, match="promoted"):  # then everything is compared anew
        source.watch(checkpoint, None)
    late = dataclasses.replace(checkpoint, position=_after_switch(database))
    assert "not part of its history" in whats(source.check(late))
    source.close()


def _after_switch(database: Database) -> str:
    database.execute("INSERT INTO t SELECT i, 'x' FROM generate_series(1, 1000) i")
    ((position,),) = database.query("SELECT pg_current_wal_lsn()::text")
    return str(position)


# --- connecting ----------------------------------------------------------------------------------

WRONG: dict[str, tuple[dict[str, str], str]] = {
    "password": ({"password": "wrong-secret"}, "password authentication failed"),
    "user": ({"user": "nobody_knows"}, "password authentication failed"),
    "database": ({"dbname": "nowhere"}, "does not exist"),
    "no password": ({"password": ""}, "no password supplied"),
}


@pytest.fixture(scope="module")
def guarded() -> Iterator[PrivatePostgres]:
    """A server that asks for passwords."""
    with PrivatePostgres(18, auth="scram-sha-256") as server:
        yield server


@pytest.mark.parametrize("change, expected", WRONG.values(), ids=WRONG)
def test_a_connection_that_is_refused(
    guarded: PrivatePostgres, change: dict[str, str], expected: str
) -> None:
    """A configuration error with its cure, and never the password."""
    database = Database(server=guarded, name="postgres")
    source = make_source(database, T, conninfo_=conninfo(database, **change))
    with pytest.raises(ConfigurationError, match=expected) as caught:
        source.check(None)
    (problem,) = caught.value.problems
    assert problem.cure
    assert "source erp (127.0.0.1" in problem.where
    password = conninfo(database, **change)["password"]
    assert not password or password not in str(caught.value)


@pytest.mark.parametrize("where", [{"port": "1"}, {"host": "no-such-host.invalid"}])
def test_a_server_that_does_not_answer(source: PostgresSource, where: dict[str, str]) -> None:
    lost = PostgresSource(
        "erp", {"host": "127.0.0.1", "port": "1", "dbname": "x", **where}, "s", "p", [T]
    )
    with pytest.raises(Unreachable, match="source erp"):
        lost.check(None)


@pytest.mark.parametrize("name", ["", "Erp", "a b", "a;b", 'a"b', "a" * 64, "ä"])
def test_names_of_slot_and_publication(name: str) -> None:
    with pytest.raises(ConfigurationError, match="not usable"):
        PostgresSource("erp", {}, name, "p", [T])
    with pytest.raises(ConfigurationError, match="not usable"):
        PostgresSource("erp", {}, "s", name, [T])
