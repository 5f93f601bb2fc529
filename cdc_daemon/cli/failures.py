"""``failures list | show | retry | skip``: the failure queue.

``retry`` and ``skip`` are commands to the worker that holds the pipeline; what happens where there
is none, ``commanding`` says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from cdc_daemon.cli.given import Given, known_name, output_option, pass_given, shared_options
from cdc_daemon.cli.output import ago, print_json, print_table, row_value, words
from cdc_daemon.model.errors import EXIT_DIFFERENCE, EXIT_OK, CdcError
from cdc_daemon.model.ports import Control, Failure

if TYPE_CHECKING:
    from cdc_daemon.config.configuration import Configuration

_HEAD = ("ID", "PIPELINE", "TABLE", "OPERATION", "ENTITY", "ERROR", "TRIES", "PARKED", "MESSAGE")
_timeout = click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Seconds to wait for the worker.",
)
_ids = click.argument("ids", metavar="ID...", nargs=-1, type=click.IntRange(min=1))
_yes = click.option("-y", "--yes", is_flag=True, help="Do not ask.")


@click.group()
def failures() -> None:
    """Show and settle parked changes."""


@failures.command("list")
@shared_options
@output_option
@click.option("--pipeline", metavar="NAME", help="Only of this pipeline.")
@click.option("--entity", metavar="NAME", help="Only of this entity.")
@click.option("--error", metavar="CODE", help="Only with this error.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True)
@pass_given
def list_(
    given: Given, pipeline: str | None, entity: str | None, error: str | None, limit: int
) -> None:
    """List parked changes in source order."""
    configuration = given.load_for_control()
    with _control(configuration) as control:
        found = control.failures(pipeline=pipeline, entity=entity, error=error, limit=limit + 1)
    if not found:  # what is configured no longer may still have parked changes
        known_name("pipeline", pipeline, configuration.sources)
        known_name("entity", entity, configuration.entities)
    shown = found[:limit]
    if given.output == "json":
        print_json([to_dict(failure) for failure in shown])
    else:
        print_table(_HEAD, [_row(failure) for failure in shown])
    if len(found) > limit:
        words(f"there are more than these {limit}; see --limit")


@failures.command()
@shared_options
@output_option
@click.argument("number", metavar="ID", type=click.IntRange(min=1))
@pass_given
def show(given: Given, number: int) -> None:
    """Show one change with its row images."""
    with _control(given.load_for_control()) as control:
        found = control.failures(ids=[number], state=None)
    _all_there([number], found)
    plain = to_dict(found[0])
    if given.output == "json":
        print_json(plain)
        return
    payload = found[0].payload
    print_table(("FIELD", "VALUE"), [pair for pair in plain.items() if pair[0] != "payload"])
    for image in ("old", "new"):
        row = payload.get(image)
        if isinstance(row, dict):
            click.echo()
            shown = [(name, row_value(value)) for name, value in row.items()]
            print_table((f"{image.upper()} COLUMN", "VALUE"), shown)


@failures.command()
@shared_options
@output_option
@_ids
@click.option("--all", "everything", is_flag=True, help="All parked changes.")
@click.option("--pipeline", metavar="NAME", help="With --all: only of this pipeline.")
@click.option("--dry-run", is_flag=True, help="Only say which changes that would be.")
@_timeout
@_yes
@pass_given
def retry(
    given: Given,
    ids: tuple[int, ...],
    everything: bool,
    pipeline: str | None,
    dry_run: bool,
    timeout: float,
    yes: bool,
) -> int:
    """Apply parked changes again, oldest first.

    Exits 3 if some fail again or wait behind others.
    """
    if bool(ids) == everything:
        raise click.UsageError("name the changes by ID, or say --all")
    configuration = given.load()
    with _control(configuration) as control:
        found = _wanted(control, None if everything else ids, pipeline)
        if not found:
            known_name("pipeline", pipeline, configuration.sources)
            words("nothing is parked")
        if dry_run:
            return _show_only(given, found)
        asks = everything and bool(found)
        if asks and not given.confirm(f"Apply {_count(found)} again?", yes=yes):
            return EXIT_OK
        from cdc_daemon.cli.commanding import command

        results = {
            name: command(
                configuration, control, name, "retry", {} if everything else {"ids": some}, timeout
            )
            for name, some in _by_pipeline(found).items()
        }
    return _report(given, results, good=("applied",), bad=("failed", "waiting"))


@failures.command()
@shared_options
@output_option
@_ids
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept with the change.")
@click.option("--dry-run", is_flag=True, help="Only say which changes that would be.")
@_timeout
@_yes
@pass_given
def skip(
    given: Given, ids: tuple[int, ...], reason: str, dry_run: bool, timeout: float, yes: bool
) -> int:
    """Give parked changes up for good."""
    if not ids:
        raise click.UsageError("name the changes by ID")
    if not reason.strip():
        raise click.UsageError("--reason must say something")
    configuration = given.load()
    with _control(configuration) as control:
        found = _wanted(control, ids, None)
        if dry_run:
            return _show_only(given, found)
        if not given.confirm(f"Give {_count(found)} up for good?", yes=yes):
            return EXIT_OK
        from cdc_daemon.cli.commanding import command

        results = {
            name: command(
                configuration, control, name, "skip", {"ids": numbers, "reason": reason}, timeout
            )
            for name, numbers in _by_pipeline(found).items()
        }
    return _report(given, results, good=("skipped",), bad=("unknown",))


def to_dict(failure: Failure) -> dict[str, object]:
    """JSON-ready but for its times; without the lanes' digests."""
    plain = {f.name: getattr(failure, f.name) for f in dataclasses.fields(failure)}
    del plain["lanes"]
    return plain


