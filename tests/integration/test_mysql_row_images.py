"""Rows events as servers write them: partial images, compression, JSON differences, wide tables."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from cdc_daemon.demo.mariadb import PrivateMariaDB
from cdc_daemon.model.changes import UNCHANGED, Invalid
from cdc_daemon.model.errors import Stop
from cdc_daemon.sources.mysql.rows import Decoded
from cdc_daemon.sources.mysql.tablemap import parse_table_map
from tests.support.binlog_file import (
    PARTIAL,
    TABLE_MAP,
    decoded,
    events,
    inserted,
    is_mariadb,
    new_file,
    table_map,
)
from tests.support.mysql_server import PrivateMySQL

Server = PrivateMariaDB | PrivateMySQL
DATABASE: Final = "images"


@pytest.fixture(scope="module", params=["mariadb", "mysql9"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The shared one of either kind, with a database of this module's own."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, PrivateMariaDB | PrivateMySQL)
    with _database(found):
        yield found


@contextmanager
def _database(server: Server) -> Iterator[None]:
    server.execute(f"CREATE DATABASE IF NOT EXISTS {DATABASE}")
    yield
    server.drop_database(DATABASE)


def _run(server: Server, *statements: str) -> list[tuple[str, Decoded]]:
    """What the statements, in one session, left in the log about table t; it is new each time."""
    file = new_file(server)
    with server.connect(DATABASE) as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS t")
        for statement in statements:
            cursor.execute(statement)
    return list(decoded(server, file, "t"))


@contextmanager
def _globally(server: Server, setting: str, value: str, before: str) -> Iterator[None]:
    server.execute(f"SET GLOBAL {setting} = {value}")
    try:
        yield
    finally:
        server.execute(f"SET GLOBAL {setting} = {before}")


_TABLE: Final = "CREATE TABLE t (id int PRIMARY KEY, a int, b varchar(20), c text)"
_CHANGES: Final = (
    "INSERT INTO t VALUES (1, 10, 'x', 'long')",
    "UPDATE t SET a = 11 WHERE id = 1",
    "UPDATE t SET c = NULL, id = 2 WHERE id = 1",
    "DELETE FROM t WHERE id = 2",
)


def test_full_images_hold_the_whole_old_row(server: Server) -> None:
    found = _run(server, _TABLE, *_CHANGES)
    first, second, third = (
        (b"1", b"10", b"x", b"long"),
        (b"1", b"11", b"x", b"long"),
        (b"2", b"11", b"x", None),
    )
    assert found == [
        ("insert", Decoded([first], [], [], False)),
        ("update", Decoded([second], [first], [], True)),
        ("update", Decoded([third], [second], [], True)),
        ("delete", Decoded([], [third], [], True)),
    ]


def test_minimal_images_leave_out_what_did_not_change(server: Server) -> None:
    """What the new image leaves out is taken from the old one where that has it."""
    found = _run(server, "SET binlog_row_image = 'MINIMAL'", _TABLE, *_CHANGES)
    assert found == [
        ("insert", Decoded([(b"1", b"10", b"x", b"long")], [], [], False)),
        ("update", Decoded([(b"1", b"11", UNCHANGED, UNCHANGED)], [(b"1",)], [0], False)),
        ("update", Decoded([(b"2", UNCHANGED, UNCHANGED, None)], [(b"1",)], [0], False)),
        ("delete", Decoded([], [(b"2",)], [], False)),
    ]


def test_a_minimal_insert_leaves_out_what_has_its_default(server: Server) -> None:
    [(_, found)] = _run(
        server,
        "SET binlog_row_image = 'MINIMAL'",
        _TABLE.replace("a int", "a int DEFAULT 7"),
        "INSERT INTO t (id, b) VALUES (1, 'x')",
    )
    assert found.news == [(b"1", UNCHANGED, b"x", UNCHANGED)]
    assert found.partial == [0]


def test_images_without_blobs_leave_out_those_that_did_not_change(server: Server) -> None:
    found = _run(server, "SET binlog_row_image = 'NOBLOB'", _TABLE, *_CHANGES)
    assert [rows for _, rows in found[1:3]] == [
        Decoded([(b"1", b"11", b"x", UNCHANGED)], [(b"1",)], [0], False),
        Decoded([(b"2", b"11", b"x", None)], [(b"1",)], [], False),
    ]


def test_a_table_without_key_has_its_whole_old_rows_in_every_image(server: Server) -> None:
    table = _TABLE.replace(" PRIMARY KEY", "")
    [_, (_, update), _, _] = _run(server, "SET binlog_row_image = 'MINIMAL'", table, *_CHANGES)
    assert update.news == [(b"1", b"11", b"x", b"long")]
    assert update.olds == [(b"1", b"10", b"x", b"long")]
    assert (update.partial, update.old_full) == ([], True)


def test_every_pattern_of_nulls_is_read_right(server: Server) -> None:
    """Patterns that come often, and so many others that they have no code of their own."""
    draw = random.Random(11)
    types = ["int", "varchar(9)", "date", "bigint unsigned", "decimal(12,3)", "text", "datetime(3)"]
    columns = ", ".join(f"c{i} {one}" for i, one in enumerate(types))
    values = ["-7", "'ä'", "'2026-11-27'", "18446744073709551615", "-1.5", "'t'",
              "'2026-11-27 01:02:03.04'"]  # fmt: skip
    rows = []
    for number in range(600):
        often = draw.randrange(2)
        kept = [draw.randrange(5) if not often else i % 2 for i in range(len(values))]
        shown = [value if keep else "NULL" for value, keep in zip(values, kept, strict=True)]
        rows.append(f"({number}, {', '.join(shown)})")
    [*found] = _run(
        server,
        f"CREATE TABLE t (id int PRIMARY KEY, {columns})",
        f"INSERT INTO t VALUES {', '.join(rows)}",
        "UPDATE t SET id = id + 1000",
    )
    texts = ["-7", "ä", "2026-11-27", "18446744073709551615", "-1.500", "t",
             "2026-11-27 01:02:03.04"]  # fmt: skip
    told = [row for operation, one in found if operation == "insert" for row in one.news]
    is_null = ", ".join(f"c{i} IS NULL" for i in range(len(types)))
    expected = server.query(f"SELECT id - 1000, {is_null} FROM t ORDER BY id", database=DATABASE)
    assert told == [
        (str(id_).encode(),
         *(None if null else text.encode() for null, text in zip(nulls, texts, strict=True)))
        for id_, *nulls in expected
    ]  # fmt: skip
    updates = [one for operation, one in found if operation == "update"]
    assert [row for one in updates for row in one.olds] == told
    assert [row[1:] for one in updates for row in one.news] == [row[1:] for row in told]


def test_a_table_of_more_columns_than_a_byte_counts(server: Server) -> None:
    columns = ", ".join(f"c{i} {'int' if i % 3 else 'varchar(3)'}" for i in range(299))
    values = ", ".join(str(i) if i % 7 else "NULL" for i in range(299))
    [(_, found)] = _run(
        server,
        f"CREATE TABLE t (id int PRIMARY KEY, {columns})",
        f"INSERT INTO t VALUES (1, {values})",
    )
    row = [str(i).encode() if i % 7 else None for i in range(299)]
    assert found.news == [(b"1", *row)]


def test_without_checksums_the_key_is_told_too(server: Server) -> None:
    with _globally(server, "binlog_checksum", "NONE", "CRC32"):
        file = new_file(server)
        server.execute(
            "CREATE TABLE plain (a int, b int, PRIMARY KEY (b)); INSERT INTO plain VALUES (1, 2)",
            database=DATABASE,
        )
        assert table_map(server, file, "plain").primary_key == (1,)
        assert inserted(server, file, "plain") == [(b"1", b"2")]


def test_a_key_of_prefixes_is_a_key(server: Server) -> None:
    file = new_file(server)
    server.execute(
        "CREATE TABLE prefixed (a int, b text, PRIMARY KEY (b(10), a));"
        "INSERT INTO prefixed VALUES (1, 'x')",
        database=DATABASE,
    )
    assert table_map(server, file, "prefixed").primary_key == (1, 0)


def test_metadata_that_is_not_full_is_seen_as_such(server: Server) -> None:
    before = server.query("SELECT @@binlog_row_metadata")[0][0]
    with _globally(server, "binlog_row_metadata", "MINIMAL", f"'{before}'"):
        file = new_file(server)
        server.execute(
            "CREATE TABLE bare (a int unsigned, b int, c text);INSERT INTO bare VALUES (1, 2, 'x')",
            database=DATABASE,
        )
    [found] = [
        parse_table_map(body, mariadb=is_mariadb(server))
        for kind, body in events(file)
        if kind == TABLE_MAP
    ]
    assert not found.has_names
    assert [column.name for column in found.columns] == ["", "", ""]


def test_a_value_beyond_the_limit_stops_with_table_column_and_key(server: Server) -> None:
    file = new_file(server)
    server.execute(
        "CREATE TABLE large (id int PRIMARY KEY, b blob);"
        "INSERT INTO large VALUES (1, REPEAT('x', 600))",
        database=DATABASE,
    )
    found = decoded(server, file, "large", max_value_bytes=1000)
    with pytest.raises(Stop, match=r"images\.large: .*1202 bytes.*column b.*identified by id"):
        list(found)
    assert list(decoded(server, file, "large", max_value_bytes=1202))


# --- MariaDB --------------------------------------------------------------------------------------


@pytest.fixture
def maria(mariadb: PrivateMariaDB) -> Iterator[PrivateMariaDB]:
    """The shared MariaDB with a database."""
    with _database(mariadb):
        yield mariadb


def test_compressed_events_are_read(maria: PrivateMariaDB) -> None:
    plain = _run(maria, _TABLE, *_MANY)
    with _globally(maria, "log_bin_compress", "ON", "OFF"):
        file = new_file(maria)
        assert _run(maria, _TABLE, *_MANY) == plain
    kinds = {kind for kind, _ in events(file.with_suffix(f".{int(file.suffix[1:]) + 1:06}"))}
    assert {166, 167, 168} <= kinds
    assert len(plain[0][1].news) > 10


_MANY: Final = (
    "INSERT INTO t SELECT seq, seq, 'x', REPEAT('y', 400) FROM mysql.seq_1_to_200",
    "UPDATE t SET a = a + 1",
    "DELETE FROM t",
)


def test_halves_of_a_character_are_no_text(maria: PrivateMariaDB) -> None:
    """MariaDB takes surrogates, which UTF-8 does not have, into its utf8mb4 and ucs2."""
    [(_, found)] = _run(
        maria,
        "CREATE TABLE t (a varchar(9) CHARACTER SET utf8mb4, b char(9) CHARACTER SET ucs2)",
        "INSERT INTO t VALUES (_utf8mb4 x'61eda080', _ucs2 x'd83dde00'), ('ā', 'b')",
    )
    assert found.news == [
        (
            Invalid(b"a\xed\xa0\x80", "the text is not valid in its character set (utf8)"),
            Invalid(
                b"\xd8\x3d\xde\x00",
                "the text is not valid in its character set (ucs2)",
                "utf-16-be",
            ),
        ),
        ("ā".encode(), b"b"),
    ]
    assert found.partial == [0]


def test_times_of_the_old_format_are_refused_with_the_cure(maria: PrivateMariaDB) -> None:
    with _globally(maria, "mysql56_temporal_format", "OFF", "ON"), pytest.raises(Stop) as refused:
        _run(maria, "CREATE TABLE t (id int, at time(3))", "INSERT INTO t VALUES (1, '1:2:3')")
    assert "images.t, column at" in str(refused.value)
    assert "mysql56_temporal_format=ON" in str(refused.value)


# --- MySQL ----------------------------------------------------------------------------------------


@pytest.fixture
def mysql(mysql9: PrivateMySQL) -> Iterator[PrivateMySQL]:
    """The shared MySQL with a database."""
    with _database(mysql9):
        yield mysql9


def test_rows_of_no_columns_are_refused(mysql: PrivateMySQL) -> None:
    minimal = "SET binlog_row_image = 'MINIMAL'"
    with pytest.raises(Stop, match=r"images\.t: .*rows of no columns.*binlog_row_image=FULL"):
        _run(mysql, minimal, "CREATE TABLE t (a int, b int)", "INSERT INTO t () VALUES ()")


_DOCUMENT: Final = (
    """'{"a": [1, [2, 3], "x"], "b": {"c": null, "d": 1.5}, "key \\\\"q\\\\" ü": 1, "z": "%s"}'"""
    % ("z" * 300)
)
_DIFFERENCES: Final = (
    "JSON_SET(j, '$.a[0]', 7)",
    "JSON_SET(j, '$.b.new', JSON_ARRAY(1, 'ä'), '$.b.c', true)",
    "JSON_REPLACE(j, '$.a[1][0]', 'longer than what was there before')",
    "JSON_REMOVE(j, '$.a[0]', '$.b.d')",
    """JSON_SET(j, '$."key \\\\"q\\\\" ü"', 2, '$."1 b"', 3, '$.a[9]', JSON_OBJECT('k', 1))""",
    "JSON_REMOVE(JSON_SET(j, '$.x', 1, '$.aa', 2), '$.a')",
    "JSON_SET(j, '$.b', CAST('2026-11-27' AS DATE))",
)


def _updates(mysql: PrivateMySQL, image: str) -> tuple[list[Decoded], list[str]]:
    """Partial updates of one row, and what SELECT said after each."""
    file = new_file(mysql)
    shown = []
    with mysql.connect(DATABASE) as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS t")
        cursor.execute("CREATE TABLE t (id int PRIMARY KEY, j json, k json, n int)")
        cursor.execute(f"INSERT INTO t VALUES (1, {_DOCUMENT}, '[1]', 0)")
        cursor.execute("SET binlog_row_value_options = 'PARTIAL_JSON'")
        cursor.execute(f"SET binlog_row_image = '{image}'")
        for difference in _DIFFERENCES:
            cursor.execute(f"UPDATE t SET j = {difference}, n = n + 1")
            cursor.execute("SELECT CAST(j AS CHAR) FROM t")
            shown.append(str(cursor.fetchone()[0]))  # type: ignore[index]
    assert sum(kind == PARTIAL for kind, _ in events(file)) == len(_DIFFERENCES)
    found = decoded(mysql, file, "t")
    return [rows for operation, rows in found if operation == "update"], shown


def test_json_differences_are_applied_to_the_old_document(mysql: PrivateMySQL) -> None:
    found, shown = _updates(mysql, "FULL")
    assert [one.news[0][1] for one in found] == [text.encode() for text in shown]
    assert [one.news[0][2:] for one in found] == [(b"[1]", b"%d" % n) for n in range(1, 8)]
    assert [one.partial for one in found] == [[]] * len(found)
    assert [one.olds[0][1] for one in found[1:]] == [text.encode() for text in shown[:-1]]


def test_updates_of_whole_documents_stand_among_them(mysql: PrivateMySQL) -> None:
    """Where no document is changed in part, an event may hold both kinds of rows."""
    [_, _, *updates] = _run(
        mysql,
        "SET binlog_row_value_options = 'PARTIAL_JSON'",
        "CREATE TABLE t (id int PRIMARY KEY, j json, n int)",
        f"INSERT INTO t VALUES (1, {_DOCUMENT}, 0), (2, '[1]', 0), (3, NULL, 0)",
        f"INSERT INTO t VALUES (4, {_DOCUMENT}, 0)",
        "UPDATE t SET n = n + 1, j = JSON_SET(j, '$.a[0]', 'x')",
        "UPDATE t SET n = n + 1",
        "UPDATE t SET j = '{}'",
    )
    expected = mysql.query("SELECT CAST(j AS CHAR), CAST(n AS CHAR) FROM t", database=DATABASE)
    news = [row for _, found in updates for row in found.news]
    assert [row[1:] for row in news[-4:]] == [(j.encode(), n.encode()) for j, n in expected]
    assert [row[2] for row in news] == [b"1"] * 4 + [b"2"] * 8
    assert [row[1] for row in news[1:3]] == [b"[1]", None]
    assert news[0][1] == news[4][1] == news[7][1] != news[8][1] == b"{}"


def test_without_the_old_document_a_difference_says_nothing(mysql: PrivateMySQL) -> None:
    found, _ = _updates(mysql, "MINIMAL")
    assert [one.news[0] for one in found] == [
        (b"1", UNCHANGED, UNCHANGED, b"%d" % n) for n in range(1, 8)
    ]
    assert [one.partial for one in found] == [[0]] * len(found)


def test_generated_and_invisible_columns_are_columns_like_others(server: Server) -> None:
    """Also beside the hidden column that MySQL makes for an index on an expression."""
    index = "" if is_mariadb(server) else ", KEY ((a * 2))"
    [(_, insert), (_, update), *_] = _run(
        server,
        "CREATE TABLE t (id int PRIMARY KEY, a int, v int GENERATED ALWAYS AS (a + 1) VIRTUAL,"
        f" s varchar(20) GENERATED ALWAYS AS (CONCAT('s', a)) STORED, i int INVISIBLE{index})",
        "INSERT INTO t (id, a, i) VALUES (1, 5, 9)",
        "UPDATE t SET a = 6",
    )
    assert insert.news == [(b"1", b"5", b"6", b"s5", b"9")]
    assert update.news == [(b"1", b"6", b"7", b"s6", b"9")]
