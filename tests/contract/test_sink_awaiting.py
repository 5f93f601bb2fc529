"""Which parked changes are tried again by themselves: who waits for a row, and whose turn it is."""

from __future__ import annotations

import time

from cdc_daemon.model.ports import Sink
from cdc_daemon.model.selection import Selection
from tests.contract.targets import Target
from tests.contract.test_sink_failures import A, B, C, park, parked

SECOND = 1_000_000


def due_soon(sink: Sink) -> list[int]:
    """What is due; a moment of the same unit may be some microseconds ahead of the clock."""
    for _ in range(100):
        if found := sink.due(10):
            return found
        time.sleep(0.01)
    return []


def test_whoever_waits_for_a_row_is_due_when_it_arrives(sink: Sink) -> None:
    first, second, other = park(sink, parked(A, awaits=(B, C)), parked(B, awaits=(C, C)), parked(C))
    assert sink.awaited() == {B, C}
    assert sink.due(10) == []
    with sink.begin() as unit:
        unit.queue.arrived([B, A])
    assert due_soon(sink) == [first]
    with sink.begin() as unit:
        unit.queue.arrived([C])
    assert due_soon(sink) == [first, second]
    assert sink.due(1) == [first]
    with sink.begin() as unit:
        unit.queue.settle(first, "replayed", actor="cdc-daemon")
        unit.queue.attempted(second, code="required", message="again", awaits=(A,))
    assert (sink.awaited(), sink.due(10)) == ({A}, [])
    assert sink.failures(Selection(ids=(second,)))[0].awaits == (A,)
    with sink.begin() as unit:
        unit.queue.settle(other, "skipped", actor="ann", reason="obsolete")
        unit.queue.supersede("erp.material")
    assert sink.awaited() == set()


def test_what_stood_behind_a_settled_change_is_due(sink: Sink) -> None:
    """The next of each of its lanes; one that stands behind another yet is put off."""
    first, second, third, fourth = park(sink, parked(A, B), parked(B, C), parked(A, C), parked(A))
    assert sink.behind([first, second, third, fourth]) == {second, third, fourth}
    assert sink.behind([]) == set()
    with sink.begin() as unit:
        unit.queue.settle(first, "replayed", actor="ann")
    assert due_soon(sink) == [second, third]
    assert sink.behind([second, third]) == {third}
    with sink.begin() as unit:
        unit.queue.put_off([third])
        unit.queue.put_off([])
    assert sink.due(10) == [second]
    with sink.begin() as unit:
        unit.queue.settle(second, "skipped", actor="ann", reason="obsolete")
    assert due_soon(sink) == [third]
    with sink.begin() as unit:
        unit.queue.settle(third, "resynced", actor="ann", reason="read again")
    assert due_soon(sink) == [fourth]


def test_a_time_to_try_again_comes(sink: Sink) -> None:
    now = int(time.time() * SECOND)
    past, future = park(
        sink, parked(A, retry_at=now - 9 * SECOND), parked(B, retry_at=now + 3600 * SECOND)
    )
    assert sink.due(10) == [past]
    assert [one.retry_at is not None for one in sink.failures(Selection(ids=(past, future)))] == [
        True,
        True,
    ]


def test_another_version_of_a_mapping_makes_its_changes_due(target: Target, sink: Sink) -> None:
    """Once for each version: what was tried with it is left alone."""
    first, other = park(sink, parked(A), parked(B, mapping="erp.other"))
    with sink.begin() as unit:
        assert unit.queue.due_by_mapping("erp.material", "v1") == 0
        assert unit.queue.due_by_mapping("erp.material", "v2") == 1
    assert due_soon(sink) == [first]
    with sink.begin() as unit:
        unit.queue.attempted(first, code="required", message="again", version="v2")
        unit.queue.attempted(other, code="required", message="again")
        assert unit.queue.due_by_mapping("erp.material", "v2") == 0
    assert sink.due(10) == []
    versions = {one.id: one.mapping_version for one in target.control().failures()}
    assert versions == {first: "v2", other: "v1"}


def test_of_a_lane_another_version_makes_the_first_change_due(sink: Sink) -> None:
    """What stands behind it follows; to be told so at each start would be work for nothing."""
    first, behind, beside, last = park(sink, parked(A, B), parked(B), parked(C), parked(C, B))
    with sink.begin() as unit:
        assert unit.queue.due_by_mapping("erp.material", "v2") == 2
    assert due_soon(sink) == [first, beside]
    with sink.begin() as unit:
        unit.queue.settle(first, "replayed", actor="cdc-daemon")
        unit.queue.settle(beside, "replayed", actor="cdc-daemon")
    assert due_soon(sink) == [behind, last]
    assert sink.behind([behind, last]) == {last}


def test_a_pipeline_that_the_breaker_stopped_stays_so(sink: Sink) -> None:
    assert sink.tripped() is None
    for reason in ("too much", "much too much: 50 %"):
        with sink.begin() as unit:
            unit.queue.trip(reason)
        assert sink.tripped() == reason
    assert sink.disarmed() == 0
    with sink.begin() as unit:
        assert unit.queue.resume(60.5)
    assert sink.tripped() is None
    assert round(sink.disarmed()) in range(50, 62)
    with sink.begin() as unit:
        assert not unit.queue.resume(3600)
    assert round(sink.disarmed()) in range(3590, 3602), "it was asked for once more"
    with sink.begin() as unit:
        unit.queue.trip("again")
    assert (sink.tripped(), sink.disarmed()) == ("again", 0)


def test_a_pipeline_that_was_never_stopped_may_be_let_pass_too(sink: Sink) -> None:
    """Before much is known to fail."""
    with sink.begin() as unit:
        assert not unit.queue.resume(60)
    assert sink.tripped() is None
    assert round(sink.disarmed()) in range(50, 62)


def test_who_reads_a_lane_stands_behind_it_and_is_due_when_it_opens(sink: Sink) -> None:
    """All of them at once; they do not stand behind each other, nor in the way of what follows."""
    holder = b"h" * 16
    park(sink, parked(A, holder), parked(B, awaits=(holder,)), parked(C, awaits=(holder,)))
    later = park(sink, parked(holder))[0]
    first, *readers = [failure.id for failure in sink.failures()][:3]
    assert sink.behind([first, *readers, later]) == {*readers, later}
    assert sink.due(10) == []
    with sink.begin() as unit:
        unit.queue.settle(first, "replayed", actor="ann")
    assert due_soon(sink) == [*readers, later]
    assert sink.behind([*readers, later]) == set()
    assert sink.still_blocked([A, B, holder]) == {B, holder}
    assert sink.still_blocked([A, B, holder], later) == {B}


def test_who_reads_a_lane_is_due_when_a_truncate_undoes_what_blocked_it(sink: Sink) -> None:
    """The row that it refers to will not come; only trying tells."""
    park(sink, parked(A, mapping="erp.customer"), parked(B, awaits=(A,)))
    with sink.begin() as unit:
        assert unit.queue.supersede("erp.customer") == 1
    (left,) = sink.failures()
    assert due_soon(sink) == [left.id]
