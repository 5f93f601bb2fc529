"""Who holds a pipeline, how it is taken over, and that a former holder can only fail."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest

from cdc_daemon.model.changes import Row
from cdc_daemon.model.effects import Upsert
from cdc_daemon.model.errors import CdcError, DataError, Fenced, Unreachable
from cdc_daemon.model.ports import CopiedMapping, Sink, UnitOfWork
from cdc_daemon.model.position import Phase, SourceIdentity
from cdc_daemon.model.selection import Selection
from tests.contract.shapes import MATERIALS, ORDERS
from tests.contract.targets import Target
from tests.contract.test_sink_failures import A, B, park, parked

ROW: Row = (b"k", None, None)
IDENTITY = SourceIdentity(system="7", timeline=3, database="erp", publication="digest")


def save(unit: UnitOfWork, position: str, *, transactions: int = 1, changes: int = 1) -> None:
    unit.save_checkpoint(position, commit_time=1, transactions=transactions, changes=changes)


def test_a_new_pipeline_starts_new(target: Target) -> None:
    """Nothing was read yet; the epoch is the first."""
    checkpoint = target.sink().acquire()
    assert checkpoint.phase is Phase.NEW
    assert checkpoint.epoch == 1
    assert checkpoint.position is None
    assert checkpoint.holder == "here"


def test_data_and_checkpoint_commit_together(target: Target, sink: Sink) -> None:
    """An exception leaves neither; the end of the ``with`` leaves both."""
    with pytest.raises(RuntimeError), sink.begin() as unit:  # noqa: PT012
        unit.apply([Upsert(layout=MATERIALS, rows=[ROW])])
        save(unit, "0/1")
        raise RuntimeError
    assert target.living(MATERIALS) == {}
    assert target.control().checkpoints()[0].position is None
    with sink.begin() as unit:
        unit.apply([Upsert(layout=MATERIALS, rows=[ROW])])
        save(unit, "0/2", transactions=2, changes=5)
    sink.save_progress("0/3")
    found = target.control().checkpoints()[0]
    assert (found.position, found.transactions, found.changes) == ("0/3", 2, 5)
    assert found.commit_time is not None
    assert found.commit_time.timestamp() == pytest.approx(1e-6)
    assert len(target.living(MATERIALS)) == 1


def test_a_living_holder_is_left_alone(target: Target, sink: Sink) -> None:
    """A second starter is fenced off, and the message names the holder."""
    with pytest.raises(Fenced, match="here"):
        target.sink(instance="there").acquire()
    with sink.begin() as unit:
        save(unit, "0/1")
    if target.embedded:  # it has one pipeline
        with pytest.raises(Fenced, match="here"):
            target.sink("other").acquire()
    else:
        target.sink("other").acquire()  # another pipeline is nobody's business


def test_a_holder_not_seen_for_long_is_taken_over(target: Target, sink: Sink) -> None:
    """Its backend lives, but it attested nothing for more than 30 seconds."""
    target.forget_holder_for("erp", 31)
    second = target.sink(instance="there")
    assert second.acquire().epoch == 2
    with pytest.raises(CdcError) as caught, sink.begin() as unit:  # noqa: PT012
        unit.apply([Upsert(layout=MATERIALS, rows=[ROW])])
        save(unit, "0/1")
    assert isinstance(caught.value, Fenced | Unreachable)
    with pytest.raises(Fenced):
        sink.recover()
    assert target.living(MATERIALS) == {}
    with second.begin() as unit:
        save(unit, "0/2")


def test_a_late_commit_of_a_former_holder_fails(target: Target, sink: Sink) -> None:
    """Its whole unit is already there when the epoch moves on: nothing of it stays."""
    if target.embedded:
        pytest.skip("an open unit has the only write lock: test_sqlite_sink says what happens")
    with pytest.raises(CdcError) as caught, sink.begin() as unit:  # noqa: PT012
        unit.apply([Upsert(layout=MATERIALS, rows=[ROW])])
        save(unit, "0/1")
        target.forget_holder_for("erp", 31)
        target.sink(instance="there").acquire()
    assert isinstance(caught.value, Fenced | Unreachable)
    assert target.living(MATERIALS) == {}


def test_a_released_pipeline_is_taken_at_once(target: Target, sink: Sink) -> None:
    """close() clears the holder's mark."""
    sink.close()
    assert not target.control().holder_alive("erp")
    second = target.sink(instance="there")
    assert second.acquire().epoch == 2
    assert target.control().holder_alive("erp")


