"""The pgoutput decoder: bytes in, runs out, and DecodeError for everything else."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc_daemon.model.changes import UNCHANGED, Batch, Operation, Replica, Row, Run, Value
from cdc_daemon.model.errors import DecodeError, Stop
from cdc_daemon.model.ports import Table
from tests.support.pgoutput import (
    EPOCH,
    OID,
    SENT,
    Log,
    begin,
    commit,
    data,
    delete,
    insert,
    keepalive,
    make_decoder,
    read_all,
    relation,
    truncate,
    tuple_data,
    update,
)

NAMES = ("id", "a", "b")


def one(messages: list[bytes], *, names: tuple[str, ...] = NAMES, **how: str) -> Batch:
    """The only batch of a transaction with these messages."""
    decoder = make_decoder(piece_bytes=1 << 28)
    everything = [relation(names, **how), begin(), *messages, commit()]  # type: ignore[arg-type]
    (batch,) = read_all(decoder, everything)
    return batch


def shapes(batch: Batch) -> list[tuple[Operation, int, int]]:
    return [(run.operation, run.sequence, len(run)) for run in batch.runs]


# --- rows ----------------------------------------------------------------------------------------


def test_inserts_become_one_run() -> None:
    batch = one([insert(b"1", b"x", None), insert(b"2", b"", b"y")])
    (run,) = batch.runs
    assert run.new_rows == [(b"1", b"x", None), (b"2", b"", b"y")]
    assert (run.operation, run.old_rows, run.partial, run.sequence) == (
        Operation.INSERT,
        None,
        False,
        0,
    )
    assert run.relation.name == "erp.public.t"
    assert [column.name for column in run.relation.columns] == ["id", "a", "b"]
    assert run.relation.identity == (0,)


def test_position_times_and_counts() -> None:
    decoder = make_decoder()
    log = [relation(NAMES), begin(0x10, 5), insert(b"1", b"x", b"y"), commit(0x20, 6)]
    log += [begin(0x30, 7), insert(b"2", b"x", b"y"), insert(b"3", b"", b"")]
    log += [commit(0x16_0000_0040, 8)]
    (batch,) = read_all(decoder, log)
    assert batch.position == "16/40"
    assert batch.begins == [(0, 0x10, 5 + EPOCH), (1, 0x30, 7 + EPOCH)]
    assert (batch.transactions, batch.changes) == (2, 3)
    assert batch.commit_time == 8 + EPOCH
    assert shapes(batch) == [(Operation.INSERT, 0, 3)], "runs go on over transactions"
    assert batch.size == sum(map(len, (log[2], log[5], log[6])))


def test_only_wanted_columns_are_decoded() -> None:
    names = ("skip1", "id", "skip2", "a", "b", "skip3")
    batch = one([insert(b"s" * 300, b"1", None, b"x", b"y", b"z")] * 10, names=names)
    assert batch.runs[0].new_rows == [(b"1", b"x", b"y")] * 10


def test_the_identity_is_decoded_though_nobody_maps_it() -> None:
    decoder = make_decoder(Table(schema="public", name="t", columns=frozenset({"a"})))
    log = [relation(NAMES), begin(), insert(b"1", b"x", b"y"), commit()]
    (batch,) = read_all(decoder, log)
    assert batch.runs[0].new_rows == [(b"1", b"x")]
    assert batch.runs[0].relation.identity == (0,)


def test_update_without_old_image() -> None:
    (run,) = one([update((b"1", b"x", b"y"))]).runs
    assert (run.operation, run.new_rows, run.old_rows) == (
        Operation.UPDATE,
        [(b"1", b"x", b"y")],
        None,
    )


def test_key_change_carries_the_old_identity_only() -> None:
    """G4: NULL in a key-only tuple means "not sent" outside the key."""
    batch = one([update((b"2", b"x", b"y"), key=(b"1", None, None)), update((b"2", b"z", b"y"))])
    changed, plain = batch.runs
    assert (changed.old_rows, changed.old_full) == ([(b"1",)], False)
    assert plain.old_rows is None


def test_unchanged_value_makes_a_partial_run_of_its_own() -> None:
    """G4: a TOASTed value that did not change is left out; full runs never hold one."""
    batch = one(
        [
            update((b"1", b"x", b"y")),
            update((b"2", UNCHANGED, b"y")),
            update((b"3", UNCHANGED, b"y")),
            update((b"4", b"x", b"y")),
        ]
    )
    assert [(run.partial, run.sequence, len(run)) for run in batch.runs] == [
        (False, 0, 1),
        (True, 1, 2),
        (False, 3, 1),
    ]
    assert batch.runs[1].new_rows == [(b"2", UNCHANGED, b"y"), (b"3", UNCHANGED, b"y")]


def test_unchanged_value_of_an_unwanted_column_is_no_matter() -> None:
    batch = one([update((b"1", b"x", b"y", UNCHANGED))], names=(*NAMES, "blob"))
    assert not batch.runs[0].partial


def test_unchanged_value_with_key_change() -> None:
    batch = one([update((b"2", UNCHANGED, b"y"), key=(b"1", None, None))])
    assert batch.runs[0].partial
    assert batch.runs[0].old_rows == [(b"1",)]


def test_an_identity_that_is_left_out_stands_in_the_key_tuple() -> None:
    """A long key is stored out of line: the new tuple leaves it out, the key tuple holds it."""
    (run,) = one([update((UNCHANGED, b"x", b"y"), key=(b"1", None, None))]).runs
    assert (run.new_rows, run.old_rows, run.partial) == ([(b"1", b"x", b"y")], [(b"1",)], False)


def test_full_identity_fills_unchanged_values_from_the_old_row() -> None:
    messages = [update((b"1", UNCHANGED, b"z"), old=(b"1", b"long", b"y"))]
    (run,) = one(messages, replica="f").runs
    assert run.new_rows == [(b"1", b"long", b"z")]
    assert (run.old_rows, run.old_full, run.partial) == ([(b"1", b"long", b"y")], True, False)
    assert run.relation.replica is Replica.FULL
    assert run.relation.identity == (0,), "G5: the primary key comes from the catalogue"


def test_full_identity_without_primary_key_takes_the_declared_one() -> None:
    table = Table(schema="public", name="t", columns=frozenset(NAMES), identity=("b", "a"))
    decoder = make_decoder(table, primary_key=())
    log = [relation(NAMES, replica="f"), begin(), delete(b"1", b"x", b"y", tag=b"O"), commit()]
    (batch,) = read_all(decoder, log)
    assert batch.runs[0].relation.identity == (1, 2)
    assert batch.runs[0].old_rows == [(b"1", b"x", b"y")]
    assert batch.runs[0].old_full


def test_replica_identity_index_goes_before_the_primary_key() -> None:
    log = [relation(NAMES, key=("b",), replica="i"), begin(), delete(None, None, b"k"), commit()]
    (batch,) = read_all(make_decoder(), log)
    assert batch.runs[0].relation.identity == (2,)
    assert batch.runs[0].old_rows == [(b"k",)]


@pytest.mark.parametrize("count", [1, 10])
def test_delete_by_composite_key(count: int) -> None:
    table = Table(schema="public", name="t", columns=frozenset({"b"}))
    decoder = make_decoder(table)
    log = [relation(("x", "id", "y", "b", "z"), key=("id", "b")), begin()]
    log += [delete(None, b"n%dn" % i, None, b"nn", None) for i in range(count)]
    (batch,) = read_all(decoder, [*log, commit()])
    assert batch.runs[0].old_rows == [(b"n%dn" % i, b"nn") for i in range(count)]
    assert batch.runs[0].new_rows == []


def test_truncate_is_one_run_for_each_mapped_table() -> None:
    other = Table(schema="public", name="u", columns=frozenset({"id"}))
    mine = Table(schema="public", name="t", columns=frozenset({"id"}))
    log = [
        relation(NAMES),
        relation(NAMES, oid=2, table="u"),
        relation(NAMES, oid=3, table="unmapped"),
        begin(),
        insert(b"1", None, None),
        truncate(OID, 2, 3),
        insert(b"2", None, None),
        commit(),
    ]
    (batch,) = read_all(make_decoder(mine, other), log)
    assert shapes(batch) == [
        (Operation.INSERT, 0, 1),
        (Operation.TRUNCATE, 1, 1),
        (Operation.TRUNCATE, 2, 1),
        (Operation.INSERT, 3, 1),
    ]
    assert [run.relation.table for run in batch.runs] == ["t", "t", "u", "t"]
    assert batch.changes == 4


def test_order_between_tables_and_operations_is_kept() -> None:
    other = Table(schema="public", name="u", columns=frozenset({"id"}))
    mine = Table(schema="public", name="t", columns=frozenset({"id"}))
    log = [relation(NAMES), relation(("id",), oid=2, table="u")]
    for i in range(5):
        log += [
            begin(),
            insert(b"%d" % i, None, None),
            insert(b"u%d" % i, oid=2),
            delete(b"%d" % i, None, None),
            commit(),
        ]
    (batch,) = read_all(make_decoder(mine, other), log)
    assert [run.sequence for run in batch.runs] == list(range(15))
    found = [(run.new_rows or run.old_rows or [])[0][0] for run in batch.runs]
    assert found == [x for i in range(5) for x in (b"%d" % i, b"u%d" % i, b"%d" % i)]


def test_unmapped_tables_do_not_count() -> None:
    decoder = make_decoder()
    log = [relation(NAMES, oid=9, table="log"), begin(), insert(b"1", b"", b"", oid=9)]
    log += [commit(0x500)]
    assert read_all(decoder, log) == []
    assert decoder.quiet
    decoder.skip()
    assert decoder.server_end == 0x500


# --- descriptions --------------------------------------------------------------------------------


def test_the_same_description_keeps_the_relation() -> None:
    again = [relation(NAMES), begin(), insert(b"1", b"", b""), commit()]
    (batch,) = read_all(make_decoder(), [*again, relation(NAMES), *again])
    assert shapes(batch) == [(Operation.INSERT, 0, 2)]


def test_an_added_column_keeps_the_relation_and_changes_the_decoder() -> None:
    log = [relation(NAMES), begin(), insert(b"1", b"a", b"b")]
    log += [relation(("id", "new", "a", "b")), insert(b"2", b"n", b"a", b"b"), commit()]
    (batch,) = read_all(make_decoder(), log)
    assert batch.runs[0].new_rows == [(b"1", b"a", b"b"), (b"2", b"a", b"b")]


def test_a_changed_type_makes_a_new_relation() -> None:
    wider = relation(NAMES, types=((25, -1), (1043, 44), (1700, (18 << 16 | 4) + 4)))
    log = [relation(NAMES), begin(), insert(b"1", b"a", b"b")]
    log += [wider, insert(b"2", b"a", b"b"), commit()]
    (batch,) = read_all(make_decoder(), log)
    assert len(batch.runs) == 2
    types = [column.type for column in batch.runs[1].relation.columns]
    assert [(t.name, t.length, t.scale) for t in types] == [
        ("text", None, None),
        ("varchar", 40, None),
        ("numeric", 18, 4),
    ]


def test_a_missing_column_stops_with_table_column_and_suggestion() -> None:
    with pytest.raises(Stop, match=r"erp\.public\.t.*'b'; did you mean 'bb'"):
        read_all(make_decoder(), [relation(("id", "a", "bb"))])


def test_a_value_over_the_limit_names_the_key_columns_but_no_value() -> None:
    decoder = make_decoder(max_value_bytes=100)
    log = [relation(NAMES), begin(), insert(b"secretid", b"s" * 101, b"y"), commit()]
    with pytest.raises(Stop, match=r"101 bytes.*column a.*identified by id") as caught:
        read_all(decoder, log)
    assert "secret" not in str(caught.value)


def test_long_values_and_long_messages() -> None:
    for size in (255, 256, 257, 0xFFFF, 0x10000, 0x74_0000, 300_000):
        value = b"t" * size
        rows: list[Row] = [(b"1", value, b"t"), (b"2", b"", value)] * 4
        assert one([insert(*row) for row in rows]).runs[0].new_rows == rows


# --- pieces --------------------------------------------------------------------------------------


def test_a_transaction_larger_than_a_piece_comes_in_pieces() -> None:
    decoder = make_decoder(piece_rows=10)
    log = [relation(NAMES), begin(7), *[insert(b"%d" % i, None, None) for i in range(25)], commit()]
    batches = read_all(decoder, log)
    assert [(b.changes, b.position, b.transactions) for b in batches] == [
        (10, None, 0),
        (10, None, 0),
        (5, "0/200", 1),
    ]
    assert {b.begins[0] for b in batches} == {(0, 7, SENT + EPOCH)}
    assert [b.runs[0].sequence for b in batches] == [0, 10, 20]
    whole = batches[0]
    for later in batches[1:]:
        whole.append(later)
    assert len(whole.begins) == 1


def test_a_transaction_that_ends_with_its_last_piece_still_commits() -> None:
    decoder = make_decoder(piece_rows=10)
    rows = [insert(b"%d" % i, None, None) for i in range(10)]
    first, last = read_all(decoder, [relation(NAMES), begin(), *rows, commit()])
    assert (first.position, last.position) == (None, "0/200")
    assert (last.changes, last.transactions, last.runs) == (0, 1, [])
    assert last.begins == first.begins


def test_a_piece_never_mixes_finished_and_open_transactions() -> None:
    """Finished ones go first; the beginning of the open one stays for the next piece."""
    decoder = make_decoder(piece_rows=10)
    rows = [insert(b"%d" % i, None, None) for i in range(30)]
    log = [relation(NAMES), begin(), *rows[:4], commit(0x50), begin(9), *rows[4:], commit(0x60)]
    batches = read_all(decoder, log)
    assert batches[0].position == "0/50"
    assert batches[0].changes == 4
    assert [run.sequence for b in batches for run in b.runs][:2] == [0, 4]
    found = [row[0] for b in batches for run in b.runs for row in run.new_rows]
    assert found == [b"%d" % i for i in range(30)]
    assert sum(b.transactions for b in batches) == 2
    assert sum(b.changes for b in batches) == 30


def test_an_open_transaction_is_held_until_its_commit() -> None:
    decoder = make_decoder()
    assert read_all(decoder, [relation(NAMES), begin(), insert(b"1", None, None)]) == []
    assert not decoder.quiet
    (batch,) = read_all(decoder, [insert(b"2", None, None), commit()])
    assert batch.changes == 2
    assert decoder.quiet


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_any_division_into_pieces_says_the_same(draw: st.DataObject) -> None:
    """What is read does not depend on how the log was cut: order, ordinals, counts, begins."""
    transactions = draw.draw(
        st.lists(st.lists(st.sampled_from("iudkpt"), max_size=8), min_size=1, max_size=8)
    )
    log = [relation(NAMES)]
    for number, kinds in enumerate(transactions):
        log.append(begin(number + 1))
        log += [MESSAGES[kind] for kind in kinds]
        log.append(commit(0x1000 + number))
    expected = flat(read_all(make_decoder(), log))
    rows = draw.draw(st.integers(1, 7))
    decoder = make_decoder(piece_rows=rows)
    batches = []
    rest = log
    while rest:
        cut = draw.draw(st.integers(1, len(rest)))
        batches += read_all(decoder, rest[:cut])
        rest = rest[cut:]
    assert flat(batches) == expected
    assert sum(b.transactions for b in batches) == sum(map(bool, transactions))
    assert sum(b.changes for b in batches) == sum(map(len, transactions))


MESSAGES = {
    "i": insert(b"1", b"x", None),
    "u": update((b"1", b"x", b"y")),
    "d": delete(b"1", None, None),
    "k": update((b"2", b"x", b"y"), key=(b"1", None, None)),
    "p": update((b"1", UNCHANGED, b"y")),
    "t": truncate(OID),
}


def flat(batches: list[Batch]) -> list[tuple[object, ...]]:
    """Every change with its ordinal, transaction and images."""
    return [change for batch in batches for run in batch.runs for change in changes_of(batch, run)]


def changes_of(batch: Batch, run: Run) -> list[tuple[object, ...]]:
    return [
        (
            run.operation,
            run.sequence + i,
            batch.begin_of(run.sequence + i),
            run.new_rows[i] if run.new_rows else None,
            run.old_rows[i] if run.old_rows else None,
            run.partial,
        )
        for i in range(len(run))
    ]


# --- keepalives ----------------------------------------------------------------------------------


def test_keepalives_move_the_end_and_count_reply_requests() -> None:
    decoder = make_decoder()
    read_all(decoder, [keepalive(0x90), keepalive(0x80, reply=True)])
    assert (decoder.server_end, decoder.reply_requests) == (0x90, 1)
    assert (decoder.messages, decoder.keepalives) == (2, 2)


# --- both decoders agree; nothing but DecodeError ------------------------------------------------

VALUES = st.one_of(
    st.none(),
    st.sampled_from([b"", b"n", b"u", b"t", b"tn", b"nn", b"N", b"w", b"\n\t\\", "名称".encode()]),
    st.binary(max_size=300).map(lambda raw: raw.replace(b"\0", b"0")),
)


@given(
    st.lists(st.lists(VALUES, min_size=4, max_size=4), min_size=1, max_size=12),
    st.frozensets(st.sampled_from(["id", "a", "b", "c"]), min_size=1),
    st.sampled_from("iuofdx"),
)
@settings(max_examples=150, deadline=None)
def test_any_rows_come_back(rows: list[list[Value]], wanted: frozenset[str], kind: str) -> None:
    """Whatever the values, whichever columns: what goes in comes out."""
    names = ("id", "a", "b", "c")
    decoder = make_decoder(Table(schema="public", name="t", columns=wanted))
    replica = "f" if kind in "ofx" else "d"
    for row in rows:
        row[0] = row[0] or b"k"
    make: dict[str, Callable[[Sequence[Value]], bytes]] = {
        "i": lambda row: insert(*row),
        "u": update,
        "o": lambda row: update(row, old=row[::-1]),
        "f": lambda row: delete(*row, tag=b"O"),
        "d": lambda row: delete(row[0], None, None, None),
        "x": lambda row: update([row[0], UNCHANGED, UNCHANGED, row[3]], old=row),
    }
    log = [relation(names, replica=replica), begin(), *map(make[kind], rows), commit()]
    (batch,) = read_all(decoder, log)
    positions = [i for i, name in enumerate(names) if name in wanted or name == "id"]
    expected = [tuple(row[i] for i in positions) for row in rows]
    backwards = [tuple(row[::-1][i] for i in positions) for row in rows]
    news = [row for run in batch.runs for row in run.new_rows]
    olds = [row for run in batch.runs for row in run.old_rows or ()]
    assert news == ([] if kind in "df" else expected)
    old_expected = {"o": backwards, "f": expected, "x": expected, "d": [(r[0],) for r in rows]}
    assert olds == old_expected.get(kind, [])
    assert not any(run.partial for run in batch.runs)


SAMPLE = [
    relation(NAMES),
    begin(),
    insert(b"1", b"x", None),
    *[insert(b"%d" % i, b"value", b"other") for i in range(8)],
    update((b"2", UNCHANGED, b"y"), key=(b"1", None, None)),
    *[update((b"2", b"b" * 300, b"y"))] * 6,
    delete(b"2", None, None),
    truncate(OID),
    data(b"Y" + b"\0\0\0\7public\0mood\0"),
    data(b"O" + b"\0" * 8 + b"origin\0"),
    data(b"M\0" + b"\0" * 8 + b"p\0\0\0\0\1x"),
    commit(),
    keepalive(0x999, reply=True),
]


def test_the_sample_is_read_whole() -> None:
    (batch,) = read_all(make_decoder(), SAMPLE)
    assert batch.changes == 18


@given(st.integers(0, len(SAMPLE) - 1), st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_message_is_a_decode_error_or_no_matter(index: int, draw: st.DataObject) -> None:
    """Truncations, insertions, flipped bytes: never another exception, never a hang."""
    message = bytearray(SAMPLE[index])
    where = draw.draw(st.integers(0, len(message) - 1))
    match draw.draw(st.sampled_from(["cut", "flip", "add", "drop"])):
        case "cut":
            del message[where:]
        case "flip":
            message[where] = draw.draw(st.integers(0, 255))
        case "add":
            message[where:where] = draw.draw(st.binary(min_size=1, max_size=9))
        case _:
            del message[where]
    log = [*SAMPLE[:index], bytes(message), *SAMPLE[index + 1 :]]
    with suppress(DecodeError, Stop):  # Stop: a column's name was damaged
        read_all(make_decoder(), log)


@given(st.lists(st.binary(max_size=80), max_size=6))
@settings(max_examples=150, deadline=None)
def test_random_bytes_are_a_decode_error(messages: list[bytes]) -> None:
    log = [*SAMPLE[:2], *[data(message) for message in messages], *messages]
    with suppress(DecodeError, Stop):
        read_all(make_decoder(), log)


@pytest.mark.parametrize("group", [1, 8])
def test_every_truncation_of_a_row_is_found(group: int) -> None:
    """Also in the middle of a group that one regular expression reads."""
    whole = insert(b"12", b"value", b"last value")
    for end in range(26, len(whole)):
        log = [SAMPLE[0], begin(), *[whole] * group, whole[:end], *[whole] * group, commit()]
        with pytest.raises(DecodeError):
            read_all(make_decoder(), log)


@pytest.mark.parametrize(
    "messages",
    [
        [commit()],
        [begin(), begin()],
        [insert(b"1", b"", b"")],
        [relation(NAMES), insert(b"1", b"", b"")],
        [relation(NAMES), begin(), insert(b"1", b"")],
        [relation(NAMES), begin(), delete(b"1", b"", b"", tag=b"O")],
        [*SAMPLE[:3], commit(), SAMPLE[2], begin()],
        [data(b"Z")],
        [b"x" + bytes(30)],
        [data(b"")],
        [begin(), truncate(77)],
        [relation(NAMES, replica="q")],
        [relation(NAMES), begin(), data(b"I\0\0\x40\x10B" + tuple_data((b"1", b"", b"")))],
        [relation(NAMES), begin(), insert(b"1", b"", b"")[:-5] + b"b\0\0\0\0", commit()],
    ],
)
def test_breaches_of_the_protocol(messages: list[bytes]) -> None:
    with pytest.raises(DecodeError):
        read_all(make_decoder(), messages)


def test_a_decode_error_says_kind_and_offset() -> None:
    message = insert(b"1", b"", b"")[:-3]
    with pytest.raises(DecodeError) as caught:
        read_all(make_decoder(), [relation(NAMES), begin(), message, commit()])
    assert caught.value.kind == "I"
    assert 33 <= caught.value.offset <= len(message)


def test_rows_of_mixed_shapes_keep_order_under_load() -> None:
    """A long random mix equals the same messages decoded one by one."""
    chooser = random.Random(7)
    kinds = [chooser.choice("iudkp") for _ in range(3000)]
    log = [relation(NAMES), begin(), *[MESSAGES[kind] for kind in kinds], commit()]
    together = flat(read_all(make_decoder(), log))
    apart = []
    decoder = make_decoder(piece_rows=1)
    for message in log:
        apart += flat(read_all(decoder, [message]))
    assert together == apart


def test_get_is_asked_without_blocking() -> None:
    log = Log([keepalive(1)])
    asked = []

    def get(flag: int) -> tuple[int, memoryview]:
        asked.append(flag)
        return log.get(flag)

    assert make_decoder().pump(get) == 0
    assert asked == [1, 1]
