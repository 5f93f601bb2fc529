"""What verification makes of rows that are not plainly equal, without a database."""

from collections.abc import Sequence

import pytest

from cdc_daemon.model.entities import Attribute, EntityType, Kind
from cdc_daemon.verify.circumstances import Circumstances
from cdc_daemon.verify.comparison import WHOLE, Comparison, Group, SourceRow, Tally
from cdc_daemon.verify.hashes import Canonical, Digest, encoded
from cdc_daemon.verify.judgement import judge
from cdc_daemon.verify.report import MappingReport, Report

CODE = Attribute(name="code", type=EntityType(Kind.STRING, 10), required=True)
PRICE = Attribute(name="price", type=EntityType(Kind.DECIMAL, 10, 2))
PARENT = Attribute(name="parent", type=EntityType(Kind.STRING, 10))
ATTRIBUTES = (CODE, PRICE, PARENT)

Texts = tuple[bytes | None, ...]


def ours(code: str | None, price: str | None = "1.00", *, reason: str = "", dangling: str = "",
         parent: str | None = None, number: str = "7") -> Texts:  # fmt: skip
    """A row of a source statement: identity, reason, dangling, attributes."""
    texts = (number, reason or None, dangling or None, code, price, parent)
    return tuple(None if text is None else text.encode() for text in texts)


def theirs(code: str, price: str | None = "1.00", parent: str | None = None) -> Texts:
    """A row of a target statement."""
    return tuple(None if text is None else text.encode() for text in (code, price, parent))


def compare(
    source: Sequence[Texts], target: Sequence[Texts], *, limit: int = 10, keep: bool = False
) -> Tally:
    return Comparison(ATTRIBUTES, 1, 1, keep_extra=keep).compare(source, target, limit)


def kinds(group: Group, known: Circumstances | None = None) -> list[str]:
    """What the rows of a group are, parked ones first."""
    verdict = judge(group, known or Circumstances(), ATTRIBUTES)
    found = ["match"] * verdict.match + ["kept"] * verdict.kept
    return found + [example.kind for example in (*verdict.parked, *verdict.open)]


def only(source: Sequence[Texts], target: Sequence[Texts]) -> Group:
    """The one group that is not plainly equal."""
    (group,) = compare(source, target).unequal
    return group


def test_one_value_in_two_spellings_is_equal_and_hashes_alike() -> None:
    tally = compare([ours("A", "1.5"), ours("B", None)], [theirs("A", "1.50"), theirs("B", None)])
    assert (tally.source, tally.target, tally.match) == (2, 2, 2)
    assert tally.unequal == []
    assert tally.source_hash == tally.target_hash


@pytest.mark.parametrize("side", ["source", "target"])
def test_streams_of_unequal_length_are_read_to_their_ends(side: str) -> None:
    many = [f"{n:03}" for n in range(5)]
    source, target = [ours(code) for code in many], [theirs(code) for code in many]
    if side == "source":
        tally = compare(source[:2], target)
        assert [kinds(group) for group in tally.unequal] == [["extra"]] * 3
    else:
        tally = compare(source, target[3:])
        assert [kinds(group) for group in tally.unequal] == [["missing"]] * 3
    assert tally.source_hash != tally.target_hash


def test_a_row_without_a_key_is_missing_by_its_identity() -> None:
    tally = compare([ours(None, reason="code: required"), ours("A")], [theirs("A")])
    (group,) = tally.unequal
    assert tally.match == 1
    example = judge(group, Circumstances(), ATTRIBUTES).open[0]
    assert (example.kind, example.key, example.of_source) == ("missing", ("7",), True)
    assert kinds(group, Circumstances(parked_rows={(b"7",)})) == ["parked"]


PAIR = (CODE, PARENT, PRICE)
"""A key of two parts and an attribute."""


def pair(number: str, *texts: str | None) -> Texts:
    """A row of a source statement whose key has two parts; rejected where one is missing."""
    reason = "required" if None in texts else None
    found = (number, reason, None, *texts, "1.00")
    return tuple(None if text is None else text.encode() for text in found)


def test_rows_without_a_part_of_their_key_are_missing_by_their_identity() -> None:
    """NULLs come first in each column, so behind the first column they stand among the others."""
    keys = [(None, None), (None, "a"), ("a", None), ("a", "a"), ("b", None), ("b", None),
            ("b", "b"), ("d", None)]  # fmt: skip
    source = [pair(str(n), *key) for n, key in enumerate(keys)]
    theirs_too = [(b"a", b"a", b"1.00"), (b"b", b"b", b"1.00"), (b"c", b"c", b"1.00")]
    tally = Comparison(PAIR, 2, 1, keep_extra=False).compare(source, theirs_too, 10)
    assert (tally.source, tally.target, tally.match) == (8, 3, 2)
    missing = [group.rows[0].identity for group in tally.unequal if group.key is None]
    assert missing == [(b"0",), (b"1",), (b"2",), (b"4",), (b"5",), (b"7",)]
    assert [group.key for group in tally.unequal if group.key is not None] == [(b"c", b"c")]


