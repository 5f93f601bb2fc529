"""The failure queue, its lanes, commands, and savepoints."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from typing import Any

import pytest

from cdc_daemon.model.changes import Operation, Row
from cdc_daemon.model.effects import Parked, Upsert
from cdc_daemon.model.errors import DataError
from cdc_daemon.model.ports import Sink
from cdc_daemon.model.position import SourceIdentity
from cdc_daemon.model.selection import Selection, selection_of
from tests.contract.shapes import MATERIALS
from tests.contract.targets import Target

A, B, C = (bytes([n]) * 16 for n in (1, 2, 3))
EVERY = Selection(state=None)
IDENTITY = SourceIdentity(system="1", timeline=1, database="d", publication="p")


def parked(*lanes: bytes, sequence: int = 0, **changed: object) -> Parked:
    values: dict[str, object] = {
        "pipeline": "erp",
        "mapping": "erp.material",
        "entity": "material",
        "lanes": lanes,
        "position": "0/1",
        "sequence": sequence,
        "commit_time": 1_700_000_000_000_001,
        "operation": Operation.UPDATE,
        "table": "erp.public.t_material",
        "payload": {"operation": "update", "columns": ["id"], "new": ["1"]},
        "error_code": "too_long",
        "error_message": "name is too long",
        "mapping_version": "v1",
    }
    return Parked(**{**values, **changed})  # type: ignore[arg-type]


def park(sink: Sink, *changes: Parked) -> list[int]:
    with sink.begin() as unit:
        unit.queue.park(changes)
    return [failure.id for failure in sink.failures()][-len(changes) :]


def test_thousands_of_changes_are_parked_in_their_order(target: Target, sink: Sink) -> None:
    """More than one statement takes, with a payload of megabytes among them."""
    big = {"operation": "insert", "new": {"note": "x" * 3_000_000}}
    changes = [parked(bytes([n % 256]) * 16, sequence=n) for n in range(2100)]
    changes[1040:1042] = [parked(A, B, sequence=n, payload=big) for n in (1040, 1041)]
    park(sink, *changes)
    found = sink.failures()
    assert [one.sequence for one in found] == list(range(2100))
    assert [one.lanes for one in found] == [one.lanes for one in changes]
    assert len(sink.lanes()) == 256
    others = [bytes([n % 256, n // 256]) * 8 for n in range(2000)]
    assert sink.still_blocked([A, *others, B, C]) == {A, B, C, *sink.lanes().keys() & set(others)}
    assert found[1041].payload == big


def test_parked_changes_keep_their_order_and_everything_else(target: Target, sink: Sink) -> None:
    """Order within and over units, payload, lanes, times; all of it can be found again."""
    park(sink, parked(A, B, sequence=1), parked(A, sequence=2))
    park(sink, parked(C, sequence=3, entity="order", error_code="required"))
    found = sink.failures()
    assert [failure.sequence for failure in found] == [1, 2, 3]
    first = found[0]
    assert first.lanes == (A, B)
    assert first.payload == {"operation": "update", "columns": ["id"], "new": ["1"]}
    assert (first.state, first.attempts, first.operation) == ("parked", 1, "update")
    assert first.commit_time is not None
    assert first.commit_time.microsecond == 1
    assert sink.lanes() == {A: "erp.material", B: "erp.material", C: "erp.material"}
    assert sink.parked() == {("erp.material", "required"): 1, ("erp.material", "too_long"): 2}
    control = target.control()
    assert [f.id for f in control.failures(Selection(entity="order"))] == [found[2].id]
    assert [f.id for f in control.failures(Selection(error="too_long"), 1)] == [first.id]
    assert [f.id for f in control.failures(Selection(pipeline="other"))] == []
    assert [f.id for f in sink.failures(Selection(ids=(first.id,)))] == [first.id]


def chosen(sink: Sink, target: Target, **conditions: Any) -> list[int]:
    """Sequences of what is meant, by worker and command line alike, also after a command's way."""
    selection = Selection(**conditions)
    found = [one.sequence for one in target.control().failures(selection)]
    carried = selection_of(json.loads(json.dumps(selection.to_dict())))
    carried = replace(carried, state=selection.state)
    assert carried == selection
    assert [one.sequence for one in sink.failures(carried)] == found
    return found


