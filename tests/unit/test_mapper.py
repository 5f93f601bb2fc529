"""From source rows to entity rows: filters, keys, references, and what the log left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_daemon.config.configuration import Configuration
from cdc_daemon.config.load import load
from cdc_daemon.mapping.compile import CompiledMapping, compile_mapping
from cdc_daemon.mapping.mapper import Mapped, map_run
from cdc_daemon.model.changes import (
    LEFT_OUT,
    UNCHANGED,
    Column,
    ColumnType,
    Invalid,
    Operation,
    Relation,
    Replica,
    Row,
    Run,
)
from cdc_daemon.model.errors import ConfigurationError

HEAD = """
    sources:
      erp: {kind: postgres, dsn: "postgresql://cdc@127.0.0.1/erp", nulls: {text: [" "]}}
    target: {url: "postgresql://cdc@127.0.0.1/control"}
    entities:
      material:
        key: [code]
        attributes:
          code: string(10)
          name: {type: string(20), required: true}
          unit: string(10)
          price: "decimal(18,2)"
          remark: text
"""
MAPPING = """
    mappings:
      - from: erp.public.t_material
        to: material
        key: {code: fnumber}
        fields:
          name: {from: fname, trim: true}
          unit: {from: funit, map: {PCS: EA}, default: KG}
          price: fprice
          remark: fremark
"""
VARCHAR = ColumnType("varchar", 40)
COLUMNS = {
    "fid": ColumnType("bigint"),
    "fnumber": VARCHAR,
    "fname": VARCHAR,
    "funit": VARCHAR,
    "fprice": ColumnType("numeric", 18, 4),
    "fremark": ColumnType("text"),
}


def relation(identity: tuple[int, ...] = (1,), replica: Replica = Replica.KEY) -> Relation:
    """The source table as the log would describe it."""
    return Relation(
        source="erp",
        schema="public",
        table="t_material",
        columns=tuple(Column(name=n, type=t) for n, t in COLUMNS.items()),
        identity=identity,
        replica=replica,
    )


def configuration(folder: Path, mapping: str = MAPPING) -> Configuration:
    """A configuration from text."""
    path = folder / "cdc.yaml"
    path.write_text(dedent(HEAD) + dedent(mapping), "utf-8")
    return load([path], environ={})


def compiled(folder: Path, mapping: str = MAPPING, what: Relation | None = None) -> CompiledMapping:
    """The mapping compiled against the table."""
    found = configuration(folder, mapping)
    return compile_mapping(found.mappings[0], found, what or relation())


def source_row(code: bytes | None = b"A", **other: object) -> Row:
    """A full source row."""
    values: dict[str, object] = {
        "fid": b"1",
        "fnumber": code,
        "fname": b" Axle ",
        "funit": b"PCS",
        "fprice": b"1.50",
        "fremark": b" ",
    }
    return tuple((values | other).values())  # type: ignore[arg-type]


def mapped(one: CompiledMapping, run: Run) -> Mapped:
    """One run through one mapping."""
    found = Mapped()
    map_run(one, run, found)
    return found


def insert(one: CompiledMapping, *rows: Row, partial: bool = False) -> Run:
    """An insert run."""
    return Run(
        relation=one.relation,
        operation=Operation.INSERT,
        new_rows=list(rows),
        partial=partial,
        sequence=10,
    )


def test_a_row_is_mapped_field_by_field(tmp_path: Path) -> None:
    """Trim, null rule, map and conversion, in the layout's order."""
    one = compiled(tmp_path)
    (run,) = mapped(one, insert(one, source_row())).runs
    assert run.layout.columns == ("code", "name", "unit", "price", "remark")
    assert run.rows == [(b"A", b"Axle", b"EA", b"1.50", None)]
    assert list(run.sequences) == [10]


