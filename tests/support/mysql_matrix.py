"""Every type and value of MySQL and MariaDB in tables of a schema, for the ways that read them.

Tables ``t<n>`` have a column ``c<i>`` for each case and a row for each number of values, NULL where
a case has fewer, and a last row that is NULL everywhere. Tables ``k<n>`` are keyed by a value of a
type that can be a key, ``m<n>`` by values of several types.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from pymysql.cursors import Cursor

from cdc_daemon.model.changes import Invalid, Value
from cdc_daemon.model.ports import Table
from cdc_daemon.sources.mysql.charsets import reader_of
from tests.support.mysql_sources import Schema
from tests.support.mysql_values import Case, agrees, cases

COLUMNS: Final = 60
TOGETHER: Final = 12  # columns of a key of several
MODE: Final = "SET sql_mode = 'ALLOW_INVALID_DATES', innodb_strict_mode = 0"
"""Every value that a server may hold can be written."""

_ENGINE: Final = "ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4"
_TEXT: Final = "CONVERT({c} USING utf8mb4)"
_HEX: Final = r"CONCAT('\\x', LOWER(HEX({c})))"
_NO_DAY: Final = re.compile(r"'0000|-00[- ']|2021-02-29")
_NO_KEYS: Final = (
    "text",
    "blob",
    "json",
    "geometry",
    "point",
    "vector",
    "generated",
    "compressed",
    "invisible",
)
_TAKEN: Final = 4  # undecodable texts of each character set
_TRIED: Final = 60


def more_cases(*, mariadb: bool) -> list[Case]:
    """What the log alone is not asked about."""
    tiny = "'-0'" if mariadb else "-0e0"
    return [
        Case(sql_type="tinyint(1)", values=["0", "1", "-128", "127"]),
        Case(sql_type="tinyint(3) unsigned zerofill", values=["0", "7", "255"], kind="filled"),
        Case(sql_type="int(9) zerofill", values=["0", "7", "4294967295"], kind="filled"),
        Case(sql_type="bigint(20) unsigned zerofill", values=["0", "1", "18446744073709551615"],
             kind="filled"),
        Case(sql_type="decimal(10,3) zerofill", values=["0", "0.5", "12.125", "9999999.999"],
             kind="filled"),
        Case(sql_type="decimal(5,5) zerofill", values=["0", "0.00001", "0.5"], kind="filled"),
        Case(sql_type="decimal(5,0) zerofill", values=["0", "70", "99999"], kind="filled"),
        Case(sql_type="float(7,2)", values=["0", "99999.99", "-1.5", "0.1", "33333.33"],
             kind="float"),
        Case(sql_type="float(7,2) zerofill", values=["0", "1.5"], kind="float"),
        Case(sql_type="double(10,2)", values=["0", "12345678.91", "-0.01"], kind="rounded"),
        Case(sql_type="double(20,2) zerofill", values=["0", "1.25"], kind="double"),
        Case(sql_type="float", values=[tiny, "-1e-45", "-3.4028234e38", "1e20"], kind="float"),
        Case(sql_type="double", values=[tiny, "-1.7976931348623157e308", "-5e-324"],
             kind="double"),
        Case(sql_type="enum('a','ü','日')", values=["''", "'ü'", "99", "3"], shown=_TEXT),
        Case(sql_type="enum('a','ü') CHARACTER SET gbk", values=["''", "'ü'"], shown=_TEXT),
        Case(sql_type="set('ü','日','x') CHARACTER SET utf16", values=["''", "7", "5"],
             shown=_TEXT),
        Case(sql_type="set('ü','b') CHARACTER SET ucs2", values=["3", "'nothing'"], shown=_TEXT),
        Case(sql_type="binary(1)", values=["x''", "x'00'", "x'20'"], shown=_HEX),
        Case(sql_type="binary(16)", values=["x'20'", "x'2000'", "REPEAT(x'ff', 16)"],
             shown=_HEX),
        Case(sql_type="varchar(30) CHARACTER SET binary", values=["'ä '", "x'ff00'"],
             shown=_HEX),
        Case(sql_type="datetime(6)", kind="moment",
             values=["'0000-00-00 00:00:00.5'", "'2020-00-30 23:59:59.000010'"]),
        Case(sql_type="varchar(40) GENERATED ALWAYS AS (CONCAT('ä ', id)) STORED",
             values=["DEFAULT"], shown=_TEXT),
        Case(sql_type="int GENERATED ALWAYS AS (id * 2) VIRTUAL", values=["DEFAULT"]),
        Case(sql_type=f"varchar(10) {'' if mariadb else 'NULL '}INVISIBLE", values=["'ä'", "''"],
             shown=_TEXT),
        *_shapes(mariadb),
    ]  # fmt: skip


def _shapes(mariadb: bool) -> list[Case]:
    """Geometries of every kind, placed where axes are swapped, too."""
    shown = "CONCAT(ST_SRID({c}), ' ', LOWER(HEX(ST_AsWKB({c}))))"
    if not mariadb:
        shown = "CONCAT(ST_SRID({c}), ' ', LOWER(HEX(ST_AsWKB({c}, 'axis-order=long-lat'))))"
    texts = ["MULTIPOINT(1 2,3 4)", "MULTILINESTRING((0 0,1 1),(2 2,3 3))", "POINT(1 2)",
             "MULTIPOLYGON(((0 0,1 0,1 1,0 0)))",
             "GEOMETRYCOLLECTION(POINT(1 2),LINESTRING(0 0,1 1))"]  # fmt: skip
    values = [f"ST_GeomFromText('{text}', {srid})" for text in texts for srid in (0, 4326)]
    if not mariadb:  # MySQL has the points of a multipoint in brackets, and one empty geometry
        values.append("ST_GeomFromText('GEOMETRYCOLLECTION EMPTY')")
    return [Case(sql_type="geometry", values=values, kind="geometry", shown=shown)]


def undecodable(schema: Schema, names: Sequence[str]) -> list[Case]:
    """Texts that stand for no characters, of each character set in which the server takes such."""
    found = []
    broken = {charset: _broken(charset) for charset in names}
    tried = [
        f"HEX(CONVERT(x'{raw}' USING {charset}))" for charset in names for raw in broken[charset]
    ]
    told = iter(schema.query(f"SELECT {', '.join(tried)}")[0])
    for charset in names:
        taken = [raw for raw in broken[charset] if next(told) == raw]
        if taken:
            values = [f"CONVERT(x'{raw}' USING {charset})" for raw in taken[:_TAKEN]]
            word = f"varchar(20) CHARACTER SET {charset}"
            found.append(Case(sql_type=word, values=values, shown="HEX({c})", kind="raw"))
    return found


def _broken(charset: str) -> list[str]:
    """Some bytes that are not read, as the server writes them in hexadecimal."""
    read = reader_of(charset)
    draw = random.Random(7)
    texts = [b"a" + bytes([byte]) for byte in range(0x80, 0x100, 3)]
    texts += [bytes([draw.randrange(0x81, 0xFF), draw.randrange(0x40, 0xFF)]) for _ in range(150)]
    return [one.hex().upper() for one in texts if isinstance(read(one), Invalid)][:_TRIED]


def shows(case: Case, value: Value, shown: str | None) -> bool:
    """Whether the value is the one that the server shows."""
    if value is None or shown is None:
        return value is None and shown is None
    match case.kind:
        case "raw":
            raw = value.raw if isinstance(value, Invalid) else value
            return isinstance(raw, bytes) and raw.hex() == shown.lower()
        case "filled":
            return isinstance(value, bytes) and Decimal(value.decode()) == Decimal(shown)
        case "rounded":
            return isinstance(value, bytes) and f"{float(value):.2f}" == f"{float(shown):.2f}"
        case kind:
            return agrees(kind, value, shown)


def can_be_key(case: Case) -> bool:
    """Whether a column of the type can be a primary key by itself."""
    words = case.sql_type.lower()
    return not any(word in words for word in _NO_KEYS) and case.kind != "raw"


@dataclass(frozen=True, slots=True)
class Wide:
    """A table with a column for each case."""

    name: str
    cases: list[Case]

    @property
    def columns(self) -> list[str]:
        """Their names."""
        return [f"c{i}" for i in range(len(self.cases))]

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """SQL of the values of each row, the last one without any."""
        found = list(itertools.zip_longest(*(case.values for case in self.cases), fillvalue=None))
        return [
            tuple(map(_or_null, row, self.cases)) for row in [*found, (None,) * len(self.cases)]
        ]


def _or_null(value: str | None, case: Case) -> str:
    return "DEFAULT" if "GENERATED" in case.sql_type else value or "NULL"


@dataclass(frozen=True, slots=True)
class Keyed:
    """A table that is keyed by values of the cases, a row for each number of values."""

    name: str
    cases: list[Case]

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """SQL of the keys."""
        if len(self.cases) == 1:
            return [(value,) for value in self.cases[0].values]
        columns = [
            [v for v in case.values if not _NO_DAY.search(v)] or ["'2026-11-27'"]
            for case in self.cases
        ]
        most = max(map(len, columns))
        return [tuple(values[row % len(values)] for values in columns) for row in range(most)]

    @property
    def columns(self) -> list[str]:
        """Their names."""
        return [f"v{i}" for i in range(len(self.cases))]


class Tables:
    """All of one server."""

    def __init__(self, schema: Schema, *, mariadb: bool, every: bool) -> None:
        self.schema = schema
        query = "SELECT character_set_name FROM information_schema.character_sets"
        charsets = sorted({str(name) for (name,) in schema.query(query)} - {"binary"})
        self.broken = undecodable(schema, charsets)
        found = [*cases(mariadb=mariadb, charsets=charsets), *more_cases(mariadb=mariadb)]
        keys = [case for case in found if can_be_key(case)]
        alone = keys if every else list({_word(case): case for case in reversed(keys)}.values())
        short = [case for case in keys if not re.search(r"\d{3}", case.sql_type)]
        self.cases = [*found, *self.broken]
        self.wide = [Wide(f"t{n}", some) for n, some in enumerate(_parts(self.cases, COLUMNS))]
        self.keyed = [Keyed(f"k{n}", [case]) for n, case in enumerate(alone)]
        self.keyed += [Keyed(f"m{n}", some) for n, some in enumerate(_parts(short, TOGETHER))]

    @property
    def names(self) -> list[str]:
        """Of the tables."""
        return [one.name for one in self.wide] + [one.name for one in self.keyed]

    def asked(self) -> list[Table]:
        """As a source is asked for them."""
        table = self.schema.table
        return [
            *(table(one.name, "id", *one.columns) for one in self.wide),
            *(table(one.name, "n", *one.columns) for one in self.keyed),
        ]

    def create(self) -> None:
        """All of them, empty."""
        with self.session() as cursor:
            cursor.execute("SET sql_log_bin = 0")
            for wide in self.wide:
                columns = ", ".join(_columns("c", wide.cases))
                cursor.execute(
                    f"CREATE TABLE {wide.name} (id int PRIMARY KEY, {columns}) {_ENGINE}"
                )
            for keyed in self.keyed:
                columns = ", ".join(_columns("v", keyed.cases))
                columns = columns.replace(" NULL", " NOT NULL").replace("DEFAULT NOT NULL", "")
                key = ", ".join(keyed.columns)
                cursor.execute(
                    f"CREATE TABLE {keyed.name} ({columns}, n int, PRIMARY KEY ({key})) {_ENGINE}"
                )

    def session(self) -> Cursor:
        """A cursor of a session that writes what it is told."""
        connection = self.schema.connect()
        cursor = connection.cursor()
        cursor.execute(MODE)
        cursor.execute("SET time_zone = '+00:00'")
        return cursor

    def insert(self) -> None:
        """Every value into every table, in one transaction; keys that are there already are not."""
        with self.session() as cursor:
            cursor.execute("BEGIN")
            for wide in self.wide:
                for number, row in enumerate(wide.rows):
                    names = ", ".join(wide.columns)
                    cursor.execute(
                        f"INSERT INTO {wide.name} (id, {names}) VALUES ({number}, {', '.join(row)})"
                    )
            for keyed in self.keyed:
                names = ", ".join(keyed.columns)
                rows = [f"({', '.join(row)}, {n})" for n, row in enumerate(keyed.rows)]
                cursor.execute(
                    f"INSERT IGNORE INTO {keyed.name} ({names}, n) VALUES {', '.join(rows)}"
                )
            cursor.execute("COMMIT")

    def rotate(self) -> None:
        """Every row takes the values of the next one."""
        with self.session() as cursor:
            cursor.execute("BEGIN")
            for wide in self.wide:
                rows = wide.rows
                for number, row in enumerate([*rows[1:], rows[0]]):
                    values = ", ".join(map("{} = {}".format, wide.columns, row))
                    cursor.execute(f"UPDATE {wide.name} SET {values} WHERE id = {number}")
            cursor.execute("COMMIT")

    def delete(self) -> None:
        """All rows."""
        with self.session() as cursor:
            cursor.execute("BEGIN")
            for name in self.names:
                cursor.execute(f"DELETE FROM {name}")
            cursor.execute("COMMIT")


def _word(case: Case) -> str:
    """The type without numbers, labels and character set."""
    return re.sub(r"[\d,]+", "", re.split("'| CHARACTER SET", case.sql_type)[0])


def _parts(some: Sequence[Case], size: int) -> Iterator[list[Case]]:
    return (list(some[start : start + size]) for start in range(0, len(some), size))


def _columns(prefix: str, some: Sequence[Case]) -> Iterator[str]:
    return (f"{prefix}{i} {case.sql_type}" for i, case in enumerate(some))