def test_changes_are_chosen_by_every_condition(target: Target, sink: Sink) -> None:
    """Alone and together; a lane finds what blocks it, settled or not."""
    park(sink, parked(A, B, sequence=1), parked(C, sequence=2, table="erp.public.o'brien"))
    between = sink.failures()[-1].parked_at + dt.timedelta(microseconds=1)
    (last,) = park(sink, parked(C, sequence=3, entity="order", error_code="required"))
    ids = tuple(one.id for one in sink.failures())
    assert chosen(sink, target) == [1, 2, 3]
    assert [one.sequence for one in sink.failures(Selection(), 2)] == [1, 2]
    assert chosen(sink, target, ids=ids[1:]) == [2, 3]
    assert chosen(sink, target, ids=()) == []
    assert chosen(sink, target, table="erp.public.o'brien") == [2]
    assert chosen(sink, target, lanes=(B, C), entity="material") == [1, 2]
    assert chosen(sink, target, lanes=()) == []
    assert chosen(sink, target, since=between) == [3]
    assert chosen(sink, target, until=between, error="too_long") == [1, 2]
    assert chosen(sink, target, through=ids[1]) == [1, 2]
    assert chosen(sink, target, after=ids[0], through=ids[1]) == [2]
    with sink.begin() as unit:
        unit.queue.settle(last, "skipped", actor="ann", reason="old")
    assert chosen(sink, target, lanes=(C,)) == [2]
    assert chosen(sink, target, lanes=(C,), state="skipped") == [3]
    assert chosen(sink, target, lanes=(C,), state=None) == [2, 3]


def test_the_queue_is_counted_by_kind(target: Target, sink: Sink) -> None:
    """With the oldest and the last of each; and what is blocked."""
    control = target.control()
    assert control.tallies() == []
    assert control.blocked() == {}
    first, second = park(sink, parked(A, B), parked(A))
    (third,) = park(sink, parked(C, entity="order", error_code="required"))
    oldest = {one.id: one.parked_at for one in sink.failures()}
    found = {(one.entity, one.error, one.state): one for one in control.tallies()}
    assert set(found) == {("material", "too_long", "parked"), ("order", "required", "parked")}
    material = found["material", "too_long", "parked"]
    assert (material.number, material.oldest, material.last) == (2, oldest[first], second)
    assert control.blocked() == {"erp": 3}
    with sink.begin() as unit:
        unit.queue.settle(third, "replayed", actor="ann")
    states = [(one.state, one.number) for one in control.tallies(EVERY)]
    assert sorted(states) == [("parked", 2), ("replayed", 1)]
    assert control.blocked() == {"erp": 2}


def test_only_what_is_settled_for_long_is_purged(target: Target, sink: Sink) -> None:
    """With its edits; so many at once; never what is parked."""
    control = target.control()
    numbers = park(sink, *[parked(bytes([9, n]) * 8) for n in range(4)])
    before = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    later = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    with sink.begin() as unit:
        unit.queue.edited(numbers[0], {}, (A,), actor="ann", reason="r")
        unit.queue.edited(numbers[3], {}, (A,), actor="ann", reason="r")
        unit.queue.settle(numbers[0], "replayed", actor="ann")
        unit.queue.settle(numbers[1], "skipped", actor="ann", reason="r")
        unit.queue.settle(numbers[2], "replayed", actor="ann")
    long_ago, by_now = (Selection(state=None, settled=moment) for moment in (before, later))
    assert sink.purge(long_ago, 10) == 0
    assert control.tallies(long_ago) == []
    assert sum(one.number for one in control.tallies(by_now)) == 3
    assert sink.purge(replace(by_now, state="skipped"), 10) == 1
    assert [sink.purge(by_now, 1) for _ in range(3)] == [1, 1, 0]
    assert [one.id for one in control.failures(EVERY)] == [numbers[3]]
    assert [len(control.edits(number)) for number in numbers] == [0, 0, 0, 1]
    assert target.count("failure_edit") == 1


@pytest.mark.parametrize("text", ["NUL \0 inside", "\ud800 alone", "\\u0000", "{'base64': 1}"])
def test_a_payload_keeps_what_json_columns_cannot_hold(sink: Sink, text: str) -> None:
    """The poison that could not be written must not be lost in the queue either."""
    payload: dict[str, object] = {"new": [text, None, "plain"], "old": {"a": [text]}}
    payload["bytes"] = {"base64": "/w=="}
    park(sink, parked(A, payload=payload, error_message="a NUL \0 in a message"))
    assert sink.failures()[0].payload == payload


