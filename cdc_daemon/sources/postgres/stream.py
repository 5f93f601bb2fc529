"""An open logical replication stream. COPY BOTH, and libpq below psycopg, live only in this file.

psycopg has no replication interface, so the protocol's few steps are spelled out: drain what libpq
holds *before* asking the socket for more (else libpq's buffer grows without bound), wait with a
time limit and ask the socket even when it looks silent (TLS keeps decrypted bytes to itself), and
send feedback on a timer of our own, also while nobody takes what we read (``keep_alive``).

Feedback never carries another flush position than the acknowledged one: the server forgets what is
before it. Protocol: "Streaming Replication Protocol" of the PostgreSQL documentation.
"""

from __future__ import annotations

import fcntl
import select
import sys
import termios
import threading
import time
from contextlib import suppress
from typing import Final

import psycopg
from psycopg import sql

from cdc_daemon.model.changes import Batch
from cdc_daemon.model.errors import PreflightRefusal, Problem, Unreachable
from cdc_daemon.sources.postgres.connection import Connection, Server
from cdc_daemon.sources.postgres.decoder import Decoder
from cdc_daemon.sources.postgres.encodings import take_bytes
from cdc_daemon.sources.postgres.lsn import format_lsn, parse_lsn
from cdc_daemon.sources.postgres.messages import feedback

_SOONEST: Final = 0.1  # seconds between two feedbacks, however often the server asks
_ASK: Final = 5.0  # seconds of silence after which the server is asked for a word
_SILENT: Final = 300.0  # seconds without a word, though asked, after which it is given up: a server
# that decodes much of what we do not want speaks at least each half of wal_sender_timeout
_HALT: Final = 2.0  # seconds between two reads after which the silence is our own
_IDLE: Final = 1.0  # seconds between two idle positions that nobody asked for
_LINGER: Final = 0.001  # seconds that a busy stream is given to send more
_WORTH: Final = 4096  # bytes in the socket that are worth going on with at once
_FOUR_BYTES: Final = bytes(4)
_PATIENCE: Final = 0.05  # seconds after which what is complete is handed over in any case
_BUSY: Final = 32  # changes in hand from which a stream counts as busy
_STORM: Final = 12  # reply requests in a row without data that look like a shutdown
_PROBE: Final = 5.0  # seconds between two looks whether the server is shutting down


