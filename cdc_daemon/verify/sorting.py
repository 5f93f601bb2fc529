"""Rows sorted in bounded memory: sorted runs in a temporary file without a name, then merged.

Equal keys keep the order in which they came. Nothing of a row stays when the process ends.
"""

from __future__ import annotations

import heapq
import marshal
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any, Final

from cdc_daemon.model.errors import Retryable
from cdc_daemon.verify.reading import Texts

RUN_ROWS: Final = 40_000
RUN_BYTES: Final = 16 << 20
_FAN_IN: Final = 32  # runs that are merged at once
_BLOCK: Final = 64  # rows that are read back at once, as far as they are not large
_LARGE: Final = 256 << 10  # bytes
_FORMAT: Final = 2  # of marshal: the last one that remembers no objects

Run = list[tuple[int, int]]
"""Where the blocks of a sorted run stand: offset and length."""


class Sorter:
    """Takes rows in, and gives them sorted by a key. To be closed."""

    def __init__(self, key: Callable[[Texts], Any]) -> None:
        self._key = key
        self._rows: list[Texts] = []
        self._bytes = 0
        self._levels: list[list[Run]] = []  # runs of runs of runs …
        with _room():
            self._file = tempfile.TemporaryFile(prefix="cdc-verify-", buffering=0)  # noqa: SIM115 - close() does

    def add(self, rows: Sequence[Texts], each: int) -> None:
        """Some more rows; ``each``: the bytes of one, about."""
        self._rows += rows
        self._bytes += each * len(rows)
        if len(self._rows) >= RUN_ROWS or self._bytes >= RUN_BYTES:
            self._rows.sort(key=self._key)
            self._put(self._written(self._rows), 0)
            self._rows, self._bytes = [], 0

    def sorted(self) -> Iterator[Texts]:
        """All rows; once."""
        rows, self._rows = self._rows, []
        rows.sort(key=self._key)
        earlier_first = chain.from_iterable(reversed(self._levels))
        return self._merged([*map(self._read, earlier_first), rows])

    def close(self) -> None:
        """Forget everything."""
        self._file.close()

    def _put(self, run: Run, level: int) -> None:
        """Keep a run; as many as are merged at once become one of the next level."""
        if level == len(self._levels):
            self._levels.append([])
        runs = self._levels[level]
        runs.append(run)
        if len(runs) == _FAN_IN:
            self._levels[level] = []
            self._put(self._written(self._merged(list(map(self._read, runs)))), level + 1)

    def _merged(self, runs: Sequence[Iterable[Texts]]) -> Iterator[Texts]:
        return heapq.merge(*runs, key=self._key)

    def _written(self, rows: Iterable[Texts]) -> Run:
        run: Run = []
        left = iter(rows)
        with _room():
            while some := list(islice(left, _BLOCK)):
                for data in _blocks(some):
                    run.append((os.lseek(self._file.fileno(), 0, os.SEEK_END), len(data)))
                    _write(self._file.fileno(), data)
        return run

    def _read(self, run: Run) -> Iterator[Texts]:
        for offset, length in run:
            data = os.pread(self._file.fileno(), length, offset)
            yield from marshal.loads(data)  # noqa: S302 - what this object wrote, in no one's reach


def _blocks(rows: list[Texts]) -> Iterator[bytes]:
    """Rows as bytes, large ones by themselves."""
    data = marshal.dumps(rows, _FORMAT)
    if len(data) <= _LARGE or len(rows) == 1:
        yield data
        return
    half = len(rows) // 2
    yield from _blocks(rows[:half])
    yield from _blocks(rows[half:])


def _write(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise no_room(str(error.strerror)) from error


def no_room(why: str) -> Retryable:
    """The error for a temporary file that cannot be written."""
    return Retryable(
        f"verification cannot write a temporary file: {why}",
        hint=f"make room in {tempfile.gettempdir()}, or set TMPDIR to another folder: the rows of "
        "the largest mapped table must fit in",
    )
