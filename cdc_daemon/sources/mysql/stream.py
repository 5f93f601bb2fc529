"""An open reading of the binlog: the ``Stream`` protocol of ``model/ports.py``.

The server sends and never asks: nothing is acknowledged to it, and it keeps its log for as long as
it was told to. Not in here: the connection (dump.py), what events mean (decoder.py).
"""

from __future__ import annotations

import time
from typing import Final

from cdc_daemon.model.changes import Batch
from cdc_daemon.sources.mysql.connection import Server
from cdc_daemon.sources.mysql.decoder import Decoder
from cdc_daemon.sources.mysql.dump import Dump

_IDLE: Final = 1.0  # seconds between two idle positions
_LINGER: Final = 0.001  # seconds that a busy log is given to send more
_PATIENCE: Final = 0.05  # seconds after which what is complete is handed over in any case
_BUSY: Final = 32  # changes in hand from which a log counts as busy


class MysqlStream:
    """The log after a position. One thread reads; any thread may acknowledge."""

    def __init__(self, server: Server, dump: Dump, decoder: Decoder) -> None:
        self._server = server
        self._dump = dump
        self._decoder = decoder
        self._handed_over = str(decoder.position)
        self._next_idle = 0.0

    @property
    def heard(self) -> int:
        """Events read so far, heartbeats among them."""
        return self._dump.heard

    def read(self, timeout: float) -> Batch | None:
        """What is complete, or a piece of a large transaction, or an idle position, or None.

        Returns as soon as something is complete and nothing more comes at once. A busy log is given
        a millisecond again and again to send more, so that batches are worth their handling. A log
        that is full of what nobody mapped must not keep what is complete from its reader.
        """
        with self._server.placed():
            return self._read(timeout)

    def _read(self, timeout: float) -> Batch | None:
        begun = time.monotonic()
        deadline = begun + timeout
        decoder, busy_since, seen = self._decoder, 0.0, 0
        while True:
            left = decoder.pump()
            if decoder.full and (batch := decoder.take()):
                batch.busy = True
                return self._hand_over(batch)
            now = time.monotonic()
            if left or self._more(0.0):
                if now < (begun + _PATIENCE if decoder.complete else deadline):
                    continue
                batch = decoder.take() or self._idle_batch(now)
                if batch is not None or now >= deadline:
                    return batch and self._hand_over(batch)
                continue
            growing = decoder.waiting >= _BUSY and decoder.waiting > seen
            if growing:
                seen, busy_since = decoder.waiting, busy_since or now
                if now - busy_since < _PATIENCE and self._more(_LINGER):
                    continue
            if batch := decoder.take() or self._idle_batch(now):
                batch.busy = growing
                return self._hand_over(batch)
            busy_since = 0.0
            if now >= deadline or not self._more(deadline - now):
                return None

    def _more(self, seconds: float) -> bool:
        """Whether events came in that time."""
        events = self._dump.read(seconds)
        if events:
            self._decoder.feed(events)
        return bool(events)

    def _hand_over(self, batch: Batch) -> Batch:
        if batch.position is not None:
            self._handed_over = batch.position
        return batch

    def _idle_batch(self, now: float) -> Batch | None:
        """An empty batch where the log has gone on without changes for us."""
        if now < self._next_idle or not self._decoder.quiet:
            return None
        self._next_idle = now + _IDLE
        position = str(self._decoder.position)
        return Batch(position=position) if position != self._handed_over else None

    def keep_alive(self) -> None:
        """Nothing is due: the server waits for a reader as long as the session was told to."""

    def acknowledge(self, position: str) -> None:
        """Nothing to say: the server does not ask how far its readers are."""

    def render(self, mark: int) -> str:
        return self._decoder.marks.text(mark)

    def close(self) -> None:
        self._dump.close()
