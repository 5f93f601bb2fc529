"""References: source rows that know their entity key, and entities that know each other."""

from __future__ import annotations

import pytest

from cdc_daemon.model.changes import UNCHANGED, Row
from cdc_daemon.model.effects import Delete, Key, Patch, Rename, Step, Truncate, Upsert
from cdc_daemon.model.errors import DataError
from cdc_daemon.model.ports import Sink
from cdc_daemon.model.position import SourceIdentity
from tests.contract.shapes import CUSTOMERS, MATERIALS, ORDERS, REFERRED
from tests.contract.targets import Target

FEW_AND_MANY = pytest.mark.parametrize("number", [1, 40], ids=["few", "many"])
IDENTITY = SourceIdentity(system="1", timeline=1, database="d", publication="p")


def customers(number: int) -> Upsert:
    return Upsert(layout=CUSTOMERS, rows=[(b"c%d" % n, b"name") for n in range(number)])


def orders(number: int, prefix: bytes = b"c") -> Upsert:
    rows: list[Row] = [(b"%d" % n, b"%s%d" % (prefix, n)) for n in range(number)]
    return Upsert(layout=ORDERS, rows=[*rows, (b"999", None)])


def save(sink: Sink, *steps: Step) -> None:
    with sink.begin() as unit:
        unit.apply(steps)
        assert unit.dangling(steps) == {}
        unit.save_checkpoint("0/1", commit_time=None, transactions=1, changes=1)


# --- source row → entity key --------------------------------------------------------------------


@FEW_AND_MANY
def test_source_keys_resolve_to_entity_keys(sink: Sink, number: int) -> None:
    """Those that are known; the others are left out."""
    rows: list[Row] = [(b"k%d" % n, None, None) for n in range(number)]
    keys: list[Key] = [(b"%d" % n,) for n in range(number)]
    with sink.begin() as unit:
        unit.apply([Upsert(layout=REFERRED, rows=rows, fresh=True, source_keys=keys)])
        assert unit.references(REFERRED, []) == {}
        found = unit.references(REFERRED, [*keys, (b"12345",)])
    assert found == {key: (row[0],) for key, row in zip(keys, rows, strict=True)}


@FEW_AND_MANY
def test_a_key_that_two_rows_left_is_told_by_both(target: Target, sink: Sink, number: int) -> None:
    """One of them had it; the other one's delete does no harm."""
    rows: list[Row] = [(b"k%d" % n, None, None) for n in range(number)]
    own: list[Key] = [(b"%d" % n,) for n in range(number)]
    guests: list[Key] = [(b"9%d" % n,) for n in range(number)]
    keys: list[Key] = [(b"k%d" % n,) for n in range(number)]
    save(sink, Upsert(layout=REFERRED, rows=rows, fresh=True, source_keys=own))
    twice = Delete(
        layout=REFERRED,
        keys=[*keys, *keys],
        times=[1] * 2 * number if REFERRED.soft else [],
        owners=[*guests, *own],
    )
    with sink.begin() as unit:
        outcome = unit.apply([twice])
    assert target.living(REFERRED) == {}
    assert target.references(REFERRED) == {}
    assert outcome.counts[REFERRED.mapping, "delete"] == number


def test_a_rename_takes_the_reference_along(target: Target, sink: Sink) -> None:
    """Also when source rows swap their entity keys, and when the source key changes too."""
    rows: list[Row] = [(b"a", b"1", None), (b"b", b"2", None)]
    with sink.begin() as unit:
        unit.apply([Upsert(layout=REFERRED, rows=rows, source_keys=[(b"1",), (b"2",)])])
    swap = Rename(
        layout=REFERRED,
        pairs=[((b"a",), (b"b", b"1", UNCHANGED)), ((b"b",), (b"a", b"2", UNCHANGED))],
        source_keys=[(b"1",), (b"2",)],
        old_source_keys=[(b"1",), (b"2",)],
    )
    with sink.begin() as unit:
        unit.apply([swap])
    assert target.references(REFERRED) == {(b"1",): (b"b",), (b"2",): (b"a",)}
    assert target.living(REFERRED)[(b"b",)] == (b"b", b"1", None)
    with sink.begin() as unit:
        unit.apply(
            [
                Rename(
                    layout=REFERRED,
                    pairs=[((b"b",), (b"c", b"1", None)), ((b"a",), (b"a", b"2", None))],
                    source_keys=[(b"2",), (b"3",)],
                    old_source_keys=[(b"1",), (b"2",)],
                )
            ]
        )
    assert target.references(REFERRED) == {(b"2",): (b"c",), (b"3",): (b"a",)}


def test_a_rename_onto_a_living_row_is_a_data_error(target: Target, sink: Sink) -> None:
    """``duplicate_entity_key``; onto a tombstone it replaces the tombstone."""
    rows: list[Row] = [(b"a", b"1", None), (b"b", b"2", None)]
    with sink.begin() as unit:
        unit.apply([Upsert(layout=MATERIALS, rows=rows)])
        rename = Rename(layout=MATERIALS, pairs=[((b"a",), (b"b", b"3", UNCHANGED))])
        with pytest.raises(DataError) as caught:
            unit.apply([rename])
        assert caught.value.code == "duplicate_entity_key"
        unit.apply([Delete(layout=MATERIALS, keys=[(b"b",)], times=[5])])
        unit.apply([rename])
    assert target.living(MATERIALS) == {(b"b",): (b"b", b"3", None)}
    assert target.tombstones(MATERIALS) == {}


