"""Scripts with COPY, and pipelines, over one connection without a wait that holds up Python.

psycopg's cursors carry one statement at a time and wrap every one in objects. Two things need more:
a *script* is one simple query of several statements, in which every ``COPY … FROM STDIN`` takes the
next feed, so that a whole step costs one round trip; a *pipeline* is a list of prepared statements
with one synchronisation at its end. Both wait in ``poll``, so another thread runs meanwhile.

Not in here: what the statements say, and what their errors mean.
"""

from __future__ import annotations

import select
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import psycopg
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, PipelineStatus, TransactionStatus
from psycopg.pq.abc import PGresult

Param = bytes | None


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement with ``$n`` parameters in text form, prepared once per session under its name.

    Without a name it is parsed and planned each time, for the table sizes of that moment.
    """

    name: bytes
    sql: bytes


Call = tuple[Statement, Sequence[Param]]

_OF_A_VALUE = b"22"
_RUN, _PREPARE, _FORGET = "run", "prepare", "forget"
_Sent = tuple[str, bytes]  # what was sent, and the statement's name


class Wire:
    """The connection's lower level. One thread at a time."""

    def __init__(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        self._pgconn = connection.pgconn
        self._pgconn.nonblocking = 1
        self._prepared: set[bytes] = set()
        self._doubted: set[bytes] = set()  # of these, what is prepared anew before its next use
        self._poll = select.poll()
        self._poll.register(self._pgconn.socket, select.POLLIN)

    @property
    def alive(self) -> bool:
        """Whether the connection can be used still, as far as it is known."""
        return self._pgconn.status == ConnStatus.OK

    @property
    def settled(self) -> bool:
        """Whether no statement is under way."""
        pgconn = self._pgconn
        idle = pgconn.transaction_status != TransactionStatus.ACTIVE
        return idle and pgconn.pipeline_status == PipelineStatus.OFF

    def script(self, statements: bytes, *feeds: Iterable[bytes]) -> list[PGresult]:
        """Run statements separated by semicolons; the results in order.

        Raises psycopg.Error for the first that fails; the server skips those behind it.
        """
        self._pgconn.send_query(statements)
        self._flush()
        waiting = iter(feeds)
        results: list[PGresult] = []
        failed: PGresult | None = None
        while (result := self._next_result()) is not None:
            if result.status == ExecStatus.COPY_IN:
                self._feed(next(waiting))
            elif result.status == ExecStatus.FATAL_ERROR:
                failed = failed or result
            else:
                results.append(result)
        if failed is not None:
            raise error_from_result(failed)
        return results

    def pipeline(self, calls: Iterable[Call]) -> list[PGresult]:
        """Run statements in one round trip; a result each, the first bad one an error.

        What is sent is worked on while later calls are still being made. Calls behind a failed one
        have the status PIPELINE_ABORTED. Look with :func:`failure`.
        """
        pgconn = self._pgconn
        pgconn.enter_pipeline_mode()
        sent: list[_Sent] = []
        try:
            self._send(calls, sent)
        finally:
            pgconn.pipeline_sync()
            self._flush()
            found = self._pipeline_results()
            pgconn.exit_pipeline_mode()
            answers = self._answers(found, sent)
        return answers

    def _send(self, calls: Iterable[Call], sent: list[_Sent]) -> None:
        """Send calls as they come; ``sent``: for each answer, what it answers."""
        pgconn = self._pgconn
        known = self._prepared - self._doubted
        for statement, params in calls:
            name = statement.name
            if not name:
                pgconn.send_query_params(statement.sql, params)
                sent.append((_RUN, name))
                continue
            if name not in known:
                self._prepare(statement, sent)
                known.add(name)
            pgconn.send_query_prepared(name, params)
            sent.append((_RUN, name))

    def _prepare(self, statement: Statement, sent: list[_Sent]) -> None:
        name = statement.name
        if name in self._prepared:
            self._pgconn.send_query_params(b'DEALLOCATE "%s"' % name, ())
            sent.append((_FORGET, name))
        self._pgconn.send_prepare(name, statement.sql)
        sent.append((_PREPARE, name))

    def _answers(self, found: Sequence[PGresult], sent: Sequence[_Sent]) -> list[PGresult]:
        """The results of the calls; a statement that could not be prepared answers for its call."""
        results: list[PGresult] = []
        unprepared: PGresult | None = None
        for result, (what, name) in zip(found, sent, strict=True):
            if what == _RUN:
                results.append(unprepared or result)
                unprepared = None
                self._doubt(name, result)
            elif result.status == ExecStatus.COMMAND_OK:
                self._doubted.discard(name)
                (self._prepared.add if what == _PREPARE else self._prepared.discard)(name)
            else:
                unprepared = unprepared or result
        return results

    def _doubt(self, name: bytes, result: PGresult) -> None:
        """A statement keeps the parameter types that its columns had when it was prepared: what a
        value does not fit may be no column's type any longer when it comes again."""
        if name and result.status == ExecStatus.FATAL_ERROR:
            state = result.error_field(DiagnosticField.SQLSTATE) or b""
            if state.startswith(_OF_A_VALUE):
                self._doubted.add(name)

    def _pipeline_results(self) -> list[PGresult]:
        results: list[PGresult] = []
        while True:
            result = self._next_result()
            if result is None:
                self._must_live()
            elif result.status == ExecStatus.PIPELINE_SYNC:
                return results
            else:
                results.append(result)
                if not self.alive:
                    raise psycopg.OperationalError("connection lost in a pipeline")

    def _feed(self, chunks: Iterable[bytes]) -> None:
        """Send one COPY's data. An exception of the feed ends the COPY with an error first."""
        pgconn = self._pgconn
        problem: bytes | None = b"the feed failed"
        try:
            for chunk in chunks:
                pgconn.put_copy_data(chunk)
                self._flush()
            problem = None
        finally:
            pgconn.put_copy_end(problem)
            self._flush()
            if problem is not None:
                while self._next_result() is not None:
                    pass

    def _flush(self) -> None:
        pgconn = self._pgconn
        while pgconn.flush():
            self._wait(select.POLLIN | select.POLLOUT)

    def _next_result(self) -> PGresult | None:
        pgconn = self._pgconn
        while pgconn.is_busy():
            self._wait(select.POLLIN)
        return pgconn.get_result()

    def _wait(self, events: int) -> None:
        """Wait until the socket is ready; read what there is, or the server might wait for us."""
        self._poll.modify(self._pgconn.socket, events)
        ready = self._poll.poll()
        if any(found & ~select.POLLOUT for _, found in ready):
            self._pgconn.consume_input()

    def _must_live(self) -> None:
        if not self.alive:
            raise psycopg.OperationalError("connection lost in a pipeline")


def failure(results: Sequence[PGresult]) -> psycopg.Error | None:
    """The error of the first call that failed, or None."""
    for result in results:
        if result.status == ExecStatus.FATAL_ERROR:
            return error_from_result(result)
    return None


def affected(result: PGresult) -> int:
    """How many rows a statement wrote."""
    return result.command_tuples or 0
