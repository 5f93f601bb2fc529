"""``doctor`` against real servers: everything that is wrong at once, each with its cure."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from cdc_daemon.cli.examining import COPIED, MAPPING, SOURCE_REACH, TARGET_REACH
from cdc_daemon.demo.server import PrivatePostgres, free_port
from cdc_daemon.model.findings import Check
from cdc_daemon.sinks.mysql import checks as family_checks
from cdc_daemon.sinks.postgres import checks as target_checks
from cdc_daemon.sinks.sqlite import checks as embedded_checks
from cdc_daemon.sources.mysql import checks as mysql_checks
from cdc_daemon.sources.postgres import checks as source_checks
from tests.conftest import DatabaseFactory, PostgresFactory
from tests.support.cli import invoke, write_configuration
from tests.support.databases import Database
from tests.support.pipelines import Running, System
from tests.support.waiting import until

PASSWORD = "hunter22-of-the-worker"
TABLE = "CREATE TABLE t_material (fid bigint PRIMARY KEY, fnumber text, fprice numeric)"
ONE_TABLE = """\
sources:
  erp: {{kind: postgres, dsn: "{source}", password: "{password}"}}
target: {{url: "{target}", password: "{password}"}}
entities:
  material:
    key: [code]
    attributes: {{code: string(40), price: "decimal(18,2)"}}
mappings:
  - {{from: erp.public.t_material, to: material, key: {{code: fnumber}}, fields: {{price: fprice}}}}
