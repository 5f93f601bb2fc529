"""``config schema | reference | show``: the configuration and its form."""

from __future__ import annotations

import click

from cdc_daemon.cli.given import Given, output_option, pass_given, shared_options
from cdc_daemon.cli.output import print_json


@click.group()
def config() -> None:
    """Show the configuration, its schema or reference."""


@config.command()
@shared_options
def schema() -> None:
    """Print the JSON Schema of the files, for editors."""
    from cdc_daemon.config.schema import schema_json

    print_json(schema_json())


@config.command()
@shared_options
def reference() -> None:
    """Print the reference page of every key, as Markdown."""
    from cdc_daemon.config.reference import markdown

    click.echo(markdown(), nl=False)


@config.command()
@shared_options
@output_option
@pass_given
def show(given: Given) -> None:
    """Print the whole configuration with its defaults and without its secrets."""
    described = given.load(resolve_secrets=False).describe()
    if given.output == "json":
        print_json(described)
        return
    import sys

    import yaml

    yaml.safe_dump(described, sys.stdout, allow_unicode=True, sort_keys=False)
