"""The mapping's own way (``Field.of``) and its SQL say the same of random source rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cdc_daemon.demo.server import PrivatePostgres
from cdc_daemon.mapping.compile import CompiledMapping
from cdc_daemon.mapping.convert import canonical
from cdc_daemon.model.changes import Row
from cdc_daemon.model.errors import DataError
from cdc_daemon.sources.postgres.connection import Server
from cdc_daemon.verify.reading import SourceReader, Texts, encoding_of, snapshot
from cdc_daemon.verify.source_postgres import dialect_of
from cdc_daemon.verify.statement import source_statement
from cdc_daemon.verify.verification import compile_source
from tests.support.databases import Database
from tests.support.filled import Filled, filled

TEXTS = st.one_of(
    st.text(alphabet=" aAbB0ß深\u00a0é\t\\'%{}", max_size=12),
    st.sampled_from(["", " ", "  ", "PCS", " PCS ", "KG", "t", "no", "\U0001f600" * 8]),
)
NUMBER_TEXTS = st.one_of(
    TEXTS,
    st.integers(-(2**65), 2**65).map(str),
    st.decimals(-1000, 1000, places=3, allow_nan=False).map(str),
    st.sampled_from(["1e3", " 7 ", "+5", ".5", "5.", "1.50", "NaN", "Infinity", "-0", "0x1F"]),
)
MOMENT_TEXTS = st.one_of(
    TEXTS,
    st.datetimes().map(str),
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    st.dates().map(str),
    st.times().map(str),
    st.sampled_from(["infinity", "24:00:00", "12:00:00.1234567", "20240101", "2024-02-30"]),
)
INTEGERS = {bits: st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (16, 32, 64)}
NUMERICS = st.one_of(
    st.decimals(-(10**12), 10**12, places=6, allow_nan=False).map(str),
    st.sampled_from(["NaN", "0", "-0.5", "0.5", "1.5", "2147483647.5", "99999.99995", "1e15"]),
)
DIGITS = st.sampled_from(["1", "1.0", "1.00", "1.5", "1.500", "-0.5", "0", "7"])
DOUBLES = st.one_of(st.floats(), st.sampled_from([0.1, -0.0, 1e22, 1.5, 3e9])).map(repr)
MOMENTS = st.one_of(st.datetimes().map(str), st.sampled_from(["infinity", "0044-03-15 BC"]))
BOOLEANS = st.sampled_from(["t", "f"])
UUIDS = st.uuids().map(str)
JSONS = st.sampled_from(
    ['{"b": 1, "a": [1.10, null]}', " [] ", '"x"', '{"a": 1, "a": 2}', "1e2", "null"]
)


@dataclass(frozen=True, slots=True)
class Case:
    """A column of some type, and a field that reads it as ``v``."""

    column: str
    attribute: str
    field: str
    values: st.SearchStrategy[str] | st.SearchStrategy[int]


CASES = [
    Case("varchar(20)", "string(5)", "{from: v}", TEXTS),
    Case("varchar(20)", "string(5)", "{from: v, trim: true}", TEXTS),
    Case("varchar(20)", "{type: string(20), required: true}", "{from: v, trim: true}", TEXTS),
    Case("text", "text", "{from: v, default: ' none '}", TEXTS),
    Case("text", "string(8)", "{from: v, map: {PCS: EA, '': empty, t: null}}", TEXTS),
    Case("text", "string(8)", "{from: v, map: {PCS: EA}, default: null, trim: true}", TEXTS),
    Case("char(6)", "string(4)", "{from: v}", TEXTS),
    Case("char(6)", "string(4)", "{from: v, truncate: true}", TEXTS),
    Case("varchar(20)", "string(5)", "{from: v, truncate: true, trim: true}", TEXTS),
    Case("text", "string(3)", "{expr: \"v || '深圳'\", truncate: true}", TEXTS),
    Case("bigint", "string(3)", "{from: v, truncate: true}", INTEGERS[64]),
    Case("char(6)", "text", "{from: v, trim: true, default: x}", TEXTS),
    Case("char(6)", "string(9)", "{from: v, map: {PCS: EA, t: true}, default: zz}", TEXTS),
    Case("numeric(5,2)", "string(3)", "{from: v, map: {'1': one, '-0.50': min}}", DIGITS),
    Case("numeric", "string(4)", "{from: v, map: {'1': one, '1.50': more}}", DIGITS),
    Case("boolean", "string(3)", "{from: v, map: {'true': yes, 'false': no}}", BOOLEANS),
    Case("timestamp", "integer", "{from: v, map: {'2024-01-01T00:00': 1}, default: 2}", MOMENTS),
    Case("double precision", "string(3)", "{from: v, map: {'1.50': yes}, default: no}", DIGITS),
    Case("text", "integer", "{from: v}", NUMBER_TEXTS),
    Case("text", "bigint", "{from: v, truncate: true}", NUMBER_TEXTS),
    Case("char(12)", "integer", "{from: v, default: 7}", NUMBER_TEXTS),
    Case("text", '"decimal(8,2)"', "{from: v}", NUMBER_TEXTS),
    Case("text", '"decimal(8,2)"', "{from: v, round: true}", NUMBER_TEXTS),
    Case("text", "numeric", "{from: v}", NUMBER_TEXTS),
    Case("text", "double", "{from: v}", NUMBER_TEXTS),
    Case("text", "boolean", "{from: v}", NUMBER_TEXTS),
    Case("text", "date", "{from: v}", MOMENT_TEXTS),
    Case("text", "time", "{from: v}", MOMENT_TEXTS),
    Case("text", "timestamp", "{from: v}", MOMENT_TEXTS),
    Case("text", "timestamptz", "{from: v}", MOMENT_TEXTS),
    Case("text", "uuid", "{from: v}", st.one_of(TEXTS, UUIDS, UUIDS.map(str.upper))),
    Case("text", "json", "{from: v}", st.one_of(TEXTS, JSONS)),
    Case("smallint", "string(3)", "{from: v}", INTEGERS[16]),
    Case("integer", "boolean", "{from: v}", st.integers(-1, 2)),
    Case("bigint", "integer", "{from: v}", INTEGERS[64]),
    Case("bigint", '"decimal(12,2)"', "{from: v, default: 1.5}", INTEGERS[64]),
    Case("bigint", "double", "{from: v}", INTEGERS[64]),
    Case("integer", "string(9)", "{from: v, map: {'1': one}, default: x}", st.integers(-1, 2)),
    Case("numeric", "integer", "{from: v}", NUMERICS),
    Case("numeric", "bigint", "{from: v, round: true}", NUMERICS),
    Case("numeric", "integer", "{from: v, truncate: true}", NUMERICS),
    Case("numeric", '"decimal(9,4)"', "{from: v}", NUMERICS),
    Case("numeric", '"decimal(9,4)"', "{from: v, round: true}", NUMERICS),
    Case("numeric", '"decimal(9,4)"', "{from: v, truncate: true}", NUMERICS),
    Case("numeric", "double", "{from: v}", NUMERICS),
    Case("numeric(12,3)", '"decimal(18,4)"', "{from: v}", st.sampled_from(["1.5", "-0.001"])),
    Case("double precision", "numeric", "{from: v}", DOUBLES),
    Case("double precision", "integer", "{from: v}", DOUBLES),
    Case("double precision", "double", "{from: v}", DOUBLES),
    Case("double precision", "text", "{from: v}", DOUBLES),
    Case("real", "double", "{from: v}", st.floats(width=32).map(repr)),
    Case("real", '"decimal(10,2)"', "{from: v, round: true}", st.floats(width=32).map(repr)),
    Case("boolean", "text", "{from: v}", BOOLEANS),
    Case("boolean", "string(4)", "{from: v}", BOOLEANS),
    Case("boolean", "integer", "{from: v}", BOOLEANS),
    Case("boolean", "string(3)", "{from: v, map: {t: yes, f: no}}", BOOLEANS),
    Case("date", "timestamp", "{from: v}", st.dates().map(str)),
    Case("timestamp", "date", "{from: v}", MOMENTS),
    Case("timestamp", "date", "{from: v, truncate: true}", MOMENTS),
    Case("timestamptz", "timestamptz", "{from: v}", st.datetimes().map(lambda m: f"{m}+08")),
    Case("timestamp", "string(19)", "{from: v}", MOMENTS),
    Case("interval", "text", "{from: v}", st.timedeltas().map(lambda d: f"{d.days} days")),
    Case("json", "json", "{from: v, trim: true}", JSONS),
    Case("json", "text", "{from: v, trim: true}", JSONS),
    Case("jsonb", "json", "{from: v}", JSONS),
    Case("jsonb", "string(9)", "{from: v}", JSONS),
    Case("uuid", "text", "{from: v}", UUIDS),
    Case("bytea", "bytes", "{from: v}", st.binary(max_size=5).map(lambda b: f"\\x{b.hex()}")),
    Case("inet", "text", "{from: v}", st.sampled_from(["10.0.0.1", "10.0.0.0/8", "::1"])),
    Case("text[]", "text", "{from: v}", st.sampled_from(["{}", '{a,"b c"}', "{NULL}"])),
    Case("text", "string(9)", '{const: "深 "}', TEXTS),
    Case("integer", "numeric", '{expr: "100.0 / v"}', st.integers(-3, 3)),
    Case("text", "text", "{expr: \"COALESCE(TRIM(v), '-') || '%'\"}", TEXTS),
    Case("text", "string(4)", "{expr: \"UPPER(v)\"}", st.text(alphabet=" abAB0", max_size=6)),
    Case("char(6)", "boolean", "{expr: \"v = 'PCS'\"}", TEXTS),
    Case("char(6)", "text", "{expr: \"COALESCE(v, 'none')\"}", TEXTS),
    Case("varchar(20)", "text", "{expr: \"CONCAT('<', v, '>')\"}", TEXTS),
    Case("varchar(20)", "boolean", '{expr: "v IS NULL"}', TEXTS),
    Case("numeric", '"decimal(12,2)"', '{expr: "ROUND(v * 1.13, 2)"}', NUMERICS),
    Case("text", "integer", "{expr: \"CASE WHEN v < 'b' THEN 1 ELSE LENGTH(v) END\"}", TEXTS),
]  # fmt: skip

LENIENT = frozenset({"invalid_value", "out_of_range", "loss"})
"""What PostgreSQL's input functions may take although the mapping's stricter ones do not."""


@pytest.fixture(scope="module")
def made(postgres18: PrivatePostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """One table, entity and mapping for each case."""
    names = ("verify_agrees_source", "verify_agrees_control")
    for name in names:
        postgres18.create_database(name)
    source, control = (Database(server=postgres18, name=name) for name in names)
    ddl = "".join(
        f"CREATE TABLE t{n} (fid integer PRIMARY KEY, v {case.column});"
        for n, case in enumerate(CASES)
    )
    entities = "".join(
        f"  e{n}: {{key: [id], attributes: {{id: integer, v: {case.attribute}}}}}\n"
        for n, case in enumerate(CASES)
    )
    mappings = "".join(
        f"  - {{from: erp.public.t{n}, to: e{n}, key: {{id: fid}}, fields: {{v: {case.field}}}}}\n"
        for n, case in enumerate(CASES)
    )
    folder = tmp_path_factory.mktemp("agrees")
    sections = f"entities:\n{entities}mappings:\n{mappings}"
    nulls = '{text: [" ", "KG"], integer: ["0"]}'
    yield filled(source, control, folder, ddl, sections, nulls=nulls)
    for name in names:
        postgres18.drop_database(name)


@pytest.fixture(scope="module")
def both(made: Filled) -> Both:
    return Both(made, compile_source(made.configuration, "erp"))


@dataclass(frozen=True, slots=True, repr=False)  # hypothesis would print it all
class Both:
    """The databases, and the mappings compiled the usual way."""

    made: Filled
    compiled: dict[str, CompiledMapping]


@settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_both_ways_agree(data: st.DataObject, both: Both) -> None:
    made, compiled = both.made, both.compiled
    with psycopg.connect(made.source.dsn) as connection:
        for n, case in enumerate(CASES):
            values = data.draw(st.lists(st.one_of(st.none(), case.values), min_size=4, max_size=10))
            sql = (
                f"WITH gone AS (DELETE FROM t{n}) INSERT INTO t{n} SELECT n + coalesce((SELECT"
                f" max(fid) FROM t{n}), 0), v::{case.column}"
                " FROM unnest(%s::text[]) WITH ORDINALITY AS u (v, n)"
            )
            texts = [None if value is None else str(value) for value in values]
            connection.execute(sql.encode(), (texts,))
    server = Server("erp", made.configuration.sources["erp"].conninfo)
    disagreements: list[object] = []
    with closing(server.connect()) as connection, snapshot(connection):
        dialect = dialect_of(made.configuration, compiled, connection.info.server_version)
        for n, case in enumerate(CASES):
            mapping = compiled[f"erp.t{n}.e{n}"]
            reader = SourceReader(
                connection=connection,
                statement=source_statement(dialect, mapping.config),
                key_statement=source_statement(dialect, mapping.config, only_key=True),
                encoding=encoding_of(connection),
            )
            found = {row[0]: row for row in reader.rows()}
            for row in rows_of(connection, n):
                theirs = by_field(mapping, row)
                ours = found[row[0]]  # type: ignore[index]
                if not agree(case, mapping, theirs, ours):
                    disagreements.append(
                        (case.column, case.attribute, case.field, row, theirs, ours)
                    )
    assert disagreements == []


def rows_of(connection: psycopg.Connection[tuple[object, ...]], number: int) -> list[Row]:
    """The table's rows as the log would say them."""
    sql = f"SELECT fid::text, CASE WHEN v IS NOT NULL THEN concat(v) END FROM public.t{number}"
    return [
        tuple(str(v).encode() if v is not None else None for v in row)
        for row in connection.execute(sql.encode())
    ]


def by_field(mapping: CompiledMapping, row: Row) -> bytes | DataError | None:
    """The attribute by the mapping's own way."""
    columns = [column.name for column in mapping.relation.columns]
    shaped = tuple(row[["fid", "v"].index(name)] for name in columns)
    try:
        value = mapping.row(shaped)[mapping.layout.columns.index("v")]
    except DataError as error:
        return error
    assert value is None or isinstance(value, bytes)
    return value


def agree(
    case: Case, mapping: CompiledMapping, theirs: bytes | DataError | None, ours: Texts
) -> bool:
    """Whether the SQL says the same, or takes a text that the mapping is too strict for."""
    reason, value = ours[1], ours[4]
    if isinstance(theirs, DataError):
        lenient = case.column == "text" or case.column.startswith("char")
        return reason is not None or (lenient and theirs.code in LENIENT)
    type_ = mapping.layout.attributes[mapping.layout.columns.index("v")].type
    expected = None if theirs is None else canonical(type_, theirs)
    found = None if value is None else canonical(type_, value)
    return reason is None and found == expected
