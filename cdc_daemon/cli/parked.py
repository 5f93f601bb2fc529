"""Parked changes on the command line: found, shown, counted, and what became of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from cdc_daemon.cli.given import Given
from cdc_daemon.cli.output import ago, print_json, print_table, words
from cdc_daemon.model.errors import EXIT_DIFFERENCE, EXIT_OK, CdcError
from cdc_daemon.model.ports import Control
from cdc_daemon.model.queue import Failure
from cdc_daemon.model.selection import Selection
from cdc_daemon.sealing import MASK, is_sealed

if TYPE_CHECKING:
    from cdc_daemon.cli.revealing import View
    from cdc_daemon.cli.selecting import Chosen
    from cdc_daemon.config.configuration import Configuration

SHOWN = 100
"""Changes that a table shows where nobody says how many."""

IMAGES = ("old", "new")
"""The parts of a payload that are rows."""

_HEAD = ("ID", "PIPELINE", "TABLE", "OPERATION", "ENTITY", "ERROR", "TRIES", "PARKED", "MESSAGE")

timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Seconds to wait for the worker.",
)
yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
dry_option = click.option("--dry-run", is_flag=True, help="Only say which changes that would be.")
reason_option = click.option(
    "--reason", required=True, metavar="TEXT", help="Why; it is kept with the change."
)


@contextmanager
def control_of(configuration: Configuration) -> Iterator[Control]:
    """The control database, for as long as the block takes."""
    from cdc_daemon import build

    control = build.make_control(configuration)
    try:
        yield control
    finally:
        control.close()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Meant:
    """The changes that are meant, as far as they were there at one moment, and their numbers."""

    selection: Selection
    counts: Mapping[str, int]  # by pipeline

    @property
    def total(self) -> int:
        """How many they are."""
        return sum(self.counts.values())

    def of(self, pipeline: str) -> dict[str, object]:
        """As a command to that pipeline says it."""
        arguments = dataclasses.replace(self.selection, pipeline=pipeline).to_dict()
        del arguments["pipeline"]
        arguments.pop("state", None)
        return arguments


def meant_by(
    chosen: Chosen, configuration: Configuration, control: Control, state: str | None = "parked"
) -> Meant:
    """Count what is meant. UsageError where nothing says it, CdcError for an id that is not parked.

    Says so where there is nothing.
    """
    chosen.require()
    selection = chosen.selection(configuration, state)
    if chosen.ids:
        all_there(chosen.ids, control.failures(selection))
    tallies = control.tallies(selection)
    if not tallies:
        chosen.check_names(configuration)
        words("nothing is parked" if state == "parked" else "nothing is settled")
    counts: dict[str, int] = {}
    for one in tallies:
        counts[one.pipeline] = counts.get(one.pipeline, 0) + one.number
    last = max((one.last for one in tallies), default=0)
    return Meant(selection=dataclasses.replace(selection, through=last), counts=counts)


def all_there(ids: Sequence[int], found: Sequence[Failure]) -> None:
    """Raise CdcError for ids that are not among the changes found."""
    absent = sorted(set(ids) - {failure.id for failure in found})
    if absent:
        raise CdcError(f"not parked: {listed(absent)}", hint="see cdc-daemon failures list")


def count(number: int) -> str:
    """So many parked changes, in words."""
    return f"{number} parked change{'' if number == 1 else 's'}"


def to_dict(failure: Failure) -> dict[str, object]:
    """JSON-ready but for its times; without the lanes' digests. What is sealed is masked."""
    plain = {f.name: getattr(failure, f.name) for f in dataclasses.fields(failure)}
    del plain["lanes"], plain["awaits"]
    plain["payload"] = {
        name: visible_image(failure.mapping, part) if isinstance(part, dict) else part
        for name, part in failure.payload.items()
    }
    return plain


def show_changes(given: Given, found: Sequence[Failure]) -> None:
    """As a table, or as JSON."""
    if given.output == "json":
        print_json([to_dict(failure) for failure in found])
    else:
        print_table(_HEAD, [_row(failure) for failure in found])


def show_only(given: Given, control: Control, meant: Meant, view: View | None = None) -> int:
    """What a dry run says: the changes, and how many they are."""
    limit = None if given.output == "json" else SHOWN
    found = control.failures(meant.selection, limit)
    found = found if view is None else [view.of(failure) for failure in found]
    if found or given.output == "json":
        show_changes(given, found)
    if meant.total:
        words(f"{count(meant.total)}; nothing was done")
    return EXIT_OK


def visible(owner: str, name: str, value: object) -> object:
    """What of a row's value may be seen: the one place to hide it, for tables and for JSON.

    ``owner``: the mapping whose source column ``name`` is, or the entity whose attribute. What is
    sensitive by the configuration, ``revealing`` knows; here is hidden what is sealed.
    """
    del owner, name  # whoever knows what is sensitive has masked it before (revealing)
    return MASK if is_sealed(value) else value


def visible_image(owner: str, image: Mapping[str, object]) -> dict[str, object]:
    """A row by column or attribute, as far as it may be seen."""
    return {name: visible(owner, name, value) for name, value in image.items()}


def report(
    given: Given,
    results: Sequence[Mapping[str, object]],
    *,
    good: Sequence[str],
    bad: Sequence[str],
) -> int:
    """Ids by fate, of all pipelines; the exit code."""
    fates: dict[str, list[int]] = {fate: [] for fate in (*good, *bad)}
    for result in results:
        for fate, ids in fates.items():
            told = result.get(fate)
            ids.extend(told if isinstance(told, list) else [])
    if given.output == "json":
        print_json(fates)
    elif results:
        rows = [(fate, len(ids), listed(ids)) for fate, ids in fates.items() if ids]
        print_table(("FATE", "CHANGES", "IDS"), rows)
    return EXIT_DIFFERENCE if any(fates[fate] for fate in bad) else EXIT_OK


def listed(ids: Sequence[int], most: int = 20) -> str:
    """Ids in few words: ``3 7-12``; so many parts at most."""
    parts: list[list[int]] = []
    for number in sorted(ids):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    texts = [str(low) if low == high else f"{low}-{high}" for low, high in parts[:most]]
    return " ".join([*texts, *(["…"] if len(parts) > most else [])])


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
