"""``failures``: the failure queue. The group, and ``list``, ``show`` and ``stats``, which look."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

import click

from cdc_daemon.cli import (
    differing,
    editing,
    exporting,
    importing,
    keys,
    purging,
    resuming,
    settling,
)
from cdc_daemon.cli.given import Given, output_option, pass_given, shared_options
from cdc_daemon.cli.output import ago, print_json, print_table, row_value, words
from cdc_daemon.cli.parked import (
    IMAGES,
    SHOWN,
    all_there,
    control_of,
    show_changes,
    to_dict,
)
from cdc_daemon.cli.revealing import View, clear_option
from cdc_daemon.cli.selecting import Chosen, selection_options
from cdc_daemon.model.selection import STATES, Selection, Tally

_state = click.option(
    "--state",
    type=click.Choice([*STATES, "any"]),
    default="parked",
    show_default=True,
    help="What has become of it.",
)


@click.group()
def failures() -> None:
    """Show and settle parked changes."""


_COMMANDS: tuple[click.Command, ...] = (
    differing.diff,
    editing.edit,
    exporting.export,
    importing.import_,
    keys.keys,
    keys.new_key,
    keys.rotate_key,
    resuming.resume,
    settling.retry,
    settling.skip,
    settling.resync,
    purging.purge,
)
for _command in _COMMANDS:
    failures.add_command(_command)


@failures.command("list")
@shared_options
@output_option
@selection_options
@_state
@click.option("--limit", type=click.IntRange(min=1), default=SHOWN, show_default=True)
@clear_option
@pass_given
def list_(given: Given, chosen: Chosen, state: str, limit: int, clear: bool) -> None:
    """List changes of the failure queue in source order.

    Row values are in the JSON only; sensitive ones are masked.
    """
    configuration = given.load_for_control()
    view = View(configuration, clear=clear)
    with control_of(configuration) as control:
        found = control.failures(chosen.selection(configuration, _wanted(state)), limit + 1)
        shown = view.shown(control, found[:limit], "list")
    if not found:
        chosen.check_names(configuration)
    show_changes(given, shown)
    if len(found) > limit:
        words(f"there are more than these {limit}; see --limit")


@failures.command()
@shared_options
@output_option
@click.argument("number", metavar="ID", type=click.IntRange(min=1))
@clear_option
@pass_given
def show(given: Given, number: int, clear: bool) -> None:
    """Show one change with its row images, and who edited it; sensitive values are masked."""
    configuration = given.load_for_control()
    view = View(configuration, clear=clear)
    with control_of(configuration) as control:
        found = control.failures(Selection(ids=(number,), state=None))
        all_there([number], found)
        edits = control.edits(number)
        found = view.shown(control, found, "show")
    plain = to_dict(found[0])
    if given.output == "json":
        told = [{"at": one.edited_at, "actor": one.actor, "reason": one.reason} for one in edits]
        print_json({**plain, "edits": told})
        return
    print_table(("FIELD", "VALUE"), [pair for pair in plain.items() if pair[0] != "payload"])
    for image, row in _images(plain):
        if isinstance(row, dict):
            click.echo()
            shown = [(name, row_value(value)) for name, value in row.items()]
            print_table((f"{image.upper()} COLUMN", "VALUE"), shown)
    if edits:
        click.echo()
        rows = [(one.edited_at, one.actor, one.reason) for one in edits]
        print_table(("EDITED", "ACTOR", "REASON"), rows)


def _images(plain: Mapping[str, object]) -> list[tuple[str, object]]:
    payload = plain["payload"]
    return [(name, payload.get(name)) for name in IMAGES] if isinstance(payload, dict) else []


@failures.command()
@shared_options
@output_option
@selection_options
@_state
@pass_given
def stats(given: Given, chosen: Chosen, state: str) -> None:
    """Count changes by pipeline, entity and error, with the age of the oldest.

    LANES: rows and keys that parked changes of the pipeline block.
    """
    configuration = given.load_for_control()
    with control_of(configuration) as control:
        tallies = control.tallies(chosen.selection(configuration, _wanted(state)))
        blocked = control.blocked()
    if not tallies:
        chosen.check_names(configuration)
    if given.output == "json":
        print_json(statistics(tallies, blocked))
        return
    print_table(
        ("PIPELINE", "ENTITY", "ERROR", "STATE", "CHANGES", "OLDEST"),
        [(t.pipeline, t.entity, t.error, t.state, t.number, ago(t.oldest)) for t in tallies],
    )
    click.echo()
    print_table(("PIPELINE", "LANES"), sorted(blocked.items()))


def statistics(tallies: Sequence[Tally], blocked: Mapping[str, int]) -> dict[str, object]:
    """What ``stats`` says, JSON-ready but for times; ages in seconds."""
    now = dt.datetime.now(dt.UTC)
    return {
        "changes": [
            {
                "pipeline": one.pipeline,
                "entity": one.entity,
                "error_code": one.error,
                "state": one.state,
                "number": one.number,
                "oldest": one.oldest,
                "oldest_seconds": max(0, round((now - one.oldest).total_seconds())),
            }
            for one in tallies
        ],
        "total": sum(one.number for one in tallies),
        "blocked_lanes": dict(blocked),
    }


def _wanted(state: str) -> str | None:
    return None if state == "any" else state
