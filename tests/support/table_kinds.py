"""Every kind of table in one source, mapped, written to in every way, and compared by plain SQL.

Each kind has a table, an entity of the same columns, and a query of what the log tells of it. The
writer's statements are the kind's own: moves between partitions, rows that enter and leave a
filter, values that the log leaves out.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cdc_daemon.verify import verify
from tests.support.databases import Database
from tests.support.pipelines import System

BIG: Final = "(SELECT string_agg(md5(i::text || {0}), '') FROM generate_series(1, 200) i)"


def _filled(name: str) -> str:
    """A name of exactly 63 bytes, the longest that PostgreSQL has."""
    return name + "x" * (63 - len(name.encode()))


LONG_SCHEMA: Final = _filled('S"; DROP TABLE "%s`x`; --\n深圳 ')
LONG_TABLE: Final = _filled('T\';\\ %(x)s $1 {} `"" \t名称.')
LONG_COLUMN: Final = _filled("c\"'`;%%$1\\ \n列")


def quoted(*names: str) -> str:
    """A name in SQL."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of table. ``attributes``: entity attribute → (type, column), the key first.

    ``told``: the rows that the log tells, as SQL in the entity's column order; empty: all.
    """

    name: str
    ddl: str
    published: str
    attributes: dict[str, tuple[str, str]]
    before: str
    after: tuple[str, ...]
    table: tuple[str, str] = ("", "")
    told: str = ""
    key: tuple[str, ...] = ("id",)
    identity: tuple[str, ...] = ()
    since: int = 14

    @property
    def place(self) -> tuple[str, str]:
        """Schema and table."""
        return self.table if self.table[1] else ("public", self.name)

    @property
    def wanted(self) -> str:
        """The rows that the control database must hold, as text."""
        columns = ", ".join(f"{quoted(column)}::text" for _, column in self.attributes.values())
        rows = self.told or f"SELECT * FROM {quoted(*self.place)}"
        return f"SELECT {columns} FROM ({rows}) AS r ORDER BY 1, 2"

    @property
    def found(self) -> str:
        """The rows that it does hold."""
        columns = ", ".join(f"{quoted(name)}::text" for name in self.attributes)
        return f"SELECT {columns} FROM {quoted(self.name)} ORDER BY 1, 2"

    def entity(self) -> dict[str, Any]:
        """The entity's configuration."""
        types = {name: type_ for name, (type_, _) in self.attributes.items()}
        return {"key": list(self.key), "attributes": types}

    def mapping(self) -> dict[str, Any]:
        """The mapping's configuration."""
        schema, table = self.place
        columns = {name: column for name, (_, column) in self.attributes.items()}
        found: dict[str, Any] = {
            "from": f"erp.{quoted(schema)}.{quoted(table)}",
            "to": self.name,
            "key": {name: columns[name] for name in self.key},
            "fields": {name: c for name, c in columns.items() if name not in self.key},
        }
        return found | ({"identity": list(self.identity)} if self.identity else {})


PLAIN: Final = {"id": ("bigint", "id"), "a": ("text", "a"), "b": ("numeric", "b")}

