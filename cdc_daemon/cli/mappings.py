"""``mappings list | preview``: which table fills which entity, and what becomes of real rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cdc_daemon.cli.given import Given, output_option, pass_given, shared_options
from cdc_daemon.cli.output import print_json, print_table, row_value

if TYPE_CHECKING:
    from cdc_daemon.config.schema import MappingConfig
    from cdc_daemon.verify import Preview

_HEAD = ("NAME", "TABLE", "ENTITY", "KEY", "FIELDS", "ON DELETE", "WHERE")


@click.group()
def mappings() -> None:
    """Show mappings and what they make of rows."""


@mappings.command("list")
@shared_options
@output_option
@pass_given
def list_(given: Given) -> None:
    """List the mappings, in the order of the files."""
    found = given.load(resolve_secrets=False).mappings
    if given.output == "json":
        print_json([to_dict(mapping) for mapping in found])
    else:
        print_table(_HEAD, [_row(mapping) for mapping in found])


@mappings.command()
@shared_options
@output_option
@click.argument("name")
@click.option("--limit", type=click.IntRange(1, 1000), default=5, show_default=True)
@pass_given
def preview(given: Given, name: str, limit: int) -> None:
    """Show real rows of the table, what the mapping makes of them, and what the target has."""
    from cdc_daemon.verify import preview as look

    found = look(given.load(), name, limit)
    if given.output == "json":
        print_json([one.as_dict() for one in found])
        return
    for number, one in enumerate(found, 1):
        if number > 1:
            click.echo()
        click.echo(f"row {number}: {fate(one)}")
        print_table(("SOURCE COLUMN", "VALUE"), [(k, row_value(v)) for k, v in one.source.items()])
        if one.result is not None:
            click.echo()
            target = one.target or {}
            print_table(
                ("ATTRIBUTE", "RESULT", "TARGET"),
                [
                    (attribute, row_value(value), row_value(target[attribute]) if target else None)
                    for attribute, value in one.result.items()
                ],
            )


def to_dict(mapping: MappingConfig) -> dict[str, object]:
    """JSON-ready."""
    return {
        "name": mapping.name,
        "table": f"{mapping.source}.{mapping.schema_}.{mapping.table}",
        "entity": mapping.to,
        "key": list(mapping.key),
        "fields": list(mapping.fields),
        "on_delete": mapping.on_delete,
        "where": mapping.where,
    }


def _row(mapping: MappingConfig) -> tuple[object, ...]:
    shown = to_dict(mapping)
    return (
        *(shown["name"], shown["table"], shown["entity"]),
        ", ".join(mapping.key),
        len(mapping.fields),
        *(shown["on_delete"], shown["where"]),
    )


def fate(one: Preview) -> str:
    """What becomes of a row, in words."""
    if one.error:
        return f"would be parked: {one.error}"
    if not one.passes:
        return "left out by where"
    if one.target is None:
        return "not in the target"
    return "in the target as it should be" if one.same else "differs from the target"
