"""The reader thread: what it attests of the source, and what the applier attests of itself."""

import threading
from collections import deque

import pytest

from cdc_daemon.engine import reading
from cdc_daemon.engine.meter import Meter
from cdc_daemon.engine.reading import Limits, Reader, Stopping, gather
from cdc_daemon.model.changes import Batch
from tests.support.waiting import until


class FakeStream:
    """A source that answers, and says what it is given to say."""

    def __init__(self) -> None:
        self.heard = 0
        self.batches: deque[Batch] = deque()
        self.pending = threading.Event()  # set: what is to be said comes at once
        self.pending.set()

    def read(self, timeout: float) -> Batch | None:
        self.pending.wait(5.0)
        return self.batches.popleft() if self.batches else None

    def keep_alive(self) -> None:
        pass

    def acknowledge(self, position: str) -> None:
        pass

    def render(self, mark: int) -> str:
        return ""

    def close(self) -> None:
        pass


def test_a_source_that_answers_with_nothing_new_is_progress_and_silence_is_not() -> None:
    stream, meter = FakeStream(), Meter("erp")
    with Reader(stream, Limits(), meter):
        before = meter.status().progress
        assert meter.status().progress == before
        stream.heard += 1
        until(lambda: meter.status().progress == before + 1)
        stream.heard += 1
        until(lambda: meter.status().progress == before + 2)


def test_an_applier_that_waits_for_work_turns() -> None:
    """Else a healthy pipeline on a silent source would be taken for hung."""
    meter, stopping = Meter("erp"), Stopping(5.0)
    with Reader(FakeStream(), Limits(), meter) as reader:
        before = meter.status()
        assert list(gather(reader, stopping, stopping.ask)) == []
        after = meter.status()
    assert after.turns > before.turns
    assert after.progress == before.progress


def piece(first: int, number: int, *, busy: bool) -> Batch:
    """A batch of so many one-row transactions without their rows."""
    return Batch(position=f"0/{first + number}", changes=number, transactions=number, busy=busy)


def test_behind_a_full_piece_more_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the batch is full, or something comes that was not full."""
    monkeypatch.setattr(reading, "GATHER_TIMEOUT", 60.0)
    stream = FakeStream()
    with Reader(stream, Limits(batch_changes=20), Meter("erp")) as reader:
        stream.pending.clear()
        stream.batches.append(piece(0, 8, busy=True))
        stream.batches.append(piece(8, 8, busy=True))
        threading.Timer(0.05, stream.pending.set).start()
        taken = reader.take(5.0)
        assert taken is not None
        assert taken.changes == 16
        stream.pending.clear()
        stream.batches.extend([piece(16, 8, busy=True), piece(24, 3, busy=False)])
        stream.pending.set()
        taken = reader.take(5.0)
        assert taken is not None
        assert (taken.changes, taken.busy, taken.position) == (11, False, "0/27")


def test_nobody_waits_for_more_than_there_is() -> None:
    """A trickle is applied at once, and a burst that ends with a full piece soon."""
    stream = FakeStream()
    with Reader(stream, Limits(), Meter("erp")) as reader:
        stream.batches.append(piece(0, 8, busy=True))
        taken = reader.take(5.0)
        assert taken is not None
        assert taken.changes == 8