def test_recovery_raises_the_own_epoch_and_reads_again(target: Target, sink: Sink) -> None:
    """What was committed is read; what was under way is gone."""
    with sink.begin() as unit:
        save(unit, "0/1")
    checkpoint = sink.recover()
    assert (checkpoint.epoch, checkpoint.position) == (2, "0/1")
    with sink.begin() as unit:
        save(unit, "0/2")
    sink.heartbeat()
    assert target.control().checkpoints()[0].position == "0/2"


def test_a_heartbeat_attests_life_from_another_thread(target: Target, sink: Sink) -> None:
    """Also while a unit of work is open."""
    target.forget_holder_for("erp", 29)
    with sink.begin() as unit:
        unit.apply([Upsert(layout=MATERIALS, rows=[ROW])])
        thread = threading.Thread(target=sink.heartbeat)
        thread.start()
        thread.join(10)
        with pytest.raises(Fenced, match=r"seen [0-5] s ago"):
            target.sink(instance="there").acquire()


def test_the_heartbeat_of_a_former_holder_is_fenced(target: Target, sink: Sink) -> None:
    """So a worker learns of the take-over without writing anything."""
    target.forget_holder_for("erp", 31)
    target.sink(instance="there").acquire()
    with pytest.raises(Fenced):
        sink.heartbeat()


def test_a_generation_is_named_before_anything_is_read(target: Target, sink: Sink) -> None:
    """The row says snapshotting, with slot, identity and generation; then streaming, exactly."""
    checkpoint = sink.begin_generation("slot", IDENTITY)
    assert checkpoint.phase is Phase.SNAPSHOTTING
    assert (checkpoint.slot, checkpoint.generation, checkpoint.identity) == ("slot", 1, IDENTITY)
    with sink.begin() as unit:
        unit.apply([Upsert(layout=MATERIALS, rows=[ROW], fresh=True)])
        unit.save_snapshot({MATERIALS.mapping: 1})
    with sink.begin() as unit:
        unit.finish_snapshot([MATERIALS], IDENTITY, "0/9")
    found = target.control().checkpoints()[0]
    assert (found.phase, found.position, found.generation) == (Phase.STREAMING, "0/9", 1)
    assert len(target.living(MATERIALS)) == 1


def test_what_was_copied_is_noted_with_its_unit(target: Target, sink: Sink) -> None:
    """Whole, in place of what was noted before; a unit that fails has noted nothing."""
    assert sink.copied_mappings() == {}
    one = CopiedMapping(shape="1", referenced=False, version="a")
    two = CopiedMapping(shape="2", referenced=True, version="b")
    with sink.begin() as unit:
        unit.note_copied({"erp.material": one, "erp.customer": two})
    assert sink.copied_mappings() == {"erp.material": one, "erp.customer": two}
    with suppress(ZeroDivisionError), sink.begin() as unit:
        unit.note_copied({})
        raise ZeroDivisionError
    with sink.begin() as unit:
        unit.note_copied({"erp.material": two})
    assert sink.copied_mappings() == {"erp.material": two}


def test_a_former_holder_cannot_note_a_snapshot(target: Target, sink: Sink) -> None:
    """Every write to the ledger asks for the epoch."""
    sink.begin_generation("slot", IDENTITY)
    target.forget_holder_for("erp", 31)
    second = target.sink(instance="there")
    second.acquire()
    with pytest.raises((Fenced, Unreachable)), sink.begin() as unit:
        unit.save_snapshot({MATERIALS.mapping: 1})
    with pytest.raises((Fenced, Unreachable)), sink.begin() as unit:
        unit.finish_snapshot([MATERIALS], IDENTITY, "0/9")
    with pytest.raises((Fenced, Unreachable)):
        sink.begin_generation("slot", IDENTITY)


WRITES: dict[str, Callable[[UnitOfWork, int], object]] = {
    "replayed": lambda unit, failure: unit.queue.settle(failure, "replayed", actor="ann"),
    "skipped": lambda unit, failure: unit.queue.settle(
        failure, "skipped", actor="ann", reason="old"
    ),
    "attempted": lambda unit, failure: unit.queue.attempted(
        failure, code="required", message="again"
    ),
    "resynced": lambda unit, failure: unit.queue.settle(
        failure, "resynced", actor="ann", reason="old"
    ),
    "edited": lambda unit, failure: unit.queue.edited(failure, {}, [A], actor="ann", reason="old"),
    "superseded": lambda unit, _: unit.queue.supersede("erp.material"),
    "parked": lambda unit, _: unit.queue.park([parked(B)]),
    "applied": lambda unit, _: unit.apply([Upsert(layout=MATERIALS, rows=[ROW])]),
}


