"""A ``ref`` looks up the id as the table meant prints it; what cannot be one is the row's fault."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from cdc_daemon.config.load import load
from cdc_daemon.mapping.compile import CompiledMapping, compile_mapping
from cdc_daemon.mapping.conversion_rule import ConversionUnsupported
from cdc_daemon.mapping.row_ids import row_id
from cdc_daemon.model.changes import Column, ColumnType, Relation
from cdc_daemon.model.errors import ConfigurationError, DataError

TEXT = """
    sources:
      erp: {kind: postgres, dsn: "postgresql://cdc@127.0.0.1/erp",
            nulls: {text: [" "], integer: ["0"]}}
    target: {url: "postgresql://cdc@127.0.0.1/control"}
    entities:
      customer: {key: [code], attributes: {code: string(10)}}
      sales_order: {key: [number], attributes: {number: string(10), customer: string(10)}}
    mappings:
      - {from: erp.public.t_customer, to: customer, key: {code: fcode}}
      - from: erp.public.t_order
        to: sales_order
        key: {number: fnumber}
        fields:
          customer: {ref: fcustomer, from: erp.public.t_customer}
"""
INTEGER, BIGINT = ColumnType("integer"), ColumnType("bigint")
CHAR10 = ColumnType("char", 10)
AMOUNT = ColumnType("numeric", 12, 2)


def table(name: str, identity: tuple[int, ...], **columns: ColumnType) -> Relation:
    """A table with these columns."""
    return Relation(
        source="erp",
        schema="public",
        table=name,
        columns=tuple(Column(name=column, type=type_) for column, type_ in columns.items()),
        identity=identity,
    )


def compiled(
    folder: Path, held: ColumnType, meant: ColumnType, identity: tuple[int, ...] = (0,)
) -> CompiledMapping:
    """The orders' mapping where customers are known by an id of type ``meant``."""
    path = folder / "cdc.yaml"
    path.write_text(dedent(TEXT), "utf-8")
    configuration = load([path], environ={})
    customers = table("t_customer", identity, fid=meant, fcode=ColumnType("text"))
    orders = table("t_order", (0,), fnumber=ColumnType("text"), fcustomer=held)
    return compile_mapping(
        configuration.mappings[1], configuration, orders, {("public", customers.table): customers}
    )


@pytest.mark.parametrize(
    "held, meant",
    [
        (INTEGER, INTEGER),
        (INTEGER, BIGINT),
        (BIGINT, BIGINT),
        (ColumnType("varchar", 40), ColumnType("text")),
        (ColumnType("uuid"), ColumnType("uuid")),
        (INTEGER, ColumnType("text")),
        (INTEGER, ColumnType("numeric", 12, 0)),
        (ColumnType("date"), ColumnType("date")),
        (CHAR10, CHAR10),
    ],
)
def test_ids_of_like_types_pass_as_they_are(held: ColumnType, meant: ColumnType) -> None:
    """The hot path has no call for them."""
    assert row_id(held, meant) is None


