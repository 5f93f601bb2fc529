"""``plan`` and ``apply``: what has to be created in the databases, and creating it.

Per server, in the order in which it is done: publications at the sources, then ledger, reference
tables, entity tables and rights at the target. A plan over databases that are as they should be is
empty; applying it once more does nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from cdc_daemon.cli.administrators import admin_option, connections
from cdc_daemon.cli.given import Given, output_option, pass_given, shared_options
from cdc_daemon.cli.output import print_json, words
from cdc_daemon.cli.placing import placed
from cdc_daemon.cli.problems import Found, as_json
from cdc_daemon.model.errors import EXIT_CONFIGURATION, EXIT_OK, ConfigurationError

if TYPE_CHECKING:
    from cdc_daemon.config.configuration import Configuration
    from cdc_daemon.provision import Admins, ServerPlan


@click.command()
@shared_options
@output_option
@admin_option
@pass_given
def plan(given: Given, admin_dsns: tuple[str, ...]) -> int:
    """Show what has to be created in the databases, as SQL; change nothing."""
    configuration = given.load_with_warnings()
    return _show(given, _plans(configuration, connections(configuration, admin_dsns)))


@click.command()
@shared_options
@output_option
@admin_option
@click.option("--dry-run", is_flag=True, help="Only show it, as plan does.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@pass_given
def apply(given: Given, admin_dsns: tuple[str, ...], dry_run: bool, yes: bool) -> int:
    """Create what the plan shows: publications, ledger, entity tables, rights."""
    from cdc_daemon import provision

    configuration = given.load_with_warnings()
    admins = connections(configuration, admin_dsns)
    plans = _plans(configuration, admins)
    if dry_run:
        return _show(given, plans)
    refusals = [problem for one in plans for problem in one.refusals]
    if refusals:
        raise ConfigurationError(refusals)
    if given.output == "table":
        _show(given, plans)
    if any(one.changes for one in plans):
        if not given.confirm("Do this?", yes=yes):
            words("nothing was changed")
            return EXIT_OK
        plans = provision.apply_all(configuration, admins)
        words(f"done: {_count(plans)}")
    if given.output == "json":
        print_json(_as_json(plans))
    return EXIT_OK


def _plans(configuration: Configuration, admins: Admins) -> list[ServerPlan]:
    """The plans, what is refused with its place in the files."""
    from cdc_daemon import provision

    try:
        plans = provision.plan_all(configuration, admins)
    except ConfigurationError as error:
        raise ConfigurationError(placed(configuration, error.problems)) from error
    return [
        dataclasses.replace(one, refusals=tuple(placed(configuration, one.refusals)))
        for one in plans
    ]


def _show(given: Given, plans: Sequence[ServerPlan]) -> int:
    """Changes as SQL on stdout, refusals on stderr; the exit code."""
    refusals = Found(problems=[problem for one in plans for problem in one.refusals])
    if given.output == "json":
        print_json(_as_json(plans))
    else:
        for one in plans:
            if one.changes:
                click.echo(_script(one))
    refusals.say()
    if refusals.problems:
        return EXIT_CONFIGURATION
    if not any(one.changes for one in plans):
        words("nothing to do")
    return EXIT_OK


def _script(one: ServerPlan) -> str:
    role = [f"--   {line.removeprefix('-- ')}" for line in one.role]
    head = [f"-- {one.server}"]
    if role:
        head += ["-- its role needs no more than this, and what is granted below:", *role]
    parts = ["\n".join(head)]
    parts += [f"-- {change.description}\n{change.sql};" for change in one.changes]
    return "\n\n".join(parts) + "\n"


def _as_json(plans: Sequence[ServerPlan]) -> list[dict[str, object]]:
    return [
        {
            "server": one.server,
            "changes": [
                {"description": change.description, "sql": change.sql} for change in one.changes
            ],
            "refusals": [as_json(problem) for problem in one.refusals],
            "role": list(one.role),
        }
        for one in plans
    ]


def _count(plans: Sequence[ServerPlan]) -> str:
    number = sum(len(one.changes) for one in plans)
    return f"{number} change{'' if number == 1 else 's'}"
