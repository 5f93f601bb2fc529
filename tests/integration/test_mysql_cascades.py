"""M16: what foreign keys do below the log takes effect in the target, where the log had it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import pymysql
import pytest

from cdc_daemon.demo.mysql_family import FamilyServer
from cdc_daemon.engine import cascading
from cdc_daemon.engine.meter import Meter
from cdc_daemon.model.errors import ConfigurationError
from tests.conftest import DatabaseFactory
from tests.support.embedded import SqliteFile
from tests.support.family import FamilySystem, Target
from tests.support.mysql_server import PrivateMySQL, find_mysql
from tests.support.mysql_sources import Schema, schema_on
from tests.support.real_daemon import RealDaemon

TABLES = """
CREATE TABLE region (id int PRIMARY KEY);
CREATE TABLE customer (id int PRIMARY KEY, region_id int, FOREIGN KEY (region_id)
  REFERENCES region (id) ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE article (code varchar(10) PRIMARY KEY);
CREATE TABLE orders (id int PRIMARY KEY, no varchar(20), customer_id int,
  FOREIGN KEY (customer_id) REFERENCES customer (id) ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE line (order_id int, pos int, article varchar(10), qty bigint NOT NULL,
  PRIMARY KEY (order_id, pos),
  FOREIGN KEY (order_id) REFERENCES orders (id) ON DELETE CASCADE ON UPDATE CASCADE,
  FOREIGN KEY (article) REFERENCES article (code) ON DELETE SET NULL ON UPDATE CASCADE);
CREATE TABLE category (id int PRIMARY KEY, parent int, name varchar(20),
  FOREIGN KEY (parent) REFERENCES category (id) ON DELETE CASCADE);
"""
ROWS = """
INSERT INTO region VALUES (1), (2), (3);
INSERT INTO customer VALUES (10, 1), (20, 2), (30, 3);
INSERT INTO article VALUES ('A'), ('B'), ('C');
INSERT INTO orders VALUES (100, 'N100', 10), (101, 'N101', 10), (200, 'N200', 20),
  (300, 'N300', 30);
INSERT INTO line VALUES (100, 1, 'A', 1), (100, 2, 'B', 2), (101, 1, 'A', 3), (200, 1, 'B', 4),
  (200, 2, 'C', 5), (300, 1, 'A', 6);
INSERT INTO category VALUES (1, NULL, 'top'), (2, 1, 'a'), (3, 2, 'b'), (4, NULL, 'other');
"""
MAPPINGS = """
entities:
  sales_order:
    key: [order_no]
    attributes: {{order_no: string(20), customer: string(20)}}
  order_line:
    key: [order_id, pos]
    attributes:
      order_id: integer
      pos: integer
      order_no: {{type: string(20), references: sales_order}}
      article: string(10)
      qty: integer
  category:
    key: [name]
    attributes: {{name: string(20), parent_id: string(20)}}
mappings:
  - from: hr.{schema}.orders
    to: sales_order
    key: {{order_no: no}}
    fields: {{customer: customer_id}}
    on_delete: hard
  - from: hr.{schema}.line
    to: order_line
    key: {{order_id: order_id, pos: pos}}
    fields:
      order_no: {{ref: order_id, from: hr.{schema}.orders}}
      article: article
      qty: qty
    on_delete: hard
  - from: hr.{schema}.category
    to: category
    key: {{name: name}}
    fields: {{parent_id: parent}}
    on_delete: hard
"""
SAME = {
    "SELECT no, customer_id FROM orders": "SELECT order_no, customer FROM sales_order",
    """SELECT order_id, pos, no, article, qty FROM line JOIN orders ON orders.id = order_id
    """: "SELECT order_id, pos, order_no, article, qty FROM order_line",
    "SELECT name, parent FROM category": "SELECT name, parent_id FROM category",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "control").mkdir()
    return tmp_path


@contextmanager
def system_on(server: FamilyServer, target: Target, folder: Path) -> Iterator[FamilySystem]:
    """The tables with their rows on a server, and a control database with their entities."""
    with schema_on(server) as schema:
        schema.execute(TABLES)
        schema.execute(ROWS)
        made = FamilySystem(schema, target, folder, MAPPINGS.format(schema=schema.name))
        made.apply()
        yield made


@pytest.fixture
def system(mariadb: FamilyServer, folder: Path) -> Iterator[FamilySystem]:
    """From MariaDB to SQLite."""
    with system_on(mariadb, SqliteFile(folder / "control" / "control.db"), folder) as made:
        yield made


@pytest.fixture(scope="module")
def native() -> Iterator[FamilyServer]:
    """MySQL 9 whose foreign keys act below its log, as they did before 9.6."""
    if find_mysql() is None:
        pytest.skip("MySQL 9 is not installed")
    with PrivateMySQL(settings={"innodb_native_foreign_keys": "ON"}) as server:
        yield server


@dataclass(frozen=True, slots=True)
class MysqlDatabase:
    """A control database on MySQL."""

    schema: Schema

    @property
    def dsn(self) -> str:
        """Its address in a configuration."""
        address = self.schema.server.address
        return f"mysql://{address['user']}@{address['host']}:{address['port']}/{self.schema.name}"

    def query(self, statement: str, *params: Any) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        return self.schema.query(statement, *params)


def same(system: FamilySystem) -> None:
    """The target holds what the source does, and nothing was parked."""
    parked = system.target.query(
        f"SELECT error_message FROM {system.ledger('failure')} WHERE state = 'parked'"
    )
    assert parked == []
    for there, here in SAME.items():
        wanted = sorted(map(texts, system.schema.query(there)))
        assert sorted(map(texts, system.target.query(here))) == wanted, here


def texts(row: tuple[object, ...]) -> tuple[str, ...]:
    return tuple(["-" if value is None else str(value) for value in row])


@pytest.mark.parametrize("kind", ["mariadb", "mysql9"])
def test_what_keys_do_takes_effect(kind: str, request: pytest.FixtureRequest, folder: Path) -> None:
    """Deletes and changed keys, by several levels, from tables that nobody maps, and within one.
    MySQL 9 has them in its log."""
    server, target = request.getfixturevalue(kind), SqliteFile(folder / "control" / "control.db")
    with system_on(server, target, folder) as system, system.running() as running:
        system.caught_up(running)
        same(system)
        for statement in (
            "DELETE FROM orders WHERE id = 101; UPDATE article SET code = 'Z' WHERE code = 'B'",
            "DELETE FROM article WHERE code = 'A'; UPDATE orders SET id = 250 WHERE id = 200",
            "UPDATE region SET id = 9 WHERE id = 2; UPDATE customer SET id = 29 WHERE id = 20",
            "DELETE FROM region WHERE id = 1; DELETE FROM category WHERE id = 1",
        ):
            system.schema.execute(statement)
            system.caught_up(running)
            same(system)
        system.schema.execute("DELETE FROM region WHERE id = 9")
        system.caught_up(running)
        same(system)
        assert system.schema.query("SELECT COUNT(*) FROM line") == [(1,)]
        status = running.meter.status()
        assert bool(status.cascaded) is (kind == "mariadb")
        assert status.received_changes == status.applied_changes
        assert status.received_changes < 15 or kind == "mysql9"


@pytest.mark.parametrize(
    "kind, to",
    [
        ("mariadb", "postgres"),
        pytest.param("native", "mysql", marks=pytest.mark.acceptance),
    ],
)
def test_a_backlog_ends_where_the_source_does(
    kind: str,
    to: str,
    request: pytest.FixtureRequest,
    database_factory: DatabaseFactory,
    folder: Path,
) -> None:
    """Parents that are back, with their old children or others, by the time that their delete is
    read; transactions of many statements, undone ones, REPLACE, keys that move on."""
    server = request.getfixturevalue(kind)
    with ExitStack() as stack:
        target: Target = (
            database_factory()
            if to == "postgres"
            else MysqlDatabase(stack.enter_context(schema_on(server)))
        )
        system = stack.enter_context(system_on(server, target, folder))
        with system.running() as running:
            system.caught_up(running)
        assert play(system.schema, random.Random(16), 300) > 100
        with system.running() as running:
            system.caught_up(running)
            same(system)
            assert running.meter.status().cascaded > 10


def test_a_server_that_does_not_check_keys_does_not_follow_them(system: FamilySystem) -> None:
    """Their parents may go, or be truncated; and what a truncated child had is forgotten."""
    unchecked = "SET foreign_key_checks = 0; "
    with system.running() as running:
        for statement in (
            unchecked + "DELETE FROM article WHERE code = 'C'; UPDATE article SET code = 'D'"
            " WHERE code = 'B'",
            unchecked + "TRUNCATE article",
            "INSERT INTO article VALUES ('A'); DELETE FROM article WHERE code = 'A'",
            "TRUNCATE line; INSERT INTO line VALUES (101, 1, NULL, 1)",
            "DELETE FROM customer WHERE id = 10",
        ):
            system.schema.execute(statement)
            system.caught_up(running)
            same(system)


def test_a_parked_child_is_followed_too(system: FamilySystem) -> None:
    """Its delete waits behind what was parked of it; the other children are gone."""
    with system.running() as running:
        system.caught_up(running)
        system.schema.execute(
            f"INSERT INTO line VALUES (101, 7, 'A', {1 << 40}); DELETE FROM customer WHERE id = 10"
        )
        system.caught_up(running)
        assert system.target.query("SELECT operation FROM cdc_failure ORDER BY id") == [
            ("insert",),
            ("delete",),
        ]
        lines = "SELECT order_id, pos FROM order_line ORDER BY 1, 2"
        assert system.target.query(lines) == [(200, 1), (200, 2), (300, 1)]


def test_many_children_are_followed_in_pieces(
    system: FamilySystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And each is a sign of life: the watchdog waits for no number of children."""
    monkeypatch.setattr(cascading, "PIECE", 100)
    signs: list[Meter] = []
    progressed = Meter.progressed

    def noted(self: Meter) -> None:
        signs.append(self)
        progressed(self)

    monkeypatch.setattr(Meter, "progressed", noted)
    with system.schema.connect() as session, session.cursor() as cursor:
        rows = [(n, n % 3) for n in range(10, 360)]
        cursor.executemany("INSERT INTO line VALUES (300, %s, 'C', %s)", rows)
    with system.running() as running:
        for statement in (
            "UPDATE orders SET id = 301, no = 'moved' WHERE id = 300",
            "DELETE FROM article WHERE code = 'C'",
            "DELETE FROM region WHERE id = 3",
        ):
            system.caught_up(running)
            signs.clear()
            system.schema.execute(statement)
            system.caught_up(running)
            same(system)
            assert len(signs) > 3 or statement.startswith("DELETE FROM region")


def test_other_keys_than_when_the_tables_were_copied_are_refused(system: FamilySystem) -> None:
    """What they did to rows that were never noted would be missing. Keys may be ignored."""
    running = system.start()
    system.caught_up(running)
    system.schema.execute(
        "ALTER TABLE category ADD region_id int, ADD FOREIGN KEY (region_id)"
        " REFERENCES region (id) ON DELETE CASCADE"
    )
    assert running.wait() == 78, "it ends at that place of the log"
    assert "a foreign key of it" in running.meter.status().error
    assert system.start().wait() == 78

    system.configure(cascades="ignore")
    with system.running() as running:
        system.schema.execute("DELETE FROM region WHERE id = 1")
        system.caught_up(running)
        assert system.target.query("SELECT COUNT(*) FROM sales_order") == [(4,)]
    system.configure(cascades="follow")
    assert system.start().wait() == 78, "what was noted is not true any more"
    system.configure(cascades="refuse")
    assert system.start().wait() == 78


def test_a_key_that_went_and_came_back_unseen_is_refused(system: FamilySystem) -> None:
    """What it would have done in between it did not do."""
    with system.running() as running:
        system.caught_up(running)
    system.schema.execute(
        "ALTER TABLE category DROP FOREIGN KEY category_ibfk_1;"
        "DELETE FROM category WHERE id = 1;"
        "UPDATE category SET parent = NULL WHERE parent = 1;"
        "ALTER TABLE category ADD CONSTRAINT category_ibfk_1 FOREIGN KEY (parent)"
        " REFERENCES category (id) ON DELETE CASCADE"
    )
    assert system.start().wait() == 78


@pytest.mark.parametrize("kind", ["mariadb", "mysql9"])
def test_blanks_at_the_end_are_no_other_parent(
    kind: str, request: pytest.FixtureRequest, folder: Path
) -> None:
    """Most collations do not count them, those that compare bytes neither."""
    with schema_on(request.getfixturevalue(kind)) as schema:
        schema.execute(
            "CREATE TABLE p (k varchar(9) COLLATE utf8mb4_bin PRIMARY KEY);"
            "CREATE TABLE category (id int PRIMARY KEY, parent varchar(9) COLLATE utf8mb4_bin,"
            " name varchar(9), FOREIGN KEY (parent) REFERENCES p (k) ON DELETE CASCADE);"
            "INSERT INTO p VALUES ('A'), ('B '); INSERT INTO category VALUES (1, 'A  ', 'one'),"
            " (2, 'B', 'two'), (3, 'B ', 'three')"
        )
        mapping = """
            entities:
              category: {{key: [name], attributes: {{name: string(20), parent: string(20)}}}}
            mappings:
              - {{from: hr.{0}.category, to: category, key: {{name: name}},
                 fields: {{parent: parent}}, on_delete: hard}}
        """
        target = SqliteFile(folder / "control" / "control.db")
        system = FamilySystem(schema, target, folder, dedent(mapping.format(schema.name)))
        system.apply()
        with system.running() as running:
            system.caught_up(running)
            for gone, left in (("A", ["three", "two"]), ("B", [])):
                schema.execute(f"DELETE FROM p WHERE k = '{gone}'")
                system.caught_up(running)
                assert target.query("SELECT name FROM category ORDER BY 1") == [
                    (name,) for name in left
                ]


def test_killed_before_the_commit_nothing_is_followed_twice(system: FamilySystem) -> None:
    """Rows, what is noted of them, and the position are one transaction."""
    with system.running() as running:
        system.caught_up(running)
    noted = "SELECT tracked FROM cdc_child_row ORDER BY 1"
    before = system.target.query(noted)
    system.schema.execute(
        "DELETE FROM region WHERE id = 1; UPDATE article SET code = 'Z' WHERE code = 'B'"
    )
    config = Path(system.configuration.files[0])
    with RealDaemon(config, config.parent / "log", failpoint="before_checkpoint") as daemon:
        daemon.worker_died()
        daemon.kill()
    assert system.target.query(noted) == before
    with system.running() as running:
        system.caught_up(running)
        same(system)


@pytest.mark.parametrize("kind", ["mariadb", "mysql9"])
@pytest.mark.parametrize(
    "parent, child",
    [("enum('a', 'b')", "enum('b', 'a')"), ("decimal(10,2)", "decimal(10,1)")],
)
def test_a_key_between_unlike_types_is_refused(
    kind: str, parent: str, child: str, request: pytest.FixtureRequest
) -> None:
    """The server compares what is stored, which is another text at each end."""
    with schema_on(request.getfixturevalue(kind)) as schema:
        schema.execute(
            f"CREATE TABLE p (k {parent} PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY,"
            f" k {child}, FOREIGN KEY (k) REFERENCES p (k) ON DELETE CASCADE);"
            f"CREATE TABLE d (id int PRIMARY KEY, k {parent}, FOREIGN KEY (k) REFERENCES p (k)"
            " ON DELETE CASCADE)"
        )
        schema.source(schema.table("d", "id")).relations()
        source = schema.source(schema.table("c", "id"))
        with pytest.raises(ConfigurationError, match="joins columns of unlike types"):
            source.relations()
        schema.source(schema.table("c", "id"), cascades="ignore").relations()


def play(schema: Schema, dice: random.Random, number: int) -> int:
    """Statements at random, in transactions; how many the server took."""
    done = 0
    with schema.connect() as session, session.cursor() as cursor:
        session.begin()
        for _ in range(number):
            with suppress(pymysql.Error):
                cursor.execute(dice.choice(STATEMENTS).format_map(Numbers(dice)))
                done += 1
            if (chance := dice.randrange(8)) < 4:
                session.commit() if chance else session.rollback()
                session.begin()
        session.commit()
    return done


class Numbers(dict[str, str]):
    """Values at random, of few; one for each name."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self._dice = dice

    def __missing__(self, name: str) -> str:
        choices = "ABC" if name in "AB" else "1234"
        return self.setdefault(name, self._dice.choice(choices))


STATEMENTS = """
INSERT INTO region VALUES ({r})
INSERT INTO customer VALUES ({c}, {r})
INSERT INTO orders VALUES ({o}, 'N{o}', {c})
INSERT INTO orders VALUES ({o}, 'N{o}', {c})
INSERT INTO article VALUES ('{A}')
INSERT INTO line VALUES ({o}, {p}, '{A}', {q})
INSERT INTO line VALUES ({o}, {p}, '{A}', {q})
INSERT INTO line SELECT id, {p}, NULL, {q} FROM orders
INSERT INTO category VALUES ({x}, NULL, 'n{x}')
INSERT INTO category VALUES ({x}, {y}, 'n{x}')
UPDATE region SET id = {r} WHERE id = {s}
UPDATE customer SET region_id = {r} WHERE id = {c}
UPDATE customer SET id = {c} WHERE id = {d}
UPDATE orders SET id = {o}, no = 'N{o}' WHERE id = {x}
UPDATE orders SET customer_id = {c} WHERE id = {o}
UPDATE line SET article = '{A}' WHERE pos = {p}
UPDATE line SET qty = qty + 1
UPDATE article SET code = '{A}' WHERE code = '{B}'
UPDATE category SET parent = {x} WHERE id = {y}
REPLACE INTO orders VALUES ({o}, 'N{o}', {c})
REPLACE INTO customer VALUES ({c}, {r})
DELETE FROM region WHERE id = {r}
DELETE FROM customer WHERE id = {c}
DELETE FROM orders WHERE id = {o}
DELETE FROM line WHERE pos = {p}
DELETE FROM article WHERE code = '{A}'
DELETE FROM category WHERE id = {x}
""".strip().splitlines()