def test_a_row_that_the_mapping_rejects_differs_even_from_an_equal_target() -> None:
    group = only([ours("A", reason="price: loss")], [theirs("A")])
    assert kinds(group) == ["different"]
    assert kinds(group, Circumstances(parked_rows={(b"7",)})) == ["parked"]


def test_two_rows_with_one_key_match_once() -> None:
    group = only([ours("A", number="1"), ours("A", "2", number="2")], [theirs("A", "2.00")])
    assert kinds(group) == ["match", "missing"]
    assert kinds(group, Circumstances(parked_rows={(b"1",)})) == ["match", "parked"]


def test_a_row_only_in_the_target_is_extra_parked_or_kept() -> None:
    group = only([], [theirs("A")])
    assert kinds(group) == ["extra"]
    assert kinds(group, Circumstances(parked_keys={(b"A",)})) == ["parked"]
    assert kinds(group, Circumstances(kept_keys={(b"A",)})) == ["kept"]
    tally = compare([], [theirs("A")], keep=True)
    assert (tally.kept, tally.target, tally.unequal) == (1, 1, [])


def test_a_dangling_ref_may_name_an_orphan_and_nothing_else() -> None:
    group = only([ours("A", dangling="parent")], [theirs("A", parent="P")])
    assert kinds(group) == ["different"]
    assert kinds(group, Circumstances(orphans={("parent", b"P")})) == ["match"]
    group = only([ours("A", "2", dangling="parent")], [theirs("A", parent="P")])
    known = Circumstances(orphans={("parent", b"P")})
    assert judge(group, known, ATTRIBUTES).open[0].attributes == ("price",)


def test_the_attributes_that_differ_are_named() -> None:
    group = only([ours("A", "1", parent="P")], [theirs("A", "2", parent="Q")])
    assert judge(group, Circumstances(), ATTRIBUTES).open[0].attributes == ("price", "parent")


def test_a_brief_group_says_the_same_without_values() -> None:
    group = only([ours("A", "1")], [theirs("A", "2")])
    brief = group.brief()
    assert brief == group
    assert isinstance(brief.target, Digest)
    assert kinds(brief) == ["different"]
    assert brief != only([ours("A", "3")], [theirs("A", "2")])
    row = brief.rows[0]
    assert row.equals((b"A", b"1", None), ATTRIBUTES)
    assert not row.equals((b"A", b"2", None), ATTRIBUTES)
    assert isinstance(only([ours("A", dangling="parent")], [theirs("A")]).brief().target, tuple)


def test_only_the_first_unequal_rows_are_kept_whole_and_the_rest_counted() -> None:
    source = [ours(f"{n:05}") for n in range(WHOLE + 20)]
    tally = compare(source, [], limit=WHOLE + 10)
    whole = [isinstance(group.rows[0].content, tuple) for group in tally.unequal]
    assert whole == [True] * WHOLE + [False] * 10
    assert tally.beyond == 10


def test_canonical_rows_beside_another_are_the_same() -> None:
    canonical = Canonical(ATTRIBUTES)
    other = (b"A", b"1.50", None)
    row = (b"A", b"1.5000", b"P")
    assert canonical.like(row, other, canonical.row(other)) == canonical.row(row)
    assert canonical.like(other, other, canonical.row(other)) == (b"A", b"1.5", None)
    assert canonical.row((b"A", b"no number", None))[1] == b"no number"


def test_encoded_rows_are_unambiguous() -> None:
    rows = [
        (b"ab", b"c"),
        (b"a", b"bc"),
        (None, b"abc"),
        (b"", b"abc"),
        (b"-", b"abc"),
        (b"3:", b""),
    ]
    assert len({encoded(row) for row in rows}) == len(rows)


def test_a_report_ends_with_3_for_real_differences_only() -> None:
    equal = MappingReport(
        mapping="m", entity="e", source=5, target=5, match=3, moving=1, parked=1, kept=1
    )
    wrong = MappingReport(mapping="n", entity="e", source=5, target=4, match=4, missing=1)
    assert (equal.equal, equal.differences, Report(mappings=(equal,)).exit_code) == (True, 0, 0)
    report = Report(mappings=(equal, wrong), behind=("erp",), seconds=1.23456)
    assert report.exit_code == 3
    shown = report.as_dict()
    assert (shown["equal"], shown["behind"], shown["seconds"]) == (False, ["erp"], 1.235)
    assert [one["equal"] for one in shown["mappings"]] == [True, False]


def test_source_rows_compare_by_what_they_say() -> None:
    row = SourceRow((b"7",), "", (), (b"A", b"1", None))
    assert row.differing((b"A", b"1", None), ATTRIBUTES) == ()
    assert row.equals((b"A", b"1", None), ATTRIBUTES)
