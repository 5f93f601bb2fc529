"""The reader thread and the bounded queue between log and applier; how batches are gathered.

The reader owns the stream: it reads, and while the queue is full it keeps the connection alive. The
applier takes everything that is there, so a batch grows while the applier is busy and a trickle is
applied at once. Only behind a full piece, when more follows at once, it waits for a batch worth its
unit of work: with a backlog, large units cost less and nobody waits for the first row.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cdc_daemon.engine.meter import Meter
from cdc_daemon.model.changes import Batch
from cdc_daemon.model.errors import Retryable
from cdc_daemon.model.ports import Stream

READ_TIMEOUT = 0.5  # seconds until the reader looks whether it shall stop
LULL = 0.01  # seconds without a word after which a busy log is busy no longer
GATHER_TIMEOUT = 0.2  # seconds that a busy log is given to fill a batch
TURN = 1.0  # seconds between looks at what is to be done beside the log
OFFER_TIMEOUT = 0.5  # seconds between keep-alives while the queue is full


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much is held in memory: bytes of log in the queue, changes and bytes in one batch.

    ``idle_seconds``: the longest time between two checkpoints of idle progress.
    """

    queue_bytes: int = 8 << 20
    batch_bytes: int = 8 << 20
    batch_changes: int = 20_000
    idle_seconds: float = 10.0


class DrainExpired(Retryable):
    """Stopping took longer than the drain time; the open unit of work was rolled back."""


class Reader:
    """Reads a stream in a thread of its own. A context manager; leaving it closes the stream."""

    def __init__(self, stream: Stream, limits: Limits, meter: Meter) -> None:
        self._stream = stream
        self._limits = limits
        self._meter = meter
        self._queue: deque[Batch] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._stopping = False
        self._busy = False  # whether more is to come at once
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)

    def __enter__(self) -> Reader:
        self._meter.queue_bytes = lambda: self._bytes
        self._meter.queue_capacity = self._limits.queue_bytes
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()
        self._stream.close()

    def take(self, timeout: float) -> Batch | None:
        """What the log said since the last call, up to the limits; None after ``timeout`` seconds.

        Never mixes the end of finished transactions with the beginning of one that is still open.
        Raises what ended the reader, after everything before it was taken.
        """
        self._meter.turned()
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._failure, timeout)
            if not self._queue:
                if self._failure is not None:
                    raise self._failure
                return None
            batch = self._pop()
            deadline = time.monotonic() + GATHER_TIMEOUT
            while self._follows(batch, deadline) and self._fits(batch, self._queue[0]):
                batch.append(self._pop())
            self._changed.notify_all()
            return batch

    def _follows(self, batch: Batch, deadline: float) -> bool:
        """Whether something stands in the queue; behind a full piece it is waited for."""
        if batch.busy and not self._queue and batch.changes < self._limits.batch_changes:
            self._changed.notify_all()
            left = deadline - time.monotonic()
            self._changed.wait_for(lambda: self._queue or self._failure or not self._busy, left)
        return bool(self._queue)

    def _pop(self) -> Batch:
        batch = self._queue.popleft()
        self._bytes -= batch.size
        return batch

    def _fits(self, batch: Batch, following: Batch) -> bool:
        if batch.complete and not following.complete and batch.runs:
            return False
        limits = self._limits
        return (
            batch.changes + following.changes <= limits.batch_changes
            and batch.size + following.size <= limits.batch_bytes
        )

    def _run(self) -> None:
        heard = 0
        try:
            while not self._stopping:
                batch = self._stream.read(LULL if self._busy else READ_TIMEOUT)
                if batch is not None:
                    self._meter.received(batch)
                    self._put(batch)
                else:
                    self._fell_silent()
                    if self._stream.heard != heard:
                        self._meter.log_read()
                heard = self._stream.heard
        except BaseException as error:  # noqa: BLE001 - raised again in the applier's thread
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _fell_silent(self) -> None:
        with self._changed:
            self._busy = False
            self._changed.notify_all()

    def _put(self, batch: Batch) -> None:
        while not self._offer(batch):
            self._stream.keep_alive()

    def _offer(self, batch: Batch) -> bool:
        with self._changed:
            free = self._changed.wait_for(self._has_room, OFFER_TIMEOUT)
            if free and not self._stopping:
                self._queue.append(batch)
                self._bytes += batch.size
                self._busy = batch.busy
                self._changed.notify_all()
            return free

    def _has_room(self) -> bool:
        return self._stopping or not self._queue or self._bytes < self._limits.queue_bytes


class Stopping:
    """Whether the worker was asked to stop, and until when an open unit may go on."""

    def __init__(self, drain_seconds: float = 10.0) -> None:
        self._asked = threading.Event()
        self.drain_seconds = drain_seconds
        self._deadline = float("inf")

    def ask(self) -> None:
        """Stop at the next transaction end, or give up after the drain time. Any thread."""
        if not self._asked.is_set():
            self._deadline = time.monotonic() + self.drain_seconds
            self._asked.set()

    @property
    def asked(self) -> bool:
        """Whether to stop."""
        return self._asked.is_set()

    @property
    def expired(self) -> bool:
        """Whether the drain time is over."""
        return time.monotonic() > self._deadline

    def wait(self, seconds: float) -> bool:
        """Sleep, but not longer than until asked to stop; whether that is so."""
        return self._asked.wait(seconds)


def gather(reader: Reader, stopping: Stopping, idle: Callable[[], None]) -> Iterator[Batch]:
    """Batches until asked to stop; ``idle`` is called about once a second between transactions.

    Inside an open transaction it goes on until the transaction's end or the drain time's
    (DrainExpired).
    """
    open_transaction = False
    checked = time.monotonic()
    while open_transaction or not stopping.asked:
        if stopping.asked and stopping.expired:
            raise DrainExpired
        batch = reader.take(0.2 if stopping.asked else TURN)
        if batch is not None:
            open_transaction = not batch.complete
            yield batch
        if not open_transaction and time.monotonic() - checked >= TURN:
            idle()
            checked = time.monotonic()
