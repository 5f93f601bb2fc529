"""``version``."""

from __future__ import annotations

import platform

import click

from cdc_daemon import __version__
from cdc_daemon.cli.given import Given, output_option, pass_given, shared_options
from cdc_daemon.cli.output import print_json


@click.command()
@shared_options
@output_option
@pass_given
def version(given: Given) -> None:
    """Print the version."""
    if given.output == "json":
        print_json({"version": __version__, "python": platform.python_version()})
    else:
        click.echo(f"cdc-daemon {__version__}")
