"""Every kind of table through the worker's own loop: copied, streamed, and verified equal."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdc_daemon.verify import verify
from tests.conftest import DatabaseFactory, PostgresOf
from tests.support.cli import invoke
from tests.support.pipelines import System
from tests.support.table_kinds import agree, make_kinds
from tests.support.versions import NEWEST


@pytest.mark.parametrize("version", NEWEST)
def test_every_kind_of_table(
    version: int, postgres_of: PostgresOf, database_factory: DatabaseFactory, tmp_path: Path
) -> None:
    """Partitions, heirs, filters, column lists, identities and names: nothing is left out."""
    source = database_factory(server=postgres_of(version))
    system, kinds = make_kinds(source, database_factory(), tmp_path)
    with system.running() as running:
        agree(system, kinds)
        for statements in zip(*[_padded(kind.after, 9) for kind in kinds], strict=True):
            for statement in filter(None, statements):
                source.execute(statement)
        system.caught_up(running)
        assert system.rows("SELECT error_code, error_message FROM cdc.failure") == []
        agree(system, kinds)
        source.execute("TRUNCATE parts, by_index")
        source.execute(
            "INSERT INTO parts VALUES (1, 'after', 1); INSERT INTO by_index VALUES (1, 'k', 1)"
        )
        system.caught_up(running)
        agree(system, kinds)
    assert running.code == 0


def _padded(statements: tuple[str, ...], length: int) -> tuple[str, ...]:
    return statements + ("",) * (length - len(statements))


# --- composite identities ------------------------------------------------------------------------

PAIRS = (
    "CREATE TABLE pairs (a int NOT NULL, b int NOT NULL, code text, note text{key})"
    " PARTITION BY RANGE (a);"
    "CREATE TABLE pairs1 PARTITION OF pairs FOR VALUES FROM (0) TO (10);"
    "CREATE TABLE pairs2 (gone int, note text, b int NOT NULL, code text, a int NOT NULL);"
    "ALTER TABLE pairs2 DROP gone;"
    "{more}"
    "ALTER TABLE pairs ATTACH PARTITION pairs2 FOR VALUES FROM (10) TO (30)"
)
KEY = ", PRIMARY KEY (b, a)"
FULL = "ALTER TABLE pairs REPLICA IDENTITY FULL; ALTER TABLE pairs1 REPLICA IDENTITY FULL;"
FULL += "ALTER TABLE pairs2 REPLICA IDENTITY FULL;"
IDENTITIES = {
    "key": (KEY, "", ""),
    "full, with a key": (KEY, FULL, ""),
    "full, without": ("", FULL, "identity: [b, a]"),
}
PAIR = """
entities:
  pair: {{key: [code], attributes: {{code: text, a: integer, b: integer, note: text}}}}
mappings:
  - {{from: erp.public.pairs, to: pair, key: {{code: code}}, fields: {{a: a, b: b, note: note}},
     {identity}}}
