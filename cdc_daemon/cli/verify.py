"""``verify``: source and target compared row by row, by a path of its own; ``--repair``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from cdc_daemon.cli.given import Given, output_option, pass_given, shared_options
from cdc_daemon.cli.output import print_json, print_table, words

if TYPE_CHECKING:
    from cdc_daemon.config.configuration import Configuration
    from cdc_daemon.verify import Example, MappingReport, Report

_HEAD = (
    "MAPPING",
    "RESULT",
    "SOURCE",
    "TARGET",
    "MATCH",
    "MISSING",
    "EXTRA",
    "DIFFERENT",
    "MOVING",
    "PARKED",
    "KEPT",
    "HASH",
)
_HASH_DIGITS = 12


@click.command()
@shared_options
@output_option
@click.option("--mapping", "names", multiple=True, metavar="NAME", help="Only this; repeatable.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Seconds to wait for each pipeline to apply what its source has written, and for repairs.",
)
@click.option(
    "--examples",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="Keys to name for each mapping.",
)
@click.option("--repair", is_flag=True, help="Make rows that differ right, from the source.")
@click.option("--dry-run", is_flag=True, help="With --repair: only show what it would do.")
@click.option("--reason", default="", help="With --repair: why, for the audit.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="With --repair: rows of each mapping at most.",
)
@click.option("-y", "--yes", is_flag=True, help="With --repair: do not ask.")
@pass_given
def verify(
    given: Given,
    names: tuple[str, ...],
    timeout: float,
    examples: int,
    repair: bool,
    dry_run: bool,
    reason: str,
    limit: int,
    yes: bool,
) -> int:
    """Compare source and target row by row; exits 3 if they really differ.

    Rows that change while they are read are moving, rows in the failure queue are parked: neither
    is a difference. With --repair each row that differs is read again at the source and applied
    by its pipeline like any change; what it did stands in cdc.repair.
    """
    if (dry_run or reason or yes) and not repair:
        raise click.UsageError("--dry-run, --reason and --yes belong to --repair")
    configuration = given.load()
    if not repair:
        report = _compared(configuration, names, timeout, examples)
        _show(given, report, examples)
        return report.exit_code
    from cdc_daemon.cli.repairing import Order, following, repaired

    order = Order(dry_run=dry_run, reason=reason, limit=limit, timeout=timeout, yes=yes)
    with following(configuration, _sources(configuration, names), order):
        report = _compared(configuration, names, timeout, max(examples, limit))
        if given.output == "table":
            _show(given, report, examples)
        outcome = repaired(given, configuration, report, order)
    if given.output == "json":
        print_json({**report.as_dict(), "repair": outcome.as_dict()})
    return outcome.exit_code


def _compared(
    configuration: Configuration, names: Sequence[str], timeout: float, examples: int
) -> Report:
    """Compare, and note it in the control database."""
    from cdc_daemon.cli.recording import recorded
    from cdc_daemon.verify import verify as compare

    sources = _sources(configuration, names)
    with recorded(configuration, sources, "command", words, whole=not names) as record:
        report = compare(
            configuration,
            mappings=names or None,
            timeout=timeout,
            examples=examples,
            progress=words,
        )
        record.finish(configuration, report)
    return report


def _sources(configuration: Configuration, names: Sequence[str]) -> list[str]:
    """The pipelines of these mappings; of all where none are named."""
    chosen = [one for one in configuration.mappings if not names or one.name in names]
    return list(dict.fromkeys(one.source for one in chosen))


def _show(given: Given, report: Report, examples: int) -> None:
    """The report on stdout, some keys on stderr."""
    if given.output == "json":
        print_json(report.as_dict())
    else:
        print_table(_HEAD, [_row(mapping) for mapping in report.mappings])
        for mapping in report.mappings:
            _say_examples(mapping.mapping, mapping.examples[:examples])
    words(verdict(report))


def verdict(report: Report) -> str:
    """The result in one line."""
    rows = sum(mapping.source for mapping in report.mappings)
    differences = sum(mapping.differences for mapping in report.mappings)
    found = "equal" if report.equal else f"{differences:,} differences"
    behind = f"; behind: {', '.join(report.behind)}" if report.behind else ""
    return f"{found}: {rows:,} source rows compared in {report.seconds:.1f} s{behind}"


def _row(mapping: MappingReport) -> tuple[object, ...]:
    return (
        mapping.mapping,
        "equal" if mapping.equal else "different",
        mapping.source,
        mapping.target,
        mapping.match,
        mapping.missing,
        mapping.extra,
        mapping.different,
        mapping.moving,
        mapping.parked,
        mapping.kept,
        mapping.source_hash[:_HASH_DIGITS],
    )


def _say_examples(mapping: str, examples: Sequence[Example]) -> None:
    for example in examples:
        key = ", ".join(example.key)
        whose = "source row" if example.of_source else "key"
        which = f" in {', '.join(example.attributes)}" if example.attributes else ""
        reason = f" ({example.reason})" if example.reason else ""
        words(f"{mapping}: {whose} {key} is {example.kind}{which}{reason}")
