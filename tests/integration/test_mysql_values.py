"""Values of the binlog are what the server's own SELECT says, for all types of both servers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

import pytest

from cdc_daemon.demo.mariadb import PrivateMariaDB
from cdc_daemon.sources.mysql.types import catalogue_word
from tests.support.binlog_file import inserted, is_mariadb, new_file
from tests.support.mysql_server import PrivateMySQL
from tests.support.mysql_values import Case, agrees, cases

Server = PrivateMariaDB | PrivateMySQL
DATABASE: Final = "decoded"
_COLUMNS: Final = 60
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