daemon: {{metrics_listen: "127.0.0.1:0"}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A source, a target, and the configuration between them."""

    source: Database
    target: Database
    path: Path

    def doctor(self, *arguments: str, code: int) -> list[dict[str, str]]:
        """Its findings. What it says is no traceback and holds no password."""
        result = invoke("doctor", "-o", "json", "-c", str(self.path), *arguments)
        assert PASSWORD not in result.output
        assert "Traceback" not in result.output
        assert result.exit_code == code, result.output
        assert result.stdout, result.output
        said: dict[str, Any] = json.loads(result.stdout)
        assert said["ok"] == (code == 0)
        found: list[dict[str, str]] = said["findings"]
        assert all(each["cure"] and each["why"] for each in found if each["state"] == "problem")
        return found

    def cure_of(self, check: str) -> tuple[str, str]:
        """The server and the cure of a check that did not pass; empty where it did."""
        said = json.loads(invoke("doctor", "-o", "json", "-c", str(self.path)).stdout)
        found = [one for one in said["findings"] if one["check"] == check and one["cure"]]
        return (found[0]["server"], found[0]["cure"]) if found else ("", "")

    def amiss(self, *, code: int) -> dict[str, str]:
        """State and words of each check that did not pass."""
        found = self.doctor("--amiss", code=code)
        return {each["check"]: f"{each['state']}: {each['what']}" for each in found}

    def rewrite(self, old: str, new: str) -> None:
        """Change the configuration."""
        text = self.path.read_text()
        assert old in text
        write_configuration(self.path.parent, text.replace(old, new))


@pytest.fixture(scope="module")
def server() -> Iterator[PrivatePostgres]:
    """A server that asks for passwords, and a role that is no superuser."""
    with PrivatePostgres(18, auth="scram-sha-256") as server:
        server.execute(f"CREATE ROLE cdc LOGIN REPLICATION PASSWORD '{PASSWORD}'")
        yield server


def make_site(server: PrivatePostgres, source: Database, target: Database, folder: Path) -> Site:
    text = ONE_TABLE.format(
        source=server.dsn(source.name, user="cdc"),
        target=server.dsn(target.name, user="cdc"),
        password=PASSWORD,
    )
    return Site(source=source, target=target, path=write_configuration(folder, text))


@pytest.fixture
def site(server: PrivatePostgres, database_factory: DatabaseFactory, tmp_path: Path) -> Site:
    """One table, applied by an administrator: nothing is wrong."""
    source, target = database_factory(server=server), database_factory(server=server)
    source.execute(TABLE)
    site = make_site(server, source, target, tmp_path)
    admins = ["--admin-dsn", f"erp={source.dsn}", "--admin-dsn", target.dsn]
    done = invoke("apply", "--yes", "-c", str(site.path), *admins)
    assert done.exit_code == 0, done.output
    return site


# --- ten and more at once -------------------------------------------------------------------------

TEN = """\
sources:
  erp: {{kind: postgres, dsn: "{source}"}}
target: {{url: "{target}"}}
entities:
  plain: {{key: [code], attributes: {{code: string(40)}}}}
  quiet: {{key: [code], attributes: {{code: string(40)}}}}
  keyless: {{key: [code], attributes: {{code: string(40)}}}}
  computed: {{key: [code], attributes: {{code: string(40), twice: bigint}}}}
  secret: {{key: [code], attributes: {{code: string(40)}}}}
  ruled: {{key: [code], attributes: {{code: string(40)}}}}
mappings:
  - {{from: erp.public.plain, to: plain, key: {{code: code}}}}
  - {{from: erp.public.quiet, to: quiet, key: {{code: code}}}}
  - {{from: erp.public.keyless, to: keyless, key: {{code: code}}}}
  - {{from: erp.public.computed, to: computed, key: {{code: code}}, fields: {{twice: twice}}}}
  - {{from: erp.public.secret, to: secret, key: {{code: code}}}}
  - {{from: erp.public.ruled, to: ruled, key: {{code: code}}}}
daemon: {{metrics_listen: "127.0.0.1:0"}}
"""
BROKEN_SOURCE = """
CREATE ROLE cdc LOGIN;
CREATE TABLE plain (code text PRIMARY KEY);
CREATE TABLE quiet (code text PRIMARY KEY);
ALTER TABLE quiet REPLICA IDENTITY NOTHING;
CREATE TABLE keyless (code text);
CREATE TABLE computed (code text PRIMARY KEY, n int,
                       twice int GENERATED ALWAYS AS (n * 2) STORED);
CREATE TABLE secret (code text PRIMARY KEY);
CREATE TABLE ruled (code text PRIMARY KEY);
ALTER TABLE ruled ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON plain, quiet, keyless, computed, ruled TO cdc;
CREATE PUBLICATION cdc_erp FOR TABLE quiet, keyless, computed, secret, ruled
    WITH (publish = 'insert, update');
SELECT pg_create_physical_replication_slot('cdc_erp');
"""
BROKEN_TARGET = """
CREATE COLLATION blurred (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE plain (code varchar(30) PRIMARY KEY,
                    last_sync_time timestamptz NOT NULL DEFAULT now());
CREATE TABLE quiet (code varchar(40) COLLATE blurred PRIMARY KEY,
                    last_sync_time timestamptz NOT NULL DEFAULT now());
GRANT SELECT, INSERT, UPDATE ON plain TO cdc;
GRANT SELECT, INSERT, UPDATE, DELETE ON quiet TO cdc;
ALTER DATABASE control SET default_transaction_read_only = on;
"""
PROBLEMS = {
    ("source.wal_level", "wal_level is replica", "ALTER SYSTEM SET wal_level"),
    ("source.replication", "", "REPLICATION"),
    ("table.columns", "column 'twice' is generated", "map the columns"),
    ("table.columns", "no right to read code", "GRANT SELECT ON public.secret"),
    ("table.columns", "row security hides rows", "BYPASSRLS"),
    ("table.identity", "REPLICA IDENTITY NOTHING", "REPLICA IDENTITY USING INDEX"),
    ("table.identity", "no primary key", "add a primary key"),
    ("publication.content", "does not publish delete, truncate", "SET (publish ="),
    ("publication.content", "table public.plain is not in it", "ADD TABLE public.plain"),
    ("slot.kind", "physical slot", "another slot name"),
    ("target.encoding", "encoding LATIN1", "ENCODING 'UTF8'"),
    ("target.writable", "default_transaction_read_only is on", "= off"),
    ("target.ledger", "has no ledger", "apply --admin-dsn"),
    ("target.rights", "no right to DELETE", "apply --admin-dsn"),
    ("target.rights", "the table does not exist", "apply --admin-dsn"),
    ("target.tables", "character varying(30), not character varying(40)", "by hand"),
    ("target.keys", "collation blurred", 'COLLATE "C"'),
}
WARNINGS = {
    ("source.sender_timeout", "wal_sender_timeout is 1s"),
    ("slot.retention", "max_slot_wal_keep_size is 1MB"),
    ("target.durability", "fsync is off"),
    ("target.session", "default_transaction_isolation is serializable"),
}


@pytest.fixture
def broken(postgres_factory: PostgresFactory, tmp_path: Path) -> Site:
    """A server on which nearly nothing is as it should be (Debian's, for its collations)."""
    server = postgres_factory(
        15,
        settings={
            "wal_level": "replica",
            "max_slot_wal_keep_size": "1MB",
            "wal_sender_timeout": "1s",
            "fsync": "off",
            "default_transaction_isolation": "serializable",
        },
    )
    source = Database(server=server, name="erp")
    target = Database(server=server, name="control")
    server.create_database("erp")
    server.execute(
        "CREATE DATABASE control ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'"
        " LOCALE_PROVIDER libc"
    )
    source.execute(BROKEN_SOURCE)
    target.execute(BROKEN_TARGET)
    text = TEN.format(
        source=server.dsn("erp", user="cdc"), target=server.dsn("control", user="cdc")
    )
    return Site(source=source, target=target, path=write_configuration(tmp_path, text))


def test_ten_misconfigurations_are_ten_problems_with_their_cures(broken: Site) -> None:
    """It never stops at the first: what is wrong with source and target comes in one look."""
    found = broken.doctor(code=78)
    problems = [each for each in found if each["state"] == "problem"]
    for check, what, cure in PROBLEMS:
        assert any(
            each["check"] == check and what in each["what"] and cure in each["cure"]
            for each in problems
        ), (check, what, cure, problems)
    for check, what in WARNINGS:
        assert any(
            each["check"] == check and what in each["what"] and each["state"] == "warning"
            for each in found
        ), (check, what, found)
    known = {check for check, *_ in PROBLEMS}
    assert {each["check"] for each in problems} == known
    assert len(problems) >= 10
    assert len({json.dumps(each) for each in found}) == len(found)  # nothing twice


def test_the_table_says_the_same_in_words(broken: Site) -> None:
    result = invoke("doctor", "--amiss", "-c", str(broken.path))
    assert result.exit_code == 78
    for check, what, cure in PROBLEMS:
        assert check in result.stdout
        assert what in result.stdout
        assert cure in result.stdout
    assert "problems" in result.stderr
    assert "wal_level is logical" not in result.stdout
    check_config = invoke("check-config", "-c", str(broken.path))
    assert check_config.exit_code == 78
    assert all(what in check_config.stderr for _, what, _ in PROBLEMS)


# --- one thing at a time --------------------------------------------------------------------------


def test_nothing_is_wrong(site: Site) -> None:
    assert site.amiss(code=0) == {}
    found = site.doctor(code=0)
    assert {each["server"] for each in found} == {"source erp", "target"}
    assert [each["state"] for each in found if each["check"] == "mapping.fit"] == ["ok"]


LOGIN_TRIGGER = """
CREATE FUNCTION meddle() RETURNS event_trigger LANGUAGE plpgsql AS
    $$BEGIN SET DateStyle = 'SQL, DMY'; END$$;
CREATE EVENT TRIGGER meddle ON login EXECUTE FUNCTION meddle();
"""
SLOT = "SELECT pg_create_logical_replication_slot('cdc_erp', 'pgoutput', false, {}, {})"
DROP_SLOT = "SELECT pg_drop_replication_slot('cdc_erp')"

# What is done at the source and undone again; exit code; what each check then says.
CASES: dict[str, tuple[str, str, int, dict[str, str]]] = {
    "superuser": (
        "ALTER ROLE cdc SUPERUSER",
        "ALTER ROLE cdc NOSUPERUSER",
        0,
        {"source.role": "warning: cdc is a superuser", "target.role": "warning: cdc is a superu"},
    ),
    "session settings meddled with": (
        LOGIN_TRIGGER,
        "DROP EVENT TRIGGER meddle; DROP FUNCTION meddle",
        78,
        {"source.session": "problem: the session has DateStyle = 'SQL, DMY'"},
    ),
    "transactions cut short": (
        "ALTER ROLE cdc SET transaction_timeout = '1h'",
        "ALTER ROLE cdc RESET transaction_timeout",
        0,
        {"source.session": "warning: transaction_timeout is 1h"},
    ),
    "connections cut short": (
        "ALTER ROLE cdc SET idle_session_timeout = '5s'",
        "ALTER ROLE cdc RESET idle_session_timeout",
        0,
        {"source.session": "warning: idle_session_timeout is 5s"},
    ),
    "a catalogue that the role may not read": (
        "REVOKE SELECT ON pg_catalog.pg_publication FROM PUBLIC",
        "GRANT SELECT ON pg_catalog.pg_publication TO PUBLIC",
        78,
        {
            "table.identity": "unknown: cannot look",
            "publication.content": "unknown: cannot look: check publication.content: permission",
        },
    ),
    "a catalogue that is only good to know": (
        "REVOKE SELECT ON pg_catalog.pg_db_role_setting FROM PUBLIC",
        "GRANT SELECT ON pg_catalog.pg_db_role_setting TO PUBLIC",
        0,
        {"source.overrides": "unknown: cannot look"},
    ),
    "a slot that nobody's checkpoint belongs to": (
        SLOT.format("false", "false"),
        DROP_SLOT,
        78,
        {"slot.checkpoint": "problem: the slot exists, but no checkpoint belongs to it"},
    ),
    "two-phase decoding": (
        SLOT.format("true", "false"),
        DROP_SLOT,
        78,
        {"slot.kind": "problem: it decodes transactions when they are prepared"},
    ),
    "a standby, and a slot that does not fail over": (
        SLOT.format("false", "false") + "; SELECT pg_create_physical_replication_slot('standby')",
        DROP_SLOT + "; SELECT pg_drop_replication_slot('standby')",
        78,
        {"slot.failover": "warning: the server has standbys, but the slot is not a failover slot"},
    ),
    "a failover slot ahead of its standby": (
        SLOT.format("false", "true") + "; SELECT pg_create_physical_replication_slot('standby')",
        DROP_SLOT + "; SELECT pg_drop_replication_slot('standby')",
        78,
        {"slot.failover": "warning: changes are published before any standby has them"},
    ),
    "a type that no longer fits": (
        "ALTER TABLE t_material ALTER fprice TYPE date USING NULL",
        "ALTER TABLE t_material ALTER fprice TYPE numeric USING NULL",
        78,
        {"mapping.fit": "problem: "},
    ),
}


@pytest.fixture(scope="module")
def sound(server: PrivatePostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site that its tests leave as they found it."""
    server.create_database("sound_source")
    server.create_database("sound_target")
    source = Database(server=server, name="sound_source")
    target = Database(server=server, name="sound_target")
    source.execute(TABLE)
    site = make_site(server, source, target, tmp_path_factory.mktemp("sound"))
    admins = ["--admin-dsn", f"erp={source.dsn}", "--admin-dsn", target.dsn]
    assert invoke("apply", "--yes", "-c", str(site.path), *admins).exit_code == 0
    yield site
    server.drop_database(source.name)
    server.drop_database(target.name)


@pytest.mark.parametrize("do, undo, code, expected", CASES.values(), ids=CASES)
def test_what_one_change_makes_of_the_checks(
    sound: Site, do: str, undo: str, code: int, expected: dict[str, str]
) -> None:
    sound.source.execute(do)
    try:
        found = sound.amiss(code=code)
    finally:
        sound.source.execute(undo)
    for check, words in expected.items():
        assert found.get(check, "").startswith(words), (check, words, found)


# What is done at the source and at the target, what it is undone by, whose cure is tried.
CURED: dict[str, tuple[str, str, str, str]] = {
    "no right to read the log": ("ALTER ROLE cdc NOREPLICATION", "", "", "source.replication"),
    "transactions cut short": (
        "ALTER ROLE cdc SET transaction_timeout = '1h'",
        "",
        "ALTER ROLE cdc RESET transaction_timeout",
        "source.session",
    ),
    "an impatient server": (
        "ALTER SYSTEM SET wal_sender_timeout = '1s'; SELECT pg_reload_conf()",
        "",
        "ALTER SYSTEM RESET wal_sender_timeout; SELECT pg_reload_conf()",
        "source.sender_timeout",
    ),
    "little room for the slot": (
        "ALTER SYSTEM SET max_slot_wal_keep_size = '64MB'; SELECT pg_reload_conf()",
        "",
        "ALTER SYSTEM RESET max_slot_wal_keep_size; SELECT pg_reload_conf()",
        "slot.retention",
    ),
    "a table that is not published": (
        "ALTER PUBLICATION cdc_erp DROP TABLE t_material",
        "",
        "",
        "publication.content",
    ),
    "actions that are not published": (
        "ALTER PUBLICATION cdc_erp SET (publish = 'insert')",
        "",
        "",
        "publication.content",
    ),
    "another isolation": (
        "SELECT 1",
        "ALTER DATABASE sound_target SET default_transaction_isolation = 'serializable'",
        "ALTER ROLE cdc RESET default_transaction_isolation;"
        "ALTER DATABASE sound_target RESET default_transaction_isolation",
        "target.session",
    ),
}


@pytest.mark.parametrize("at_source, at_target, undo, check", CURED.values(), ids=CURED)
def test_the_cure_as_it_is_printed_cures(
    sound: Site, at_source: str, at_target: str, undo: str, check: str
) -> None:
    """SQL that can be copied from the finding to the server that it names."""
    for database, statements in ((sound.source, at_source), (sound.target, at_target)):
        run_all(database, statements)
    try:
        until(lambda: sound.cure_of(check)[1], what=f"{check} does not pass")
        server, cure = sound.cure_of(check)
        run_all(sound.target if server == "target" else sound.source, cure)
        until(lambda: not sound.cure_of(check)[1], what=f"{check} passes after {cure}")
    finally:
        run_all(sound.source, undo)


def run_all(database: Database, statements: str) -> None:
    """Statements one by one, for ALTER SYSTEM stands in no transaction."""
    for statement in filter(None, statements.split(";")):
        database.execute(statement)


def test_somebody_else_reads_the_slot(sound: Site) -> None:
    sound.source.execute(SLOT.format("false", "false"))
    connection = psycopg.connect(
        sound.source.dsn, replication="database", autocommit=True, application_name="thief"
    )
    with closing(connection) as thief:
        thief.execute(
            "START_REPLICATION SLOT cdc_erp LOGICAL 0/0"
            " (proto_version '1', publication_names 'cdc_erp')"
        )
        found = sound.doctor("--amiss", code=78)
    until(lambda: not sound.source.query("SELECT FROM pg_stat_replication"), what="he is gone")
    sound.source.execute(DROP_SLOT)
    (reader,) = [each for each in found if each["check"] == "slot.reader"]
    assert reader["state"] == "problem"
    assert "of the server reads it" in reader["what"]
    assert "pg_terminate_backend" in reader["cure"]


def test_server_settings_that_endanger_the_slot(sound: Site) -> None:
    """A bound, with what is left of it; a timeout for a slot that nobody reads."""
    sound.source.execute(SLOT.format("false", "false"))
    settings = {"max_slot_wal_keep_size": "64MB", "idle_replication_slot_timeout": "2h"}
    try:
        with changed(sound.source, settings):
            found = sound.doctor("--amiss", code=78)
    finally:
        sound.source.execute(DROP_SLOT)
    bound, idle = [each["what"] for each in found if each["check"] == "slot.retention"]
    assert re.search(r"max_slot_wal_keep_size is 64MB, [\d.,]+ MB of it are left", bound), bound
    assert "idle_replication_slot_timeout is 2h" in idle
    assert "the slot is lost in 2 h" in idle or "the slot is lost in 120 min" in idle


@contextmanager
def changed(database: Database, settings: dict[str, str]) -> Iterator[None]:
    """A server's settings for a while; every new session has them."""

    def reached(name: str, value: str) -> bool:
        return database.query(f"SHOW {name}") == [(value,)]

    before = {name: str(database.query(f"SHOW {name}")[0][0]) for name in settings}
    try:
        for name, value in settings.items():
            database.execute(f"ALTER SYSTEM SET {name} = '{value}'")
            database.execute("SELECT pg_reload_conf()")
            until(lambda: reached(name, value), what=name)  # noqa: B023 - called at once
        yield
    finally:
        for name, value in before.items():
            database.execute(f"ALTER SYSTEM RESET {name}")
            database.execute("SELECT pg_reload_conf()")
            until(lambda: reached(name, value), what=name)  # noqa: B023 - called at once


def test_a_server_that_is_too_old_is_asked_nothing_more(
    sound: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdc_daemon.sources.postgres.checks.server.OLDEST", 99)
    monkeypatch.setattr("cdc_daemon.sinks.postgres.checks.server.OLDEST", 99)
    found = sound.amiss(code=78)
    assert found.pop("mapping.fit").startswith("unknown: ")
    assert found == {
        "source.version": "problem: PostgreSQL 18 is too old",
        "target.version": "problem: PostgreSQL 99 or later is needed",
    }


def test_a_server_that_nobody_has_tried(sound: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cdc_daemon.sources.postgres.checks.server.NEWEST", 17)
    assert "newer than any that was tested (17)" in sound.amiss(code=0)["source.version"]


# --- one dead server does not hide the other ------------------------------------------------------


def test_a_source_that_does_not_answer(site: Site) -> None:
    site.target.execute("REVOKE DELETE ON material FROM cdc")
    dead = site.source.server.dsn(site.source.name, user="cdc").replace(
        f":{site.source.server.port}/", f":{free_port()}/"
    )
    site.rewrite(site.source.server.dsn(site.source.name, user="cdc"), dead)
    found = site.amiss(code=78)
    assert found["source.reach"].startswith("unreachable: ")
    assert found["target.rights"] == "problem: no right to DELETE"
    site.target.execute("GRANT DELETE ON material TO cdc")
    assert list(site.amiss(code=69)) == ["source.reach"]


def test_a_target_that_does_not_answer(site: Site) -> None:
    dead = f":{free_port()}/{site.target.name}"
    site.rewrite(f":{site.target.server.port}/{site.target.name}", dead)
    assert list(site.amiss(code=69)) == ["target.reach"]
    site.source.execute("ALTER TABLE t_material REPLICA IDENTITY NOTHING")
    assert set(site.amiss(code=78)) == {"target.reach", "table.identity"}


def test_a_password_that_is_wrong(site: Site) -> None:
    site.rewrite(PASSWORD, "not-the-password")
    found = site.amiss(code=78)
    assert set(found) == {"source.reach", "target.reach"}
    assert all(words.startswith("problem: ") for words in found.values())
    assert "not-the-password" not in str(found)


def test_only_one_source_is_asked_for(site: Site) -> None:
    assert {each["server"] for each in site.doctor("--source", "erp", code=0)} == {
        "source erp",
        "target",
    }
    unknown = invoke("doctor", "-c", str(site.path), "--source", "epr")
    assert unknown.exit_code == 2
    assert "did you mean 'erp'?" in unknown.stderr


# --- an embedded target ---------------------------------------------------------------------------


def test_an_sqlite_target(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    path = site.path.parent / "control.db"
    worker = site.target.server.dsn(site.target.name, user="cdc")
    site.rewrite(
        f'target: {{url: "{worker}", password: "{PASSWORD}"}}', f"target: sqlite:///{path}"
    )
    assert "does not exist" in site.amiss(code=78)["target.reach"]
    admins = ["--admin-dsn", f"erp={site.source.dsn}"]
    assert invoke("apply", "--yes", "-c", str(site.path), *admins).exit_code == 0
    assert site.amiss(code=0) == {}
    journal = [one for one in site.doctor(code=0) if one["check"] == "target.journal"]
    assert [one["what"] for one in journal] == ["a write-ahead log, synchronised at each commit"]
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("DROP TABLE material")
    access = os.access
    monkeypatch.setattr(  # root may write everything
        "os.access", lambda place, mode: str(place) != str(path) and access(place, mode)
    )
    found = site.amiss(code=78)
    assert found["target.journal"] == "problem: journal mode is delete, not wal"
    assert found["target.rights"] == "problem: the table does not exist"
    assert "must not write" in found["target.writable"]


# --- while running --------------------------------------------------------------------------------


def test_a_running_worker_sees_what_changes(
    server: PrivatePostgres,
    database_factory: DatabaseFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Told when it comes and when it goes, in the status meanwhile; the stream goes on."""
    monkeypatch.setattr("cdc_daemon.worker.RECHECK", 0.0)
    monkeypatch.setattr("cdc_daemon.worker.TARGET_RECHECK", 0.0)
    source, target = database_factory(server=server), database_factory(server=server)
    source.execute(TABLE)
    system = System(source, target, tmp_path, RUNNING)
    system.publish("t_material")
    system.apply()

    def amiss(running: Running) -> set[str]:
        return {one["check"] for one in running.meter.status().findings}

    with capture_logs() as logs, system.running() as running:
        assert amiss(running) == {"source.role", "target.role"}  # the tests' superuser
        with changed(target, {"full_page_writes": "off"}):
            until(lambda: "target.durability" in amiss(running), what="the setting is seen")
        until(lambda: "target.durability" not in amiss(running), what="it is gone again")
        until(lambda: running.meter.status().log_bytes_per_second is not None, what="a rate")
        source.execute("INSERT INTO t_material VALUES (1, 'M1', 2)")
        until(lambda: target.query("SELECT code FROM material") == [("M1",)], what="the row")
    told = [line for line in logs if line.get("check") == "target.durability"]
    assert [line["event"] for line in told] == ["check failed", "check passed again"]
    assert "ALTER SYSTEM SET full_page_writes = on" in told[0]["cure"]
    roles = [line for line in logs if line.get("check") == "source.role"]
    assert len(roles) == 1


RUNNING = """
entities:
  material: {key: [code], attributes: {code: string(40), price: "decimal(18,2)"}}
mappings:
  - {from: erp.public.t_material, to: material, key: {code: fnumber}, fields: {price: fprice}}
"""


# --- the page -------------------------------------------------------------------------------------


ALL: tuple[Check[Any], ...] = (
    SOURCE_REACH,
    *source_checks.CHECKS,
    *mysql_checks.CHECKS,
    MAPPING,
    COPIED,
    TARGET_REACH,
    *target_checks.CHECKS,
    *family_checks.CHECKS,
    *embedded_checks.CHECKS,
)


def test_every_check_has_its_section() -> None:
    """docs/operations/doctor.md names each check with its title, in the order of the program."""
    page = Path(__file__).parents[2] / "docs" / "operations" / "doctor.md"
    sections = re.findall(
        r"^### `([\w.]+)`\n\n\*(.+)\*\n\n(?:\((.+?)\) )?", page.read_text("utf-8"), re.M
    )
    checks = dict.fromkeys((check.name, f"{check.title}.") for check in ALL)
    assert [(name, title) for name, title, _ in sections] == list(checks)
    watched = {name for name, _, marks in sections if "watched" in marks}
    assert watched == {check.name for check in ALL if check.watched}
    waiting = {name for name, _, marks in sections if "waits" in marks}
    assert waiting <= {check.name for check in ALL if not check.refuses}
