"""Steps applied as sets do exactly what they do one by one to a dictionary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdc_daemon.model.changes import UNCHANGED, Row
from cdc_daemon.model.effects import (
    Delete,
    Key,
    Layout,
    Patch,
    Rename,
    Step,
    Truncate,
    Upsert,
)
from cdc_daemon.model.errors import DataError
from cdc_daemon.model.ports import Sink
from cdc_daemon.model.position import SourceIdentity
from tests.contract.model import Duplicate, Model
from tests.contract.shapes import LINES, MATERIALS, REFERRED
from tests.contract.targets import Target

NASTY = ["", "\\N", "\\", "a\tb", "a\nb", "\r", "ü€𝄞", "'", '"', "{,}", "NULL", "\\.", " x "]
NUMBERS = st.integers(0, 44)  # more keys than go one by one, few enough to meet again
VALUES = st.none() | st.sampled_from([text.encode() for text in NASTY])
TIMES = st.integers(0, 2**50)


def key_for(layout: Layout, number: int) -> Key:
    if len(layout.key) == 1:
        return (b"k%d" % number,)
    return (b"no %d" % (number % 7), b"%d" % (number // 7))


def row_for(layout: Layout, number: int, values: list[bytes | None]) -> Row:
    row: list[bytes | None] = list(values[: len(layout.columns)])
    for place, part in zip(layout.key, key_for(layout, number), strict=True):
        row[place] = part
    return tuple(row)


@st.composite
def steps_for(draw: st.DrawFn, layout: Layout) -> Step:
    kind = draw(st.sampled_from(["upsert", "upsert", "fresh", "patch", "delete", "rename", "all"]))
    width = len(layout.columns)
    values = st.lists(VALUES, min_size=width, max_size=width)
    largest = draw(st.sampled_from([3, 45]))
    numbers = draw(
        st.lists(NUMBERS, max_size=largest, unique=kind != "fresh" or layout.reference is not None)
    )
    if kind == "all":
        return Truncate(layout=layout, time=draw(TIMES))
    if kind == "delete":
        times = [draw(TIMES)] * len(numbers)
        shift = draw(st.sampled_from([0, 0, 0, 1000])) if layout.reference else 0
        sources = _sources_of(n + shift for n in numbers) if layout.reference else None
        keys = [key_for(layout, n) for n in numbers]
        return Delete(layout=layout, keys=keys, times=times, owners=sources)
    rows = [row_for(layout, n, draw(values)) for n in numbers]
    if kind == "patch":
        left_out = frozenset({width - 1}) - set(layout.key)
        rows = [(*row[:-1], UNCHANGED) for row in rows]
        return Patch(layout=layout, unchanged=left_out, rows=rows)
    if kind == "rename":
        return _rename(layout, numbers, rows, draw)
    # Mostly the source row that the model knows under this key; sometimes a stranger.
    shift = draw(st.sampled_from([0, 0, 0, 1000])) if layout.reference else 0
    sources = _sources_of(n + shift for n in numbers) if layout.reference else None
    return Upsert(layout=layout, rows=rows, fresh=kind == "fresh", source_keys=sources)


def _rename(layout: Layout, numbers: list[int], rows: list[Row], draw: st.DrawFn) -> Rename:
    """Each of these rows to another's key, or to one anywhere: shifts, cycles and clashes."""
    news = (
        draw(st.permutations(numbers))
        if draw(st.booleans())
        else draw(st.lists(NUMBERS, min_size=len(numbers), max_size=len(numbers), unique=True))
    )
    pairs = [
        (key_for(layout, old), row_for(layout, new, list(row)))  # type: ignore[arg-type]
        for old, new, row in zip(numbers, news, rows, strict=True)
    ]
    if draw(st.booleans()):
        pairs = [(old, (*row[:-1], UNCHANGED)) for old, row in pairs]
    if layout.reference is None:
        return Rename(layout=layout, pairs=pairs)
    sources = _sources_of(numbers)
    return Rename(layout=layout, pairs=pairs, source_keys=sources, old_source_keys=sources)