# --- entity → entity ----------------------------------------------------------------------------


@FEW_AND_MANY
def test_rows_that_refer_to_nothing_are_named(sink: Sink, number: int) -> None:
    """By the set of their own keys; the unit can go on once they are taken back."""
    save(sink, customers(number))
    with sink.begin() as unit:
        good, bad = orders(number), orders(number, b"stranger ")
        unit.apply([good])
        assert unit.dangling([good]) == {}
        with pytest.raises(RuntimeError), unit.savepoint():  # noqa: PT012
            unit.apply([bad])
            found = unit.dangling([bad])
            assert found == {ORDERS.mapping: {(b"%d" % n,) for n in range(number)}}
            raise RuntimeError
        unit.save_checkpoint("0/2", commit_time=None, transactions=1, changes=1)


def test_a_later_step_can_heal_a_reference(sink: Sink) -> None:
    """The check looks at the state after all steps so far."""
    with sink.begin() as unit:
        child, parent = orders(1), customers(1)
        unit.apply([child])
        assert unit.dangling([child]) == {ORDERS.mapping: {(b"0",)}}
        unit.apply([parent])
        assert unit.dangling([child]) == {}
        patched = Patch(layout=ORDERS, unchanged=frozenset({1}), rows=[(b"0", UNCHANGED)])
        unit.apply([patched])
        assert unit.dangling([patched]) == {}
        unit.save_checkpoint("0/2", commit_time=None, transactions=1, changes=1)


@FEW_AND_MANY
def test_deletes_of_rows_that_others_refer_to_are_named(sink: Sink, number: int) -> None:
    """By the deleted keys; deleting the children too makes it whole."""
    save(sink, customers(number), orders(number))
    keys: list[Key] = [(b"c%d" % n,) for n in range(number)]
    gone = Delete(layout=CUSTOMERS, keys=keys, times=[])
    with sink.begin() as unit:
        unit.apply([gone])
        assert unit.dangling([gone]) == {CUSTOMERS.mapping: set(keys)}
        children = Delete(layout=ORDERS, keys=[(b"%d" % n,) for n in range(number)], times=[])
        unit.apply([children])
        assert unit.dangling([gone, children]) == {}
        unit.save_checkpoint("0/2", commit_time=None, transactions=1, changes=1)


def test_a_truncate_under_living_referrers_is_told(sink: Sink) -> None:
    """By the keys that are referred to."""
    save(sink, customers(3), orders(3))
    step = Truncate(layout=CUSTOMERS, time=1)
    with sink.begin() as unit:
        unit.apply([step])
        found = unit.dangling([step])
        assert found == {CUSTOMERS.mapping: {(b"c0",), (b"c1",), (b"c2",)}}
        unit.apply([Truncate(layout=ORDERS, time=1)])
        assert unit.dangling([step]) == {}


def test_a_broken_reference_never_commits(target: Target, sink: Sink) -> None:
    """Even unasked: a data error before the checkpoint, and the unit is still of use."""
    with sink.begin() as unit:
        with pytest.raises(DataError) as caught, unit.savepoint():  # noqa: PT012
            unit.apply([orders(1)])
            unit.save_checkpoint("0/2", commit_time=None, transactions=1, changes=1)
        assert caught.value.code == "sqlstate_23503"
        unit.apply([customers(1)])
        unit.save_checkpoint("0/3", commit_time=None, transactions=1, changes=1)
    assert target.living(ORDERS) == {}
    assert target.control().checkpoints()[0].position == "0/3"


def test_children_follow_a_renamed_parent(target: Target, sink: Sink) -> None:
    """Also around a cycle of keys."""
    save(sink, customers(2), orders(2))
    swap = Rename(
        layout=CUSTOMERS,
        pairs=[((b"c0",), (b"c1", b"was 0")), ((b"c1",), (b"c0", b"was 1"))],
    )
    save(sink, swap)
    assert target.living(CUSTOMERS)[(b"c1",)] == (b"c1", b"was 0")
    assert target.living(ORDERS)[(b"0",)] == (b"0", b"c1")
    assert target.living(ORDERS)[(b"1",)] == (b"1", b"c0")


def test_what_a_repeated_snapshot_does_not_see_is_swept(target: Target, sink: Sink) -> None:
    """Softly where deletes are soft, with its reference; what it saw stays."""
    rows: list[Row] = [(b"stays", b"1", None), (b"goes", b"2", None)]
    with sink.begin() as unit:
        unit.apply([Upsert(layout=REFERRED, rows=rows, source_keys=[(b"1",), (b"2",)])])
        unit.apply([customers(2)])
    for layout, key in ((REFERRED, (b"goes",)), (REFERRED, (b"stays",)), (CUSTOMERS, (b"c1",))):
        target.age(layout, key)
    sink.begin_generation("slot", IDENTITY)
    with sink.begin() as unit:
        step = Upsert(layout=REFERRED, rows=rows[:1], fresh=True, source_keys=[(b"1",)])
        unit.apply([step, customers(1)])
    with sink.begin() as unit:
        outcome = unit.finish_snapshot([REFERRED, CUSTOMERS], IDENTITY, "0/9")
    assert outcome.counts == {(REFERRED.mapping, "delete"): 1, (CUSTOMERS.mapping, "delete"): 1}
    assert set(target.living(REFERRED)) == {(b"stays",)}
    assert set(target.tombstones(REFERRED)) == {(b"goes",)}
    assert target.references(REFERRED) == {(b"1",): (b"stays",)}
