"""What an administrator sets up: planned as SQL, applied once, and nothing more than needed."""

from __future__ import annotations

import pytest

from cdc_daemon.model.errors import ConfigurationError
from cdc_daemon.sources.postgres.setup import apply_plan, plan, role_statements
from tests.conftest import DatabaseFactory, PostgresOf
from tests.support.databases import Database
from tests.support.sources import PUBLICATION, conninfo, copy, make_source, table
from tests.support.versions import VERSIONS

T = table("t", "id", "a")


@pytest.fixture(params=VERSIONS)
def database(
    request: pytest.FixtureRequest, postgres_of: PostgresOf, database_factory: DatabaseFactory
) -> Database:
    found = database_factory(server=postgres_of(request.param))
    found.execute("CREATE TABLE t (id bigint PRIMARY KEY, a text)")
    return found


def test_a_plan_is_applied_once(database: Database) -> None:
    """It creates the publication, then there is nothing left to do and nothing to refuse."""
    made = plan("erp", conninfo(database), publication=PUBLICATION, tables=[T])
    assert [change.sql for change in made.changes] == [
        f'CREATE PUBLICATION "{PUBLICATION}" FOR TABLE ONLY "public"."t"'
        " WITH (publish = 'insert, update, delete, truncate')"
    ]
    assert database.query("SELECT 1 FROM pg_publication") == []
    apply_plan("erp", conninfo(database), publication=PUBLICATION, tables=[T])
    assert plan("erp", conninfo(database), publication=PUBLICATION, tables=[T]).changes == ()
    assert make_source(database, T).check(None) == []


def test_what_a_publication_lacks_is_added(database: Database) -> None:
    database.execute(
        'CREATE SCHEMA "S x"; CREATE TABLE "S x"."u v" (id int PRIMARY KEY);'
        f"CREATE PUBLICATION {PUBLICATION} FOR TABLE t WITH (publish = 'insert')"
    )
    tables = [T, table("u v", "id", schema="S x")]
    made = apply_plan("erp", conninfo(database), publication=PUBLICATION, tables=tables)
    assert [change.sql for change in made.changes] == [
        f"ALTER PUBLICATION \"{PUBLICATION}\" SET (publish = 'insert, update, delete, truncate')",
        f'ALTER PUBLICATION "{PUBLICATION}" ADD TABLE ONLY "S x"."u v"',
    ]
    assert make_source(database, *tables).check(None) == []


def test_partitioned_tables_are_published_by_their_partitions(database: Database) -> None:
    """Only so does the log tell the TRUNCATE of one partition."""
    database.execute(
        "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);"
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)"
    )
    tables = [T, table("p", "id")]
    apply_plan("erp", conninfo(database), publication=PUBLICATION, tables=[T])
    made = apply_plan("erp", conninfo(database), publication=PUBLICATION, tables=tables)
    assert [change.sql for change in made.changes] == [
        f'ALTER PUBLICATION "{PUBLICATION}" ADD TABLE "public"."p"'
    ]
    assert make_source(database, *tables).check(None) == []
    assert plan("erp", conninfo(database), publication=PUBLICATION, tables=tables).changes == ()


def test_whoever_publishes_a_parent_says_what_becomes_of_its_heirs(database: Database) -> None:
    """Their rows are its rows in SELECT and not in the log: that is nothing to be guessed."""
    database.execute("CREATE TABLE heir (PRIMARY KEY (id)) INHERITS (t)")
    made = plan("erp", conninfo(database), publication=PUBLICATION, tables=[T])
    assert "public.heir inherits from it" in made.refusals[0].what
    both = [T, table("heir", "id")]
    assert plan("erp", conninfo(database), publication=PUBLICATION, tables=both).refusals == ()
    database.execute(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE ONLY t")
    made = plan("erp", conninfo(database), publication=PUBLICATION, tables=[T])
    assert (made.changes, made.refusals) == ((), ())
    assert make_source(database, T).check(None) == []


def test_a_table_that_would_break_its_application_is_refused(database: Database) -> None:
    """G3: nothing is published that has no identity; nothing else is done either."""
    database.execute("CREATE TABLE x (id int)")
    tables = [T, table("x", "id")]
    made = plan("erp", conninfo(database), publication=PUBLICATION, tables=tables)
    assert "no primary key" in str(made.refusals[0])
    with pytest.raises(ConfigurationError):
        apply_plan("erp", conninfo(database), publication=PUBLICATION, tables=tables)
    assert database.query("SELECT 1 FROM pg_publication") == []


def test_the_worker_gets_the_least_rights_that_do(database: Database) -> None:
    """The printed statements and the plan together make a role that can snapshot and stream."""
    role = f"cdc_{database.name}"
    made = plan("erp", conninfo(database), publication=PUBLICATION, tables=[T], worker=role)
    assert f"role {role} does not exist" in str(made.refusals[0])
    assert "CREATE ROLE" in made.refusals[0].cure
    for statement in role_statements(role, database.name):
        database.execute(statement.replace("'…'", "'x'"))
    database.execute("REVOKE USAGE ON SCHEMA public FROM PUBLIC")
    try:
        made = apply_plan(
            "erp", conninfo(database), publication=PUBLICATION, tables=[T], worker=role
        )
        assert [change.sql for change in made.changes][1:] == [
            f'GRANT USAGE ON SCHEMA "public" TO "{role}"',
            f'GRANT SELECT ON "public"."t" TO "{role}"',
        ]
        again = plan("erp", conninfo(database), publication=PUBLICATION, tables=[T], worker=role)
        assert (again.changes, again.refusals) == ((), ())
        source = make_source(database, T, conninfo_=conninfo(database, user=role))
        assert source.check(None) == []
        copy(source)
        source.close()
    finally:
        database.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
