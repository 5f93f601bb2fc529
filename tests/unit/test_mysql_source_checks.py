"""What the checks of a MySQL or MariaDB source say of facts; no server is asked.

That the facts are read right from real servers: tests/integration/test_mysql_source_catalog.py.
"""

from __future__ import annotations

import datetime as dt
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, NoReturn

import pytest

from cdc_daemon.model.findings import Verdict, refusals
from cdc_daemon.model.ports import Table
from cdc_daemon.model.position import Checkpoint, Phase, SourceIdentity
from cdc_daemon.sources.mysql import checks
from cdc_daemon.sources.mysql.asked import Asked
from cdc_daemon.sources.mysql.binlogs import LogEnd
from cdc_daemon.sources.mysql.catalog import ColumnFacts, TableFacts
from cdc_daemon.sources.mysql.checks.examined import Examined
from cdc_daemon.sources.mysql.connection import SESSION
from cdc_daemon.sources.mysql.foreign_keys import ForeignKey, rules_in
from cdc_daemon.sources.mysql.grants import Grants, matches, parse_grants
from cdc_daemon.sources.mysql.gtid import parse_domains, parse_set
from cdc_daemon.sources.mysql.system import System

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
OTHER = "4e11fa47-71ca-11e1-9e33-c80aa9429562"
WELL = {
    "log_bin": "ON",
    "binlog_format": "ROW",
    "binlog_row_image": "FULL",
    "binlog_row_metadata": "FULL",
    "binlog_checksum": "CRC32",
    "binlog_expire_logs_seconds": "2592000",
    "server_id": "1",
    "sync_binlog": "1",
    "innodb_flush_log_at_trx_commit": "1",
    "read_only": "OFF",
}
MYSQL = {**WELL, "server_uuid": UUID, "gtid_mode": "ON", "log_replica_updates": "ON"}
MARIADB = {**WELL, "gtid_strict_mode": "ON", "log_slave_updates": "ON"}
SHOWN = {
    **{name: wanted.strip("'") for name, wanted in SESSION.items()},
    "sql_auto_is_null": "OFF",
    "sql_select_limit": "18446744073709551615",
}
ID = ColumnFacts(name="id", native="int", data_type="int", nullable=False)
CODE = ColumnFacts(
    name="code",
    native="varchar(9)",
    data_type="varchar",
    charset="latin1",
    collation="latin1_swedish_ci",
)
ITEM = Table(schema="shop", name="item", columns=frozenset({"id", "code"}))


def never(statement: str, *params: object) -> NoReturn:
    raise AssertionError(f"a check asks {statement!r} {params}")


def table(**different: Any) -> TableFacts:
    """The table `shop.item`, or one that differs from it."""
    usual: dict[str, Any] = {
        "schema": "shop",
        "name": "item",
        "kind": "BASE TABLE",
        "engine": "InnoDB",
        "columns": (ID, CODE),
        "primary_key": ("id",),
    }
    return TableFacts(**{**usual, **different})


def server(variables: dict[str, str], **different: str) -> System:
    mariadb = "gtid_mode" not in variables
    return System(
        mariadb=mariadb,
        version=(10, 11, 6) if mariadb else (8, 4, 3),
        shown="as it says",
        variables={**variables, **different},
    )


LOCKING = {"shop": frozenset({"LOCK TABLES"})}


