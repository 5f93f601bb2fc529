"""A PostgreSQL control database whose clock goes back: no row is swept or written over for it.

The step is made in the ledger: what it knows of before lies ahead of the clock then.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cdc_daemon.model.changes import Row
from cdc_daemon.model.effects import Upsert
from cdc_daemon.model.errors import Retryable
from cdc_daemon.model.position import Phase, SourceIdentity
from cdc_daemon.sinks.postgres import PostgresSink
from cdc_daemon.sinks.postgres.unit import PostgresUnit
from tests.contract.postgres_target import PostgresTarget
from tests.contract.shapes import MATERIALS

IDENTITY = SourceIdentity(system="1", timeline=1, database="d", publication="p")
SEEN: Row = (b"seen", None, None)
GONE: Row = (b"gone", None, None)
PAGE = Path(__file__).parents[3] / "docs" / "operations" / "clock-set-back.md"


End = Callable[[PostgresUnit], None]


def _hold(_: PostgresUnit) -> None:
    """A unit that moves no checkpoint."""


def _save(unit: PostgresUnit) -> None:
    unit.save_checkpoint("0/9", commit_time=None, transactions=1, changes=1)


def _group(unit: PostgresUnit) -> None:
    unit.save_snapshot({MATERIALS.mapping: 1})


def _finish(unit: PostgresUnit) -> None:
    unit.finish_snapshot([MATERIALS], IDENTITY, "0/9")


def write(sink: PostgresSink, *rows: Row, end: End = _hold) -> None:
    with sink.begin() as unit:
        unit.apply([Upsert(layout=MATERIALS, rows=list(rows))])
        end(unit)


def set_back(target: PostgresTarget, *, seconds: int) -> None:
    """The clock goes back, or, with a negative number, is put right again."""
    for table, moments in (
        ("cdc.checkpoint", ("generation_started", "updated_at")),
        ("material", ("last_sync_time",)),
    ):
        moved = ", ".join(f"{name} = {name} + make_interval(secs => %s)" for name in moments)
        target.database.execute(f"UPDATE {table} SET {moved}", *[seconds] * len(moments))


@pytest.mark.parametrize("end", [_hold, _save, _group, _finish])
def test_no_unit_commits_before_the_copy_began(
    target: PostgresTarget, sink: PostgresSink, end: End
) -> None:
    """FAULT 38: its rows would count as left behind. It goes on when the clock is past that."""
    sink.begin_generation("slot", IDENTITY)
    write(sink, SEEN)
    set_back(target, seconds=30)
    behind = r"clock stands \d\d\.\d s before .*copy began"
    with pytest.raises(Retryable, match=behind) as caught:
        write(sink, GONE, end=end)
    assert "clock-set-back.md" in str(caught.value)
    assert set(target.living(MATERIALS)) == {(b"seen",)}
    set_back(target, seconds=-30)
    write(sink, GONE)  # over the same session
    write(sink, end=_finish)
    assert set(target.living(MATERIALS)) == {(b"seen",), (b"gone",)}


def test_no_copy_begins_before_what_was_written(target: PostgresTarget, sink: PostgresSink) -> None:
    """Or the rows of before would pass for its own, and nothing would ever sweep them."""
    write(sink, SEEN, GONE)
    set_back(target, seconds=30)
    with pytest.raises(Retryable, match=r"clock stands \d\d\.\d s before .*last wrote"):
        sink.begin_generation("slot", IDENTITY)
    assert target.control().checkpoints()[0].phase is Phase.NEW
    set_back(target, seconds=-30)
    sink.begin_generation("slot", IDENTITY)
    write(sink, SEEN)
    write(sink, end=_finish)
    assert set(target.living(MATERIALS)) == {(b"seen",)}


def test_what_was_written_before_a_step_is_remembered(
    target: PostgresTarget, sink: PostgresSink
) -> None:
    """Also when units went through after it: the copy began long ago, so nothing hinders them."""
    sink.begin_generation("slot", IDENTITY)
    write(sink, SEEN, GONE)
    write(sink, end=_finish)
    target.database.execute("UPDATE cdc.checkpoint SET generation_started = '2020-01-01'")
    set_back(target, seconds=30)
    for _ in range(2):
        write(sink, SEEN, end=_save)
        write(sink, SEEN)
    sink.recover()
    with pytest.raises(Retryable, match="last wrote"):
        sink.begin_generation("slot", IDENTITY)


def test_the_cure_of_a_clock_that_was_ahead(target: PostgresTarget, sink: PostgresSink) -> None:
    """What the page says for a clock that is right now: nothing is swept that was written."""
    sink.begin_generation("slot", IDENTITY)
    write(sink, SEEN, GONE)
    write(sink, end=_finish)
    set_back(target, seconds=86_400)
    (script,) = re.findall(r"```sql\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    target.database.execute(script)
    write(sink, SEEN)
    sink.begin_generation("slot", IDENTITY)
    write(sink, SEEN)
    write(sink, end=_finish)
    assert set(target.living(MATERIALS)) == {(b"seen",)}
