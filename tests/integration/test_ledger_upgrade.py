"""The ledger goes forward by `apply` and keeps what it holds; there is no way back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from cdc_daemon.model.errors import ConfigurationError, Fenced
from cdc_daemon.sinks.postgres import PostgresSink, apply_plan, plan
from cdc_daemon.sinks.postgres.migrations import ADDED_TABLES, MIGRATIONS
from cdc_daemon.sinks.postgres.names import quote
from cdc_daemon.sinks.sqlite import SqliteControl, SqliteSink
from cdc_daemon.sinks.sqlite import apply_plan as sqlite_apply
from cdc_daemon.sinks.sqlite import plan as sqlite_plan
from cdc_daemon.sinks.versions import LEDGER_VERSION, OLDEST_LEDGER
from tests.contract.shapes import ENTITIES, LAYOUTS
from tests.support.cli import invoke
from tests.support.databases import Database
from tests.support.erp import Erp

VERSION_1 = Path(__file__).parent.parent / "support" / "ledger_1.sql"
REFERENCE = next(layout.reference.name for layout in LAYOUTS if layout.reference)
CONTENT = """
INSERT INTO cdc.checkpoint (pipeline, phase, epoch, system, timeline, database, publication, slot,
                            generation, position, transactions, changes, holder)
     VALUES ('erp', 'streaming', 7, '74', 1, 'erp', 'p', 'cdc_erp', 2, '0/10', 11, 12, '');
INSERT INTO cdc.failure (pipeline, mapping, entity, source_table, operation, position, sequence,
                         error_code, error_message, payload, mapping_version, lanes)
     VALUES ('erp', 'm', 'material', 't', 'insert', '0/10', 3, 'required', 'no', '{"a": 1}', 'v',
             ARRAY[decode('00ff', 'hex')]);
INSERT INTO cdc.failure_lane VALUES ('erp', decode('00ff', 'hex'), 1);
INSERT INTO cdc.backfill_chunk VALUES ('erp', 2, 'm', 0, 5, now());
INSERT INTO cdc.command (pipeline, verb, actor) VALUES ('erp', 'retry', 'root');
"""
FAILURE = (
    "id, pipeline, mapping, entity, source_table, operation, position, sequence, commit_time,"
    " parked_at, error_code, error_message, attempts, state, payload, mapping_version, lanes,"
    " resolved_at, actor, reason"
)
KEPT = ("failure", "failure_lane", "backfill_chunk", "command")
SHAPE = """
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
       pg_get_expr(d.adbin, d.adrelid)
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
  LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
 WHERE c.relnamespace = 'cdc'::regnamespace ORDER BY c.relname, a.attnum"""


@pytest.fixture
def old(database: Database) -> Database:
    """A control database of the oldest version, with something in each of its tables."""
    with closing(psycopg.connect(database.dsn)) as connection, connection:
        connection.execute(VERSION_1.read_text().encode())
        connection.execute(CONTENT.encode())
    return database


def _conninfo(database: Database) -> dict[str, str]:
    found = psycopg.conninfo.conninfo_to_dict(database.dsn)
    return {name: str(value) for name, value in found.items()}


def _content(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """As of the columns that the oldest version has."""
    columns = {**dict.fromkeys(KEPT, "*"), "failure": FAILURE}
    return {name: database.query(f"SELECT {columns[name]} FROM cdc.{name}") for name in KEPT}


def _sink(database: Database) -> PostgresSink:
    return PostgresSink(_conninfo(database), "erp", ENTITIES, LAYOUTS)


def test_there_is_a_way_from_every_version() -> None:
    """One list of steps for each, from the oldest on."""
    assert sorted(MIGRATIONS) == list(range(OLDEST_LEDGER, LEDGER_VERSION))
    assert all(MIGRATIONS.values())


def test_apply_carries_the_oldest_ledger_forward(old: Database, database_factory: object) -> None:
    """Checkpoint, failures and commands stay; afterwards it is what a new one is."""
    before = _content(old)
    with pytest.raises(ConfigurationError, match=r"version 1, this program needs.*apply"):
        _sink(old).acquire()
    planned = plan(_conninfo(old), ENTITIES, LAYOUTS)
    assert f"note the ledger's version {LEDGER_VERSION}" in [
        change.description for change in planned.changes
    ]
    assert old.query("SELECT version FROM cdc.meta") == [(1,)], "a plan changes nothing"

    apply_plan(_conninfo(old), ENTITIES, LAYOUTS)

    assert old.query("SELECT version FROM cdc.meta") == [(LEDGER_VERSION,)]
    assert _content(old) == before
    assert plan(_conninfo(old), ENTITIES, LAYOUTS).changes == ()
    new = database_factory()  # type: ignore[operator]
    apply_plan(_conninfo(new), ENTITIES, LAYOUTS)
    assert old.query(SHAPE) == new.query(SHAPE)
    with closing(_sink(old)) as sink:
        checkpoint = sink.acquire()
        assert (checkpoint.position, checkpoint.transactions, checkpoint.generation) == (
            "0/10",
            11,
            2,
        )
        assert [failure.error_code for failure in sink.failures()] == ["required"]
        assert len(sink.lanes()) == 1


def test_a_migration_that_fails_leaves_the_old_ledger(old: Database) -> None:
    """All steps are one transaction."""
    old.execute("CREATE TABLE cdc.repair ()")  # in the way of the last table
    with pytest.raises(Exception, match=r"create the ledger's table cdc\.repair"):
        apply_plan(_conninfo(old), ENTITIES, LAYOUTS)
    assert old.query("SELECT version FROM cdc.meta") == [(1,)]
    assert old.query("SELECT to_regclass('cdc.verification')") == [(None,)]


@pytest.fixture
def held(old: Database) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A worker of the old version that holds the pipeline."""
    with closing(psycopg.connect(old.dsn, autocommit=True)) as connection:
        connection.execute(
            "UPDATE cdc.checkpoint SET holder = 'host:1', backend_pid = pg_backend_pid(),"
            " seen_at = clock_timestamp(), backend_start = (SELECT backend_start"
            " FROM pg_stat_activity WHERE pid = pg_backend_pid())"
        )
        yield connection