def well(system: System, position: str | None = None, **facts: Any) -> Examined:
    """A source with which all is well but for these facts."""
    checkpoint = None
    if position is not None:
        identity = SourceIdentity(system=UUID, timeline=0, database="", publication="")
        checkpoint = Checkpoint(
            pipeline="shop", phase=Phase.STREAMING, epoch=1, identity=identity, position=position
        )
    asked = Asked(tables=(ITEM,), server_id=77, charsets=frozenset({"latin1", "utf8mb4"}))
    at = Examined("source shop", never, lambda _: nullcontext(), asked, checkpoint)
    usual: dict[str, Any] = {
        "system": system,
        "grants": Grants({"*": frozenset({"REPLICATION SLAVE", "REPLICATION CLIENT"})} | LOCKING),
        "account": "'cdc'@'%'",
        "replicates": False,
        "readers": [],
        "session": SHOWN,
        "encrypted": True,
        "loopback": True,
        "clock": (1.0, 1.0, 1.0),
        "end": LogEnd(file="binlog.000003", offset=900),
        "files": {"binlog.000002": 1000, "binlog.000003": 900},
        "executed": parse_set(f"{UUID}:1-20"),
        "purged": parse_set(f"{UUID}:1-5"),
        "last_of_domains": parse_domains("0-1-20"),
        "purged_of_domains": parse_domains("0-1-5"),
        "facts": {("shop", "item"): table()},
        "foreign_keys": [],
        "known": ["shop.item"],
    }
    for name, value in {**usual, **facts}.items():
        setattr(at, name, value)
    return at


def said(at: Examined) -> dict[str, list[tuple[str, str]]]:
    """What is not well: verdict and text, by check."""
    found: dict[str, list[tuple[str, str]]] = {}
    for finding in checks.examine(at):
        if finding.verdict is not Verdict.OK:
            found.setdefault(finding.check.name, []).append((finding.verdict.value, finding.what))
            assert finding.cure, "every finding has a cure"
            assert finding.where.startswith("source shop")
    return found


def only(at: Examined, check: str) -> tuple[str, str]:
    """The one finding that is not well."""
    found = said(at)
    assert list(found) == [check]
    [one] = found[check]
    return one


@pytest.mark.parametrize(
    "variables, position",
    [
        (MYSQL, None),
        (MYSQL, f"mysql/1 set={UUID}:1-5"),
        (MYSQL, f"mysql/1 set={UUID}:1-20 last={UUID}:20@5"),
        (MARIADB, None),
    ],
)
def test_a_source_with_which_all_is_well(variables: dict[str, str], position: str | None) -> None:
    assert said(well(server(variables), position)) == {}


@pytest.mark.parametrize("variables", [MYSQL, MARIADB])
@pytest.mark.parametrize(
    "name, value, check, verdict, words",
    [
        ("log_bin", "OFF", "source.binlog", "problem", "no binary log"),
        ("binlog_format", "MIXED", "source.binlog", "problem", "binlog_format is MIXED"),
        ("binlog_row_image", "MINIMAL", "source.binlog", "problem", "without some of their col"),
        ("binlog_row_metadata", "NO_LOG", "source.binlog", "problem", "without the names"),
        ("server_id", "0", "source.server_id", "problem", "refuses everybody"),
        ("server_id", "77", "source.server_id", "problem", "by which the daemon would read"),
        ("sync_binlog", "0", "source.durability", "warning", "given out again"),
        ("innodb_flush_log_at_trx_commit", "2", "source.durability", "warning", "tables may lack"),
        ("binlog_expire_logs_seconds", "7200", "log.retention", "warning", "after 2 h"),
    ],
)
def test_a_setting_that_loses_changes(
    variables: dict[str, str], name: str, value: str, check: str, verdict: str, words: str
) -> None:
    found = only(well(server(variables, **{name: value})), check)
    assert found[0] == verdict
    assert words in found[1]


def test_what_the_log_may_be_written_with_is_told_and_read() -> None:
    more = {"log_bin_compress": "ON", "binlog_checksum": "NONE", "binlog_alter_two_phase": "ON"}
    at = well(server(MARIADB, **more))
    assert said(at) == {}
    [told] = [f.what for f in checks.examine(at) if f.check.name == "source.binlog_contents"]
    assert told.startswith("compressed events; ALTER TABLE in two phases; no checksums")