KINDS: Final = (
    Kind(
        name="parts",
        ddl=(
            "CREATE TABLE parts (id bigint PRIMARY KEY, a text, b numeric) PARTITION BY RANGE (id);"
            "CREATE TABLE parts1 PARTITION OF parts FOR VALUES FROM (0) TO (10);"
            "CREATE TABLE parts2 (b numeric, id bigint NOT NULL PRIMARY KEY, a text);"
            "ALTER TABLE parts ATTACH PARTITION parts2 FOR VALUES FROM (10) TO (20);"
            "CREATE TABLE parts3 PARTITION OF parts FOR VALUES FROM (20) TO (30)"
            " PARTITION BY LIST (id); CREATE TABLE parts30 PARTITION OF parts3 DEFAULT;"
            "ALTER TABLE parts1 ALTER a SET STORAGE EXTERNAL;"
            "ALTER TABLE parts2 ALTER a SET STORAGE EXTERNAL"
        ),
        published="parts",
        attributes=PLAIN,
        before=(
            f"INSERT INTO parts SELECT i, {BIG.format('i::text')}, i"
            " FROM generate_series(1, 25) i WHERE i NOT BETWEEN 13 AND 16"
        ),
        after=(
            "UPDATE parts SET id = id + 12 WHERE id < 4",
            "UPDATE parts SET b = b + 1 WHERE id IN (4, 10, 20)",
            "DELETE FROM parts WHERE id IN (9, 19); INSERT INTO parts2 VALUES (7, 19, 'again')",
            "CREATE TABLE parts4 PARTITION OF parts FOR VALUES FROM (100) TO (200)",
            "INSERT INTO parts VALUES (100, 'new', 1), (0, 'first', 2)",
            "UPDATE parts SET id = 101 WHERE id = 5",
            "CREATE TABLE parts5 (LIKE parts INCLUDING ALL);"
            "ALTER TABLE parts ATTACH PARTITION parts5 FOR VALUES FROM (200) TO (300)",
            "INSERT INTO parts SELECT i, 'later', i FROM generate_series(200, 220) i",
        ),
    ),
    Kind(
        name="parent",
        ddl=(
            "CREATE TABLE parent (id bigint PRIMARY KEY, a text, b numeric);"
            "CREATE TABLE heir (PRIMARY KEY (id), more text) INHERITS (parent)"
        ),
        published="parent",  # with its heirs
        attributes=PLAIN,
        before="INSERT INTO parent VALUES (1, 'own', 1), (2, 'own', 2)",
        after=("UPDATE parent SET b = b + 1", "DELETE FROM ONLY parent WHERE id = 1"),
        told="SELECT * FROM ONLY parent",
    ),
    Kind(
        name="heir",
        ddl="",
        published="",
        attributes=PLAIN,
        before="INSERT INTO heir VALUES (1, 'heir', 1), (9, 'heir', 9)",
        after=("UPDATE heir SET a = 'changed' WHERE id = 1", "DELETE FROM parent WHERE id = 9"),
    ),
    Kind(
        name="filtered",
        ddl=(
            "CREATE TABLE filtered (id bigint, region text DEFAULT 'eu', a text, b numeric,"
            " PRIMARY KEY (id, region)); ALTER TABLE filtered ALTER a SET STORAGE EXTERNAL"
        ),
        published="filtered WHERE (region = 'eu' OR id % 5 = 0)",
        attributes={"id": ("bigint", "id"), "region": ("text", "region"), **PLAIN},
        key=("id", "region"),
        before=(
            "INSERT INTO filtered SELECT i, CASE WHEN i % 2 = 0 THEN 'eu' ELSE 'us' END,"
            f" {BIG.format('i::text')}, i FROM generate_series(1, 20) i"
        ),
        after=(
            "UPDATE filtered SET region = 'us' WHERE id IN (2, 4)",  # leave
            "UPDATE filtered SET region = 'eu' WHERE id IN (1, 3, 4)",  # enter, or come back
            "UPDATE filtered SET b = b + 1",
            "UPDATE filtered SET id = 7 * id WHERE id IN (5, 8, 9)",
            "DELETE FROM filtered WHERE id IN (6, 7, 10, 11)",
        ),
        told="SELECT * FROM filtered WHERE region = 'eu' OR id % 5 = 0",
        since=15,
    ),
    Kind(
        name="filtered_full",
        ddl=(
            "CREATE TABLE filtered_full (id bigint PRIMARY KEY, a text, b numeric,"
            " live boolean DEFAULT true);"
            "ALTER TABLE filtered_full REPLICA IDENTITY FULL;"
            "ALTER TABLE filtered_full ALTER a SET STORAGE EXTERNAL"
        ),
        published="filtered_full WHERE (live)",
        attributes=PLAIN,
        before=(
            f"INSERT INTO filtered_full SELECT i, {BIG.format('i::text')}, i, NULLIF(i % 3, 2) = 1"
            " FROM generate_series(1, 12) i"
        ),
        after=(
            "UPDATE filtered_full SET live = NOT live",
            "UPDATE filtered_full SET live = true WHERE id < 5",
            "UPDATE filtered_full SET live = NULL, id = id + 100 WHERE id IN (1, 6)",
            "DELETE FROM filtered_full WHERE id IN (2, 102)",
        ),
        told="SELECT * FROM filtered_full WHERE live",
        since=15,
    ),
    Kind(
        name="listed",
        ddl="CREATE TABLE listed (secret text, id bigint PRIMARY KEY, a text, c int, b numeric)",
        published="listed (b, id, a)",
        attributes=PLAIN,
        before="INSERT INTO listed VALUES ('x', 1, 'a', 7, 1.50), ('y', 2, NULL, 8, NULL)",
        after=(
            "UPDATE listed SET secret = 'z', b = 3 WHERE id = 1",
            "UPDATE listed SET id = 3 WHERE id = 2; INSERT INTO listed (id) VALUES (2)",
            "DELETE FROM listed WHERE id = 1",
        ),
        since=15,
    ),
    Kind(
        name="keyless",
        ddl=(
            "CREATE TABLE keyless (id bigint, a text, b numeric);"
            "ALTER TABLE keyless REPLICA IDENTITY FULL;"
            "ALTER TABLE keyless ALTER a SET STORAGE EXTERNAL"
        ),
        published="keyless",
        attributes=PLAIN,
        identity=("id",),
        before=(
            f"INSERT INTO keyless SELECT i, {BIG.format('i::text')}, i FROM generate_series(1, 9) i"
        ),
        after=(
            "UPDATE keyless SET b = NULL WHERE id = 1",
            "UPDATE keyless SET id = 20, b = 2 WHERE id = 2",
            "DELETE FROM keyless WHERE id = 3",
        ),
    ),
    Kind(
        name="by_index",
        ddl=(
            "CREATE TABLE by_index (id bigint, a text NOT NULL, b numeric, PRIMARY KEY (id));"
            "CREATE UNIQUE INDEX by_index_a ON by_index (a);"
            "ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_a"
        ),
        published="by_index",
        attributes=PLAIN,
        before="INSERT INTO by_index SELECT i, 'k' || i, i FROM generate_series(1, 9) i",
        after=(
            "UPDATE by_index SET b = 0 WHERE id = 1",
            "UPDATE by_index SET id = 20 WHERE id = 2",
            "UPDATE by_index SET a = 'other' WHERE id = 3",
            "DELETE FROM by_index WHERE id = 4",
        ),
    ),
    Kind(
        name="hostile",
        ddl=(
            f"CREATE SCHEMA {quoted(LONG_SCHEMA)};"
            f"CREATE TABLE {quoted(LONG_SCHEMA, LONG_TABLE)}"
            f" (id bigint PRIMARY KEY, {quoted(LONG_COLUMN)} text, b numeric)"
        ),
        published=quoted(LONG_SCHEMA, LONG_TABLE),
        table=(LONG_SCHEMA, LONG_TABLE),
        attributes={"id": ("bigint", "id"), "a": ("text", LONG_COLUMN), "b": ("numeric", "b")},
        before=f"INSERT INTO {quoted(LONG_SCHEMA, LONG_TABLE)} VALUES (1, 'x', 1), (2, 'y', 2)",
        after=(
            f"UPDATE {quoted(LONG_SCHEMA, LONG_TABLE)} SET {quoted(LONG_COLUMN)} = 'z'"
            " WHERE id = 1",
            f"DELETE FROM {quoted(LONG_SCHEMA, LONG_TABLE)} WHERE id = 2",
            f"INSERT INTO {quoted(LONG_SCHEMA, LONG_TABLE)} VALUES (3, NULL, NULL)",
        ),
    ),
)