def test_a_lane_opens_when_nothing_waits_in_it(target: Target, sink: Sink) -> None:
    """Replayed and skipped changes leave; their rows stay with who and why."""
    first, second = park(sink, parked(A, B), parked(A))
    with sink.begin() as unit:
        unit.queue.settle(first, "replayed", actor="ann")
    assert set(sink.lanes()) == {A}
    with sink.begin() as unit:
        unit.queue.attempted(second, code="required", message="name is required")
    again = sink.failures()[0]
    assert (again.attempts, again.error_code, again.state) == (2, "required", "parked")
    with sink.begin() as unit:
        unit.queue.settle(second, "skipped", actor="bob", reason="obsolete")
    assert sink.lanes() == {}
    assert sink.failures() == []
    states = {failure.id: failure.state for failure in target.control().failures(EVERY)}
    assert states == {first: "replayed", second: "skipped"}


def test_what_a_change_waits_for_and_when_it_is_tried_again(target: Target, sink: Sink) -> None:
    """Both are kept to the microsecond and byte; nothing that is settled is tried again."""
    first, second = park(sink, parked(A, awaits=(B, C)), parked(B))
    assert [one.awaits for one in sink.failures()] == [(B, C), ()]
    assert [one.retry_at for one in sink.failures()] == [None, None]
    zone = dt.timezone(dt.timedelta(hours=8))
    later = dt.datetime(2031, 2, 3, 4, 5, 6, 700_001, zone)
    with sink.begin() as unit:
        unit.queue.attempted(first, code="required", message="again", retry_at=later)
        unit.queue.attempted(second, code="required", message="again", retry_at=later)
    assert [one.retry_at for one in target.control().failures()] == [later, later]
    with sink.begin() as unit:
        unit.queue.settle(first, "replayed", actor="ann")
        unit.queue.attempted(second, code="required", message="again")
    assert [one.retry_at for one in target.control().failures(EVERY)] == [None, None]


def test_an_edit_keeps_what_it_replaced(target: Target, sink: Sink) -> None:
    """Payload by payload, with who and why; the lanes that come with it are blocked too."""
    control = target.control()
    first, other = park(sink, parked(A, payload={"new": {"a": "NUL \0"}}), parked(C))
    for payload, lanes in (({"new": {"a": "1"}}, (A, B)), ({"new": {"a": None}}, (A, B))):
        with sink.begin() as unit:
            unit.queue.edited(first, payload, lanes, actor="ann", reason="Größe")
    found = sink.failures(Selection(ids=(first,)))[0]
    assert (found.payload, found.lanes) == ({"new": {"a": None}}, (A, B))
    assert set(sink.lanes()) == {A, B, C}
    edits = control.edits(first)
    assert [one.payload for one in edits] == [{"new": {"a": "NUL \0"}}, {"new": {"a": "1"}}]
    assert {(one.failure, one.actor, one.reason) for one in edits} == {(first, "ann", "Größe")}
    assert edits[0].edited_at <= edits[1].edited_at
    assert control.edits(other) == []


def test_what_is_settled_is_not_edited(target: Target, sink: Sink) -> None:
    """Its payload is what took effect, or was given up; it blocks nothing any more."""
    (number,) = park(sink, parked(A, payload={"a": 1}))
    with sink.begin() as unit:
        unit.queue.settle(number, "resynced", actor="ann", reason="read again")
        unit.queue.edited(number, {"a": 2}, (A,), actor="ann", reason="late")
    (found,) = target.control().failures(EVERY)
    assert (found.state, found.payload) == ("resynced", {"a": 1})
    assert sink.lanes() == {}
    assert target.control().edits(number) == []


def test_a_truncate_supersedes_a_mapping_and_a_snapshot_all(sink: Sink) -> None:
    """What a new copy, or an empty table, makes void waits no longer."""
    park(sink, parked(A), parked(B), parked(C, mapping="erp.other"))
    with sink.begin() as unit:
        assert unit.queue.supersede("erp.material") == 2
    assert sink.lanes() == {C: "erp.other"}
    sink.begin_generation("slot", IDENTITY)
    assert sink.lanes() == {}