class PostgresStream:
    """The log after a position. One thread reads; any thread may acknowledge."""

    def __init__(
        self,
        server: Server,
        decoder: Decoder,
        *,
        slot: str,
        publication: str,
        after: str,
        feedback_interval: float = 1.0,
    ) -> None:
        self._server = server
        self._decoder = decoder
        self._publication = publication
        self._interval = feedback_interval
        self._acknowledged = parse_lsn(after)
        self._handed_over = self._acknowledged
        self._lock = threading.Lock()
        self._skipped = False  # the server said that it skips a publication
        self._flushed = self._acknowledged  # the position in the last feedback
        self._last_feedback = self._next_idle = self._last_probe = 0.0
        self._asked_at = time.monotonic()  # when the server was last asked, or last said anything
        self._heard_at = self._asked_at  # when it last said anything while we listened
        self._heard = 0
        self._requests = 0  # reply requests seen so far
        self._data = 0  # other messages seen so far
        self._storm = 0  # reply requests in a row without data in between
        self._last_request = 0.0
        self._reply_due = False  # feedback is asked for
        self._urgent = False  # the server waits for us: the next position is to be saved at once
        self._asked = False  # whether a silent TLS connection was just asked
        self._unread_since = time.monotonic()
        self._connection = self._open(slot, after)
        self._pgconn = self._connection.pgconn
        info = self._connection.info
        self._address = (info.hostaddr or info.host, info.port)
        self._poll = select.poll()
        self._poll.register(self._pgconn.socket, select.POLLIN)

    def _open(self, slot: str, after: str) -> Connection:
        """A walsender connection in COPY BOTH mode."""
        command = sql.SQL(
            "START_REPLICATION SLOT {} LOGICAL {} (proto_version '1', publication_names {})"
        ).format(
            sql.Identifier(slot),
            sql.SQL(format_lsn(parse_lsn(after))),
            sql.Literal(self._publication),
        )
        connection = self._server.connect_for_replication()
        try:
            connection.add_notice_handler(self._notice)
            with self._server.errors(f"starting replication from slot {slot}"):
                take_bytes(connection)
                connection.execute(command)
        except BaseException:
            connection.close()
            raise
        return connection

    def _notice(self, notice: psycopg.errors.Diagnostic) -> None:
        """PostgreSQL 18 only warns when it skips a publication that is not there."""
        if notice.source_function == "LoadPublications" or (
            "skipped loading publication" in (notice.message_primary or "")
        ):
            self._skipped = True

    # --- reading ------------------------------------------------------------------------------

    @property
    def heard(self) -> int:
        """Messages read so far; a silent server is asked for one every few seconds."""
        return self._decoder.messages

    def read(self, timeout: float) -> Batch | None:
        """What is complete, or a piece of a large transaction, or an idle position, or None.

        Returns as soon as something is complete and nothing more comes at once. A busy stream is
        given a millisecond again and again to send more, before the socket is asked, so that both
        ends handle many messages at a time and batches are worth their handling.
        """
        begun = time.monotonic()
        decoder = self._decoder
        busy_since, seen = 0.0, 0
        while True:
            found = self._pump()
            self.keep_alive()
            if decoder.full and (batch := decoder.take()):
                batch.busy = True
                return self._hand_over(batch)
            if found > 0:
                continue
            growing = decoder.waiting >= _BUSY and decoder.waiting > seen
            if growing and self._unread() < _WORTH:
                seen, now = decoder.waiting, time.monotonic()
                busy_since = busy_since or now
                if now - busy_since < _PATIENCE:
                    time.sleep(_LINGER)
                    self._more()
                    continue
            elif self._more():
                continue
            if batch := decoder.take() or self._idle_batch():
                batch.busy = growing
                return self._hand_over(batch)
            busy_since = 0.0
            remaining = begun + timeout - time.monotonic()
            if remaining <= 0:
                return None
            self._poll.poll(1000 * min(remaining, self._until_feedback()))
            self._consume()

    def _pump(self) -> int:
        """Drain what libpq holds into the decoder. Raises what ended the stream."""
        try:
            found = self._decoder.pump(self._pgconn.get_copy_data)
            if found < 0:
                self._raise_end()
        except psycopg.Error as exc:
            raise self._server.translate(exc, "reading the log") from exc
        now = time.monotonic()
        before, self._unread_since = self._unread_since, now
        if self._heard != self._decoder.messages:
            self._heard, self._asked_at, self._heard_at = self._decoder.messages, now, now
        elif now - before > _HALT:
            self._heard_at = now
        elif now - self._heard_at > _SILENT:
            raise Unreachable(f"{self._server.where}: the server is silent for {_SILENT:.0f} s")
        if self._skipped:
            raise self._publication_skipped()
        self._watch_requests()
        return found

    def _more(self) -> bool:
        """Whether the socket had something; over TLS it is asked once though it is silent."""
        if not self._poll.poll(0):
            self._asked = self._pgconn.ssl_in_use and not self._asked
            if not self._asked:
                return False
        self._consume()
        return True

    def _unread(self) -> int:
        """Bytes that wait in the socket."""
        found = fcntl.ioctl(self._pgconn.socket, termios.FIONREAD, _FOUR_BYTES)
        return int.from_bytes(found, sys.byteorder)

    def _consume(self) -> None:
        """Take in what the socket has. Only ever after libpq was drained."""
        try:
            self._pgconn.consume_input()
        except psycopg.Error as exc:
            raise self._server.translate(exc, "reading the log") from exc

    def _raise_end(self) -> None:
        """The server ended the copy: with an error, or because it shuts down."""
        result = self._pgconn.get_result()
        if result is not None and result.status == psycopg.pq.ExecStatus.FATAL_ERROR:
            raise psycopg.errors.error_from_result(result)
        raise Unreachable(f"{self._server.where}: the server ended the stream")

    def _publication_skipped(self) -> PreflightRefusal:
        what = f"publication {self._publication} does not exist at this point of the log"
        cure = "changes were skipped: create the publication and take a new snapshot"
        return PreflightRefusal([Problem(what=what, where=self._server.where, cure=cure)])

    def _hand_over(self, batch: Batch) -> Batch:
        if batch.position is not None:
            self._handed_over = max(self._handed_over, parse_lsn(batch.position))
            batch.urgent, self._urgent = self._urgent, False
        return batch

    def _idle_batch(self) -> Batch | None:
        """An empty batch where the log has gone on without changes for us."""
        if not self._decoder.quiet:
            return None
        self._decoder.skip()
        end = self._decoder.server_end
        if end <= self._handed_over:
            return None
        now = time.monotonic()
        if not self._urgent and now < self._next_idle:
            return None
        self._next_idle = now + _IDLE
        return Batch(position=format_lsn(end))

    # --- feedback -----------------------------------------------------------------------------

    def acknowledge(self, position: str) -> None:
        lsn = parse_lsn(position)
        with self._lock:
            self._acknowledged = max(self._acknowledged, lsn)

    def render(self, mark: int) -> str:
        return format_lsn(mark)

    def keep_alive(self) -> None:
        """Send feedback where it is due, and see whether a server that waits for us is ending."""
        now = time.monotonic()
        news = self._reply_due or self._acknowledged > self._flushed
        if now - self._last_feedback >= (_SOONEST if news else self._interval):
            self._send_feedback(now)
        blocked = now - self._unread_since > _PROBE
        if (blocked or self._storm >= _STORM) and now - self._last_probe > _PROBE:
            self._last_probe = now
            self._leave_if_shutting_down()

    def _until_feedback(self) -> float:
        """Seconds until feedback is due; acknowledgements are looked for ten times a second."""
        now = time.monotonic()
        news = self._reply_due or self._acknowledged > self._flushed
        due = self._last_feedback + (_SOONEST if news else self._interval)
        return max(0.0, due - now)

    def _send_feedback(self, now: float) -> None:
        flushed = self._acknowledged
        written = max(flushed, self._decoder.server_end)
        ask = now - self._asked_at >= _ASK
        message = feedback(written=written, flushed=flushed, now=time.time_ns() // 1000, ask=ask)
        try:
            self._pgconn.put_copy_data(message)
            self._pgconn.flush()
        except psycopg.Error as exc:
            raise self._server.translate(exc, "sending feedback") from exc
        self._last_feedback, self._flushed, self._reply_due = now, flushed, False
        if ask:
            self._asked_at = now

    def _watch_requests(self) -> None:
        """Note reply requests; many in a row at one position are how a shutdown looks."""
        requests, data = self._decoder.reply_requests, self._decoder.data
        if data != self._data:
            self._data, self._storm = data, 0
        if requests > self._requests:
            now = time.monotonic()
            self._storm = self._storm + 1 if now - self._last_request < 1.0 else 1
            self._last_request = now
            self._reply_due = self._urgent = True
        self._requests = requests

    def _leave_if_shutting_down(self) -> None:
        """A server that shuts down waits until we confirm all or are gone: be gone."""
        if self._server.shutting_down(*self._address):
            self.close()
            raise Unreachable(f"{self._server.where}: the server is shutting down")

    def close(self) -> None:
        """Tell the server what was acknowledged and end the connection; never raises."""
        with suppress(Exception):
            if self._acknowledged > self._flushed:
                self._send_feedback(time.monotonic())
        with suppress(Exception):
            self._connection.close()
