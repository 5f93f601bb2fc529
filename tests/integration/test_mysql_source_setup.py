"""What plan and apply do at a MySQL or MariaDB source, for whom."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cdc_daemon.demo.mysql_family import FamilyServer
from cdc_daemon.model.errors import ConfigurationError
from cdc_daemon.model.ports import Table
from cdc_daemon.sources.mysql.setup import Plan, apply_plan, plan
from tests.support.mysql_sources import Schema, schema_on


@pytest.fixture(params=["mariadb", "mysql9"])
def schema(request: pytest.FixtureRequest) -> Iterator[Schema]:
    server = request.getfixturevalue(request.param)
    assert isinstance(server, FamilyServer)
    with schema_on(server) as made:
        made.execute("CREATE TABLE t_user (id int PRIMARY KEY, name varchar(40))")
        yield made


def settings(schema: Schema, **account: str) -> dict[str, str]:
    return {name: str(value) for name, value in {**schema.server.address, **account}.items()}


def test_an_account_is_granted_what_a_copy_and_the_log_need(schema: Schema) -> None:
    """And no more; whoever is that account sees for himself that nothing is left to do."""
    worker, table = f"worker_{schema.name}", schema.table("t_user", "id", "name")
    schema.server.create_account(worker, "pw")
    made = apply_plan("hr", settings(schema), tables=[table], worker=worker)
    granted = [change.sql.partition(" TO ")[0] for change in made.changes]
    assert granted == wanted(schema)
    own = settings(schema, user=worker, password="pw")
    for seen_by in (settings(schema), own):
        assert plan("hr", seen_by, tables=[table], worker=worker) == Plan(changes=(), refusals=())


def wanted(schema: Schema) -> list[str]:
    pattern = schema.name.replace("_", "\\_")
    if "MariaDB" in repr(schema.server):
        return [
            "GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.*",
            f"GRANT SELECT ON `{schema.name}`.`t_user`",
        ]
    return [
        "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.*",
        f"GRANT SELECT ON `{schema.name}`.`t_user`",
        f"GRANT LOCK TABLES ON `{pattern}`.*",
    ]


def test_who_sees_no_accounts_is_told_to_be_an_administrator(schema: Schema) -> None:
    other = f"other_{schema.name}"
    schema.server.create_account(other, "pw", f"SELECT ON `{schema.name}`.*")
    with pytest.raises(ConfigurationError) as found:
        planned(schema, settings(schema, user=other, password="pw"), "cdc")
    [problem] = found.value.problems
    assert (problem.what, problem.cure) == (
        "no right to read mysql.user",
        "name an administrator: --admin-dsn",
    )


def test_what_only_a_person_can_do_is_refused(schema: Schema) -> None:
    made = planned(schema, settings(schema), "nobody", schema.table("T_USERS", "id"))
    assert not made.changes
    assert {problem.what for problem in made.refusals} == {
        "there is no account 'nobody'",
        "the table does not exist",
    }


def planned(schema: Schema, by: dict[str, str], worker: str, *tables: Table) -> Plan:
    return plan("hr", by, tables=tables or [schema.table("t_user", "id")], worker=worker)