@pytest.mark.parametrize("layout", [MATERIALS, LINES, REFERRED], ids=["soft", "hard", "reference"])
def test_steps_do_what_they_do_to_a_dictionary(target: Target, sink: Sink, layout: Layout) -> None:
    """Any sequence of steps, small or large, ends in the same rows, tombstones and references."""

    @settings(
        max_examples=25,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        print_blob=True,
    )
    @given(st.lists(st.lists(steps_for(layout), max_size=3), min_size=1, max_size=5))
    def holds(batches: list[list[Step]]) -> None:
        target.clear()
        model = Model(layout)
        with sink.begin() as unit:
            for steps in batches:
                try:
                    model.apply(steps)
                except Duplicate:
                    with pytest.raises(DataError) as caught:
                        unit.apply(steps)
                    assert caught.value.code == "duplicate_entity_key"
                    continue
                outcome = unit.apply(steps)
                counts = {kind: n for (_, kind), n in outcome.counts.items()}
                assert counts == dict(+model.counts)
                assert Counter(row for _, row in outcome.missing) == Counter(model.missing)
        assert target.living(layout) == model.living
        assert target.tombstones(layout) == model.dead
        if layout.reference is not None:
            assert target.references(layout) == model.references

    holds()


def test_a_large_fresh_step_keeps_the_last_of_two_rows_with_one_key(
    target: Target, sink: Sink
) -> None:
    """Fresh rows are not told apart by the engine; without references the last one counts."""
    rows: list[Row] = [(b"k%d" % (n % 30), b"%d" % n, None) for n in range(60)]
    with sink.begin() as unit:
        unit.apply([Upsert(layout=MATERIALS, rows=rows, fresh=True)])
    living = target.living(MATERIALS)
    assert {row[1] for row in living.values()} == {b"%d" % n for n in range(30, 60)}


@pytest.mark.parametrize("number", [2, 60])
def test_two_source_rows_with_one_key_are_a_data_error(
    target: Target, sink: Sink, number: int
) -> None:
    """With references a repeated key means two source rows: ``duplicate_entity_key``."""
    rows: list[Row] = [(b"k%d" % (n % (number - 1)), b"x", None) for n in range(number)]
    step = Upsert(
        layout=REFERRED, rows=rows, fresh=True, source_keys=[(b"%d" % n,) for n in range(number)]
    )
    with sink.begin() as unit:
        with pytest.raises(DataError) as caught:
            unit.apply([step])
        assert caught.value.code == "duplicate_entity_key"
        unit.apply([Upsert(layout=REFERRED, rows=[(b"a", b"b", None)], source_keys=[(b"1",)])])
    assert target.living(REFERRED) == {(b"a",): (b"a", b"b", None)}
    assert target.references(REFERRED) == {(b"1",): (b"a",)}


@pytest.mark.parametrize("number", [1, 60])
def test_a_row_left_behind_by_an_earlier_generation_is_no_duplicate(
    target: Target, sink: Sink, number: int
) -> None:
    """A repeated snapshot may find another source row under a key: its sweep has not come yet."""
    rows: list[Row] = [(b"k%d" % n, b"old", None) for n in range(number)]
    step = Upsert(layout=REFERRED, rows=rows, fresh=True, source_keys=_sources(number))
    with sink.begin() as unit:
        unit.apply([step])
    for row in rows:
        target.age(REFERRED, REFERRED.key_of(row))
    sink.begin_generation("slot", _identity())
    again: list[Row] = [(row[0], b"new", None) for row in rows]
    with sink.begin() as unit:
        unit.apply([replace(step, rows=again, source_keys=_sources(number, 500))])
    assert {row[1] for row in target.living(REFERRED).values()} == {b"new"}
    with sink.begin() as unit, pytest.raises(DataError):
        unit.apply([replace(step, source_keys=_sources(number, 900))])


def _sources(number: int, start: int = 0) -> list[Key]:
    return _sources_of(range(start, start + number))


def _sources_of(numbers: Iterable[int]) -> list[Key]:
    return [(b"%d" % n,) for n in numbers]


def _identity() -> SourceIdentity:
    return SourceIdentity(system="1", timeline=1, database="d", publication="p")