def test_without_gtids_it_goes_by_file_and_says_so() -> None:
    at = well(server(MYSQL, gtid_mode="OFF_PERMISSIVE"))
    assert only(at, "source.gtid")[1].startswith("gtid_mode is OFF_PERMISSIVE: the daemon goes by")
    at = well(server(MARIADB, gtid_strict_mode="OFF"))
    assert only(at, "source.gtid")[1].startswith("gtid_strict_mode is OFF")


@pytest.mark.parametrize(
    "variables, version, verdict",
    [
        (MYSQL, (5, 7, 44), "problem"),
        (MARIADB, (10, 5, 9), "problem"),
        (MARIADB, (12, 3, 1), "warning"),
    ],
)
def test_versions(variables: dict[str, str], version: tuple[int, int, int], verdict: str) -> None:
    system = System(mariadb=variables is MARIADB, version=version, shown="", variables=variables)
    assert only(well(system), "source.version")[0] == verdict


def test_a_session_that_somebody_shares() -> None:
    at = well(server(MYSQL), session={**SHOWN, "time_zone": "SYSTEM"})
    assert "time_zone = 'SYSTEM' although" in only(at, "source.session")[1]


def test_a_filter_that_hides_a_mapped_schema() -> None:
    end = LogEnd(file="binlog.000003", offset=900, only=frozenset({"crm"}))
    assert only(well(server(MYSQL), end=end), "source.binlog_filters")[1].startswith("binlog_do_db")
    end = LogEnd(file="binlog.000003", offset=900, never=frozenset({"shop"}))
    assert "binlog_ignore_db" in only(well(server(MYSQL), end=end), "source.binlog_filters")[1]
    end = LogEnd(file="binlog.000003", offset=900, never=frozenset({"crm"}))
    assert said(well(server(MYSQL), end=end)) == {}


def test_a_filter_that_hides_the_parents_of_mapped_rows() -> None:
    key = ForeignKey(
        name="its_group",
        child=("shop", "item"),
        columns=("group_id",),
        parent=("crm", "group"),
        parent_columns=("id",),
        on_delete="CASCADE",
    )
    end = LogEnd(file="binlog.000003", offset=900, never=frozenset({"crm"}))
    locking = LOCKING | {"crm": LOCKING["shop"]}
    grants = Grants({"*": frozenset({"REPLICATION SLAVE", "REPLICATION CLIENT"})} | locking)
    at = well(server(MYSQL), end=end, foreign_keys=[key], grants=grants)
    assert only(at, "source.binlog_filters")[1].endswith("changes of schema crm out of the log")
    at = well(server(MYSQL), foreign_keys=[key])
    assert "may not lock the tables of crm" in only(at, "source.copying")[1]
    at = well(server(MYSQL), end=end, foreign_keys=[replace(key, on_delete="")])
    assert said(at) == {}


def test_a_replica_that_does_not_log_what_it_replicates() -> None:
    system = server(MYSQL, log_replica_updates="OFF")
    assert only(well(system, replicates=True), "source.replica")[0] == "problem"
    assert said(well(system)) == {}
    hidden = server(MARIADB, log_slave_updates="OFF", read_only="ON")
    assert only(well(hidden), "source.replica")[0] == "unknown"
    primary = server(MARIADB, log_slave_updates="OFF", gtid_slave_pos="")
    assert said(well(primary)) == {}
    assert said(well(server(MYSQL, super_read_only="ON"), replicates=True)) == {}


def test_rights_that_are_missing() -> None:
    at = well(server(MARIADB), grants=Grants({"*": frozenset({"REPLICATION SLAVE"})}))
    [finding] = [f for f in checks.examine(at) if f.verdict is Verdict.PROBLEM]
    assert finding.cure == "GRANT BINLOG MONITOR ON *.* TO 'cdc'@'%'"
    reading = frozenset({"REPLICATION SLAVE", "REPLICATION CLIENT"})
    assert (
        said(well(server(MARIADB), grants=Grants({"*": reading}))) == {}
    )  # its copy locks nothing
    at = well(server(MYSQL), grants=Grants({"*": reading | {"RELOAD"}}))
    [finding] = [f for f in checks.examine(at) if f.verdict is Verdict.PROBLEM]
    assert finding.cure == "GRANT LOCK TABLES ON `shop`.* TO 'cdc'@'%'"
    locking = Grants(
        {"*": reading, "sh%": frozenset({"LOCK TABLES"}), "sho_": frozenset({"SELECT"})}
    )
    assert said(well(server(MYSQL), grants=locking)) == {}
    everything = Grants({"*": frozenset({"ALL PRIVILEGES"})})
    assert only(well(server(MYSQL), grants=everything), "source.role")[0] == "warning"


