"""PostgreSQL's types with hard values of each, and the entity types that hold them exactly.

A case is one column type, some literals, and the entity types that every one of them fits beside
``text`` and ``string(n)``, which hold everything. Not in here: what values are rejected (unit tests
of the conversions), and what is done with the cases (the type matrix).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SETUP = """
CREATE EXTENSION citext;
CREATE EXTENSION hstore;
CREATE TYPE mood AS ENUM ('sad', 'so so', 'happy, very', 'é"\\');
CREATE TYPE part AS (no integer, name text, price numeric(10,2), tags text[]);
CREATE TYPE whole AS (head part, moods mood[]);
CREATE TYPE floatrange AS RANGE (subtype = float8);
CREATE DOMAIN amount AS numeric(18,4) CHECK (value >= 0);
CREATE DOMAIN code AS varchar(12) CHECK (value <> 'no');
CREATE DOMAIN short_code AS code CHECK (length(value) < 8);
CREATE DOMAIN labels AS text[];
CREATE DOMAIN piece AS part;
CREATE DOMAIN feeling AS mood;
CREATE DOMAIN mail AS citext;
CREATE DOMAIN day AS date;
CREATE DOMAIN flag AS boolean;
CREATE DOMAIN fixed AS char(6);
CREATE DOMAIN document AS jsonb;
"""
"""What the cases need in their database."""

_NINES = "9" * 500
_MOMENTS = ("2024-02-29 12:34:56.789", "infinity", "-infinity", "294276-12-31 23:59:59.999999")
_TEXTS = (
    "",
    " ",
    "  both  ",
    "tab\tnew\nline\rfeed\x0b\x0c\x08",
    "back\\slash \\N \\. \\x41",
    "NULL",
    "'quotes\"",
    "{a,b}",
    "深圳 é \U0001f600\u00a0",
    "\x01\x1f\x7f",
    "\ufeff\u2028",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeCase:
    """``values``: literals of ``type``. ``fits``: entity types; ``expected``: SQL over ``v`` that
    gives an entity type's value where it is no cast of the column's text. ``key``: the type can be
    a primary key; ``since``: the oldest server that has it."""

    type: str
    values: tuple[str, ...]
    fits: tuple[str, ...] = ()
    expected: Mapping[str, str] = field(default_factory=dict)
    key: bool = True
    since: int = 14


def _case(
    type_: str,
    *values: str,
    fits: str = "",
    key: bool = True,
    since: int = 14,
    expected: Mapping[str, str] | None = None,
) -> TypeCase:
    found = tuple(fits.split())
    return TypeCase(
        type=type_, values=values, fits=found, key=key, since=since, expected=expected or {}
    )


def _to_json(type_: str, *values: str, key: bool = True) -> TypeCase:
    return _case(type_, *values, fits="json", key=key, expected={"json": "to_jsonb(v)::text"})


_NUMBERS = (
    _case(
        "smallint",
        "0",
        "-32768",
        "32767",
        fits="integer bigint decimal(5,0) decimal(10,2) numeric double",
    ),
    _case(
        "integer",
        "0",
        "-2147483648",
        "2147483647",
        fits="integer bigint decimal(10,0) numeric double",
    ),
    _case("integer", "0", "1", fits="boolean", expected={"boolean": "v::boolean::text"}),
    _case(
        "bigint",
        "0",
        "-9223372036854775808",
        "9223372036854775807",
        fits="bigint decimal(19,0) numeric",
    ),
    _case("bigint", "0", "-9007199254740992", "9007199254740992", fits="double"),
    _case(
        "numeric",
        "0",
        "0.00",
        "1.10",
        "-0.000001",
        "1e30",
        "1e-300",
        f"{_NINES}.{_NINES}",
        f"-{_NINES}",
        fits="numeric",
    ),
    _case(
        "numeric",
        "0",
        "1.10",
        f"{_NINES}.{_NINES}",
        f"-0.{_NINES}",
        fits="decimal(1000,500) numeric",
    ),
    _case("numeric(1000,500)", f"{_NINES}.{_NINES}", "1", fits="decimal(1000,500) numeric"),
    _case("numeric", "NaN", "Infinity", "-Infinity", fits="numeric double"),
    _case("numeric", "5", "-7.000", "2147483647", fits="integer bigint double decimal(12,2)"),
    _case(
        "numeric(10,2)",
        "0.10",
        "-12345678.90",
        "99999999.99",
        fits="decimal(10,2) decimal(18,4) numeric double",
    ),
    _case("numeric(10,2)", "NaN", fits="numeric double decimal(10,2)"),
    _case("numeric(3,-2)", "12300", "-99900", "0", fits="integer decimal(5,0) numeric", since=15),
    _case("numeric(3,5)", "0.00123", "-0.00999", fits="decimal(5,5) numeric", since=15),
    _case("real", "0.1", "-0", "1e-45", "3.4028235e38", "16777216", "1.5", fits="double numeric"),
    _case("real", "NaN", "Infinity", "-Infinity", fits="double numeric"),
    _case("real", "0.1", "-1.25", "123456", fits="decimal(18,4)"),
    _case(
        "double precision",
        "0.1",
        "-0",
        "5e-324",
        "1.7976931348623157e308",
        "1e15",
        "123456789012345680",
        fits="double numeric",
    ),
    _case("double precision", "NaN", "Infinity", "-Infinity", fits="double numeric"),
    _case("double precision", "0.1", "-1.25", "1e15", fits="decimal(24,4)"),
    _case(
        "money",
        "0",
        "12.34",
        "-12.34",
        "1234567.89",
        "-92233720368547758.08",
        "92233720368547758.07",
        fits="decimal(19,2) numeric",
        expected={"decimal(19,2)": "v::numeric::text", "numeric": "v::numeric::text"},
    ),
    _case(
        "money",
        "0",
        "7",
        "-1234567.00",
        fits="integer bigint double",
        expected=dict.fromkeys(("integer", "bigint", "double"), "trim_scale(v::numeric)::text"),
    ),
    _case(
        "boolean",
        "t",
        "f",
        fits="boolean integer text",
        expected={"text": "v::text", "integer": "v::integer::text"},
    ),
)

_CHARACTERS = (
    _case("text", *_TEXTS),
    _case("varchar", *_TEXTS),
    _case("varchar(40)", *_TEXTS),
    _case("char(40)", *_TEXTS, expected={"text": "v::text"}),
    _case("char", "", "x", "深", expected={"text": "v::text"}),
    _case("name", "", "it em", "深圳"),
    _case("citext", "", "Straße", "ABC", "NULL", "\\N"),
    _case("citext", "12", "-7", fits="integer decimal(5,2)"),
    _case('"char"', "", "a", "\\"),
    _case(
        "text",
        "5",
        " -7 ",
        "1e3",
        fits="integer decimal(8,2) numeric double",
        expected={"integer": "trim(v)::numeric::integer::text"},
    ),
    _case("text", "yes", "OFF", "1", fits="boolean"),
    _case("text", "2024-02-29", "0044-03-15 BC", "infinity", fits="date timestamp"),
    _case("varchar(50)", "2024-02-29T12:34:56Z", "2024-02-29 12:34:56+05:30", fits="timestamptz"),
    _case("text", '{"b": 1.10, "a": [null, "\\u00e9"]}', "[]", fits="json"),
)

_BYTES = (
    _case("bytea", "\\x", "\\x00ff5c27", "\\xdeadbeef", fits="bytes"),
    _case("bit", "0", "1"),
    _case("bit(8)", "00000000", "10101010"),
    _case("bit varying", "", "1", "0101010101010101010101"),
    _case("bit varying(5)", "", "10101"),
    _case(
        "uuid",
        "00000000-0000-0000-0000-000000000000",
        "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
        fits="uuid",
    ),
)

_MOMENT = (
    _case(
        "date",
        "2024-02-29",
        "infinity",
        "-infinity",
        "4713-01-01 BC",
        "5874897-12-31",
        "0044-03-15 BC",
        "0001-01-01",
        fits="date",
    ),
    _case("date", "2024-02-29", "infinity", "4713-01-01 BC", "294276-12-31", fits="timestamp"),
    _case("time", "00:00", "24:00:00", "23:59:59.999999", "12:34:56.7", fits="time"),
    _case("time(3)", "12:34:56.789", "00:00", fits="time"),
    _case(
        "time with time zone",
        "12:00:00+05:30",
        "23:59:59.999999-15:59",
        "24:00:00+00",
        "00:00:00+00:00:01",
    ),
    _case(
        "timestamp",
        *_MOMENTS,
        "4713-01-01 00:00:00 BC",
        "0001-12-31 23:59:59.000001 BC",
        fits="timestamp",
    ),
    _case("timestamp(3)", "2024-02-29 12:34:56.789", "infinity", fits="timestamp"),
    _case(
        "timestamp",
        "2024-02-29",
        "infinity",
        "294276-12-31",
        "0044-03-15 BC",
        fits="date timestamp",
    ),
    _case(
        "timestamp with time zone",
        "2024-02-29 12:34:56.789+05:30",
        "infinity",
        "-infinity",
        "294276-12-31 23:59:59.999999+00",
        "4713-01-01 00:00:00+00 BC",
        "1883-11-18 12:03:58-08",
        fits="timestamptz",
    ),
    _case(
        "interval",
        "0",
        "1 year 2 mons -3 days 04:05:06.789",
        "-1 year +2 days",
        "-00:00:00.000001",
        "178000000 years",
        "-178000000 years",
        "1 mon -1 day +00:00:01",
        fits="interval",
    ),
    _case("interval", "2562047788:00:54.775807", fits="interval", since=15),
    _case("interval", "infinity", "-infinity", fits="interval", since=17),
    _case("interval year to month", "1-2", "-0-11", fits="interval"),
    _case("interval second(2)", "1.25", "-1.5", fits="interval"),
)

_DOCUMENTS = (
    _case(
        "json",
        '{"b" : 1.10, "a":[null,true,"\\u00e9\\n"],  "a": {}}',
        "1e2",
        '"x"',
        "null",
        fits="json",
        key=False,
    ),
    _case(
        "jsonb",
        '{"b": 1.10, "a": [null, true, "é\\"\\\\"], "深": {}}',
        "1e2",
        '"x"',
        "null",
        "-0.0",
        f"{_NINES}.5",
        fits="json",
    ),
    _case("xml", "<a b='1'>é &lt;</a>", '<?xml version="1.0"?><r/>', "text only", key=False),
    _case("jsonpath", '$."a"[*] ? (@ > 1)', "strict $", key=False),
    _case(
        "hstore",
        "",
        "a=>1",
        '"k 1"=>"v\\"q","n"=>NULL',
        'a=>NULL, b=>"NULL"',
        fits="json",
        key=False,
        expected={"json": "hstore_to_jsonb(v)::text"},
    ),
    _case("tsvector", "", "'a':1A 'b c':2,3B", "fat cat's", key=False),
    _case("tsquery", "", "fat & !rat | 'it''s':*A", "a <2> b", key=False),
)

_NETWORK = (
    _case("inet", "10.0.0.1", "10.0.0.1/8", "::1", "2001:db8::/32"),
    _case("cidr", "10.0.0.0/8", "192.168.1.1/32", "2001:db8::/32"),
    _case("macaddr", "08:00:2b:01:02:03"),
    _case("macaddr8", "08:00:2b:01:02:03:04:05", "08002b010203"),
)

_RANGES = (
    _case("int4range", "empty", "[1,5)", "(,5]", "(,)", "[7,7]"),
    _case("int8range", "empty", "[-9223372036854775808,5)"),
    _case("numrange", "[1.10,2.20]", "(,1e30)", "empty"),
    _case("daterange", "[2024-01-01,2024-02-29]", "[-infinity,infinity]", "[0044-03-15 BC,)"),
    _case("tsrange", '["2024-01-01 12:00:00.5","2024-02-29")', "(,infinity]"),
    _case("tstzrange", '["2024-01-01 12:00:00+05:30",)', '["0044-03-15 BC",infinity)'),
    _case("floatrange", "[0.1,1e300)", "[-infinity,NaN]"),
    _case("int4multirange", "{}", "{[1,3),[5,7)}", "{(,3),[9,)}"),
    _case("datemultirange", "{[2024-01-01,2024-02-01),[2025-01-01,)}", "{}"),
    _case("nummultirange", "{[1.10,2.0),(3,4]}"),
)

_ARRAYS = (
    _case(
        "integer[]",
        "{}",
        "{1,NULL,-3}",
        "{{1,2},{3,4}}",
        "[0:1]={1,2}",
        fits="json",
        expected={"json": "to_jsonb(v)::text"},
    ),
    _case(
        "bigint[]",
        "{9223372036854775807,NULL}",
        fits="json",
        expected={"json": "to_jsonb(v)::text"},
    ),
    _case(
        "text[]",
        '{"NULL",NULL,"a,b","c\\"d","e\\\\f","",null,"{}"," x "}',
        "{{{a}},{{b}}}",
        '{"é\ttab\n"}',
        fits="json",
        expected={"json": "to_jsonb(v)::text"},
    ),
    _case("varchar(10)[]", "{a,b}", fits="json", expected={"json": "to_jsonb(v)::text"}),
    _case(
        "numeric(10,2)[]",
        "{1.1,NULL}",
        "{{0.00},{-7}}",
        fits="json",
        expected={"json": "to_jsonb(v)::text"},
    ),
    _case("numeric[]", "{1.10,1e30,1e-30}", fits="json", expected={"json": "to_jsonb(v)::text"}),
    _case("boolean[]", "{t,f,NULL}", fits="json", expected={"json": "to_jsonb(v)::text"}),
    _case(
        "uuid[]",
        "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
        fits="json",
        expected={"json": "to_jsonb(v)::text"},
    ),
    _to_json("numeric[]", "{1.10,NaN,Infinity}"),
    _to_json("date[]", "{2024-02-29,infinity,NULL}", "{0044-03-15 BC,5874897-12-31}"),
    _to_json("char(3)[]", '{a,"b c",""}'),
    _to_json("real[]", "{0.1,NaN,-Infinity,1e-45}"),
    _to_json("double precision[]", "{1e300,-0,NaN}"),
    _to_json("json[]", '{"{\\"a\\" : 1.10}","null",NULL}', key=False),
    _to_json("name[]", "{a,b}"),
    _case("timestamptz[]", '{"2024-02-29 12:00:00+05:30",infinity}'),
    _case("interval[]", '{"1 day -00:00:01",NULL}'),
    _to_json("jsonb[]", '{"{\\"a\\": 1}",NULL}'),
    _case("bytea[]", '{"\\\\x00ff",NULL}'),
    _case("mood[]", '{sad,"so so",NULL}'),
    _case("part[]", '{"(1,\\"a b\\",1.10,\\"{x,NULL}\\")",NULL}'),
    _case("int4range[]", '{"[1,5)",empty}'),
    _case("money[]", '{12.34,"-1,234.50"}'),
    _case("inet[]", "{10.0.0.1/8,::1}"),
    _case("hstore[]", '{"a=>1",NULL}', key=False),
    _to_json("citext[]", "{Ab,aB}"),
    _case("int2vector", "", "1 2", key=False),
    _case("oidvector", "1 2 4294967295"),
)

_MADE = (
    _case("mood", "sad", "so so", "happy, very", 'é"\\'),
    _case("part", '(1,"a,b ""q""",1.10,"{x,""y z""}")', "(,,,)", '(7,"",0,"{}")'),
    _case("whole", '("(1,a,1.10,{x})","{sad,NULL}")', "(,)"),
    _case("amount", "0", "1.10", "99999999999999.9999", fits="decimal(18,4) numeric"),
    _case("code", "", "x y", "深圳"),
    _case("short_code", "x", "123", fits="string(12)"),
    _case("labels", "{a,NULL}", "{}", fits="json", expected={"json": "to_jsonb(v)::text"}),
    _case("piece", "(1,a,1.10,{})", "(,,,)"),
    _case("feeling", "sad", "so so"),
    _case("mail", "A@B.c", "a@c"),
    _case("day", "infinity", "0044-03-15 BC", fits="date timestamp"),
    _case("flag", "t", "f", fits="boolean", expected={"text": "v::text"}),
    _case("fixed", "ab", "", expected={"text": "v::text"}),
    _case("document", '{"a": 1.10}', fits="json"),
    _case("amount[]", "{1.1,0}", fits="json", expected={"json": "to_jsonb(v)::text"}),
)

