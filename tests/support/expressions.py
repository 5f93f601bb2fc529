"""Random expressions with a type, over a fixed row of columns, for differential tests."""

import functools

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from cdc_daemon.model.changes import ColumnType

TYPES = {
    "s": ColumnType("smallint"),
    "i": ColumnType("integer"),
    "b": ColumnType("bigint"),
    "n": ColumnType("numeric", 12, 3),
    "m": ColumnType("numeric"),
    "x": ColumnType("double"),
    "r": ColumnType("real"),
    "t": ColumnType("text"),
    "v": ColumnType("varchar", 20),
    "c": ColumnType("char", 6),
    "f": ColumnType("boolean"),
    "d": ColumnType("date"),
    "e": ColumnType("timestamp"),
    "z": ColumnType("timestamptz"),
    "u": ColumnType("uuid"),
    "j": ColumnType("jsonb"),
    "k": ColumnType("json"),
}
SQL_TYPES = {
    "s": "smallint", "i": "integer", "b": "bigint", "n": "numeric(12,3)", "m": "numeric",
    "x": "double precision", "r": "real", "t": "text", "v": "varchar(20)", "c": "char(6)",
    "f": "boolean", "d": "date", "e": "timestamp", "z": "timestamptz", "u": "uuid", "j": "jsonb",
    "k": "json",
}  # fmt: skip

Text = SearchStrategy[str]


def one_of(*texts: str) -> Text:
    return st.sampled_from(texts)


def call(pattern: str, *parts: Text) -> Text:
    return st.tuples(*parts).map(lambda values: pattern.format(*values))


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


LITERAL_TEXTS = st.text("ab%_\\x \u00e9\u5ba2'", max_size=4).map(quoted)
NAMES = {
    "integer": one_of("s", "i", "b", "0", "1", "-1", "7", "32767", "2147483647", "3000000000"),
    "numeric": one_of("n", "m", "1.5", "0.0", "-2.25", "0.001", "1e3", "123456789.123456789"),
    "double": one_of("x", "r", "x"),
    "text": st.one_of(one_of("t", "v", "c"), LITERAL_TEXTS),
    "boolean": one_of("f", "TRUE", "FALSE", "NULL::boolean"),
    "date": one_of("d", "DATE '2024-02-29'", "DATE '0044-03-15 BC'"),
    "timestamp": one_of("e", "TIMESTAMP '2024-02-29 12:34:56.5'"),
}


@functools.cache
def expressions(kind: str, depth: int) -> Text:
    """Expressions of a kind, at most ``depth`` operators deep."""
    if depth == 0:
        return NAMES[kind]
    smaller = {name: expressions(name, depth - 1) for name in NAMES}
    same = smaller[kind]
    forms = [
        NAMES[kind],
        call("COALESCE({}, {})", same, same),
        call("CASE WHEN {} THEN {} WHEN {} THEN {} ELSE {} END",
             smaller["boolean"], same, smaller["boolean"], same, same),
        call("CASE {} WHEN {} THEN {} WHEN NULL THEN {} END",
             smaller["text"], smaller["text"], same, same),
        call("NULLIF({}, {})", same, same),
        call("GREATEST({}, {})", same, same),
        call("LEAST({}, {}, {})", same, same, same),
        *_FORMS[kind](smaller),
    ]  # fmt: skip
    return st.one_of(forms)


def _integers(of: dict[str, Text]) -> list[Text]:
    number, text = of["integer"], of["text"]
    return [
        call("({} {} {})", number, one_of("+", "-", "*", "/", "%"), number),
        call("-({})", number),
        call("ABS({})", number),
        call("LENGTH({})", text),
        call("POSITION({} IN {})", text, text),
        call("({} - {})", of["date"], of["date"]),
        call("CAST({} AS {})", of["numeric"], one_of("smallint", "integer", "bigint")),
        call("({})::int", of["double"]),
    ]


def _numerics(of: dict[str, Text]) -> list[Text]:
    number, any_ = of["numeric"], st.one_of(of["numeric"], of["integer"])
    return [
        call("({} {} {})", number, one_of("+", "-", "*", "/", "%"), any_),
        call("-({})", number),
        call("ROUND({}, {})", any_, one_of("0", "2", "-1", "5")),
        call("{}({})", one_of("ROUND", "TRUNC", "CEIL", "FLOOR", "ABS"), number),
        call("TRUNC({}, {})", number, one_of("0", "2", "-2")),
        call("({})::numeric(10,2)", any_),
        call("({})::numeric", of["double"]),
        call("EXTRACT({} FROM {})",
             one_of("year", "month", "day", "quarter", "dow", "doy", "isodow"),
             st.one_of(of["date"], of["timestamp"])),
        call("EXTRACT({} FROM {})", one_of("hour", "minute"), of["timestamp"]),
    ]  # fmt: skip


def _doubles(of: dict[str, Text]) -> list[Text]:
    number = of["double"]
    return [
        call("({} {} {})", number, one_of("+", "-", "*", "/"), st.one_of(number, of["numeric"])),
        call("-({})", number),
        call("{}({})", one_of("ROUND", "TRUNC", "CEIL", "FLOOR", "ABS"), number),
        call("({})::double precision", st.one_of(of["integer"], of["numeric"])),
    ]


