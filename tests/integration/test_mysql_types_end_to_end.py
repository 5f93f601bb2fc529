"""Values of MariaDB and MySQL in PostgreSQL: what no type of PostgreSQL's own brings along."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cdc_daemon import provision
from cdc_daemon.config.load import load
from cdc_daemon.demo.mariadb import PrivateMariaDB
from tests.conftest import DatabaseFactory
from tests.support.any_pipeline import AnyPipeline
from tests.support.databases import Database
from tests.support.mysql_matrix import MODE
from tests.support.mysql_sources import Schema, schema_on


@dataclass(frozen=True, slots=True)
class Case:
    """A column, a value in SQL, and the text in PostgreSQL by entity type, or by a field of it."""

    sql_type: str
    value: str
    wanted: dict[str, str | None]


def same(*kinds: str, text: str) -> dict[str, str | None]:
    return dict.fromkeys(kinds, text)


_LARGEST = "18446744073709551615"
_DECIMAL = "12345678901234567890123456789012345.000000000000000000000000000001"
_NO_DATE = "'0000-00-00'"
CASES = [
    Case("time", "'-838:59:59'", same("interval", "text", "string(10)", text="-838:59:59")),
    Case("time(6)", "'838:59:58.000001'", same("interval", "text", text="838:59:58.000001")),
    Case("time(2)", "'-00:00:01.10'", same("interval", "string(17)", text="-00:00:01.1")),
    Case("time(1)", "'23:59:59.5'", same("time", "interval", "text", text="23:59:59.5")),
    Case("time", "'00:00:00'", same("time", "interval", text="00:00:00")),
    Case("bigint unsigned", _LARGEST,
         same("decimal(20,0)", "numeric", "string(20)", "text", text=_LARGEST)),
    Case("bigint unsigned", "7", same("integer", "bigint", "decimal(5,0)", "double", text="7")),
    Case("bit(64)", _LARGEST, same("decimal(20,0)", "numeric", "string(20)", text=_LARGEST)),
    Case("bit(7)", "64", same("integer", "bigint", "text", text="64")),
    Case("bit(1)", "b'1'", same("boolean", "text", "string(5)", text="true")),
    Case("bit(1)", "b'0'", same("boolean", "text", text="false")),
    Case("tinyint(1)", "1", {"boolean": "true", "integer": "1", "text": "1"}),
    Case("tinyint(1)", "0", {"boolean": "false", "bigint": "0"}),
    Case("tinyint unsigned", "255", same("integer", "decimal(5,0)", text="255")),
    Case("smallint unsigned", "65535", same("integer", "bigint", text="65535")),
    Case("mediumint unsigned zerofill", "16777215", same("integer", text="16777215")),
    Case("int unsigned", "4294967295", same("bigint", "decimal(10,0)", text="4294967295")),
    Case("int(9) unsigned zerofill", "7", same("integer", "text", text="7")),
    Case("bigint", "-9223372036854775808", same("bigint", text="-9223372036854775808")),
    Case("year", "0", same("integer", "text", text="0")),
    Case("year", "2155", same("integer", text="2155")),
    Case("decimal(65,30)", _DECIMAL, same("decimal(65,30)", "numeric", "text", text=_DECIMAL)),
    Case("decimal(10,2) zerofill", "7.5", same("decimal(10,2)", "numeric", text="7.50")),
    Case("float", "0.1", same("double", "numeric", "text", text="0.1")),
    Case("double", "-5e-324", same("double", text="-5e-324")),
    Case("date", "'1000-01-01'", {"date": "1000-01-01", "timestamp": "1000-01-01 00:00:00"}),
    Case("datetime(6)", "'9999-12-31 23:59:59.999990'",
         same("timestamp", "text", text="9999-12-31 23:59:59.99999")),
    Case("timestamp(3) NULL", "'2026-11-27 18:05:09.120'",
         same("timestamptz", "text", text="2026-11-27 18:05:09.12+00")),
    Case("enum('a','ü,''')", "2", same("text", "string(4)", text="ü,'")),
    Case("set('x','y','ü') CHARACTER SET latin1", "5", same("text", text="x,ü")),
    Case("char(36) CHARACTER SET utf16", "'00112233-4455-6677-8899-aabbccddeeff'",
         same("uuid", "text", text="00112233-4455-6677-8899-aabbccddeeff")),
    Case("varchar(20) CHARACTER SET utf16le", "'㎡€😀 '",
         same("text", "string(20)", text="㎡€😀 ")),
    Case("text CHARACTER SET ucs2", "'-12.50'", same("decimal(5,2)", text="-12.50")),
    Case("binary(4)", "x'0100'", same("bytes", "text", text=r"\x01000000")),
    Case("longblob", "x'00ff'", same("bytes", text=r"\x00ff")),
    Case("point", "ST_GeomFromText('POINT(1 2)', 3857)",
         same("bytes", "text", text=r"\x0101000020110f0000000000000000f03f0000000000000040")),
    Case("json", """'{"b": [1.25, "ü"]}'""", {"json": '{"b": [1.25, "ü"]}'}),
    Case("date", _NO_DATE, {"null date": None, "null timestamp": None, "keep text": "0000-00-00"}),
    Case("datetime(3)", "'2020-00-10 01:02:03.50'",
         {"keep text": "2020-00-10 01:02:03.5", "null timestamp": None}),
    Case("timestamp NULL", "'0000-00-00'",
         {"keep string(19)": "0000-00-00 00:00:00", "null timestamptz": None}),
    Case("varchar(9) CHARACTER SET gb2312", "CONVERT(x'61a2a1' USING gb2312)",
         {"keep text": r"a\xa2\xa1", "null text": None}),
]  # fmt: skip
ONLY = {
    True: [
        Case("uuid", "'00112233-4455-1677-8899-AABBCCDDEE00'",
             same("uuid", "string(36)", text="00112233-4455-1677-8899-aabbccddee00")),
        Case("inet6", "'::ffff:1.2.3.4'", same("text", text="::ffff:1.2.3.4")),
        Case("text COMPRESSED", "REPEAT('ü', 300)", same("text", text="ü" * 300)),
    ],
    False: [
        Case("vector(3)", "TO_VECTOR('[1,2.5,-3e-7]')", same("text", text="[1,2.5,-3e-07]")),
        Case("json", "JSON_OBJECT('n', 18446744073709551615)",
             same("json", "text", text='{"n": 18446744073709551615}')),
    ],
}  # fmt: skip
"""Of MariaDB, and of MySQL."""


@pytest.fixture(params=["mariadb", "mysql9"])
def schema(request: pytest.FixtureRequest) -> Iterator[Schema]:
    """One on either server."""
    with schema_on(request.getfixturevalue(request.param)) as found:
        yield found


def test_values_arrive_exactly(
    schema: Schema, database_factory: DatabaseFactory, tmp_path: Path
) -> None:
    """Copied, inserted, and over a row of NULLs; NULLs arrive as such."""
    cases = CASES + ONLY[isinstance(schema.server, PrivateMariaDB)]
    target = database_factory()
    columns = ", ".join(f"c{n} {case.sql_type}" for n, case in enumerate(cases))
    values = ", ".join(case.value for case in cases)
    schema.execute(
        f"{MODE}; CREATE TABLE t (id int PRIMARY KEY, {columns}) CHARACTER SET utf8mb4;"
        f"INSERT INTO t VALUES (1, {values}); INSERT INTO t (id) VALUES (2)"
    )
    pipeline = piped(schema, target, cases, tmp_path)
    everything = ", ".join(f"c{n} = {case.value}" for n, case in enumerate(cases))
    with pipeline.running() as running:
        compare(target, cases, 1)
        schema.execute(
            f"{MODE}; UPDATE t SET {everything} WHERE id = 2;"
            f"INSERT INTO t VALUES (3, {values}); INSERT INTO t (id) VALUES (4)"
        )
        pipeline.caught_up(running)
    for row in (1, 2, 3):
        compare(target, cases, row)
    told = target.query("SELECT to_jsonb(e) - '{id,last_sync_time}'::text[] FROM e WHERE id = 4")
    assert set(told[0][0].values()) == {None}
    assert not target.query("SELECT error_code, error_message FROM cdc.failure")


def piped(schema: Schema, target: Database, cases: list[Case], folder: Path) -> AnyPipeline:
    """The table into an entity with an attribute for each case and type, applied."""
    attributes = "".join(f', a{n}_{i}: "{kind.rpartition(" ")[2]}"' for n, i, kind in each(cases))
    fields = ", ".join(f"a{n}_{i}: {field(n, kind)}" for n, i, kind in each(cases))
    address = schema.server.address
    path = folder / "cdc.yaml"
    path.write_text(f"""
