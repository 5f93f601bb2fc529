"""The reader thread: what it attests of the source, and what the applier attests of itself."""

from collections import deque

from cdc_daemon.engine.meter import Meter
from cdc_daemon.engine.reading import Limits, Reader, Stopping, gather
from cdc_daemon.model.changes import Batch
from tests.support.waiting import until


class FakeStream:
    """A source that answers, and says what it is given to say."""

    def __init__(self) -> None:
        self.heard = 0
        self.batches: deque[Batch] = deque()

    def read(self, timeout: float) -> Batch | None:
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