def make_kinds(source: Database, target: Database, folder: Path) -> tuple[System, list[Kind]]:
    """The kinds that the source's version has: tables filled, published, mapped and applied."""
    kinds = [kind for kind in KINDS if source.server.version >= kind.since]
    entities = {kind.name: kind.entity() for kind in kinds}
    mappings = [kind.mapping() for kind in kinds]
    written = {"entities": entities, "mappings": mappings}
    text = "\n".join(f"{key}: {json.dumps(value)}" for key, value in written.items())
    system = System(source, target, folder, text)
    for kind in kinds:
        if kind.ddl:
            source.execute(kind.ddl)
    for kind in kinds:
        source.execute(kind.before)
    system.publish(*[kind.published for kind in kinds if kind.published])
    system.apply()
    return system, kinds


def random_statement(kind: Kind, draw: random.Random) -> str:
    """One statement that changes at most a few rows of a kind's table, and breaks no constraint.

    Keys are 0 to 29, which the partitions have from the start.
    """
    table = f"{'ONLY ' if kind.name == 'parent' else ''}{quoted(*kind.place)}"
    key, other, number = draw.randrange(30), draw.randrange(30), draw.randrange(10**9)
    column = quoted(kind.attributes["a"][1])
    text = draw.choice([f"'short {number}'", BIG.format(f"'{number}'")])
    if kind.name == "by_index":
        text = f"'unique {number}'"
    free = f"NOT EXISTS (SELECT FROM {table} o WHERE o.id = {other})"
    choices = [
        f"INSERT INTO {quoted(*kind.place)} (id, {column}, b) SELECT {other}, {text}, {number}"
        f" WHERE {free}",
        f"UPDATE {table} SET b = NULLIF({number} % 7, 0) WHERE id = {key}",
        f"UPDATE {table} SET {column} = {text} WHERE id = {key}",
        f"UPDATE {table} SET b = b + 1 WHERE id > {key}",
        f"UPDATE {table} SET id = {other} WHERE id = {key} AND {free}",
        f"DELETE FROM {table} WHERE id = {key}",
    ]
    more = {
        "filtered": f"UPDATE {table} SET region = 'eu' WHERE region <> 'eu' AND id = {key}",
        "filtered_full": f"UPDATE {table} SET live = NULLIF({number} % 3, 2) = 1 WHERE id = {key}",
        "listed": f"UPDATE {table} SET c = {number} WHERE id = {key}",
    }
    if kind.name in more:
        choices += 2 * [more[kind.name], more[kind.name].replace("'eu'", "'us'")]
    return draw.choice(choices)


def agree(system: System, kinds: list[Kind]) -> None:
    """The control database holds what the log tells, by plain SQL and by ``verify``."""
    for kind in kinds:
        wanted = system.source.query(kind.wanted)
        assert system.rows(kind.found) == wanted, kind.name
        assert wanted, f"{kind.name} is empty"
    report = verify(system.configuration)
    assert [m.mapping for m in report.mappings if m.missing or m.extra or m.different] == []
    assert report.behind == ()