def test_what_is_parked_commits_with_its_unit(sink: Sink) -> None:
    """An exception leaves nothing in the queue."""
    with pytest.raises(RuntimeError), sink.begin() as unit:  # noqa: PT012
        unit.queue.park([parked(A)])
        raise RuntimeError
    assert sink.failures() == []
    assert sink.lanes() == {}


def test_commands_reach_the_worker_in_order(target: Target, sink: Sink) -> None:
    """And their results come back."""
    control = target.control()
    first = control.submit("erp", "retry", {"ids": [1, 2]}, "ann")
    second = control.submit("erp", "skip", {"reason": "Grüße"}, "bob")
    control.submit("other", "retry", {}, "ann")
    assert [command.id for command in sink.commands()] == [first, second]
    assert sink.commands()[1].arguments == {"reason": "Grüße"}
    sink.finish_command(first, ok=True, result={"applied": [1]})
    sink.finish_command(second, ok=False, result={"error": "no"})
    assert sink.commands() == []
    done, failed = control.command(first), control.command(second)
    assert (done.state, done.result) == ("done", {"applied": [1]})
    assert (failed.state, failed.result) == ("failed", {"error": "no"})


def test_values_stay_in_no_command(target: Target, sink: Sink) -> None:
    """What an edit asks for is gone when it is done, or withdrawn; until then it is whole."""
    control = target.control()
    asked: dict[str, object] = {"edits": [{"id": 1, "values": {"a": "NUL \0 and \ud800"}}]}
    done, failed, withdrawn = (control.submit("erp", "edit", asked, "ann") for _ in range(3))
    other = control.submit("erp", "skip", {"reason": "r"}, "ann")
    assert sink.commands()[0].arguments == asked
    sink.finish_command(done, ok=True, result={"edited": [1]})
    sink.finish_command(failed, ok=False, result={"error": "no"})
    sink.finish_command(other, ok=True, result={})
    assert control.withdraw(withdrawn, "nobody came")
    assert [control.command(n).arguments for n in (done, failed, withdrawn)] == [{}, {}, {}]
    assert control.command(other).arguments == {"reason": "r"}


def test_a_command_has_one_end(target: Target, sink: Sink) -> None:
    """Its sender was told of the first: a command that was withdrawn is never done later."""
    control = target.control()
    withdrawn = control.submit("erp", "retry", {}, "ann")
    assert control.withdraw(withdrawn, "nobody came")
    sink.finish_command(withdrawn, ok=True, result={"applied": [1]})
    found = control.command(withdrawn)
    assert (found.state, found.result) == ("failed", {"error": "nobody came"})
    done = control.submit("erp", "retry", {}, "ann")
    sink.finish_command(done, ok=True, result={"applied": [2]})
    sink.finish_command(done, ok=False, result={"error": "no"})
    assert not control.withdraw(done, "nobody came")
    found = control.command(done)
    assert (found.state, found.result) == ("done", {"applied": [2]})


def test_savepoints_nest(target: Target, sink: Sink) -> None:
    """An inner one that fails takes back only what was done inside; the outer one goes on."""

    def write(code: bytes, number: int = 1) -> Upsert:
        rows: list[Row] = [(b"%s%d" % (code, n), None, None) for n in range(number)]
        return Upsert(layout=MATERIALS, rows=rows)

    with sink.begin() as unit:
        with unit.savepoint():
            unit.apply([write(b"a")])
            with pytest.raises(RuntimeError), unit.savepoint(), unit.savepoint():  # noqa: PT012
                unit.apply([write(b"b", 40)])
                unit.queue.park([parked(A)])
                raise RuntimeError
            with pytest.raises(DataError), unit.savepoint():
                unit.apply([write(b"x" * 50)])
            with unit.savepoint(), unit.savepoint():
                unit.apply([write(b"c", 40)])
        with pytest.raises(RuntimeError), unit.savepoint():  # noqa: PT012
            with unit.savepoint():
                unit.apply([write(b"d", 40)])
            raise RuntimeError
    assert {key[0][:1] for key in target.living(MATERIALS)} == {b"a", b"c"}
    assert sink.lanes() == {}