sources:
  hr: {{kind: mysql, host: "{address["host"]}", port: {address["port"]}, user: {address["user"]}}}
target: {{url: "{target.dsn}"}}
daemon: {{retry_first_seconds: 0.05, retry_max_seconds: 0.5, idle_checkpoint_seconds: 0.1}}
entities:
  e: {{key: [id], attributes: {{id: integer{attributes}}}}}
mappings:
  - {{from: hr.{schema.name}.t, to: e, key: {{id: id}}, fields: {{{fields}}}}}
""")
    configuration = load([path], environ={})
    target_info, source_info = configuration.target.conninfo, configuration.sources["hr"].conninfo
    provision.apply_all(configuration, {"hr": source_info, "target": target_info})
    return AnyPipeline(configuration, "hr")


def each(cases: list[Case]) -> Iterator[tuple[int, int, str]]:
    """Number of the case, of the type in it, and its word for what is no value with the type."""
    for n, case in enumerate(cases):
        for i, kind in enumerate(case.wanted):
            yield n, i, kind


def field(number: int, kind: str) -> str:
    """The column as a field, and what becomes of what is no value."""
    policy, _, _ = kind.rpartition(" ")
    return f"{{from: c{number}, invalid: {policy}}}" if policy else f"c{number}"


def compare(target: Database, cases: list[Case], row: int) -> None:
    """Every attribute of a row has the text that is wanted."""
    names = [f"a{n}_{i}::text" for n, i, _ in each(cases)]
    (found,) = target.query(f"SELECT {', '.join(names)} FROM e WHERE id = %s", row)
    wanted = [(case.sql_type, kind, text) for case in cases for kind, text in case.wanted.items()]
    told = [(name, kind, value) for (name, kind, _), value in zip(wanted, found, strict=True)]
    assert told == wanted
