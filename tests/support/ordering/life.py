"""One life of a pipeline whose target refuses rows: what happens to it, and what must hold.

Engine, units of work and failure queue are the real ones, and so is the control database.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from hypothesis import note

from cdc_daemon.engine.meter import Meter
from cdc_daemon.model.changes import Operation
from cdc_daemon.model.errors import LateFailure, Unreachable
from tests.support.ordering.model import Model, ids
from tests.support.ordering.source import Habits, Versioned, VersionedSource
from tests.support.ordering.stage import Session, Stage, lanes_agree
from tests.support.ordering.traces import Order
from tests.support.ordering.traps import Crash, trap
from tests.support.simulation import TABLES, Change, Texts

_ROUNDS: Final = 20
_STRANDED: Final = """
    SELECT f.id FROM cdc.failure f
     WHERE f.state = 'parked' AND f.error_code = 'waiting' AND f.retry_at IS NULL AND NOT EXISTS (
        SELECT 1 FROM cdc.failure_lane mine JOIN cdc.failure_lane other
            ON other.digest = mine.digest AND other.failure < mine.failure
         WHERE mine.failure = f.id) AND NOT EXISTS (
        SELECT 1 FROM cdc.failure_await mine JOIN cdc.failure_lane other
            ON other.digest = mine.digest AND other.failure < mine.failure
         WHERE mine.failure = f.id)"""
"""What waits behind nothing, and is not due."""


class Life:
    """``applied``: transactions; ``edits``: values by a change's ordinal; ``given_up``: something
    was skipped or edited, so that the target need not become the source. ``tally``: of all lives.
    """

    def __init__(self, stage: Stage, habits: Habits, tally: Counter[str]) -> None:
        stage.clear()
        self.stage = stage
        self.tally = tally
        self.source = VersionedSource(Versioned(habits))
        self.order = Order()
        self.applied = 0
        self.edits: dict[int, Texts] = {}
        self.given_up = False
        self._void: set[int] = set()  # skips and edits that are undone: the row was read again
        self._restored: set[int] = set()
        self._last_trace = 0
        self.session = Session(stage, self.source, Meter("erp", {}))
        self.session.copied()
        self.restart()
        tally["examples"] += 1

    # --- source and stream ------------------------------------------------------------------------

    def commit(self, draw: random.Random) -> None:
        """One transaction of the source."""
        history = self.source.history
        before = len(history.log)
        history.commit(draw)
        self.tally["transactions"] += 1
        for ordinal, one in enumerate(history.log[before:], before):
            note(f"{ordinal}: {one.table} {one.operation.value} {one.old} -> {one.new}")

    @property
    def pending(self) -> int:
        """Transactions that the source has committed and nobody has applied."""
        return len(self.source.history.transactions) - self.applied

    def apply(self, number: int, *, pieces: bool) -> None:
        """So many transactions as one batch, or one in pieces, again until it goes."""
        for _ in range(_ROUNDS):
            number = min(1 if pieces else number, self.pending)
            if not number:
                return
            try:
                self._carry_out(number, pieces=pieces)
            except LateFailure:
                self._recover()
            else:
                self.applied += number
                return
        raise AssertionError("the unit of work never settles")

    def _carry_out(self, number: int, *, pieces: bool) -> None:
        source, first = self.source, self.applied
        whole = source.batch(first, first + number - 1)
        batches = source.pieces(first) if pieces else iter([whole])
        self.session.pipeline._carry_out(next(batches), batches, self.session.stream)

    @contextmanager
    def crashing(self, point: str, passes: int) -> Iterator[None]:
        """The process ends at that point, and another one begins."""
        try:
            with trap(point, passes, Crash()):
                yield
        except Crash:
            self.tally["crashes"] += 1
            self.restart()

    @contextmanager
    def losing(self, point: str, passes: int) -> Iterator[None]:
        """The connection breaks at that point, and the same process goes on."""
        try:
            with trap(point, passes, Unreachable("gone")):
                yield
        except Unreachable:
            self.tally["interruptions"] += 1
            self._recover()

    def restart(self) -> None:
        """Another process, with what the ledger tells it."""
        self.session.end()
        self.session = Session(self.stage, self.source, Meter("erp", {}))
        self.session.begin()
        self.applied = int(self.session.checkpoint.position or 0)

    def _recover(self) -> None:
        assert int(self.session.recover().position or 0) == self.applied

    # --- commands ---------------------------------------------------------------------------------

    def parked(self) -> list[int]:
        """The ids of what is parked."""
        return [number for number, _, _, state, *_ in self.stage.queue() if state == "parked"]

    def picked(self, picks: Collection[int]) -> list[int]:
        """Some of them."""
        found = self.parked()
        return sorted({found[pick % len(found)] for pick in picks})

    def ask(self, verb: str, arguments: dict[str, object]) -> dict[str, Any]:
        """A command that is carried out at once; its result."""
        command = self.session.ask(verb, arguments)
        self.session.parts.repairs.run_commands(self.session.checkpoint, hurried=False)
        done = self.stage.control.command(command)
        assert done.state == "done", (verb, done.result)
        return done.result or {}

    def skip(self, numbers: Sequence[int]) -> None:
        """Give these up, but for changes of identity: one that is given up leaves two rows of one,
        and between the changes of these there is no order."""
        log, ordinals = self.source.history.log, self._ordinals()
        meant = [number for number in numbers if not _moves(log[ordinals[number]])]
        if meant:
            self.give_up(meant)

    def give_up(self, numbers: Sequence[int]) -> None:
        """Give these up, whatever they are."""
        self.given_up = True
        self.ask("skip", {"ids": list(numbers), "reason": "r"})

    def edit(self, number: int, text: str, key: str | None = None) -> None:
        """Another note, a name that the mapping takes, and another entity key if told so."""
        ordinal = self._ordinals()[number]
        table = self.source.history.log[ordinal].table
        values: Texts = {"note": text}
        if table != "orders":
            values["name"] = "ok"
        if key is not None and table != "item":
            values["number"] = key
            self.order.taken.add(key)
        edits = [{"id": number, "values": values}]
        if self.ask("edit", {"edits": edits, "reason": "r"})["edited"]:
            self.given_up = True
            self.edits[ordinal] = {**self.edits.get(ordinal, {}), **values}
            self.tally["edited"] += 1

    def resync(self, numbers: Sequence[int]) -> None:
        """The log goes on meanwhile until it has passed what was read."""
        command = self.session.ask("resync", {"ids": list(numbers), "reason": "r"})
        for _ in range(_ROUNDS):
            self.session.turn()
            if self.stage.control.command(command).state != "pending":
                self._restore()
                return
            if self.pending:
                self.apply(4, pieces=False)
            else:
                self.session.idle(str(self.applied))
        raise AssertionError("resync does not end")

    def _restore(self) -> None:
        """What was skipped or edited before of rows that were read again is void."""
        log, states = self.source.history.log, self._states()
        again = {n for n, state in states.items() if state == "resynced"}
        settled = [n for n, state in states.items() if state != "parked"]
        for table in TABLES:
            for row in ids(log, again - self._restored, table):
                begun = self._left_behind(table, row, states)
                self._void |= {n for n in settled if n > begun and row in ids(log, [n], table)}
        self._restored |= again

    def _left_behind(self, table: str, row: str | None, states: dict[int, str]) -> int:
        """Where a row's delete was given up and its id came back, the last time; -1: nowhere. What
        was written before is nobody's since then, and stays when the row is read again."""
        log = self.source.history.log
        came = [
            n
            for n, change in enumerate(log)
            if change.table == table
            and change.operation is Operation.INSERT
            and change.new is not None
            and change.new["id"] == row
            and states.get(n) in (None, "replayed")
        ]
        given_up = [
            n
            for n, state in states.items()
            if state == "skipped"
            and log[n].operation is Operation.DELETE
            and row in ids(log, [n], table)
            and any(n < later for later in came)
        ]
        return max(given_up, default=-1)

    def _ordinals(self) -> dict[int, int]:
        """Which change of the log each one of the queue is."""
        queue = self.stage.queue()
        found = {row[0]: self.source.ordinal(row[1], row[2]) for row in queue}
        assert len(set(found.values())) == len(found), "a change is in the queue twice"
        return found

    def _states(self) -> dict[int, str]:
        """What became of each change of the queue, by its ordinal."""
        ordinals = self._ordinals()
        return {ordinals[row[0]]: row[3] for row in self.stage.queue()}

    # --- what must hold ---------------------------------------------------------------------------

    def check(self) -> None:
        """The target is what took effect, in the log's order; nothing else is held; what really
        happened never goes back."""
        self.tally["steps"] += 1
        self._check_content()
        self._check_trace()
        assert not lanes_agree(self.session), "memory and failure queue do not block the same"
        stranded = self.stage.execute(_STRANDED).fetchall()
        assert not stranded, f"{stranded} wait for nothing"

    def _check_content(self) -> None:
        states = self._states()
        skipped = {n for n, state in states.items() if state == "skipped"} - self._void
        out = {n for n, state in states.items() if state == "parked"} | skipped
        edits = {n: one for n, one in self.edits.items() if n not in out | self._void}
        log = self.source.history.log[: self.source.applied(self.applied)]
        model = Model(log, out, edits, self.source.handed, states)
        for table in TABLES:
            model.check(table, self.stage.rows(table))

    def _check_trace(self) -> None:
        self._last_trace, traces = self.stage.traces(self._last_trace)
        rows = [row for some in self.source.handed.values() for row in some if row is not None]
        self.order.follow(traces, {int(row["version"] or 0) for row in rows})

    # --- the end ----------------------------------------------------------------------------------

    def settle(self) -> None:
        """Everything is accepted and tried again: the target is the source, but for what somebody
        gave up."""
        self.stage.accept()
        while self.pending:
            self.apply(4, pieces=False)
        self._exhaust(lambda: self.ask("retry", {}))
        self._exhaust(lambda: self.resync(self.parked()))
        self.tally["stuck"] += len(self.parked())
        for number in self.parked():
            if number in self.parked():
                self.edit(number, "fine")
                self._exhaust(lambda: self.ask("retry", {}))
        while left := self.parked():
            self.give_up(left[:1])
            self._exhaust(lambda: self.ask("retry", {}))
        self.check()
        self._count()
        if not self.given_up:
            self._check_source()

    def _exhaust(self, attempt: Callable[[], object]) -> None:
        """Again as long as that settles anything."""
        before = -1
        while len(left := self.parked()) != before and left:
            before = len(left)
            attempt()
            self.stage.let_time_pass()
            self.session.turn()

    def _count(self) -> None:
        self.tally["writes"] += self.order.seen
        for row in self.stage.queue():
            self.tally["parked"] += 1
            self.tally[row[3]] += 1

    def _check_source(self) -> None:
        model = Model(self.source.history.log, (), {}, {}, self._states())
        for table in TABLES:
            model.check(table, self.stage.rows(table))


def _moves(change: Change) -> bool:
    old, new = change.old, change.new
    return old is not None and new is not None and old["id"] != new["id"]