@pytest.mark.parametrize("write", WRITES)
def test_no_unit_of_a_former_holder_commits(target: Target, sink: Sink, write: str) -> None:
    """Whatever it did, and though it moves no checkpoint.

    A unit of an embedded database has the only write lock: nobody takes over between its first
    use and its end, but before that.
    """
    [failure] = park(sink, parked(A))
    before = sink.failures()
    with pytest.raises(Fenced), sink.begin() as unit:  # noqa: PT012
        if target.embedded:
            target.take_over("erp")
        WRITES[write](unit, failure)
        target.take_over("erp")
    control = target.control()
    assert control.failures() == before
    assert control.checkpoints()[0].epoch == 2
    assert target.living(MATERIALS) == {}


@pytest.mark.parametrize("write", WRITES)
def test_the_holder_commits_such_a_unit(sink: Sink, write: str) -> None:
    """It need not move the checkpoint."""
    [failure] = park(sink, parked(A))
    with sink.begin() as unit:
        WRITES[write](unit, failure)
    with sink.begin():
        pass  # a unit in which nothing was done


def test_a_former_holder_purges_nothing(target: Target, sink: Sink) -> None:
    """What is settled is the new holder's to delete."""
    [failure] = park(sink, parked(A))
    with sink.begin() as unit:
        unit.queue.settle(failure, "replayed", actor="ann")
    settled = Selection(state=None, settled=dt.datetime(2100, 1, 1, tzinfo=dt.UTC))
    second = target.take_over("erp")
    with pytest.raises(Fenced):
        sink.purge(settled, 10)
    assert target.count("failure") == 1
    assert second.purge(settled, 10) == 1


def test_a_former_holder_cannot_finish_a_command(target: Target, sink: Sink) -> None:
    """The command is the new holder's to carry out."""
    number = target.control().submit("erp", "retry", {}, "ann")
    second = target.take_over("erp")
    with pytest.raises(Fenced):
        sink.finish_command(number, ok=False, result={"error": "taken over"})
    assert [command.id for command in second.commands()] == [number]
    second.finish_command(number, ok=True, result={})
    assert second.commands() == []


def test_a_refused_starter_attests_nothing(target: Target, sink: Sink) -> None:
    """Its heartbeat must not keep alive a holder that it is not."""
    stranger = target.sink(instance="there")
    with pytest.raises(Fenced):
        stranger.acquire()
    with pytest.raises(Fenced):
        stranger.heartbeat()
    sink.heartbeat()


def test_a_heartbeat_goes_on_while_a_snapshot_is_noted(target: Target, sink: Sink) -> None:
    """The checkpoint's row is touched last of all, whatever the unit has yet to do."""
    sink.begin_generation("slot", IDENTITY)
    with sink.begin() as unit:
        unit.apply([Upsert(layout=MATERIALS, rows=[ROW])])
        unit.save_snapshot({MATERIALS.mapping: 1})
        sink.heartbeat()
    with sink.begin() as unit:
        unit.finish_snapshot([MATERIALS], IDENTITY, "0/9")
        sink.heartbeat()
    assert target.control().checkpoints()[0].position == "0/9"


def test_a_group_of_a_snapshot_is_checked_before_it_commits(target: Target, sink: Sink) -> None:
    """Constraints put off are checked while the checkpoint's row is free."""
    sink.begin_generation("slot", IDENTITY)
    with pytest.raises(DataError) as caught, sink.begin() as unit:  # noqa: PT012
        unit.apply([Upsert(layout=ORDERS, rows=[(b"1", b"nobody")])])
        unit.save_snapshot({ORDERS.mapping: 1})
        pytest.fail("not reached")
    assert caught.value.code == "sqlstate_23503"
    assert target.living(ORDERS) == {}


def test_a_unit_without_a_checkpoint_is_checked_before_it_commits(
    target: Target, sink: Sink
) -> None:
    """As above: a repair's broken reference is a data error, and nothing stays."""
    with pytest.raises(DataError) as caught, sink.begin() as unit:
        unit.apply([Upsert(layout=ORDERS, rows=[(b"1", b"nobody")])])
    assert caught.value.code == "sqlstate_23503"
    assert target.living(ORDERS) == {}
