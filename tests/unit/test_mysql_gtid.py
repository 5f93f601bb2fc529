"""GTID sets: the arithmetic against Python's own sets, the text and the bytes of MySQL."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc_daemon.model.errors import DecodeError, Stop
from cdc_daemon.sources.mysql.gtid import (
    Gtid,
    GtidSet,
    Triple,
    decode_set,
    format_domains,
    parse_domains,
    parse_gtid,
    parse_owned,
    parse_set,
    parse_triple,
)

A = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
B = "4f22fa47-71ca-11e1-9e33-c80aa9429562"
ORIGINS = (A, f"{A}:blue", B)

members = st.sets(st.tuples(st.sampled_from(ORIGINS), st.integers(1, 30)), max_size=40)


def made(pairs: set[tuple[str, int]]) -> GtidSet:
    found = GtidSet()
    for origin, number in sorted(pairs, key=lambda pair: (pair[1] * 7 % 31, pair[0])):
        found.add(origin, number)
    return found


def content(found: GtidSet) -> set[tuple[str, int]]:
    return {
        (origin, number)
        for origin in ORIGINS
        for number in range(1, 40)
        if Gtid(origin, number) in found
    }


@settings(max_examples=60)
@given(members, members)
def test_sets_agree_with_pythons_own(
    left: set[tuple[str, int]], right: set[tuple[str, int]]
) -> None:
    one, other = made(left), made(right)
    assert content(one) == left
    assert one.count() == len(left)
    assert content(one - other) == left - right
    assert content(one & other) == left & right
    assert (one >= other) == (left >= right)
    assert bool(one) == bool(left)
    both = one.copy()
    both.update(other)
    assert content(both) == left | right
    for origin, number in right:
        one.remove(Gtid(origin, number))
    assert content(one) == left - right


@settings(max_examples=60)
@given(members)
def test_text_and_bytes_are_read_as_they_are_written(pairs: set[tuple[str, int]]) -> None:
    found = made(pairs)
    assert parse_set(str(found)) == found
    assert decode_set(found.encode()) == found


def test_m32_a_tagged_set_is_read_as_mysql_writes_it() -> None:
    """M24, M32: one tagged GTID in ``@@gtid_executed`` made mysql-replication fail."""
    text = f"{A}:1-214:tagx:1,\n{B.upper()}:1-3:5:a_b:2-4"
    found = parse_set(text)
    assert str(found) == f"{A}:1-214:tagx:1,{B}:1-3:5:a_b:2-4"
    assert Gtid(f"{A}:tagx", 1) in found
    assert Gtid(f"{A}:tagx", 2) not in found
    assert found.count() == 214 + 1 + 4 + 3


def test_owned_numbers_are_read_with_and_without_a_mark_between() -> None:
    assert parse_owned("") == parse_set("")
    assert parse_owned(f"{A}:5#12:7#9") == parse_set(f"{A}:5:7")
    for between in ("", ", ", ",\n"):
        assert parse_owned(f"{A}:5#12{between}{A}:tagx:3#7") == parse_set(f"{A}:5:tagx:3")


def test_a_set_without_tags_is_sent_in_the_older_form() -> None:
    """Servers before 8.3 know no other."""
    raw = bytes.fromhex(A.replace("-", ""))
    expected = (1).to_bytes(8, "little") + raw + (2).to_bytes(8, "little")
    expected += b"".join(n.to_bytes(8, "little") for n in (1, 4, 5, 6))
    assert parse_set(f"{A}:1-3:5").encode() == expected


def test_a_set_with_tags_says_so_in_its_count() -> None:
    """The two bytes of a tagged set, which mysqld 9 takes (and sends in PREVIOUS_GTIDS)."""
    encoded = parse_set(f"{A}:1:tagx:1").encode()
    assert encoded[:8] == bytes([1, 2, 0, 0, 0, 0, 0, 1])
    assert encoded[24] == 0  # the first is without a tag
    assert b"\x08tagx" in encoded


def test_adding_in_order_keeps_one_interval() -> None:
    found = GtidSet()
    for number in range(1, 1001):
        found.add(A, number)
    assert found.intervals == {A: [1, 1001]}


@pytest.mark.parametrize(
    "text",
    [
        "x", A, f"{A}:", f"{A}:0", f"{A}:5-3", f"{A}:tag", f"{A}:1:tag", f"{A}:1-2-3", f"{A}:1:-2",
        f"{A}:9223372036854775807", f"{A[:-1]}:1", f"{A}:1,x", f"{A}:Ä:1", f"{A}:{'t' * 33}:1",
    ],
)  # fmt: skip
def test_other_text_is_refused_in_words(text: str) -> None:
    with pytest.raises(Stop, match="GTID"):
        parse_set(text)


def test_one_gtid_is_one() -> None:
    assert parse_gtid(f"{A}:blue:7") == Gtid(f"{A}:blue", 7)
    for text in (f"{A}:1-2", f"{A}:1:2", "", f"{A}:1,{B}:1"):
        with pytest.raises(Stop):
            parse_gtid(text)


@settings(max_examples=60)
@given(members, st.data())
def test_bytes_that_are_cut_or_changed_are_a_decode_error(
    pairs: set[tuple[str, int]], data: st.DataObject
) -> None:
    raw = bytearray(made(pairs).encode())
    cut = data.draw(st.integers(0, len(raw)))
    if data.draw(st.booleans()):
        raw = raw[:cut]
    elif cut < len(raw):
        raw[cut] ^= data.draw(st.integers(1, 255))
    with suppress(DecodeError):
        decode_set(bytes(raw))


def test_mariadb_positions_are_read_as_they_are_written() -> None:
    domains = parse_domains("0-1-17,7-2-5")
    assert domains == {0: Triple(0, 1, 17), 7: Triple(7, 2, 5)}
    assert format_domains(domains) == "0-1-17,7-2-5"
    assert parse_domains("") == {}


@pytest.mark.parametrize("text", ["0-1", "0-1-x", "4294967296-1-1", "0-1-1,0-2-2", "0-1-1;2"])
def test_other_text_is_no_position_of_mariadb(text: str) -> None:
    with pytest.raises(Stop):
        parse_domains(text)
    assert str(parse_triple(" 0-1-1 ")) == "0-1-1"