def test_no_ledger_is_migrated_under_a_worker(
    old: Database, held: psycopg.Connection[tuple[object, ...]]
) -> None:
    """Whoever holds it is named; one that starts in between is fenced off by the migration."""
    with pytest.raises(ConfigurationError, match=r"host:1 holds the pipeline.*stop the daemon"):
        apply_plan(_conninfo(old), ENTITIES, LAYOUTS)
    assert old.query("SELECT version FROM cdc.meta") == [(1,)]
    held.execute("UPDATE cdc.checkpoint SET seen_at = clock_timestamp() - interval '1 hour'")
    apply_plan(_conninfo(old), ENTITIES, LAYOUTS)
    assert old.query("SELECT epoch FROM cdc.checkpoint") == [(8,)]


def test_a_worker_whose_ledger_was_migrated_commits_nothing_more(database: Database) -> None:
    """The migration raises the epoch that every unit of work ends with."""
    apply_plan(_conninfo(database), ENTITIES, LAYOUTS)
    with closing(_sink(database)) as sink:
        sink.acquire()
        database.execute("UPDATE cdc.checkpoint SET epoch = epoch + 1")
        with pytest.raises(Fenced):
            sink.save_progress("0/20")


def test_a_newer_ledger_is_refused_by_everything(erp: Erp) -> None:
    """By plan, apply, run and what looks into it: 78, naming both versions and the way."""
    erp.target.execute("UPDATE cdc.meta SET version = 99")
    config = ("--config", str(erp.configuration))
    for command in (
        ("plan", *config),
        ("apply", "--yes", *config),
        ("apply", "--dry-run", *config),
        ("check-config", *config),
        ("status", *config),
        ("failures", "list", *config),
    ):
        result = invoke(*command)
        assert result.exit_code == 78, (command, result.output)
        assert f"the ledger has version 99, this program needs {LEDGER_VERSION}" in result.stderr, (
            command
        )
        assert "the cdc-daemon that migrated it, or a newer one" in result.stderr, command
    assert erp.target.query("SELECT version FROM cdc.meta") == [(99,)]


def test_plan_says_what_it_would_migrate(erp: Erp) -> None:
    """As SQL; a dry run of apply says the same and changes nothing."""
    tables = ", ".join(f"cdc.{quote(name)}" for name in ADDED_TABLES)
    erp.target.execute(
        f"DROP TABLE {tables}; UPDATE cdc.meta SET version = 1; DROP INDEX cdc.failure_settled;"
        " ALTER TABLE cdc.failure DROP COLUMN awaits, DROP COLUMN retry_at"
    )
    config = ("--config", str(erp.configuration))
    for command in (("plan", *config), ("apply", "--dry-run", *config)):
        result = invoke(*command)
        assert result.exit_code == 0, result.output
        assert 'CREATE TABLE "cdc"."verification"' in result.stdout
        assert f"-- note the ledger's version {LEDGER_VERSION}" in result.stdout
    refused = invoke("check-config", *config)
    assert refused.exit_code == 78
    assert "run cdc-daemon apply" in refused.stderr
    assert invoke("apply", "--yes", *config).exit_code == 0
    assert erp.target.query("SELECT version FROM cdc.meta") == [(LEDGER_VERSION,)]


