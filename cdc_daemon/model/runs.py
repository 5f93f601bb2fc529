"""Runs joined and cut: what every decoder does with the runs that it makes. Pure."""

from __future__ import annotations

from dataclasses import replace

from cdc_daemon.model.changes import Operation, Run


def alike(last: Run, run: Run) -> bool:
    """Whether two neighbouring runs may be one."""
    return (
        last.relation is run.relation
        and last.operation is run.operation
        and last.partial == run.partial
        and last.old_full == run.old_full
        and last.acts == run.acts
        and (last.old_rows is None) == (run.old_rows is None)
        and run.operation is not Operation.TRUNCATE
    )


def extend(runs: list[Run], run: Run) -> None:
    """Append a run, or make the last one longer where it is of the same kind."""
    last = runs[-1] if runs else None
    if last is None or not alike(last, run):
        runs.append(run)
        return
    last.new_rows += run.new_rows
    if last.old_rows is not None and run.old_rows is not None:
        last.old_rows += run.old_rows


def cut(runs: list[Run], ordinal: int) -> tuple[list[Run], list[Run]]:
    """Runs before and from a change on; a run that spans it is divided."""
    before = [run for run in runs if run.sequence < ordinal]
    after = [run for run in runs if run.sequence >= ordinal]
    if before and before[-1].sequence + len(before[-1]) > ordinal:
        run = before.pop()
        at = ordinal - run.sequence
        news, olds = run.new_rows, run.old_rows
        before.append(replace(run, new_rows=news[:at], old_rows=olds and olds[:at]))
        rest = replace(run, new_rows=news[at:], old_rows=olds and olds[at:], sequence=ordinal)
        after.insert(0, rest)
    return before, after
