"""``checkpoint show``: how far every pipeline is, as the control database has it."""

from __future__ import annotations

import dataclasses

import click

from cdc_daemon.cli.given import Given, known_name, output_option, pass_given, shared_options
from cdc_daemon.cli.output import ago, print_json, print_table
from cdc_daemon.model.position import Checkpoint

_HEAD = (
    "PIPELINE",
    "PHASE",
    "POSITION",
    "COMMITTED",
    "TRANSACTIONS",
    "CHANGES",
    "EPOCH",
    "HOLDER",
    "SEEN",
)


@click.group()
def checkpoint() -> None:
    """Show the checkpoints."""


@checkpoint.command()
@shared_options
@output_option
@click.option("--pipeline", metavar="NAME", help="Only this pipeline.")
@pass_given
def show(given: Given, pipeline: str | None) -> None:
    """Show position, counters and holder of every pipeline."""
    from cdc_daemon import build

    configuration = given.load_for_control()
    control = build.make_control(configuration)
    try:
        every = control.checkpoints()
    finally:
        control.close()
    known_name("pipeline", pipeline, {*configuration.sources, *(one.pipeline for one in every)})
    found = [one for one in every if pipeline in (None, one.pipeline)]
    if given.output == "json":
        print_json([to_dict(one) for one in found])
    else:
        print_table(_HEAD, [_row(one) for one in found])


def to_dict(found: Checkpoint) -> dict[str, object]:
    """JSON-ready but for its times."""
    return {**dataclasses.asdict(found), "phase": found.phase.value}


def _row(found: Checkpoint) -> tuple[object, ...]:
    return (
        found.pipeline,
        found.phase.value,
        found.position,
        found.commit_time,
        found.transactions,
        found.changes,
        found.epoch,
        found.holder,
        ago(found.seen_at),
    )
