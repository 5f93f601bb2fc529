"""Sorting and looking up in bounded memory: what comes out is what went in, in order."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import closing
from operator import itemgetter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc_daemon.model.errors import Retryable
from cdc_daemon.verify import sorting
from cdc_daemon.verify.known_keys import KnownKeys
from cdc_daemon.verify.sorting import Sorter

Rows = list[tuple[bytes | None, ...]]


def sorted_by_runs(rows: Rows, *, run: int, fan_in: int) -> Rows:
    """The rows sorted by their first value, in runs of so many rows."""
    with pytest.MonkeyPatch.context() as patch, closing(Sorter(itemgetter(0))) as sorter:
        patch.setattr(sorting, "RUN_ROWS", run)
        patch.setattr(sorting, "_FAN_IN", fan_in)
        for row in rows:
            sorter.add([row], 1)
        return list(sorter.sorted())


@settings(max_examples=50, deadline=None)
@given(
    keys=st.lists(st.binary(max_size=2), max_size=60),
    run=st.integers(1, 7),
    fan_in=st.integers(2, 4),
)
def test_rows_come_sorted_and_equal_keys_in_their_order(
    keys: Sequence[bytes], run: int, fan_in: int
) -> None:
    rows: Rows = [(key, None, b"%d" % n) for n, key in enumerate(keys)]
    assert sorted_by_runs(rows, run=run, fan_in=fan_in) == sorted(rows, key=itemgetter(0))


def test_large_rows_are_read_back_one_by_one() -> None:
    rows: Rows = [(b"%03d" % n, b"x" * 300_000) for n in range(7)]
    assert sorted_by_runs(rows[::-1], run=3, fan_in=2) == rows
    assert len(list(sorting._blocks(rows))) == 7


def test_a_full_disk_is_told_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sorting, "RUN_ROWS", 1)
    with closing(Sorter(itemgetter(0))) as sorter:
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(Retryable, match="No space left on device") as told:
            sorter.add([(b"1",)], 1)
    assert "TMPDIR" in str(told.value.hint)


def test_keys_are_found_by_identity_and_the_first_of_two_counts() -> None:
    with closing(KnownKeys()) as known:
        known.put([(b"%d" % n, b"K%d" % n) for n in range(1200)])
        known.put([(b"7", b"other"), (b"\xff", b"")])
        asked = [b"%d" % n for n in range(0, 2400, 2)]
        assert known.get(asked) == {b"%d" % n: b"K%d" % n for n in range(0, 1200, 2)}
        assert known.get([b"7", b"\xff", b""]) == {b"7": b"K7", b"\xff": b""}