def test_rights_are_read_from_grants_and_a_hash_is_not_kept() -> None:
    grants = parse_grants(
        [
            "GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO `u` IDENTIFIED BY PASSWORD '*D8'",
            "GRANT SELECT, LOCK TABLES ON `a``b\\_%`.* TO `u`@`%` WITH GRANT OPTION",
            "GRANT INSERT ON `shop`.`item` TO `u`@`%`",
            "GRANT `r`@`%` TO `u`@`%`",
            "REVOKE SELECT ON `x`.* FROM `u`@`%`",
        ]
    )
    assert "D8" not in repr(grants)
    assert grants.may("REPLICATION CLIENT")
    assert grants.may("LOCK TABLES", "a`b_shop")
    assert not grants.may("LOCK TABLES", "a`bxshop")
    assert not grants.may("INSERT", "shop")
    assert not grants.everything
    assert matches("a%", "abc")
    assert not matches("a.c", "abc")


def test_tables_and_columns_that_cannot_be_read() -> None:
    system = server(MARIADB)
    assert "does not exist" in only(well(system, facts={}), "table.columns")[1]
    gone = table(columns=(ID,))
    assert only(well(system, facts={("shop", "item"): gone}), "table.columns")[1].startswith(
        "column 'code' does not exist"
    )
    strange = ColumnFacts(name="code", native="text", data_type="text", charset="klingon")
    at = well(system, facts={("shop", "item"): table(columns=(ID, strange))})
    assert "character set klingon" in only(at, "table.columns")[1]
    hidden = ColumnFacts(name="code", native="int", data_type="int", readable=False)
    at = well(system, facts={("shop", "item"): table(columns=(ID, hidden))})
    [finding] = [f for f in checks.examine(at) if f.verdict is Verdict.PROBLEM]
    assert finding.cure == "GRANT SELECT ON `shop`.`item` TO 'cdc'@'%'"
    for kind in ("VIEW", "SYSTEM VERSIONED", "SEQUENCE", "TEMPORARY"):
        at = well(system, facts={("shop", "item"): table(kind=kind)})
        assert only(at, "table.columns")[0] == "problem"


def test_a_table_without_a_key_names_the_unique_one() -> None:
    facts = {("shop", "item"): table(primary_key=(), unique_keys=(("code",),))}
    at = well(server(MYSQL), facts=facts)
    [finding] = [f for f in checks.examine(at) if f.verdict is Verdict.PROBLEM]
    assert finding.check.name == "table.identity"
    assert "(identity: [code])" in finding.cure


@pytest.mark.parametrize(
    "engine, verdict",
    [("MyISAM", "warning"), ("Aria", "warning"), ("BLACKHOLE", "problem"), ("CONNECT", "problem")],
)
def test_engines_without_transactions_warn_and_those_without_rows_are_refused(
    engine: str, verdict: str
) -> None:
    at = well(server(MARIADB), facts={("shop", "item"): table(engine=engine)})
    assert only(at, "table.engine")[0] == verdict


KEY = ForeignKey(
    name="fk",
    child=("shop", "item"),
    columns=("code",),
    parent=("shop", "kind"),
    parent_columns=("code",),
    on_delete="CASCADE",
)