"""
EDITS = (  # each in one transaction, with both partitions in it
    "DELETE FROM pairs WHERE (a, b) IN ((1, 2), (12, 13))",
    "UPDATE pairs SET note = 'new' WHERE (a, b) IN ((2, 1), (13, 12))",
    "UPDATE pairs SET code = 'c' || code WHERE (a, b) IN ((2, 1), (13, 12), (3, 12))",
    "INSERT INTO pairs VALUES (1, 2, 'again 1', ''), (12, 13, 'again 12', '')",
    "UPDATE pairs SET b = b + 10 WHERE (a, b) IN ((1, 2), (12, 13))",
    "UPDATE pairs SET a = b, b = a WHERE (a, b) IN ((4, 5), (14, 15), (6, 16), (17, 7))",
    "DELETE FROM pairs WHERE (a, b) IN ((5, 4), (15, 14), (16, 6), (7, 17))",
)


@pytest.mark.acceptance
@pytest.mark.parametrize(
    "identity",
    [
        *list(IDENTITIES)[:1],
        *(pytest.param(one, marks=pytest.mark.acceptance) for one in list(IDENTITIES)[1:]),
    ],
)
def test_a_composite_identity_of_partitions(
    identity: str, database_factory: DatabaseFactory, tmp_path: Path
) -> None:
    """Rows are known by the table's order of columns, whatever the partition's own is."""
    source = database_factory()
    key, more, named = IDENTITIES[identity]
    source.execute(PAIRS.format(key=key, more=more))
    source.execute(
        "INSERT INTO pairs SELECT a, b, a || '/' || b, 'old' FROM (VALUES (1, 2), (2, 1), (3, 12),"
        " (4, 5), (6, 16), (12, 13), (13, 12), (12, 3), (14, 15), (17, 7)) v (a, b)"
    )
    system = System(source, database_factory(), tmp_path, PAIR.format(identity=named))
    system.publish("pairs")
    system.apply()
    everything = "SELECT code, a::text, b::text, note FROM {} ORDER BY 1"

    def agreed() -> None:
        wanted = source.query(everything.format("pairs"))
        assert system.rows(everything.format("pair")) == wanted
        assert system.rows("SELECT error_code, error_message FROM cdc.failure") == []
        (found,) = verify(system.configuration).mappings
        assert (found.missing, found.extra, found.different) == (0, 0, 0)

    with system.running() as running:
        agreed()
        for statement in EDITS:
            source.execute(statement)
            system.caught_up(running)
            assert system.rows(everything.format("pair")) == source.query(
                everything.format("pairs")
            ), statement
        agreed()
        ((name,),) = system.rows(
            "SELECT oid::regclass::text FROM pg_class"
            " WHERE relname LIKE 'reference\\_%' AND relkind = 'r'"
        )
        known = f"SELECT source_a::text, source_b::text FROM {name} ORDER BY source_a, source_b"
        wanted = source.query("SELECT a::text, b::text FROM pairs ORDER BY a, b")
        assert system.rows(known) == wanted
    assert running.code == 0


# --- seen, and undone before the next start ------------------------------------------------------

PARTS = """
entities:
  part: {key: [code], attributes: {code: integer, note: text}}
mappings:
  - {from: erp.public.part, to: part, key: {code: id}, fields: {note: note}}
"""


@pytest.mark.parametrize("running", [True, False], ids=["while it runs", "at a start"])
def test_a_partition_that_was_seen_unlogged_needs_a_new_copy(
    running: bool,
    database_factory: DatabaseFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was written meanwhile is in no log, and making it logged again does not bring it."""
    monkeypatch.setattr("cdc_daemon.worker.RECHECK", 0.0)
    monkeypatch.setattr("cdc_daemon.cli.commanding.HEARTBEAT", 0.1)
    source = database_factory()
    source.execute(
        "CREATE TABLE part (id int PRIMARY KEY, note text) PARTITION BY RANGE (id);"
        "CREATE TABLE part1 PARTITION OF part FOR VALUES FROM (0) TO (10);"
        "INSERT INTO part VALUES (1, 'a'), (2, 'b')"
    )
    system = System(source, database_factory(), tmp_path, PARTS)
    system.publish("part")
    system.apply()

    def written() -> None:
        source.execute("ALTER TABLE part1 SET UNLOGGED")
        source.execute("INSERT INTO part VALUES (3, 'lost'); DELETE FROM part WHERE id = 2")

    with system.running() as worker:
        if running:
            written()
            assert worker.wait() == 78
    if not running:
        written()
        assert system.start().wait() == 78
    source.execute("ALTER TABLE part1 SET LOGGED")
    assert system.start().wait() == 78
    if not running:
        return
    asked = ["snapshot", "start", "--yes", "-c", str(tmp_path / "cdc.yaml")]
    assert invoke(*asked).exit_code == 0
    with system.running() as worker:
        source.execute("INSERT INTO part VALUES (4, 'told')")
        system.caught_up(worker)
        assert system.rows("SELECT code FROM part ORDER BY 1") == [(1,), (3,), (4,)]
    assert worker.code == 0