_GEOMETRY = (
    _case("point", "(1.5,-2)", "(NaN,Infinity)", "(0.1,1e300)", key=False),
    _case("line", "{1,2,3}", key=False),
    _case("lseg", "[(0,0),(1,1.5)]", key=False),
    _case("box", "(1,1),(0,0)", key=False),
    _case("path", "[(0,0),(1,1)]", "((0,0),(1,1))", key=False),
    _case("polygon", "((0,0),(1,1),(1,0))", key=False),
    _case("circle", "<(1,1),2.5>", key=False),
)

_SYSTEM = (
    _case("pg_lsn", "0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"),
    _case("oid", "0", "16384", "4294967295", fits="bigint decimal(10,0) numeric double"),
    _case("xid", "0", "4294967295", fits="bigint", key=False),
    _case("xid8", "0", "18446744073709551615", fits="decimal(20,0) numeric"),
    _case("cid", "7", key=False),
    _case("tid", "(0,1)", "(4294967295,65535)"),
    _case("regtype", "integer", "-", "character varying", key=False),
    _case("regclass", "pg_class", "-", key=False),
    _case("regnamespace", "pg_catalog", key=False),
    _case("pg_snapshot", "10:20:10,14,15", key=False),
)

CASES = (
    *_NUMBERS,
    *_CHARACTERS,
    *_BYTES,
    *_MOMENT,
    *_DOCUMENTS,
    *_NETWORK,
    *_RANGES,
    *_ARRAYS,
    *_MADE,
    *_GEOMETRY,
    *_SYSTEM,
)
