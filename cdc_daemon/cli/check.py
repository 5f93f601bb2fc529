"""``check-config``: every problem of the files, and, unless offline, of the servers behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cdc_daemon.cli.given import Given, output_option, pass_given, shared_options
from cdc_daemon.cli.output import print_json, words
from cdc_daemon.cli.problems import Found
from cdc_daemon.model.errors import EXIT_OK
from cdc_daemon.model.findings import Verdict, refusals

if TYPE_CHECKING:
    from cdc_daemon.config.configuration import Configuration


@click.command()
@shared_options
@output_option
@click.option("--offline", is_flag=True, help="Look at the files only; connect to nothing.")
@pass_given
def check_config(given: Given, offline: bool) -> int:
    """Check the configuration: the files, then sources, mappings and target against them.

    Exits 0, 78 if something must be corrected, or 69 if a server does not answer.
    """
    found = Found()
    configuration = _load(given, found, offline=offline)
    if configuration is not None and not offline:
        examine(configuration, found)
    found.say()
    if given.output == "json":
        print_json({"ok": found.exit_code == EXIT_OK, **found.to_dict()})
    elif configuration is not None and found.exit_code == EXIT_OK:
        words(summary(configuration, offline=offline))
    return found.exit_code


def _load(given: Given, found: Found, *, offline: bool) -> Configuration | None:
    """The configuration, or None where the files alone are wrong."""
    from cdc_daemon.mapping.expressions import expression_problems

    with found:
        configuration = given.load(resolve_secrets=not offline, examine=expression_problems)
        found.warnings += configuration.warnings
        return configuration
    return None


def examine(configuration: Configuration, found: Found) -> None:
    """Connect to everything and collect what is wrong."""
    from cdc_daemon.cli import examining

    findings = [finding for one in examining.examine(configuration) for finding in one.findings]
    found.unreachable += [one.what for one in findings if one.verdict is Verdict.UNREACHABLE]
    found.problems += [one.problem for one in findings if one.verdict is Verdict.PROBLEM]
    if found.exit_code == EXIT_OK:
        found.problems += refusals(findings)


def summary(configuration: Configuration, *, offline: bool) -> str:
    """One line for people."""
    counts = (
        ("source", len(configuration.sources)),
        ("entity", len(configuration.entities)),
        ("mapping", len(configuration.mappings)),
    )
    parts = [f"{number} {word if number == 1 else _PLURALS[word]}" for word, number in counts]
    where = "the files are valid" if offline else "files and servers agree"
    return f"ok: {where}: {', '.join(parts)}"


_PLURALS = {"source": "sources", "entity": "entities", "mapping": "mappings"}
