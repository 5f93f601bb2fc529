"""``snapshot start | status``: take the first copy again, and how far it is.

``start`` is a command to whoever holds the pipeline: its worker leaves the log and copies; where
none runs, the checkpoint is set here and the next start copies. So it also cures what a start is
refused for.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from cdc_daemon.cli.given import Given, output_option, pass_given, shared_options
from cdc_daemon.cli.output import ago, print_json, print_table, words
from cdc_daemon.model.errors import EXIT_OK
from cdc_daemon.model.ports import Control
from cdc_daemon.model.position import Checkpoint, Phase

if TYPE_CHECKING:
    from cdc_daemon.config.configuration import Configuration

_HEAD = ("PIPELINE", "PHASE", "GENERATION", "STARTED", "MAPPING", "ROWS", "TABLES LEFT")
_WAYS = {
    "copying": "its worker copies now",
    "next start": "the next start copies: cdc-daemon run, or HUP to a daemon that runs",
    "pending": "nothing to do: it has not finished its first copy",
}
_pipelines = click.argument("pipelines", metavar="[PIPELINE]...", nargs=-1)


@click.group()
def snapshot() -> None:
    """Take the first copy again."""


@snapshot.command()
@shared_options
@output_option
@_pipelines
@click.option("--dry-run", is_flag=True, help="Only say which pipelines that would be.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Seconds to wait for the worker.",
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@pass_given
def start(
    given: Given, pipelines: tuple[str, ...], dry_run: bool, timeout: float, yes: bool
) -> int:
    """Copy every mapped table again (of all pipelines unless some are named).

    Rows that the sources no longer have are removed at its end, and what is parked is void. Entity
    tables stay readable all the while.
    """
    from cdc_daemon.cli.run import chosen

    configuration = given.load()
    names = chosen(configuration, pipelines)
    control = _control(configuration)
    try:
        checkpoints = {found.pipeline: found for found in control.checkpoints()}
        streaming = [name for name in names if _is_streaming(checkpoints.get(name))]
        ways = {name: "pending" for name in names if name not in streaming}
        if dry_run:
            ways |= {name: _way(control, name) for name in streaming}
        elif streaming:
            if not given.confirm(f"Copy {', '.join(streaming)} again?", yes=yes):
                return EXIT_OK
            for name in streaming:
                ways[name] = _begin(configuration, control, checkpoints[name], timeout)
    finally:
        control.close()
    _report(given, {name: ways[name] for name in names})
    return EXIT_OK


def _begin(
    configuration: Configuration, control: Control, checkpoint: Checkpoint, timeout: float
) -> str:
    """Have the new generation begun; who copies."""
    from cdc_daemon.cli.commanding import command

    way = _way(control, checkpoint.pipeline)  # afterwards its worker is busy changing sessions
    arguments = {"after": checkpoint.generation}
    command(configuration, control, checkpoint.pipeline, "snapshot", arguments, timeout)
    return way


def _way(control: Control, pipeline: str) -> str:
    return "copying" if control.holder_alive(pipeline) else "next start"


def _is_streaming(checkpoint: Checkpoint | None) -> bool:
    return checkpoint is not None and checkpoint.phase is Phase.STREAMING


def _report(given: Given, ways: Mapping[str, str]) -> None:
    if given.output == "json":
        print_json([{"pipeline": name, "snapshot": way} for name, way in ways.items()])
        return
    print_table(("PIPELINE", "SNAPSHOT"), list(ways.items()))
    for way in dict.fromkeys(ways.values()):
        words(f"{way}: {_WAYS[way]}")


# --- how far it is ------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """One pipeline's snapshot. ``rows``: committed, by mapping; ``tables_left``: as a worker on
    this machine says it, while it copies."""

    pipeline: str
    phase: str
    generation: int = 0
    started: dt.datetime | None = None
    rows: Mapping[str, int] = dataclasses.field(default_factory=dict)
    tables_left: int | None = None


@snapshot.command()
@shared_options
@output_option
@_pipelines
@pass_given
def status(given: Given, pipelines: tuple[str, ...]) -> None:
    """Show generation and committed rows of every pipeline's snapshot."""
    from cdc_daemon.cli.run import chosen
    from cdc_daemon.cli.status import ask_daemon

    configuration = given.load()
    settings = configuration.settings
    live = ask_daemon(settings.metrics_host, settings.metrics_port)
    control = _control(configuration)
    try:
        checkpoints = {found.pipeline: found for found in control.checkpoints()}
        rows = control.copied()
    finally:
        control.close()
    found = [
        _copied(name, checkpoints.get(name), rows.get(name, {}), live.get(name))
        for name in chosen(configuration, pipelines)
    ]
    if given.output == "json":
        print_json([dataclasses.asdict(one) for one in found])
    else:
        print_table(_HEAD, [line for one in found for line in _lines(one)])


def _copied(
    name: str,
    checkpoint: Checkpoint | None,
    rows: Mapping[str, int],
    live: Mapping[str, Any] | None,
) -> Copied:
    if checkpoint is None:
        return Copied(pipeline=name, phase=Phase.NEW.value)
    copying = live is not None and live["state"] == "snapshotting"
    return Copied(
        pipeline=name,
        phase=checkpoint.phase.value,
        generation=checkpoint.generation,
        started=checkpoint.generation_started,
        rows=rows,
        tables_left=live["snapshot_tables_remaining"] if live is not None and copying else None,
    )


def _lines(one: Copied) -> Iterator[Sequence[object]]:
    """A line a mapping; one without a mapping where no row is committed yet."""
    head = (one.pipeline, one.phase, one.generation, ago(one.started))
    for mapping, rows in one.rows.items() or [(None, None)]:
        yield *head, mapping, rows, one.tables_left


def _control(configuration: Configuration) -> Control:
    from cdc_daemon import build

    return build.make_control(configuration)
