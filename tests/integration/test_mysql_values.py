"""Values of the binlog are what the server's own SELECT says, for all types of both servers."""

from __future__ import annotations

import itertools
import math
import random
import struct
from collections.abc import Iterator
from typing import Final

import pytest
from pymysql.cursors import Cursor

from cdc_daemon.demo.mariadb import PrivateMariaDB
from cdc_daemon.demo.server import PrivatePostgres
from cdc_daemon.model.changes import Invalid
from cdc_daemon.sources.mysql import charsets
from cdc_daemon.sources.mysql.tablemap import named
from cdc_daemon.sources.mysql.texts import double_text, real_text
from cdc_daemon.sources.mysql.types import catalogue_word, column_type, column_type_of
from tests.support.binlog_file import inserted, is_mariadb, new_file, table_map
from tests.support.mysql_server import PrivateMySQL
from tests.support.mysql_values import Case, agrees, cases

Server = PrivateMariaDB | PrivateMySQL
DATABASE: Final = "decoded"
_COLUMNS: Final = 60
_PLAIN: Final = (
    "tinyint(1)", "boolean", "int(11) unsigned zerofill", "decimal(10)", "decimal", "numeric(12,3)",
    "double(10,2)", "float(7,3)", "real", "char", "binary", "bit", "date", "datetime(0)", "serial",
    "char(0)", "varchar(0)", "text(10)", "blob(100000)", "linestring", "polygon", "multipoint",
    "multilinestring", "multipolygon", "geometrycollection", "character varying(10)", "int1",
    "int8", "national varchar(10)", "long varchar",
)  # fmt: skip
_MODE: Final = "SET sql_mode = 'ALLOW_INVALID_DATES', innodb_strict_mode = 0"


