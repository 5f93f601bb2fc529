"""What people get wrong, through the real program: a clear message, the right exit code, and
nothing lost.

No message shows a traceback or a password. What can be wrong with the files alone is in
tests/unit/test_config_problems.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import Result

from cdc_daemon.demo.server import PrivatePostgres, free_port
from tests.conftest import DatabaseFactory, PostgresFactory
from tests.support.cli import invoke
from tests.support.databases import Database
from tests.support.erp import PUBLICATION, TABLES, Erp
from tests.support.waiting import until

PASSWORD = "s3cret-Pässword"
WRONG = "an0ther-w0rd"
SERVER_COMMANDS = (
    ("check-config",),
    ("plan",),
    ("apply", "--yes"),
    ("checkpoint", "show"),
    ("failures", "list"),
    ("verify",),
)


def complaint(done: Result, code: int, *words: str) -> str:
    """The command ended with that code and said these words on stderr, and nothing it must not."""
    said = done.stderr
    assert done.exit_code == code, f"exit code {done.exit_code}\n{done.output}"
    for word in words:
        assert word in said, f"{word!r} is not in:\n{said}"
    for secret in (PASSWORD, quote(PASSWORD), WRONG, "Traceback"):
        assert secret not in done.output
    return said


def daemon_ends(erp: Erp, code: int, *words: str) -> None:
    """`run` ends by itself with that code, and says these words."""
    with erp.daemon() as daemon:
        assert daemon.wait(60) == code, daemon.log
        for word in words:
            assert word in daemon.log, f"{word!r} is not in:\n{daemon.log}"
        for secret in (PASSWORD, quote(PASSWORD), WRONG, "Traceback"):
            assert secret not in daemon.log


def rewrite(erp: Erp, old: str, new: str) -> None:
    """Change the configuration's text."""
    text = erp.configuration.read_text("utf-8")
    assert old in text
    erp.configuration.write_text(text.replace(old, new), "utf-8")


# --- servers that do not answer -------------------------------------------------------------------


def nowhere(database: Database) -> str:
    """The database's address with a port at which nobody listens."""
    return database.dsn.replace(f":{database.server.port}/", f":{free_port()}/")


@pytest.mark.parametrize("command", SERVER_COMMANDS, ids=lambda words: words[0])
def test_a_command_whose_servers_do_not_answer(
    command: tuple[str, ...], postgres18: PrivatePostgres, tmp_path: Path
) -> None:
    """69, naming the server."""
    nobody = Database(server=postgres18, name="nobody")
    erp = Erp(nobody, nobody, tmp_path)
    rewrite(erp, nobody.dsn, nowhere(nobody))
    complaint(erp.ask(*command), 69, "127.0.0.1")


def test_run_waits_for_servers_that_do_not_answer(erp: Erp) -> None:
    """It tries again for as long as it takes; TERM ends it with 0."""
    right, wrong = erp.target.dsn, nowhere(erp.target)
    rewrite(erp, right, wrong)
    with erp.daemon() as daemon:
        daemon.said("will try again", times=3, error="does not answer")
        assert len(daemon.events("worker started")) == 1
        assert daemon.stop() == 0, daemon.log
    rewrite(erp, wrong, right)
    erp.configure()
    text = erp.configuration.read_text("utf-8")
    away = text.replace(erp.source.dsn, nowhere(erp.source))
    erp.configuration.write_text(away, "utf-8")
    with erp.daemon() as daemon:
        daemon.said("will try again", times=3, error="source erp")
        assert daemon.stop() == 0, daemon.log


# --- servers that refuse --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded() -> Iterator[PrivatePostgres]:
    """A server that asks for passwords."""
    with PrivatePostgres(18, auth="scram-sha-256") as server:
        yield server


@pytest.fixture
def roles(guarded: PrivatePostgres) -> Iterator[PrivatePostgres]:
    """Roles `reader` and `worker` with `PASSWORD`; gone after the databases that know them."""
    for role in ("reader", "worker"):
        guarded.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
    guarded.execute("ALTER ROLE reader REPLICATION")
    yield guarded
    guarded.execute("DROP ROLE reader, worker")