# --- SQLite ---------------------------------------------------------------------------------------

SQLITE_VERSION_1 = VERSION_1.with_name("ledger_1_sqlite.sql")
SQLITE_CONTENT = """
INSERT INTO cdc_checkpoint (pipeline, phase, epoch, system, timeline, database, publication, slot,
                            generation, position, transactions, changes)
     VALUES ('erp', 'streaming', 7, '74', 1, 'erp', 'p', 'cdc_erp', 2, '0/10', 11, 12);
INSERT INTO cdc_failure (pipeline, mapping, entity, source_table, operation, position, sequence,
                         parked_at, error_code, error_message, payload, mapping_version, lanes)
     VALUES ('erp', 'm', 'material', 't', 'insert', '0/10', 3, '2026-01-01 00:00:00.000000+00',
             'required', 'no', '{"a": 1}', 'v', '["00ff"]');
INSERT INTO cdc_failure_lane VALUES ('erp', x'00ff', 1);
INSERT INTO cdc_backfill_chunk VALUES ('erp', 2, 'm', 0, 5, NULL);
INSERT INTO cdc_command (pipeline, verb, actor, created_at) VALUES ('erp', 'retry', 'root', '');
"""
SQLITE_SHAPE = """
SELECT m.name, p.name, p.type, p."notnull", p.dflt_value
  FROM sqlite_schema m JOIN pragma_table_info(m.name) p WHERE m.name LIKE 'cdc%' ORDER BY 1, 2"""


@pytest.fixture
def old_file(tmp_path: Path) -> Path:
    """An SQLite control database of the oldest version, with something in each of its tables."""
    path = tmp_path / "control.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(SQLITE_VERSION_1.read_text() + SQLITE_CONTENT)
    return path


def _rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def test_apply_carries_the_oldest_file_forward(old_file: Path, tmp_path: Path) -> None:
    """Checkpoint, failures and commands stay; afterwards it is what a new one is."""
    columns = {**dict.fromkeys(KEPT, "*"), "failure": FAILURE}
    selects = {name: f"SELECT {columns[name]} FROM cdc_{name}" for name in KEPT}
    before = {name: _rows(old_file, sql) for name, sql in selects.items()}
    with pytest.raises(ConfigurationError, match=r"version 1, this program needs.*apply"):
        SqliteSink(str(old_file), "erp", ENTITIES, LAYOUTS).acquire()
    planned = sqlite_plan(str(old_file), ENTITIES, LAYOUTS)
    assert f"note the ledger's version {LEDGER_VERSION}" in [
        change.description for change in planned.changes
    ]
    assert _rows(old_file, "SELECT version FROM cdc_meta") == [(1,)], "a plan changes nothing"

    sqlite_apply(str(old_file), ENTITIES, LAYOUTS)

    assert _rows(old_file, "SELECT version FROM cdc_meta") == [(LEDGER_VERSION,)]
    assert {name: _rows(old_file, sql) for name, sql in selects.items()} == before
    assert sqlite_plan(str(old_file), ENTITIES, LAYOUTS).changes == ()
    new = tmp_path / "new.db"
    sqlite_apply(str(new), ENTITIES, LAYOUTS)
    assert _rows(old_file, SQLITE_SHAPE) == _rows(new, SQLITE_SHAPE)
    with closing(SqliteSink(str(old_file), "erp", ENTITIES, LAYOUTS)) as sink:
        checkpoint = sink.acquire()
        assert (checkpoint.position, checkpoint.transactions) == ("0/10", 11)
        assert [failure.error_code for failure in sink.failures()] == ["required"]
        assert len(sink.lanes()) == 1


def test_no_file_is_migrated_under_a_worker_or_from_a_newer_version(tmp_path: Path) -> None:
    """Whoever holds it is named; a newer one names the way."""
    path = tmp_path / "control.db"
    sqlite_apply(str(path), ENTITIES, LAYOUTS)
    with closing(SqliteSink(str(path), "erp", ENTITIES, LAYOUTS, instance="host:1")) as sink:
        sink.acquire()
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE cdc_meta SET version = 1")
        with pytest.raises(ConfigurationError, match=r"host:1 holds the pipeline.*stop the daemon"):
            sqlite_apply(str(path), ENTITIES, LAYOUTS)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE cdc_meta SET version = 99")
    with pytest.raises(ConfigurationError, match="or a newer one"):
        sqlite_apply(str(path), ENTITIES, LAYOUTS)
    with pytest.raises(ConfigurationError, match="or a newer one"):
        SqliteControl(str(path)).checkpoints()