def test_a_bad_row_is_rejected_and_its_neighbours_are_not(tmp_path: Path) -> None:
    """With its attribute and a stable code, and the right ordinal."""
    one = compiled(tmp_path)
    found = mapped(
        one,
        insert(
            one,
            source_row(b"A"),
            source_row(b"B", fprice=b"1.234"),
            source_row(b"C", fname=None),
            source_row(b"x" * 11),
            source_row(b"D"),
        ),
    )
    assert [(r.sequence, r.error.code, r.error.attribute) for r in found.rejected] == [
        (11, found.rejected[0].error.code, "price"),
        (12, "required", "name"),
        (13, "too_long", "code"),
    ]
    assert [row[0] for run in found.runs for row in run.rows] == [b"A", b"D"]
    assert [s for run in found.runs for s in run.sequences] == [10, 14]


def test_deletes_carry_the_key_where_the_tables_key_is_the_entitys(tmp_path: Path) -> None:
    """No reference table is needed then."""
    one = compiled(tmp_path)
    assert one.layout.reference is None
    run = Run(relation=one.relation, operation=Operation.DELETE, old_rows=[(b"A",)])
    assert mapped(one, run).runs[0].old_keys == [(b"A",)]


def test_a_reference_table_is_kept_where_a_delete_does_not_carry_the_key(tmp_path: Path) -> None:
    """The table's key is fid, the entity's fnumber."""
    one = compiled(tmp_path, what=relation(identity=(0,)))
    assert one.layout.reference is not None
    assert one.layout.reference.columns == (("fid", "bigint"),)
    assert mapped(one, insert(one, source_row())).runs[0].source_keys == [(b"1",)]
    run = Run(relation=one.relation, operation=Operation.DELETE, old_rows=[(b"7",)])
    (deleted,) = mapped(one, run).runs
    assert (deleted.source_keys, deleted.old_keys) == ([(b"7",)], None)


def test_a_changed_key_is_known_from_the_old_image(tmp_path: Path) -> None:
    """The old identity tuple becomes the old entity key."""
    one = compiled(tmp_path)
    run = Run(
        relation=one.relation,
        operation=Operation.UPDATE,
        new_rows=[source_row(b"B")],
        old_rows=[(b"A",)],
    )
    assert mapped(one, run).runs[0].old_keys == [(b"A",)]


def test_an_update_that_leaves_the_filter_deletes_and_one_that_never_passed_is_a_delete_too(
    tmp_path: Path,
) -> None:
    """In source order, so that the last state of a key wins."""
    one = compiled(
        tmp_path, MAPPING.replace("to: material", 'to: material\n        where: "fprice > 1"')
    )
    run = Run(
        relation=one.relation,
        operation=Operation.UPDATE,
        new_rows=[source_row(b"A"), source_row(b"A", fprice=b"1"), source_row(b"B")],
    )
    found = mapped(one, run)
    assert [(r.operation, list(r.sequences)) for r in found.runs] == [
        (Operation.UPDATE, [0]),
        (Operation.DELETE, [1]),
        (Operation.UPDATE, [2]),
    ]
    assert found.runs[1].old_keys == [(b"A",)]
    dropped = mapped(one, insert(one, source_row(b"A", fprice=None)))
    assert (dropped.runs, dropped.filtered) == ([], {(one.layout.mapping, "where"): 1})


def test_unchanged_values_stay_unchanged_and_a_filter_on_one_needs_the_source(
    tmp_path: Path,
) -> None:
    """UNCHANGED is never NULL; where it decides something the row is read again."""
    one = compiled(tmp_path)
    row = source_row(fremark=UNCHANGED)
    run = Run(relation=one.relation, operation=Operation.UPDATE, new_rows=[row], partial=True)
    (found,) = mapped(one, run).runs
    assert found.partial
    assert found.rows[0][-1] is UNCHANGED
    filtered = compiled(
        tmp_path, MAPPING.replace("to: material", "to: material\n        where: \"fremark = 'x'\"")
    )
    run = Run(relation=filtered.relation, operation=Operation.UPDATE, new_rows=[row], partial=True)
    unresolved = mapped(filtered, run)
    assert (unresolved.runs, len(unresolved.unresolved)) == ([], 1)


