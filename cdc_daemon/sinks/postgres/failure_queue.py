"""The failure queue in an open unit of work: ``model.queue.FailureQueue`` on PostgreSQL.

What it does in SQL, the modules that it names do.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager

from cdc_daemon.model.effects import Parked
from cdc_daemon.model.failpoint import failpoint
from cdc_daemon.model.queue import Kept, Settled
from cdc_daemon.sinks.postgres import awaiting, breaker, edits, failures, parking
from cdc_daemon.sinks.postgres import kept as payloads
from cdc_daemon.sinks.postgres.session import Connection
from cdc_daemon.sinks.postgres.wire import Call


class PostgresQueue:
    """``ledger``: the handle inside the transaction, which is begun if it was not; ``calls``: runs
    statements there."""

    def __init__(
        self,
        ledger: Callable[[], AbstractContextManager[Connection]],
        calls: Callable[[Iterable[Call]], None],
        pipeline: str,
    ) -> None:
        self._ledger = ledger
        self._calls = calls
        self._pipeline = pipeline

    def park(self, parked: Sequence[Parked]) -> None:
        """Put changes into the queue, in this order, and block their lanes."""
        for call in parking.calls(parked):
            failpoint("dlq_insert")
            self._calls([call])
            failpoint("dlq_insert")

    def settle(
        self, failure: int, state: Settled, *, actor: str, reason: str | None = None
    ) -> None:
        """A parked change is settled; its lanes open where nothing else waits."""
        with self._ledger() as ledger:
            failures.resolve(ledger, failure, state=state, actor=actor, reason=reason)

    def attempted(
        self,
        failure: int,
        *,
        code: str,
        message: str,
        retry_at: dt.datetime | None = None,
        awaits: Sequence[bytes] = (),
        version: str | None = None,
    ) -> None:
        """A replay failed again: one more attempt, the new error kept."""
        with self._ledger() as ledger:
            failures.attempted(
                ledger,
                failure,
                code=code,
                message=message,
                retry_at=retry_at,
                awaits=awaits,
                version=version,
            )

    def arrived(self, digests: Sequence[bytes]) -> None:
        """Rows came that parked changes may wait for: whoever waits for one is due now."""
        with self._ledger() as ledger:
            awaiting.arrived(ledger, self._pipeline, digests)

    def put_off(self, failures: Sequence[int]) -> None:
        """These are no longer due: they stand behind others, which make them due."""
        with self._ledger() as ledger:
            awaiting.put_off(ledger, failures)

    def due_by_mapping(self, mapping: str, version: str) -> int:
        """Changes that were tried with another version of the mapping only are due; how many."""
        with self._ledger() as ledger:
            return awaiting.due_by_mapping(ledger, self._pipeline, mapping, version)

    def edited(
        self,
        failure: int,
        payload: Mapping[str, object],
        lanes: Sequence[bytes],
        *,
        actor: str,
        reason: str,
    ) -> None:
        """Give a parked change another payload; the one before is kept."""
        with self._ledger() as ledger:
            edits.edit(ledger, failure, payload, lanes, actor=actor, reason=reason)

    def reseal(self, kept: Kept, payload: Mapping[str, object]) -> None:
        """The same payload of a change, or of an edit of it, with its values sealed anew."""
        with self._ledger() as ledger:
            payloads.reseal(ledger, kept, payload)

    def trip(self, reason: str) -> None:
        """Note that the breaker has stopped the pipeline, and why."""
        with self._ledger() as ledger:
            breaker.trip(ledger, self._pipeline, reason)

    def resume(self, seconds: float) -> bool:
        """The pipeline goes on, and for so long it is not stopped again; whether it was stopped."""
        with self._ledger() as ledger:
            return breaker.resume(ledger, self._pipeline, seconds)

    def supersede(self, mapping: str) -> int:
        """A truncate undid every parked change of the mapping; their number."""
        with self._ledger() as ledger:
            return failures.supersede(ledger, self._pipeline, "a truncate", mapping=mapping)