@pytest.fixture(scope="module", params=["mariadb", "mysql9"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The shared one of either kind, with a database of this module's own."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, PrivateMariaDB | PrivateMySQL)
    found.create_database(DATABASE)
    yield found
    found.drop_database(DATABASE)


def _character_sets(server: Server) -> list[str]:
    query = "SELECT character_set_name FROM information_schema.character_sets"
    return sorted({str(name) for (name,) in server.query(query)} - {"binary"})


def _fill(server: Server, table: str, all_cases: list[Case]) -> None:
    """A column for each case, and the i-th value of each in row i."""
    columns = ", ".join(f"c{i} {case.sql_type}" for i, case in enumerate(all_cases))
    engine = "ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4"
    statements = [_MODE, f"CREATE TABLE {table} (id int PRIMARY KEY, {columns}) {engine}"]
    rows = itertools.zip_longest(*(case.values for case in all_cases), fillvalue="NULL")
    statements += [
        f"INSERT INTO {table} VALUES ({number}, {', '.join(row)})"
        for number, row in enumerate(rows)
    ]
    with server.connect(DATABASE) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def test_every_value_of_every_type_is_what_select_says(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    all_cases = cases(mariadb=is_mariadb(server), charsets=_character_sets(server))
    values = 0
    for part, some in enumerate(_parts(all_cases)):
        values += _compare(server, f"t{part}", list(some))
    with capsys.disabled():
        print(f"\n{len(all_cases)} types, {values} values of {server!r}")


def _parts(all_cases: list[Case]) -> Iterator[list[Case]]:
    """As many as fit into a row."""
    for start in range(0, len(all_cases), _COLUMNS):
        yield all_cases[start : start + _COLUMNS]


def _compare(server: Server, table: str, some: list[Case]) -> int:
    """Insert, decode and select; how many values there were."""
    file = new_file(server)
    _fill(server, table, some)
    query = "SELECT column_name, column_type FROM information_schema.columns WHERE table_name = %s"
    words = {str(name): catalogue_word(str(told)) for name, told in server.query(query, table)}
    shown = ", ".join(case.shown.format(c=f"c{i}") for i, case in enumerate(some))
    expected = server.query(f"SELECT {shown} FROM {table} ORDER BY id", database=DATABASE)
    found = inserted(server, file, table, words)
    assert len(found) == len(expected)
    wrong = [
        (case.sql_type, case.values[row : row + 1], value, text)
        for row, (told, values) in enumerate(zip(expected, found, strict=True))
        for case, text, value in zip(some, told, values[1:], strict=True)
        if not agrees(case.kind, value, _text(text))
    ]
    assert not wrong, wrong
    return sum(len(case.values) for case in some)


def _text(shown: object) -> str | None:
    if shown is None:
        return None
    return shown.decode() if isinstance(shown, bytes) else str(shown)


def test_the_log_and_the_catalogue_describe_every_column_alike(server: Server) -> None:
    """Also labels with quotes, backslashes and line ends in them, and what has no width."""
    all_cases = cases(mariadb=is_mariadb(server), charsets=_character_sets(server))
    odd = ["enum('it''s','a\\\\b','a\\nb','','ü,)(')", "set('a''','(b')", "enum('x') charset utf16"]
    types = list(dict.fromkeys([*(case.sql_type for case in all_cases), *odd, *_PLAIN]))
    for start in range(0, len(types), _COLUMNS):
        some = types[start : start + _COLUMNS]
        file = new_file(server)
        _fill(server, "described", [Case(sql_type=one, values=["NULL"]) for one in some])
        query = (
            "SELECT data_type, column_type FROM information_schema.columns"
            " WHERE table_name = 'described' ORDER BY ordinal_position"
        )
        told = [(str(word), str(text)) for word, text in server.query(query)]
        words = {f"c{i}": catalogue_word(text) for i, (_, text) in enumerate(told[1:])}
        found = named(table_map(server, file, "described"), words)
        assert [column_type(c) for c in found.columns] == [column_type_of(*pair) for pair in told]
        assert found.primary_key == (0,)
        server.execute("DROP TABLE described", database=DATABASE)


def test_every_collation_of_the_server_has_its_character_set(server: Server) -> None:
    collations = "character_set_name FROM information_schema.collations WHERE id IS NOT NULL"
    if is_mariadb(server):
        collations = (
            "character_set_name FROM information_schema.collation_character_set_applicability"
        )
    found = server.query(f"SELECT id, {collations}")
    assert len(found) > 250
    assert {id_: charsets.charset_of(int(id_)) for id_, _ in found} == dict(found)


def test_floats_are_printed_as_postgresql_prints_them(postgres18: PrivatePostgres) -> None:
    """Every power of two, where the neighbours' distances differ, and numbers of all sizes."""
    draw = random.Random(7)
    powers = [2.0**power for power in range(-149, 128)]
    singles = [struct.unpack("f", draw.randbytes(4))[0] for _ in range(3000)] + powers
    doubles = [struct.unpack("d", draw.randbytes(8))[0] for _ in range(3000)] + powers
    query = "SELECT value::text FROM unnest(%s::{0}[]) WITH ORDINALITY AS t (value, n) ORDER BY n"
    for word, numbers, text in (("real", singles, real_text), ("float8", doubles, double_text)):
        finite = [number for number in numbers if math.isfinite(number)]
        told = postgres18.execute(query.format(word), (finite,))
        assert [text(number).decode() for number in finite] == [one for (one,) in told]


def test_every_character_is_what_the_server_makes_of_it(server: Server) -> None:
    """All bytes, all pairs, and what of the wider character sets has more than two.

    Their tables are those of both servers, so pairs are asked of one.
    """
    asked = set() if is_mariadb(server) else _NOT_SINGLE - {"gb18030"}
    with server.connect(DATABASE) as connection, connection.cursor() as cursor:
        _create_bytes(cursor)
        for charset in _character_sets(server):
            if charset not in _OF_UNICODE | asked:
                _compare_characters(cursor, charset)


_OF_UNICODE: Final = charsets.UTF8 | {"ucs2", "utf16", "utf16le", "utf32"}
_NOT_SINGLE: Final = {
    "big5",
    "cp932",
    "eucjpms",
    "euckr",
    "gb18030",
    "gb2312",
    "gbk",
    "sjis",
    "ujis",
}
_BROKEN: Final = range(0xADBF, 0xADDF)
"""Where NEC's row in eucjpms has no characters, MariaDB shows ASCII."""


def _create_bytes(cursor: Cursor) -> None:
    """Tables of one, two, three (EUC) and four bytes (GB 18030), and one of all characters."""
    rows = {
        1: [f"{one:02x}" for one in range(256)],
        2: [f"{one:02x}{two:02x}" for one in range(0x81, 0xFF) for two in range(0x30, 0xFF)],
        3: [f"8f{one:02x}{two:02x}" for one in range(0xA1, 0xFF) for two in range(0xA1, 0xFF)],
        4: [f"{one:02x}{two:02x}{three:02x}{four:02x}" for one in (0x81, 0x82, 0x90)
            for two in range(0x30, 0x3A) for three in range(0x81, 0xFF)
            for four in range(0x30, 0x3A)],
    }  # fmt: skip
    for length, texts in rows.items():
        cursor.execute(f"CREATE TEMPORARY TABLE bytes{length} (b varbinary(4))")
        values = ", ".join(f"(x'{text}')" for text in texts)
        cursor.execute(f"INSERT INTO bytes{length} VALUES {values}")


def _compare_characters(cursor: Cursor, charset: str) -> None:
    read = charsets.reader_of(charset)
    lengths = {"ujis": (1, 2, 3), "eucjpms": (1, 2, 3), "gb18030": (1, 2, 4)}
    default = (1, 2) if charset in _NOT_SINGLE else (1,)
    wrong = []
    for length in lengths.get(charset, default):
        cursor.execute(
            f"SELECT b, CAST(CONVERT(CONVERT(b USING {charset}) USING utf8mb4) AS BINARY),"
            f" CAST(CONVERT(b USING {charset}) AS BINARY) FROM bytes{length}"
        )
        for raw, text, back in cursor.fetchall():
            found = read(raw)
            told = text if back == raw and _is_character(raw, text) else None
            if told != (None if isinstance(found, Invalid) else found) and told != b"":
                wrong.append((raw.hex(), found, told))
    if charset == "eucjpms":
        wrong = [one for one in wrong if int(one[0], 16) not in _BROKEN]
    assert not wrong, (charset, wrong[:20])


def _is_character(raw: bytes, text: bytes | None) -> bool:
    """Whether the server knows the characters: what it does not know it shows as ``?``."""
    if not text or b"\xef\xbf\xbd" in text:
        return False
    return raw.count(b"?") == text.count(b"?")
