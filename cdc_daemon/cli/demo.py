"""``demo``: private servers, the real daemon, a workload, and the proof."""

from __future__ import annotations

from typing import Literal

import click

from cdc_daemon.cli.given import shared_options


@click.command()
@shared_options
@click.option(
    "--seconds",
    type=click.FloatRange(1, 3600),
    default=30.0,
    show_default=True,
    help="How long the workload runs.",
)
@click.option(
    "--target",
    type=click.Choice(["postgresql", "mysql", "sqlite"]),
    default="postgresql",
    show_default=True,
    help="What the control database is; mysql is MariaDB, where that is installed; an SQLite file"
    " takes one source, the ERP.",
)
@click.option("--keep", is_flag=True, help="Keep servers and files until Ctrl-C.")
def demo(seconds: float, target: Literal["postgresql", "mysql", "sqlite"], keep: bool) -> int:
    """Show the daemon at work on private databases; exits 0 only if all rows are equal."""
    from cdc_daemon.demo.show import run_demo

    return run_demo(seconds, keep, target)