@contextmanager
def _control(configuration: Configuration) -> Iterator[Control]:
    from cdc_daemon import build

    control = build.make_control(configuration)
    try:
        yield control
    finally:
        control.close()


def _wanted(control: Control, ids: Sequence[int] | None, pipeline: str | None) -> list[Failure]:
    """The parked changes meant. Raises CdcError for an id that is not parked."""
    found = control.failures(ids=ids, pipeline=pipeline)
    if ids is not None:
        _all_there(ids, found)
    return found


def _all_there(ids: Sequence[int], found: Sequence[Failure]) -> None:
    absent = sorted(set(ids) - {failure.id for failure in found})
    if absent:
        listed = ", ".join(map(str, absent))
        raise CdcError(f"not parked: {listed}", hint="see cdc-daemon failures list")


def _by_pipeline(found: Sequence[Failure]) -> dict[str, list[int]]:
    grouped: dict[str, list[int]] = {}
    for failure in found:
        grouped.setdefault(failure.pipeline, []).append(failure.id)
    return grouped


def _count(found: Sequence[Failure]) -> str:
    return f"{len(found)} parked change{'' if len(found) == 1 else 's'}"


def _show_only(given: Given, found: Sequence[Failure]) -> int:
    if given.output == "json":
        print_json([to_dict(failure) for failure in found])
    elif found:
        print_table(_HEAD, [_row(failure) for failure in found])
    return EXIT_OK


def _report(
    given: Given,
    results: dict[str, dict[str, object]],
    *,
    good: Sequence[str],
    bad: Sequence[str],
) -> int:
    """Ids by fate, of all pipelines; the exit code."""
    fates: dict[str, list[int]] = {fate: [] for fate in (*good, *bad)}
    for result in results.values():
        for fate, ids in fates.items():
            listed = result.get(fate)
            ids.extend(listed if isinstance(listed, list) else [])
    if given.output == "json":
        print_json(fates)
    elif results:
        listed = [(fate, len(ids), " ".join(map(str, ids))) for fate, ids in fates.items() if ids]
        print_table(("FATE", "CHANGES", "IDS"), listed)
    return EXIT_DIFFERENCE if any(fates[fate] for fate in bad) else EXIT_OK


def _row(failure: Failure) -> tuple[object, ...]:
    return (
        str(failure.id),
        failure.pipeline,
        failure.table,
        failure.operation,
        failure.entity,
        failure.error_code,
        failure.attempts,
        ago(failure.parked_at),
        failure.error_message,
    )