@pytest.fixture
def two_roles(roles: PrivatePostgres, database_factory: DatabaseFactory, tmp_path: Path) -> Erp:
    """Applied with least privileges: role `reader` at the source, `worker` at the target."""
    source, target = database_factory(server=roles), database_factory(server=roles)
    source.execute(TABLES)
    source.execute(PUBLICATION)
    source.execute("GRANT SELECT ON t_customer, t_order, t_material TO reader")
    erp = Erp(source, target, tmp_path)
    text = erp.configuration.read_text("utf-8")
    for database, role in ((source, "reader"), (target, "worker")):
        text = text.replace(database.dsn, roles.dsn(database.name, role, password=PASSWORD))
    erp.configuration.write_text(text, "utf-8")
    done = invoke(
        "apply", "--yes", "--config", str(erp.configuration),
        "--admin-dsn", f"erp={source.dsn}", "--admin-dsn", f"target={target.dsn}",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return erp


def test_with_least_privileges_it_works(two_roles: Erp) -> None:
    """What `apply` grants is all that the daemon needs."""
    complaint(two_roles.ask("check-config"), 0)
    with two_roles.streaming() as daemon:
        two_roles.insert_materials(1, 30)
        two_roles.caught_up(daemon)
        two_roles.agrees()
        assert daemon.stop() == 0
        assert PASSWORD not in daemon.log


@pytest.mark.parametrize("role", ["reader", "worker"])
def test_a_wrong_password(two_roles: Erp, role: str) -> None:
    """78 from every command that logs in, and from `run`; never the password."""
    login = _login(two_roles, role)
    rewrite(two_roles, login, login.replace(quote(PASSWORD), WRONG))
    complaint(two_roles.ask("check-config"), 78, "password")
    daemon_ends(two_roles, 78, "password")


def _login(erp: Erp, role: str) -> str:
    text = erp.configuration.read_text("utf-8")
    (line,) = [line for line in text.splitlines() if f"//{role}@" in line]
    return line


MISSING = {
    "no right to read a table": (
        "source", "REVOKE SELECT ON t_order FROM reader", ("t_order", "GRANT SELECT"),
    ),
    "no right to replicate": ("source", "ALTER ROLE reader NOREPLICATION", ("REPLICATION",)),
    "no right to write an entity": (
        "target", "REVOKE INSERT ON material FROM worker", ("public.material", "INSERT", "apply"),
    ),
    "no right to the ledger": (
        "target", "REVOKE UPDATE ON cdc.checkpoint FROM worker", ("cdc.checkpoint", "UPDATE"),
    ),
    "no right to the schema": (
        "target", "REVOKE USAGE ON SCHEMA cdc FROM worker", ("cdc",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISSING)
def test_a_missing_right(two_roles: Erp, name: str) -> None:
    """Found before anything is read or written: 78, with what is missing and the cure."""
    where, statement, words = MISSING[name]
    (two_roles.source if where == "source" else two_roles.target).execute(statement)
    complaint(two_roles.ask("check-config"), 78, *words)
    if name in ("no right to replicate", "no right to write an entity"):
        daemon_ends(two_roles, 78, *words)


@pytest.mark.parametrize("where", ["source", "target"])
def test_a_database_that_does_not_exist(erp: Erp, where: str) -> None:
    """78: waiting does not create it."""
    database = erp.source if where == "source" else erp.target
    rewrite(erp, f'/{database.name}"', '/no_such_database"')
    complaint(erp.ask("check-config"), 78, "does not exist")
    if where == "target":
        daemon_ends(erp, 78, "does not exist")


def test_a_source_without_logical_wal(
    postgres_factory: PostgresFactory, database_factory: DatabaseFactory, tmp_path: Path
) -> None:
    """wal_level: 78 with the statement that cures it, from `check-config` and `run`."""
    server = postgres_factory(settings={"wal_level": "replica"})
    erp = Erp(database_factory(server=server), database_factory(), tmp_path)
    erp.source.execute(TABLES)
    erp.source.execute(PUBLICATION)
    erp.apply()
    complaint(erp.ask("check-config"), 78, "wal_level is replica", "ALTER SYSTEM SET wal_level")
    daemon_ends(erp, 78, "wal_level is replica")


# --- mappings that do not fit the source ----------------------------------------------------------


def test_a_table_without_a_key(erp: Erp) -> None:
    """Nothing identifies its rows: 78 before it is published."""
    erp.source.execute("ALTER TABLE t_material DROP CONSTRAINT t_material_pkey")
    complaint(erp.ask("check-config"), 78, "t_material", "key")
    daemon_ends(erp, 78, "t_material", "key")


NAMES = {
    "column": ("name: fname\n      unit", "name: fnme\n      unit", "fname", "fnme"),
    "column in a key": ("key: {code: fnumber}\n    fields:", "key: {code: fnumbr}\n    fields:",
                        "fnumber", "fnumbr"),
    "table": ("erp.public.t_material", "erp.public.t_materal", "t_material", "t_materal"),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_misspelt_name(erp: Erp, name: str) -> None:
    """78 with file, line and column of the word, and what was probably meant."""
    right, wrong, meant, written = NAMES[name]
    rewrite(erp, right, wrong)
    lines = erp.configuration.read_text("utf-8").splitlines()
    line, text = next((n, text) for n, text in enumerate(lines, 1) if written in text)
    place = f"{erp.configuration}:{line}:{text.index(written) + 1}"
    said = complaint(erp.ask("check-config"), 78, written, meant, "did you mean")
    assert str(place) in said or f"{erp.configuration.name}:{line}:" in said
    if name == "column":
        daemon_ends(erp, 78, written, "did you mean")


def test_a_key_that_stands_twice_in_the_file(erp: Erp) -> None:
    """78 with the place, from every command, `run` too; the first is not silently replaced."""
    rewrite(erp, "  material:\n", "  customer:\n")
    for command in (("check-config", "--offline"), ("run",)):
        complaint(erp.ask(*command), 78, "cdc-daemon.yaml:", "customer")


# --- values that do not fit -----------------------------------------------------------------------


def test_a_value_that_is_too_long(erp: Erp) -> None:
    """Parked and shown, never its text; nothing else is held up, and its lane waits."""
    rewrite(
        erp,
        "name: {type: string(200), required: true}\n      unit",
        "name: {type: string(10), required: true}\n      unit",
    )
    erp.target.execute("DROP TABLE material")
    erp.apply()
    with erp.streaming() as daemon:
        erp.commit(
            "INSERT INTO t_material VALUES (1, 'M1', 'a name that is too long', 'KG', 1, NULL)"
        )
        erp.commit("INSERT INTO t_material VALUES (2, 'M2', 'short', 'KG', 2, NULL)")
        erp.caught_up(daemon)
        assert erp.target.query("SELECT code FROM material") == [("M2",)]
        shown = erp.ask("failures", "list")
        assert shown.exit_code == 0
        assert "too_long" in shown.stdout
        assert "a name that is too long" not in shown.output + daemon.log
        erp.same_counters()
        erp.source.execute("UPDATE t_material SET fname = 'short too' WHERE fid = 1")
        erp.caught_up(daemon)
        assert [code for code, *_ in erp.parked()] == ["too_long", "waiting"]
        assert daemon.stop() == 0


# --- the target altered by hand -------------------------------------------------------------------

ALTERED = {
    "a column dropped": ("DROP COLUMN price", ("column price is missing", "apply")),
    "a column's type changed": ("ALTER price TYPE text", ("column price is text",)),
    "a column made shorter": ("ALTER name TYPE varchar(5)", ("column name is",)),
    "the primary key dropped": ("DROP CONSTRAINT material_pkey CASCADE", ("primary key",)),
    "a column added that must be filled": ("ADD extra integer NOT NULL", ("column extra",)),
    "renamed": ("RENAME TO materials", ("public.material", "does not exist", "apply")),
}


@pytest.mark.parametrize("name", ALTERED)
def test_a_target_table_altered_while_the_daemon_was_away(erp: Erp, name: str) -> None:
    """78 with the difference, before a row is written."""
    change, words = ALTERED[name]
    erp.target.execute(f"ALTER TABLE material {change}")
    complaint(erp.ask("check-config"), 78, *words)
    if name == "the primary key dropped":
        daemon_ends(erp, 78, *words)
    assert erp.target.query("SELECT phase FROM cdc.checkpoint") == []


def test_a_column_dropped_under_the_daemons_eyes(erp: Erp) -> None:
    """The pipeline stops, and says what is wrong; put right, it goes on without a gap."""
    with erp.streaming() as daemon:
        erp.insert_materials(1, 1)
        erp.caught_up(daemon)
        erp.target.execute("ALTER TABLE material DROP COLUMN remark")
        erp.insert_materials(2, 30)
        assert daemon.wait(60) == 78, daemon.log
        assert "column remark is missing" in daemon.log
    assert erp.parked() == []
    erp.apply()
    erp.commit("UPDATE t_material SET fremark = 'again'")
    erp.settled()


@pytest.mark.acceptance
def test_a_table_dropped_under_the_daemons_eyes(erp: Erp) -> None:
    """The same for a whole table; what it held is the administrator's loss, what comes is not."""
    with erp.streaming() as daemon:
        erp.target.execute("DROP TABLE material")
        erp.insert_materials(1, 30)
        assert daemon.wait(60) == 78, daemon.log
        assert "public.material" in daemon.log
    erp.apply()
    erp.settled()


def test_a_type_changed_under_the_daemons_eyes(erp: Erp) -> None:
    """A narrower type makes rows bad, not lost: parked until it is put right, then retried."""
    with erp.streaming() as daemon:
        erp.insert_materials(1, 1)
        erp.caught_up(daemon)
        erp.target.execute("ALTER TABLE material ALTER name TYPE varchar(3) USING 'M'")
        erp.insert_materials(2, 3)
        until(lambda: erp.parked() or not daemon.running, what="rows are parked")
        assert len(erp.parked()) == 3
        erp.target.execute("ALTER TABLE material ALTER name TYPE varchar(200)")
        erp.retry_all()
        erp.commit("UPDATE t_material SET fname = 'Material' WHERE fid = 1")
        erp.caught_up(daemon)
        erp.agrees()