@pytest.mark.parametrize(
    "policy, expected", [("null", None), ("keep", b"\\xff?"), ("park", "invalid_value")]
)
def test_an_invalid_value_follows_its_policy(tmp_path: Path, policy: str, expected: object) -> None:
    """NULL, its text, or parked; never a crash and never silent."""
    text = MAPPING.replace("remark: fremark", f"remark: {{from: fremark, invalid: {policy}}}")
    one = compiled(tmp_path, text)
    row = source_row(fremark=Invalid(b"\xff?", "no UTF-8"))
    found = mapped(one, insert(one, row, partial=True))
    if policy == "park":
        assert [r.error.code for r in found.rejected] == [expected]
    else:
        assert found.runs[0].rows[0][-1] == expected


@pytest.mark.parametrize("policy", ["null", "keep", "park"])
def test_what_a_parked_change_lacks_is_read_again(tmp_path: Path, policy: str) -> None:
    """Whatever becomes of invalid values, and though the row is there; unless it is its identity
    that lacks: then nobody can."""
    text = MAPPING.replace("remark: fremark", f"remark: {{from: fremark, invalid: {policy}}}")
    one = compiled(tmp_path, text)
    lacking = Invalid(b"", LEFT_OUT)
    found = mapped(one, insert(one, source_row(fremark=lacking), partial=True))
    assert (found.runs, found.rejected, len(found.unresolved)) == ([], [], 1)
    found = mapped(one, insert(one, source_row(fnumber=lacking), partial=True))
    assert (found.runs, found.unresolved) == ([], [])
    assert "'fnumber', which identifies the row" in found.rejected[0].error.message


def test_every_problem_of_a_mapping_is_named_with_its_place(tmp_path: Path) -> None:
    """Unknown columns with a suggestion, types that cannot fit: all at once."""
    text = MAPPING.replace("fprice", "fprise").replace(
        "name: {from: fname, trim: true}", "name: {from: fnam, trim: true}"
    )
    with pytest.raises(ConfigurationError) as caught:
        compiled(tmp_path, text)
    problems = [str(problem) for problem in caught.value.problems]
    assert len(problems) == 2
    assert any("fprise" in p and "did you mean 'fprice'?" in p for p in problems)
    assert all("cdc.yaml:" in problem for problem in problems)


VALUES = st.one_of(st.none(), st.sampled_from([b"", b" ", b"PCS", b"KG", b"A", b"x" * 15]))
PRICES = st.one_of(st.none(), st.sampled_from([b"1", b"-2.50", b"3.1000", b"9.999"]))


@given(
    st.lists(
        st.tuples(st.just(b"1"), VALUES, VALUES, VALUES, PRICES, VALUES), min_size=1, max_size=8
    )
)
def test_the_generated_mapper_agrees_with_the_fields(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row]
) -> None:
    """Straight-line code and field by field come to the same rows and the same rejections."""
    one = compiled(tmp_path_factory.mktemp("config"))
    whole = mapped(one, insert(one, *rows))
    single = mapped(one, insert(one, *rows, partial=True))
    assert [r for run in whole.runs for r in run.rows] == [
        r for run in single.runs for r in run.rows
    ]
    assert [(r.sequence, r.error.code) for r in whole.rejected] == [
        (r.sequence, r.error.code) for r in single.rejected
    ]


@pytest.mark.parametrize("where", ["fname", "1 + 1", "fid + 1", "UPPER(fname)"])
def test_a_where_that_is_no_condition_is_a_problem_with_its_place(
    tmp_path: Path, where: str
) -> None:
    """Not an unexpected error."""
    text = MAPPING.replace("to: material\n", f'to: material\n        where: "{where}"\n')
    with pytest.raises(ConfigurationError, match=r"cdc.yaml:18:12: a condition must be boolean"):
        compiled(tmp_path, text)


def test_null_texts_are_null_in_expr_and_where(tmp_path: Path) -> None:
    """As they are in every column that is taken over."""
    text = MAPPING.replace("remark: fremark", "remark: {expr: \"COALESCE(fremark, 'none')\"}")
    text = text.replace("to: material\n", 'to: material\n        where: "funit IS NOT NULL"\n')
    one = compiled(tmp_path, text)
    assert one.passes(source_row())
    assert not one.passes(source_row(funit=b" "))
    assert one.row(source_row())[one.layout.columns.index("remark")] == b"none"


