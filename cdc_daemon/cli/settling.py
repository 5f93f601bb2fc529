"""``failures retry | skip | resync``: commands to the worker that holds the pipeline.

What happens where there is none, ``commanding`` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from cdc_daemon.cli.given import Given, output_option, pass_given, shared_options
from cdc_daemon.cli.output import words
from cdc_daemon.cli.parked import (
    Meant,
    control_of,
    count,
    dry_option,
    meant_by,
    reason_option,
    report,
    show_only,
    timeout_option,
    yes_option,
)
from cdc_daemon.cli.revealing import View
from cdc_daemon.cli.selecting import Chosen, selection_options
from cdc_daemon.model.errors import EXIT_OK
from cdc_daemon.model.ports import Control

if TYPE_CHECKING:
    from cdc_daemon.config.configuration import Configuration


@click.command()
@shared_options
@output_option
@selection_options
@dry_option
@timeout_option
@yes_option
@pass_given
def retry(given: Given, chosen: Chosen, dry_run: bool, timeout: float, yes: bool) -> int:
    """Apply parked changes again, oldest first.

    Exits 3 if some fail again or wait behind others.
    """
    configuration = given.load_without_keys()
    with control_of(configuration) as control:
        meant = meant_by(chosen, configuration, control)
        if dry_run:
            return show_only(given, control, meant, View(configuration))
        asks = chosen.by_condition and bool(meant.total)
        if asks and not given.confirm(f"Apply {count(meant.total)} again?", yes=yes):
            return EXIT_OK
        results = commanded(configuration, control, meant, "retry", {}, timeout)
    return report(given, results, good=("applied",), bad=("failed", "waiting"))


@click.command()
@shared_options
@output_option
@selection_options
@reason_option
@dry_option
@timeout_option
@yes_option
@pass_given
def skip(
    given: Given, chosen: Chosen, reason: str, dry_run: bool, timeout: float, yes: bool
) -> int:
    """Give parked changes up for good."""
    check_reason(reason)
    configuration = given.load_without_keys()
    with control_of(configuration) as control:
        meant = meant_by(chosen, configuration, control)
        if dry_run:
            return show_only(given, control, meant, View(configuration))
        if meant.total and not given.confirm(f"Give {count(meant.total)} up for good?", yes=yes):
            return EXIT_OK
        results = commanded(configuration, control, meant, "skip", {"reason": reason}, timeout)
    return report(given, results, good=("skipped",), bad=("unknown",))


@click.command()
@shared_options
@output_option
@selection_options
@reason_option
@dry_option
@timeout_option
@yes_option
@pass_given
def resync(
    given: Given, chosen: Chosen, reason: str, dry_run: bool, timeout: float, yes: bool
) -> int:
    """Read the rows of parked changes again at the source, and write them as they are now.

    Every parked change of such a row is settled with that. The pipeline must follow its log; where
    no daemon runs, it does so in here. Exits 3 if some are left.
    """
    from cdc_daemon.cli.commanding import followed

    check_reason(reason)
    configuration = given.load_without_keys()
    with control_of(configuration) as control, ExitStack() as stack:
        meant = meant_by(chosen, configuration, control)
        if dry_run:
            return show_only(given, control, meant, View(configuration))
        if meant.total and not given.confirm(f"Resync {count(meant.total)}?", yes=yes):
            return EXIT_OK
        for pipeline in meant.counts:
            stack.enter_context(followed(configuration, control, pipeline, timeout))
        results = commanded(configuration, control, meant, "resync", {"reason": reason}, timeout)
    for outcome, number in _rows(results).items():
        words(f"rows {outcome}: {number}")
    return report(given, results, good=("resynced",), bad=("left",))


def _rows(results: Sequence[Mapping[str, object]]) -> dict[str, int]:
    """How many rows had which outcome, of all pipelines."""
    found: dict[str, int] = {}
    for result in results:
        rows = result.get("rows")
        for outcome, number in rows.items() if isinstance(rows, dict) else ():
            found[outcome] = found.get(outcome, 0) + int(number)
    return found


def commanded(
    configuration: Configuration,
    control: Control,
    meant: Meant,
    verb: str,
    arguments: Mapping[str, object],
    timeout: float,
) -> list[dict[str, object]]:
    """Have each pipeline carry it out for its own changes; the results."""
    from cdc_daemon.cli.commanding import command

    return [
        command(
            configuration, control, pipeline, verb, {**meant.of(pipeline), **arguments}, timeout
        )
        for pipeline in meant.counts
    ]


def check_reason(reason: str) -> None:
    """UsageError for a reason that says nothing."""
    if not reason.strip():
        raise click.UsageError("--reason must say something")