@pytest.mark.parametrize(
    "held, meant, value, found",
    [
        (ColumnType("text"), INTEGER, b"7", b"7"),
        (ColumnType("text"), INTEGER, b"007", b"7"),
        (ColumnType("text"), INTEGER, b"-1", b"-1"),
        (CHAR10, INTEGER, b"12        ", b"12"),
        (BIGINT, INTEGER, b"2147483647", b"2147483647"),
        (AMOUNT, INTEGER, b"7.00", b"7"),
        (INTEGER, AMOUNT, b"7", b"7.00"),
        (ColumnType("numeric"), AMOUNT, b"7.5", b"7.50"),
        (AMOUNT, ColumnType("numeric"), b"7.00", b"7"),
        (ColumnType("text"), CHAR10, b"K1", b"K1        "),
        (ColumnType("text"), CHAR10, "深圳".encode(), "深圳        ".encode()),
        (CHAR10, ColumnType("varchar", 40), b"K1        ", b"K1"),
        (
            ColumnType("text"),
            ColumnType("uuid"),
            b"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        ),
    ],
)
def test_an_id_is_looked_up_as_the_table_meant_prints_it(
    held: ColumnType, meant: ColumnType, value: bytes, found: bytes
) -> None:
    """Else the lookup, which is by text, would not find the row."""
    convert = row_id(held, meant)
    assert convert is not None
    assert convert(value) == found


@pytest.mark.parametrize(
    "held, meant, value",
    [
        (ColumnType("text"), INTEGER, b""),
        (ColumnType("text"), INTEGER, b"A12"),
        (ColumnType("text"), INTEGER, b" 7"),
        (ColumnType("text"), INTEGER, b"9" * 5000),
        (ColumnType("text"), BIGINT, b"9223372036854775808"),
        (BIGINT, INTEGER, b"2147483648"),
        (BIGINT, INTEGER, b"-2147483649"),
        (INTEGER, ColumnType("smallint"), b"32768"),
        (AMOUNT, INTEGER, b"7.50"),
        (ColumnType("numeric"), INTEGER, b"NaN"),
        (ColumnType("double"), INTEGER, b"1e+20"),
        (ColumnType("text"), ColumnType("uuid"), b"not one"),
        (ColumnType("text"), ColumnType("char", 3), b"ABCD"),
        (ColumnType("numeric"), AMOUNT, b"7.125"),
        (ColumnType("text"), AMOUNT, b"x"),
    ],
)
def test_a_value_that_is_no_such_id_is_the_rows_fault(
    held: ColumnType, meant: ColumnType, value: bytes
) -> None:
    """It parks that row; no statement of the control database ever sees it."""
    convert = row_id(held, meant)
    assert convert is not None
    with pytest.raises(DataError) as caught:
        convert(value)
    assert caught.value.code == "reference_unresolved"


@pytest.mark.parametrize(
    "held, meant",
    [
        ("date", "integer"),
        ("boolean", "integer"),
        ("uuid", "bigint"),
        ("uuid", "numeric"),
        ("integer", "uuid"),
        ("timestamp", "text"),
        ("text", "date"),
        ("integer", "date"),
        ("json", "text"),
    ],
)
def test_types_that_can_never_meet_are_refused(held: str, meant: str) -> None:
    """No value of the one is ever an id of the other."""
    with pytest.raises(ConversionUnsupported):
        row_id(ColumnType(held), ColumnType(meant))


def test_a_refused_type_is_placed_at_the_ref(tmp_path: Path) -> None:
    """The column that cannot hold the id is what has to be looked at."""
    with pytest.raises(ConfigurationError) as caught:
        compiled(tmp_path, ColumnType("date"), INTEGER)
    place = f"{tmp_path}/cdc.yaml:15:23: column 'fcustomer' cannot hold ids"
    assert place in str(caught.value)


@pytest.mark.parametrize("identity", [(0, 1), ()])
def test_a_table_that_no_single_column_identifies_is_refused(
    tmp_path: Path, identity: tuple[int, ...]
) -> None:
    """An id in one column cannot mean its rows."""
    with pytest.raises(ConfigurationError) as caught:
        compiled(tmp_path, INTEGER, INTEGER, identity)
    place = f"{tmp_path}/cdc.yaml:15:40: a 'ref' needs a table whose rows one column identifies"
    assert place in str(caught.value)


@pytest.mark.parametrize(
    "held, value, found",
    [
        (ColumnType("text"), b"007", b"7"),
        (ColumnType("text"), b" ", None),
        (ColumnType("text"), b"0", None),
        (CHAR10, b"          ", None),
        (CHAR10, b"0         ", None),
        (CHAR10, b"7         ", b"7"),
    ],
)
def test_null_texts_come_before_the_id(
    tmp_path: Path, held: ColumnType, value: bytes, found: bytes | None
) -> None:
    """What the source writes for NULL is no id."""
    one = compiled(tmp_path, held, INTEGER)
    assert one.row((b"O1", value)) == (b"O1", found)
    assert one.rows is not None
    assert one.rows([(b"O1", value)]) == [(b"O1", found)]


def test_the_row_at_fault_names_the_attribute(tmp_path: Path) -> None:
    """As every data error does."""
    with pytest.raises(DataError) as caught:
        compiled(tmp_path, ColumnType("text"), INTEGER).row((b"O1", b"A12"))
    assert caught.value.attribute == "customer"