@pytest.mark.parametrize(
    "field, what",
    [
        ('name: {expr: "NULL"}', "attribute 'name' is required, expr is null"),
        ("name: {expr: \"NULLIF('a', 'a')\"}", "attribute 'name' is required, expr is null"),
        ("name: {expr: \"CONCAT('a', '0123456789012345678901')\"}", "longer than 20 characters"),
        ("name: {expr: \"COALESCE('x', 'y')\"}", ""),
    ],
)
def test_an_expression_without_columns_is_computed_once_and_checked(
    tmp_path: Path, field: str, what: str
) -> None:
    """Its value is the same in every row, so it fits or the mapping does not."""
    text = MAPPING.replace("name: {from: fname, trim: true}", field)
    if not what:
        assert compiled(tmp_path, text).row(source_row())[1] == b"x"
        return
    with pytest.raises(ConfigurationError, match=rf"cdc.yaml:20:20: .*{what}"):
        compiled(tmp_path, text)


def test_a_key_of_nothing_is_refused(tmp_path: Path) -> None:
    """A key's attributes are required, whatever the entity says."""
    text = MAPPING.replace("key: {code: fnumber}", 'key: {code: {expr: "NULL::text"}}')
    with pytest.raises(ConfigurationError, match="'code' is required, expr is null"):
        compiled(tmp_path, text)


def test_a_map_key_that_cannot_occur_is_placed(tmp_path: Path) -> None:
    """At the entry, with the reason."""
    text = MAPPING.replace("price: fprice", "price: {from: fprice, map: {'1': 2, 'x': 3}}")
    with pytest.raises(ConfigurationError, match=r"cdc.yaml:22:48: no value of numeric is 'x'"):
        compiled(tmp_path, text)


def test_a_map_finds_numbers_by_value(tmp_path: Path) -> None:
    """The column is numeric(18,4) and prints 1.0000."""
    text = MAPPING.replace("price: fprice", "price: {from: fprice, map: {'1': '2'}, default: 3}")
    one = compiled(tmp_path, text)
    index = one.layout.columns.index("price")
    assert one.row(source_row(fprice=b"1.0000"))[index] == b"2.00"
    assert one.row(source_row(fprice=b"1.5000"))[index] == b"3.00"


@pytest.mark.parametrize(
    "type_, attribute, spellings, key",
    [
        (VARCHAR, '"decimal(18,2)"', [b"007.5", b"7.50", b" +7.5 ", b"75e-1"], b"7.50"),
        (VARCHAR, '"decimal(18,2)"', [b"-0.00", b"0", b"-0"], b"0.00"),
        (VARCHAR, "numeric", [b"007.50", b"7.5"], b"7.5"),
        (ColumnType("numeric"), '"decimal(18,2)"', [b"7.5", b"7.50", b"7.500"], b"7.50"),
        (ColumnType("numeric"), "numeric", [b"7.5", b"7.50"], b"7.5"),
        (ColumnType("numeric", 9, 1), '"decimal(18,2)"', [b"7.5"], b"7.50"),
        (ColumnType("numeric", 9, 2), '"decimal(18,2)"', [b"7.50", b"NaN"], None),
        (ColumnType("integer"), '"decimal(18,2)"', [b"7"], b"7.00"),
        (ColumnType("integer"), "numeric", [b"7"], b"7"),
    ],
)
def test_spellings_of_a_number_are_one_key(
    tmp_path: Path, type_: ColumnType, attribute: str, spellings: list[bytes], key: bytes | None
) -> None:
    """The one that the key's column prints: reference tables answer with that."""
    path = tmp_path / "cdc.yaml"
    path.write_text((dedent(HEAD) + dedent(MAPPING)).replace("string(10)", attribute, 1), "utf-8")
    found = load([path], environ={})
    columns = [
        Column(name=one.name, type=type_) if one.name == "fnumber" else one
        for one in relation().columns
    ]
    one = compile_mapping(found.mappings[0], found, replace(relation(), columns=tuple(columns)))
    for spelling in spellings:
        row = source_row(spelling)
        assert one.layout.key_of(one.row(row)) == (spelling if key is None else key,)
        assert one.rows is not None
        assert one.rows([row]) == [one.row(row)]
