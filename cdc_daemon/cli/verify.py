"""``verify``: source and target compared row by row, by a path of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from cdc_daemon.cli.given import Given, output_option, pass_given, shared_options
from cdc_daemon.cli.output import print_json, print_table, words

if TYPE_CHECKING:
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
    help="Seconds to wait for each pipeline to apply what its source has written.",
)
@click.option(
    "--examples",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="Keys to name for each mapping.",
)
@pass_given
def verify(given: Given, names: tuple[str, ...], timeout: float, examples: int) -> int:
    """Compare source and target row by row; exits 3 if they really differ.

    Rows that change while they are read are moving, rows in the failure queue are parked: neither
    is a difference.
    """
    from cdc_daemon.verify import verify as compare

    report = compare(
        given.load(), mappings=names or None, timeout=timeout, examples=examples, progress=words
    )
    if given.output == "json":
        print_json(report.as_dict())
    else:
        print_table(_HEAD, [_row(mapping) for mapping in report.mappings])
        for mapping in report.mappings:
            _say_examples(mapping.mapping, mapping.examples)
    words(verdict(report))
    return report.exit_code


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