def test_cascades_that_the_log_lacks_are_read_again_or_refused() -> None:
    newer = server(MYSQL, innodb_native_foreign_keys="OFF")
    for system, replicates in (
        (server(MARIADB), False),
        (server(MYSQL), False),
        (server(MYSQL, innodb_native_foreign_keys="ON"), False),
        (newer, True),  # its primary may be an older one
    ):
        at = well(system, foreign_keys=[KEY], replicates=replicates)
        assert list(said(at)) == ["table.keys"]
        at.asked = Asked(tables=(ITEM,), server_id=7, charsets=at.asked.charsets, cascades="refuse")
        [(verdict, what)] = said(at)["table.cascades"]
        assert verdict == "problem"
        assert what.endswith("shop.item (code) follows shop.kind: ON DELETE CASCADE")
    at = well(newer, foreign_keys=[KEY])
    at.asked = Asked(tables=(ITEM,), server_id=7, charsets=at.asked.charsets, cascades="refuse")
    assert "table.cascades" not in said(at)


def test_a_reference_by_text_may_be_spelled_otherwise() -> None:
    at = well(server(MYSQL), foreign_keys=[KEY])
    found = only(at, "table.keys")
    assert found[0] == "warning"
    assert "latin1_swedish_ci" in found[1]


def test_partitions_warn() -> None:
    at = well(server(MYSQL), facts={("shop", "item"): table(partitioned=True)})
    assert only(at, "table.partitions")[0] == "warning"


def test_rules_of_foreign_keys_are_read_from_the_statement_that_makes_the_table() -> None:
    statement = (
        "CREATE TABLE `c` (\n  `id` int(11) NOT NULL COMMENT 'CONSTRAINT `x` FOREIGN KEY ON DELETE"
        " CASCADE',\n  PRIMARY KEY (`id`),\n"
        "  CONSTRAINT `a ON DELETE CASCADE` FOREIGN KEY (`p`) REFERENCES `p` (`id`),\n"
        "  CONSTRAINT `b``b` FOREIGN KEY (`p`) REFERENCES `o`.`p` (`id`) ON DELETE SET NULL"
        " ON UPDATE CASCADE,\n"
        "  CONSTRAINT `c` FOREIGN KEY (`p`) REFERENCES `p` (`id`) ON DELETE NO ACTION\n) ENGINE=X"
    )
    assert rules_in(statement) == {
        "a ON DELETE CASCADE": ("", ""),
        "b`b": ("SET NULL", "CASCADE"),
        "c": ("", ""),
    }


# --- the checkpoint's place ---------------------------------------------------------------------

BINLOG = f"binlog/1 server={UUID} at="


@pytest.mark.parametrize(
    "position, check, words",
    [
        (f"mysql/1 set={UUID}:1-4", "log.kept", f"({UUID}:5)"),
        (f"mysql/1 set={UUID}:1-21", "log.position", f"ahead of the server's log by {UUID}:21"),
        ("mariadb/1 at=0-1-9", "log.position", "of a MariaDB server"),
        (f"{BINLOG}binlog.000001:200", "log.kept", "binlog.000001"),
        (f"{BINLOG}binlog.000003:901", "log.position", "ahead of the server's log"),
        (f"{BINLOG}binlog.000004:4", "log.kept", "binlog.000004"),
        ("0/16B3748", "source.checkpoint", "not one of a MySQL"),
        (f"mysql/1  set={UUID}:1-4", "source.checkpoint", "damaged"),
    ],
)
def test_a_place_that_mysql_cannot_go_on_from(position: str, check: str, words: str) -> None:
    system = server(MYSQL, gtid_mode="OFF" if position.startswith("binlog/") else "ON")
    found = said(well(system, position))[check]
    assert [verdict for verdict, _ in found] == ["problem"]
    assert words in found[0][1]


