"""``check-config``, ``plan`` and ``apply`` against real servers, and how they refuse."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import Result

from cdc_daemon.demo.server import PrivatePostgres, free_port
from tests.conftest import DatabaseFactory, PostgresFactory
from tests.support.cli import invoke, write_configuration
from tests.support.databases import Database

PASSWORD = "hunter22-of-the-worker"
TABLE = """
CREATE TABLE t_bd_material (fid bigint PRIMARY KEY, fnumber text, fname text, fprice numeric);
INSERT INTO t_bd_material VALUES (1, 'M1', 'bolt', 1.5), (2, 'M2', 'nut', NULL)
"""
CONFIGURATION = """\
sources:
  erp: {{kind: postgres, dsn: "{source}", password: "{password}"}}
target: {{url: "{target}", password: "{password}"}}
entities:
  material:
    key: [code]
    attributes:
      code: string(40)
      name: string(20)
      price: decimal(18,2)
mappings:
  - from: erp.public.t_bd_material
    to: material
    key: {{code: fnumber}}
    fields:
      name: fname
      price: fprice
daemon: {{metrics_listen: "127.0.0.1:0"}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A source with one table, an empty target, a worker's role, and the configuration."""

    source: Database
    target: Database
    path: Path

    def __call__(self, *arguments: str, code: int, input: str | None = None) -> Result:
        """Call the program; nothing it says is a traceback or holds a password."""
        result = invoke(*arguments, "-c", str(self.path), input=input)
        for secret in (PASSWORD, self.source.server.password):
            assert not secret or secret not in result.output
        assert "Traceback" not in result.output
        assert result.exit_code == code, result.output
        return result

    def admins(self) -> list[str]:
        """Options that name an administrator's connection for both servers."""
        return ["--admin-dsn", f"erp={self.source.dsn}", "--admin-dsn", self.target.dsn]

    def rewrite(self, old: str, new: str) -> None:
        """Change the configuration."""
        text = self.path.read_text()
        assert old in text
        write_configuration(self.path.parent, text.replace(old, new))


@pytest.fixture(scope="module")
def server() -> Iterator[PrivatePostgres]:
    """A server that asks for passwords."""
    with PrivatePostgres(18, auth="scram-sha-256") as server:
        server.execute(f"CREATE ROLE cdc LOGIN REPLICATION PASSWORD '{PASSWORD}'")
        yield server


@pytest.fixture
def site(server: PrivatePostgres, database_factory: DatabaseFactory, tmp_path: Path) -> Site:
    source = database_factory(server=server)
    source.execute(TABLE)
    target = database_factory(server=server)
    text = CONFIGURATION.format(
        source=server.dsn(source.name, user="cdc"),
        target=server.dsn(target.name, user="cdc"),
        password=PASSWORD,
    )
    return Site(source=source, target=target, path=write_configuration(tmp_path, text))


def test_apply_creates_what_plan_shows_and_once_more_does_nothing(site: Site) -> None:
    plan = site("plan", *site.admins(), code=0).stdout
    assert 'CREATE PUBLICATION "cdc_erp"' in plan
    assert 'CREATE TABLE "public"."material"' in plan
    assert site.target.query("SELECT FROM pg_namespace WHERE nspname = 'cdc'") == []

    assert "done: " in site("apply", "--yes", *site.admins(), code=0).stderr
    again = site("apply", "--yes", *site.admins(), code=0)
    assert (again.stdout, again.stderr) == ("", "nothing to do\n")

    as_worker = site("plan", code=0)
    assert (as_worker.stdout, as_worker.stderr) == ("", "nothing to do\n")
    assert site("check-config", code=0).stderr == (
        "ok: files and servers agree: 1 source, 1 entity, 1 mapping\n"
    )


def test_the_plan_names_the_least_privileged_roles(site: Site) -> None:
    plan = site("plan", *site.admins(), code=0).stdout
    assert """--   CREATE ROLE "cdc" LOGIN REPLICATION PASSWORD '…'""" in plan
    assert """--   CREATE ROLE "cdc" LOGIN PASSWORD '…'""" in plan


def test_the_plan_as_sql_is_the_plan(site: Site) -> None:
    """What is printed can be run by psql instead."""
    plan = site("plan", *site.admins(), code=0).stdout
    source, target = plan.split("-- target\n")
    site.source.execute(source)
    site.target.execute(target)
    assert site("plan", code=0).stdout == ""


def test_the_plan_as_json(site: Site) -> None:
    plans = json.loads(site("plan", "-o", "json", *site.admins(), code=0).stdout)
    assert [one["server"] for one in plans] == ["source erp", "target"]
    assert plans[0]["changes"][0]["description"] == "create publication cdc_erp"
    assert plans[0]["refusals"] == []


def test_apply_asks_and_a_no_changes_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--yes" in site("apply", *site.admins(), code=2, input="y\n").stderr  # no terminal
    monkeypatch.setattr("cdc_daemon.cli.given.at_terminal", lambda: True)
    result = site("apply", *site.admins(), code=0, input="n\n")
    assert "Do this? [y/N]" in result.stderr
    assert site.target.query("SELECT FROM pg_namespace WHERE nspname = 'cdc'") == []
    assert "--yes" in site("apply", "--no-input", *site.admins(), code=2).stderr
    assert site("apply", "--dry-run", *site.admins(), code=0).stdout
    assert site.source.query("SELECT FROM pg_publication") == []
    site("apply", *site.admins(), code=0, input="y\n")
    assert site.source.query("SELECT pubname::text FROM pg_publication") == [("cdc_erp",)]


# --- --admin-dsn ----------------------------------------------------------------------------------


def test_an_administrators_connection_to_another_database_is_refused(site: Site) -> None:
    result = site("plan", "--admin-dsn", site.source.server.dsn("postgres"), code=2)
    assert "names database 'postgres'" in result.stderr


def test_a_server_is_named_once(site: Site) -> None:
    twice = ["--admin-dsn", site.target.dsn, "--admin-dsn", f"target={site.target.dsn}"]
    assert "twice for target" in site("plan", *twice, code=2).stderr


@pytest.mark.parametrize("dsn", ["tarket=postgresql://x", "postgresql://a:s3cr3t@[/x", "mysql://x"])
def test_what_is_no_connection_is_a_usage_error_that_quotes_nothing(site: Site, dsn: str) -> None:
    assert "s3cr3t" not in site("plan", "--admin-dsn", dsn, code=2).output


def test_without_rights_apply_changes_nothing_and_says_what_is_missing(site: Site) -> None:
    result = site("apply", "--yes", code=78)
    assert "no right to read" in result.stderr
    assert site.source.query("SELECT FROM pg_publication") == []


# --- wrong configurations -------------------------------------------------------------------------


def test_before_apply_a_check_says_what_is_missing_and_names_the_cure(site: Site) -> None:
    result = site("check-config", code=78)
    assert "the control database has no ledger" in result.stderr
    assert "publication cdc_erp: it does not exist" in result.stderr
    assert "apply --admin-dsn" in result.stderr
    for command in (["status"], ["checkpoint", "show"], ["failures", "list"], ["verify"]):
        assert "ledger" in site(*command, code=78).stderr


def test_a_server_that_does_not_answer_is_69(site: Site) -> None:
    site("apply", "--yes", *site.admins(), code=0)
    site.rewrite(f":{site.source.server.port}/", f":{free_port()}/")
    for command in (["check-config"], ["plan"], ["apply", "--yes"], ["status"], ["verify"]):
        site(*command, code=69)


def test_a_wrong_password_is_78(site: Site) -> None:
    site("apply", "--yes", *site.admins(), code=0)
    site.rewrite(PASSWORD, "not-the-password")
    for command in (["check-config"], ["plan"], ["status"], ["verify"], ["failures", "list"]):
        assert "not-the-password" not in site(*command, code=78).output


def test_a_wrong_database_or_role_is_78(site: Site) -> None:
    site("apply", "--yes", *site.admins(), code=0)
    site.rewrite(f"/{site.target.name}", "/no_such_database")
    assert "does not exist" in site("check-config", code=78).stderr


def test_a_misspelt_column_is_told_with_its_place_and_a_suggestion(site: Site) -> None:
    site.rewrite("name: fname", "name: fnmae")
    for command in (["check-config"], ["plan", *site.admins()]):
        stderr = site(*command, code=78).stderr
        assert (
            f"error: {site.path}:16:13: erp.public.t_bd_material: column 'fnmae' does not exist;"
            " did you mean 'fname'?" in stderr
        )


def test_a_misspelt_column_in_an_expression_is_told_with_its_place(site: Site) -> None:
    site.rewrite("price: fprice", "price: {expr: fprise * 2}")
    stderr = site("plan", *site.admins(), code=78).stderr
    assert f"{site.path}:17:21: erp.public.t_bd_material: column 'fprise'" in stderr


def test_a_misspelt_table_is_told_with_its_place(site: Site) -> None:
    site.rewrite("t_bd_material", "t_bd_materiel")
    stderr = site("plan", *site.admins(), code=78).stderr
    assert f"{site.path}:12:11: erp.public.t_bd_materiel: the table does not exist" in stderr
    assert "t_bd_material'?" in stderr


def test_types_that_do_not_fit_are_told_with_their_place(site: Site) -> None:
    site.source.execute("ALTER TABLE t_bd_material ALTER fprice TYPE date USING NULL")
    assert f"{site.path}:17:14: " in site("plan", *site.admins(), code=78).stderr


def test_a_table_without_a_key_is_refused_before_it_is_published(site: Site) -> None:
    site.source.execute("ALTER TABLE t_bd_material DROP CONSTRAINT t_bd_material_pkey")
    assert "no primary key" in site("apply", "--yes", *site.admins(), code=78).stderr
    assert site.source.query("SELECT FROM pg_publication") == []


def test_a_target_table_altered_by_hand_is_refused(site: Site) -> None:
    site("apply", "--yes", *site.admins(), code=0)
    site.target.execute("ALTER TABLE material ALTER name TYPE varchar(10)")
    for command in (["check-config"], ["plan"], ["apply", "--yes"]):
        assert "character varying(10)" in site(*command, code=78).stderr


def test_a_source_without_logical_log_is_refused(
    postgres_factory: PostgresFactory, site: Site
) -> None:
    replica = postgres_factory(settings={"wal_level": "replica"})
    replica.create_database(site.source.name)
    replica.execute("CREATE ROLE cdc LOGIN REPLICATION")
    replica.execute(TABLE, dbname=site.source.name)
    replica.execute("GRANT SELECT ON t_bd_material TO cdc", dbname=site.source.name)
    text = site.path.read_text().replace(
        site.source.server.dsn(site.source.name, user="cdc"),
        replica.dsn(site.source.name, user="cdc"),
    )
    write_configuration(site.path.parent, text)
    assert "wal_level" in site("check-config", code=78).stderr
