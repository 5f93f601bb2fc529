"""Changes that were read of a log and not yet taken away as a batch.

A transaction is opened, gets its runs, and is closed; what is taken is whole transactions, or a
piece of an open one that alone fills a batch. Not in here: what events mean (decoder.py).
"""

from __future__ import annotations

from collections.abc import Iterable

from cdc_daemon.model.changes import Batch, Begin, Run
from cdc_daemon.model.runs import cut, extend


class Collected:
    """Runs in the order of the log, and which transaction each of their changes stands in."""

    def __init__(self, *, piece_rows: int, piece_bytes: int) -> None:
        self._piece_rows = piece_rows
        self._piece_bytes = piece_bytes
        self._runs: list[Run] = []
        self._next = 0  # the ordinal of the next change
        self._base = 0  # of the first change that was not taken yet
        self._size = 0
        self._open: Begin | None = None
        self._begins: list[Begin] = []  # of closed transactions with changes
        self._closed = 0  # ordinal after the last change of a closed transaction
        self._closed_size = 0
        self._commit_time = 0
        self._beside = _Beside()

    @property
    def waiting(self) -> int:
        """Changes read and not taken yet."""
        return self._next - self._base

    @property
    def full(self) -> bool:
        """Whether a piece's limit is reached."""
        return self.waiting >= self._piece_rows or self._size >= self._piece_bytes

    @property
    def complete(self) -> bool:
        """Whether a whole transaction with changes waits to be taken."""
        return bool(self._begins)

    @property
    def quiet(self) -> bool:
        """Whether nothing waits, and no transaction is open."""
        return self._open is None and not self.waiting

    @property
    def touched(self) -> bool:
        """Whether the open transaction has changes."""
        return self._open is not None

    def open(self, mark: int, time: int) -> None:
        """A transaction begins, unless it has begun; ``time``: its commit's, µs since 1970."""
        if self._open is None:
            self._open = (self._next, mark, time)

    def add(self, runs: Iterable[Run], size: int) -> None:
        """The open transaction's next changes; their ordinals are given here."""
        runs = [run for run in runs if len(run)]
        if not runs:
            return
        for run in runs:
            run.sequence = self._next
            self._next += len(run)
            self._beside.add(run)
            extend(self._runs, run)
        self._size += size

    def close(self) -> None:
        """The open transaction, if there is one, was committed."""
        if self._open is not None and self._next > self._open[0]:
            self._begins.append(self._open)
            self._closed, self._closed_size = self._next, self._size
            self._commit_time = self._open[2]
            self._beside.close(self._next - self._open[0])
        self._open = None

    def take(self, position: object) -> Batch | None:
        """What is complete, up to that position (its text is made here), or a piece of an open
        transaction."""
        if self._begins:
            return self._take_closed(str(position))
        if self._open is not None and self.full:
            return self._take_piece(self._open)
        return None

    def _take_closed(self, position: str) -> Batch:
        runs, self._runs = cut(self._runs, self._closed)
        transactions, changes = self._beside.take()
        batch = Batch(
            runs=runs,
            begins=self._begins,
            position=position,
            commit_time=self._commit_time,
            transactions=len(self._begins) - transactions,
            changes=self._closed - self._base - changes,
            size=self._closed_size,
        )
        self._base = self._closed
        self._size -= self._closed_size
        self._begins, self._closed_size = [], 0
        return batch

    def _take_piece(self, opened: Begin) -> Batch:
        batch = Batch(
            runs=self._runs,
            begins=[opened],
            changes=self._next - self._base - self._beside.take_piece(),
            size=self._size,
        )
        self._runs, self._size, self._base = [], 0, self._next
        return batch


class _Beside:
    """How much of what waits is of tables that nobody maps, which does not count."""

    def __init__(self) -> None:
        self._all = 0  # changes of the open transaction, those of taken pieces too
        self._open = 0  # those that were not taken
        self._changes = 0  # of closed transactions
        self._transactions = 0

    def add(self, run: Run) -> None:
        if not run.relation.mapped:
            self._all += len(run)
            self._open += len(run)

    def close(self, changes: int) -> None:
        """The open transaction, of so many changes, was committed."""
        self._transactions += self._all == changes
        self._changes += self._open
        self._all = self._open = 0

    def take(self) -> tuple[int, int]:
        """Closed transactions with nothing else in them, and changes, since it was last asked."""
        found = self._transactions, self._changes
        self._transactions = self._changes = 0
        return found

    def take_piece(self) -> int:
        """Changes of a piece of the open transaction."""
        found, self._open = self._open, 0
        return found
