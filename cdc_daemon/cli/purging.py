"""``failures purge``: settled changes leave the failure queue."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import click

from cdc_daemon.cli.given import Given, output_option, pass_given, shared_options
from cdc_daemon.cli.output import print_json, words
from cdc_daemon.cli.parked import control_of, dry_option, timeout_option, yes_option
from cdc_daemon.cli.selecting import Chosen, Duration, selection_options
from cdc_daemon.model.errors import EXIT_OK
from cdc_daemon.model.ports import Control
from cdc_daemon.model.selection import STATES, Selection


@click.command()
@shared_options
@output_option
@selection_options
@click.option(
    "--older-than",
    metavar="TIME",
    type=Duration(),
    required=True,
    help="What was settled longer ago: 12h, 90d, 4w.",
)
@click.option(
    "--state", type=click.Choice(STATES[1:]), help="Only what came to that.  [default: any]"
)
@dry_option
@timeout_option
@yes_option
@pass_given
def purge(
    given: Given,
    chosen: Chosen,
    older_than: dt.timedelta,
    state: str | None,
    dry_run: bool,
    timeout: float,
    yes: bool,
) -> int:
    """Delete changes that were settled long ago, with their row images and edits.

    What is parked is never deleted. By itself: `failures.keep_settled` in the configuration.
    """
    configuration = given.load_without_keys()
    settled = dt.datetime.now(dt.UTC) - older_than
    selection = replace(chosen.selection(configuration, state), settled=settled)
    with control_of(configuration) as control:
        counts = _counts(control, selection)
        total = sum(counts.values())
        if not total:
            chosen.check_names(configuration)
            words("nothing is settled so long ago")
        elif dry_run:
            words(f"{total} settled changes; nothing was done")
        elif not given.confirm(f"Delete {total} settled changes for good?", yes=yes):
            return EXIT_OK
        purged = 0
        for pipeline in () if dry_run else counts:
            from cdc_daemon.cli.commanding import command

            arguments = replace(selection, pipeline=pipeline).to_dict()
            done = command(configuration, control, pipeline, "purge", arguments, timeout)
            purged += int(str(done.get("purged", 0)))
    if given.output == "json":
        print_json({"meant": total, "purged": purged})
    elif total and not dry_run:
        words(f"{purged} settled changes were deleted")
    return EXIT_OK


def _counts(control: Control, selection: Selection) -> dict[str, int]:
    """How many are meant, by pipeline."""
    counts: dict[str, int] = {}
    for one in control.tallies(selection):
        counts[one.pipeline] = counts.get(one.pipeline, 0) + one.number
    return counts