@pytest.mark.parametrize(
    "position, check, words",
    [
        ("mariadb/1 at=0-1-4", "log.kept", "up to 0-1-5"),
        ("mariadb/1 at=3-1-9", "log.kept", "up to 0-1-5"),
        ("mariadb/1 at=0-1-21", "log.position", "by 0-1-21"),
        ("mariadb/1 at=0-1-9,3-1-9", "log.position", "by 3-1-9"),
        (f"mysql/1 set={UUID}:1-9", "log.position", "of a MySQL server"),
        (f"{BINLOG}binlog.000002:200", "log.position", "does not use on MariaDB"),
    ],
)
def test_a_place_that_mariadb_cannot_go_on_from(position: str, check: str, words: str) -> None:
    found = said(well(server(MARIADB), position))[check]
    assert [verdict for verdict, _ in found] == ["problem"]
    assert words in found[0][1]


def test_gtids_go_on_at_another_server_and_files_do_not() -> None:
    elsewhere = server(MYSQL, server_uuid=OTHER)
    assert only(well(elsewhere, f"mysql/1 set={UUID}:1-20"), "source.identity")[0] == "warning"
    without = server(MYSQL, server_uuid=OTHER, gtid_mode="OFF")
    found = said(well(without, f"{BINLOG}binlog.000002:200"))["source.identity"]
    assert [verdict for verdict, _ in found] == ["problem"]
    switched = well(server(MYSQL, gtid_mode="OFF"), f"mysql/1 set={UUID}:1-20")
    [(verdict, what)] = said(switched)["log.position"]
    assert verdict == "problem"
    assert "gtid_mode is not ON any more" in what
    [(_, what)] = said(well(server(MYSQL), f"{BINLOG}binlog.000002:200"))["log.position"]
    assert "has GTIDs now" in what
    assert refusals(checks.examine(switched))


def test_a_checkpoint_without_its_parts() -> None:
    at = well(server(MYSQL), f"mysql/1 set={UUID}:1-20")
    assert at.checkpoint is not None
    for name in ("position", "identity"):
        broken = well(server(MYSQL))
        broken.checkpoint = Checkpoint(
            pipeline="shop",
            phase=Phase.STREAMING,
            epoch=1,
            position=None if name == "position" else at.checkpoint.position,
            identity=None if name == "identity" else at.checkpoint.identity,
        )
        assert only(broken, "source.checkpoint")[0] == "problem"


def test_our_number_in_somebody_elses_hands() -> None:
    assert only(well(server(MYSQL), readers=[3, 77]), "log.reader")[0] == "problem"
    at = well(server(MYSQL), readers=[3, 77])
    at.held = True
    assert said(at) == {}
    assert said(well(server(MARIADB), readers=[3, 77])) == {}  # who may not look


def test_time_that_is_left_until_the_log_is_removed() -> None:
    at = well(server(MYSQL), f"mysql/1 set={UUID}:1-10")
    assert at.checkpoint is not None
    late = dt.datetime.now(dt.UTC) - dt.timedelta(days=29, hours=23, minutes=30)
    at.checkpoint = Checkpoint(**{**_fields(at.checkpoint), "commit_time": late})
    assert "is 30 days old" in only(at, "log.retention")[1]
    at.executed = parse_set(f"{UUID}:1-10")  # nothing is left to read, however old it is
    assert said(at) == {}
    off = {"binlog_expire_logs_auto_purge": "OFF", "binlog_expire_logs_seconds": "60"}
    assert said(well(server(MYSQL, **off))) == {}
    at = well(server(MARIADB, max_binlog_total_size="1000000"))
    at._rate = 1000.0
    assert only(at, "log.retention")[1].endswith("1,000 bytes a second 17 min")


def _fields(checkpoint: Checkpoint) -> dict[str, Any]:
    return {name: getattr(checkpoint, name) for name in checkpoint.__slots__}


def test_the_watched_checks_are_few_and_cheap() -> None:
    names = [check.name for check in checks.WATCHED]
    assert names == ["source.binlog", "log.kept", "log.position", "log.retention"]
    assert checks.watch(well(server(MYSQL), f"mysql/1 set={UUID}:1-20"))
