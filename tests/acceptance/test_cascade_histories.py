"""What foreign keys do below the log, in random histories: rows and notes are a new copy's.

Two copies of one source have equal notes, so a note that is wrong shows before the parent goes
whose row it would take along.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pymysql
import pytest

from cdc_daemon.demo.mysql_family import FamilyServer
from tests.support.embedded import SqliteFile
from tests.support.family import FamilySystem
from tests.support.mysql_server import PrivateMySQL, find_mysql
from tests.support.mysql_sources import Schema, schema_on

pytestmark = pytest.mark.acceptance

SEEDS = range(8)
TURNS = 3
TABLES = """
CREATE TABLE a (id int PRIMARY KEY, u int, v int, UNIQUE (u, v));
CREATE TABLE b (id int PRIMARY KEY, a_id int, t_id int, FOREIGN KEY (a_id) REFERENCES a (id)
  ON DELETE CASCADE ON UPDATE SET NULL);
CREATE TABLE c (id int PRIMARY KEY, au int, av int, b_id int,
  FOREIGN KEY (au, av) REFERENCES a (u, v) ON DELETE SET NULL ON UPDATE CASCADE,
  FOREIGN KEY (b_id) REFERENCES b (id) ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE t (id int PRIMARY KEY, parent int, a_id int, c_id int,
  FOREIGN KEY (parent) REFERENCES t (id) ON DELETE SET NULL,
  FOREIGN KEY (a_id) REFERENCES a (id) ON DELETE CASCADE ON UPDATE CASCADE,
  FOREIGN KEY (c_id) REFERENCES c (id) ON DELETE SET NULL ON UPDATE CASCADE);
ALTER TABLE b ADD FOREIGN KEY (t_id) REFERENCES t (id) ON DELETE SET NULL ON UPDATE CASCADE;
CREATE TABLE l (b_id int, pos int, x int, t_id int, PRIMARY KEY (b_id, pos),
  FOREIGN KEY (b_id) REFERENCES b (id) ON DELETE CASCADE ON UPDATE CASCADE,
  FOREIGN KEY (t_id) REFERENCES t (id) ON DELETE SET NULL ON UPDATE CASCADE);
"""
COLUMNS = {
    "a": "id u v",
    "b": "id a_id t_id",
    "c": "id au av b_id",
    "t": "id parent a_id c_id",
    "l": "b_id pos x t_id",
}
KEYS = {"l": ["b_id", "pos"]}
STATEMENTS = """
INSERT INTO a VALUES ({p}, {q}, {r})
INSERT INTO a VALUES ({p}, {q}, NULL)
INSERT INTO b VALUES ({p}, {q}, NULL)
INSERT INTO b VALUES ({p}, {q}, {r})
INSERT INTO c VALUES ({p}, {q}, {r}, {s})
INSERT INTO c SELECT {p}, u, v, NULL FROM a LIMIT 1
INSERT INTO c SELECT {p}, u, v, {s} FROM a ORDER BY id DESC LIMIT 1
INSERT INTO t VALUES ({p}, NULL, {q}, NULL)
INSERT INTO t VALUES ({p}, {r}, {q}, {s})
INSERT INTO t VALUES ({p}, {r}, NULL, NULL)
INSERT INTO l VALUES ({p}, {q}, {r}, NULL)
INSERT INTO l VALUES ({p}, {q}, {r}, {s})
INSERT INTO l SELECT id, {q}, {r}, NULL FROM b
UPDATE a SET id = {p} WHERE id = {q}
UPDATE a SET u = {p} WHERE id = {q}
UPDATE a SET u = {p}, v = {r} WHERE id = {q}
UPDATE a SET v = NULL WHERE id = {q}
UPDATE b SET id = {p} WHERE id = {q}
UPDATE b SET a_id = {p} WHERE id = {q}
UPDATE b SET t_id = {p} WHERE id = {q}
UPDATE b SET t_id = {p}
UPDATE c SET b_id = {p} WHERE id = {q}
UPDATE c SET b_id = {p}
UPDATE c SET id = {p} WHERE id = {q}
UPDATE t SET parent = {p} WHERE id = {q}
UPDATE t SET parent = {p} WHERE id <> {p}
UPDATE t SET c_id = {p}, a_id = {q} WHERE id = {r}
UPDATE t SET id = {p} WHERE id = {q}
UPDATE l SET t_id = {p} WHERE pos = {q}
UPDATE l SET t_id = {p}
UPDATE l SET b_id = {p} WHERE b_id = {q}
UPDATE l SET x = x + 1
REPLACE INTO a VALUES ({p}, {q}, {r})
REPLACE INTO b VALUES ({p}, {q}, NULL)
REPLACE INTO t VALUES ({p}, {q}, {r}, NULL)
DELETE FROM a WHERE id = {p}
DELETE FROM a WHERE id IN ({p}, {q})
DELETE FROM b WHERE id = {p}
DELETE FROM c WHERE id = {p}
DELETE FROM t WHERE id = {p}
DELETE FROM t WHERE id IN ({p}, {q}, {r})
DELETE FROM t
DELETE FROM l WHERE pos = {p}
""".strip().splitlines()


@pytest.fixture(scope="module")
def native() -> Iterator[FamilyServer]:
    """MySQL 9 whose foreign keys act below its log, as they did before 9.6."""
    if find_mysql() is None:
        pytest.skip("MySQL 9 is not installed")
    with PrivateMySQL(settings={"innodb_native_foreign_keys": "ON"}) as server:
        yield server


def mapped(schema: Schema, tables: list[str]) -> str:
    """Entities and mappings of these tables, each column an attribute of its name."""
    entities, mappings = ["entities:"], ["mappings:"]
    for table in tables:
        columns, key = COLUMNS[table].split(), KEYS.get(table, ["id"])
        rest = [column for column in columns if column not in key]
        attributes = ", ".join(f"{column}: integer" for column in columns)
        entities += [
            f"  e{table}:",
            f"    key: [{', '.join(key)}]",
            f"    attributes: {{{attributes}}}",
        ]
        mappings += [
            f"  - from: hr.{schema.name}.{table}",
            f"    to: e{table}",
            f"    key: {{{', '.join(f'{column}: {column}' for column in key)}}}",
            f"    fields: {{{', '.join(f'{column}: {column}' for column in rest)}}}",
            "    on_delete: hard",
        ]
    return "\n".join([*entities, *mappings, ""])


def system_of(schema: Schema, folder: Path, tables: list[str]) -> FamilySystem:
    """A control database of its own."""
    folder.mkdir()
    made = FamilySystem(schema, SqliteFile(folder / "control.db"), folder, mapped(schema, tables))
    made.apply()
    return made


def follow(system: FamilySystem) -> None:
    """Until what was written so far is applied."""
    with system.running() as running:
        system.caught_up(running)


def held(system: FamilySystem, tables: list[str]) -> dict[str, list[tuple[object, ...]]]:
    """Rows, notes and parked changes."""
    asked = {
        table: f"SELECT {', '.join(COLUMNS[table].split())} FROM e{table} ORDER BY 1, 2"
        for table in tables
    }
    asked["notes"] = "SELECT source_table, tracked, hex(parent) FROM cdc_child_row ORDER BY 1, 2, 3"
    asked["parked"] = "SELECT error_message FROM cdc_failure"
    return {name: system.target.query(query) for name, query in asked.items()}


def play(schema: Schema, dice: random.Random, number: int) -> int:
    """Statements at random, in transactions; how many changed rows."""
    done = 0
    with schema.connect() as session, session.cursor() as cursor:
        session.begin()
        for _ in range(number):
            values = {name: dice.choice("1234") for name in "pqrs"}
            with suppress(pymysql.Error):
                done += bool(cursor.execute(dice.choice(STATEMENTS).format(**values)))
            if (chance := dice.randrange(8)) < 4:
                session.commit() if chance else session.rollback()
                session.begin()
        session.commit()
    return done


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("unmapped", ["", "bc", "at"])
@pytest.mark.parametrize("kind", ["mariadb", "native"])
def test_rows_and_notes_are_those_of_a_new_copy(
    kind: str, unmapped: str, seed: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Cycles, self references, composite keys with NULL, tables between that nobody maps."""
    tables = [table for table in COLUMNS if table not in unmapped]
    dice = random.Random(seed)
    with schema_on(request.getfixturevalue(kind)) as schema:
        schema.execute(TABLES)
        system = system_of(schema, tmp_path / "running", tables)
        play(schema, dice, 60)
        follow(system)
        for turn in range(TURNS):
            assert play(schema, dice, 150) > 20
            follow(system)
            copy = system_of(schema, tmp_path / f"copy{turn}", tables)
            follow(copy)
            found = held(system, tables)
            assert found == held(copy, tables)
            assert found["parked"] == []
