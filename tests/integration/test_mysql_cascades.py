"""M16: what foreign keys do below the log takes effect in the target, where the log had it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pymysql
import pytest

from cdc_daemon.demo.mysql_family import FamilyServer
from tests.support.embedded import SqliteFile
from tests.support.family import FamilySystem, Target
from tests.support.mysql_sources import Schema, schema_on

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


@pytest.fixture(params=["mariadb", "mysql9"])
def server(request: pytest.FixtureRequest) -> FamilyServer:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, FamilyServer)
    return found


@pytest.fixture
def schema(server: FamilyServer) -> Iterator[Schema]:
    with schema_on(server) as made:
        made.execute(TABLES)
        made.execute(ROWS)
        yield made


@pytest.fixture
def target(tmp_path: Path) -> Target:
    (tmp_path / "control").mkdir()
    return SqliteFile(tmp_path / "control" / "control.db")


@pytest.fixture
def system(schema: Schema, target: Target, tmp_path: Path) -> FamilySystem:
    made = FamilySystem(schema, target, tmp_path, MAPPINGS.format(schema=schema.name))
    made.apply()
    return made


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


def test_what_keys_do_takes_effect(system: FamilySystem) -> None:
    """Deletes and changed keys, by several levels, from tables that nobody maps, and within one."""
    schema = system.schema
    with system.running() as running:
        system.caught_up(running)
        same(system)
        for statement in (
            "DELETE FROM orders WHERE id = 101",
            "DELETE FROM article WHERE code = 'A'",
            "UPDATE article SET code = 'Z' WHERE code = 'B'",
            "UPDATE orders SET id = 250 WHERE id = 200",
            "UPDATE region SET id = 9 WHERE id = 2",
            "UPDATE customer SET id = 29 WHERE id = 20",
            "DELETE FROM region WHERE id = 1",
            "DELETE FROM category WHERE id = 1",
        ):
            schema.execute(statement)
            system.caught_up(running)
            same(system)
        schema.execute("DELETE FROM region WHERE id = 9")
        system.caught_up(running)
        same(system)
    assert schema.query("SELECT COUNT(*) FROM line") == [(1,)]


def test_a_backlog_ends_where_the_source_does(system: FamilySystem) -> None:
    """Parents that are back, with their old children or others, by the time that their delete is
    read; transactions of many statements, undone ones, REPLACE, keys that move on."""
    with system.running() as running:
        system.caught_up(running)
    done = play(system.schema, random.Random(16), 300)
    assert done > 100
    with system.running() as running:
        system.caught_up(running)
        same(system)


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