def _texts(of: dict[str, Text]) -> list[Text]:
    text = of["text"]
    small = one_of("0", "1", "2", "3", "-1", "-2", "i", "s")
    count = one_of("0", "1", "2", "3", "9", "-1", "s")
    return [
        call("({} || {})", text, st.one_of(text, of["integer"], of["numeric"], of["boolean"])),
        call("{}({})", one_of("TRIM", "LTRIM", "RTRIM", "BTRIM"), text),
        call("{}({}, {})", one_of("LTRIM", "RTRIM", "BTRIM"), text, text),
        call("TRIM({} {} FROM {})", one_of("LEADING", "TRAILING", "BOTH"), text, text),
        call("SUBSTRING({} FROM {})", text, small),
        call("SUBSTRING({} FROM {} FOR {})", text, small, count),
        call("{}({}, {})", one_of("LEFT", "RIGHT"), text, small),
        call("REPLACE({}, {}, {})", text, text, text),
        call("CONCAT({}, {}, {})", text, of["boolean"], of["numeric"]),
        call("CONCAT_WS({}, {}, {})", text, text, of["integer"]),
        call("{}({}, {})", one_of("LPAD", "RPAD"), text, count),
        call("{}({}, {}, {})", one_of("LPAD", "RPAD"), text, count, text),
        call("SPLIT_PART({}, {}, {})", text, text, one_of("1", "2", "-1", "0")),
        call("({})::{}", of["numeric"], one_of("text", "varchar(3)")),
        call("({})::text", st.one_of(of["integer"], of["double"], of["date"], of["timestamp"])),
        call("CAST({} AS text)", one_of("f", "z", "u", "d", "j", "x")),
        call("({} ->> {})", one_of("j", "k", "j -> 'o'", "k -> 'o'"), one_of("'a'", "'o'", "'é'")),
    ]


def _conditions(of: dict[str, Text]) -> list[Text]:
    condition = of["boolean"]
    comparison = one_of("=", "<>", "<", "<=", ">", ">=", "IS DISTINCT FROM", "IS NOT DISTINCT FROM")
    numbers = st.one_of(of["integer"], of["numeric"], of["double"])
    moments = st.one_of(of["date"], of["timestamp"])
    return [
        call("({} AND {})", condition, condition),
        call("({} OR {} OR {})", condition, condition, condition),
        call("(NOT ({}))", condition),
        call("({} IS {} {})", condition, one_of("", "NOT"), one_of("TRUE", "FALSE", "UNKNOWN")),
        call("({} IS {} NULL)", st.one_of(numbers, of["text"], moments), one_of("", "NOT")),
        call("({} {} {})", numbers, comparison, numbers),
        call("({} {} {})", of["text"], comparison, of["text"]),
        call("({} {} {})", moments, comparison, moments),
        call("({} {} {})", condition, comparison, condition),
        call("({} {} BETWEEN {} AND {})", numbers, one_of("", "NOT"), numbers, numbers),
        call("({} BETWEEN {} AND {})", of["text"], of["text"], of["text"]),
        call("({} {} IN ({}, {}, {}))", numbers, one_of("", "NOT"), numbers, one_of("1", "2.0"),
             one_of("NULL", "7")),
        call("({} {} IN ('a', {}))", of["text"], one_of("", "NOT"), of["text"]),
        call("({} {} {} {})", of["text"], one_of("", "NOT"), one_of("LIKE", "ILIKE"), of["text"]),
        call("({} LIKE {} ESCAPE {})", of["text"], of["text"], one_of("'x'", "''", "'%'")),
        call("({})::boolean", of["integer"].filter(lambda t: t == "i")),
    ]  # fmt: skip


def _dates(of: dict[str, Text]) -> list[Text]:
    return [
        call("({} {} {})", of["date"], one_of("+", "-"), one_of("1", "s", "365", "i")),
        call("({})::date", of["timestamp"]),
    ]


def _timestamps(of: dict[str, Text]) -> list[Text]:
    return [call("({})::timestamp", of["date"])]


_FORMS = {
    "integer": _integers,
    "numeric": _numerics,
    "double": _doubles,
    "text": _texts,
    "boolean": _conditions,
    "date": _dates,
    "timestamp": _timestamps,
}

ROWS = st.fixed_dictionaries(
    {
        "s": st.none() | st.integers(-32768, 32767).map(str) | one_of("0", "1", "2"),
        "i": st.none() | st.integers(-(2**31), 2**31 - 1).map(str) | one_of("0", "7"),
        "b": st.none() | st.integers(-(2**63), 2**63 - 1).map(str) | one_of("1"),
        "n": st.none() | st.decimals(-999999999, 999999999, places=3).map(str) | one_of("0.000"),
        "m": st.none() | st.decimals(-(10**20), 10**20, places=9).map("{:f}".format) | one_of("10"),
        "x": st.none() | st.floats(-1e20, 1e20).map(repr) | one_of("0.5", "2.5", "-0.0", "1e300"),
        "r": st.none() | one_of("0.1", "1.5", "-3", "1e20"),
        "t": st.none() | st.text("ab%_\\x \u00e9\u5ba2", max_size=6),
        "v": st.none() | st.text("abx ,", max_size=8),
        "c": st.none() | st.text("abx ", max_size=6),
        "f": st.none() | one_of("t", "f"),
        "d": st.none() | one_of("2024-02-29", "1969-12-31", "0044-03-15 BC", "12024-01-01"),
        "e": st.none() | one_of("2024-02-29 00:00:00", "1969-12-31 23:59:59.999999",
                                "2024-02-29 12:34:56.5", "0044-03-15 01:02:03 BC"),
        "z": st.none() | one_of("2024-02-29 00:00:00+00", "1969-12-31 23:59:59.5+08"),
        "u": st.none() | one_of("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        "j": st.none() | one_of('{"a": 1.10, "o": {"a": [1, "x"], "bb": 1, "é": "ü"}}', "[1]",
                                '{"a": null, "é": "q\\"\\n"}', '{"o": true, "a": "text"}'),
        "k": st.none() | one_of('{"a": 1e2 ,"o":{"z":1,"a":-0.0}}', '{"a":"\\u00e9","a":false}'),
    }
)  # fmt: skip
