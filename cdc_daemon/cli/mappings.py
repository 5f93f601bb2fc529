"""``mappings list | preview``: which table fills which entity, and what becomes of real rows."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from cdc_daemon.cli.given import Given, output_option, pass_given, shared_options
from cdc_daemon.cli.output import print_json, print_table, row_value
from cdc_daemon.cli.parked import control_of
from cdc_daemon.cli.revealing import View, clear_option
from cdc_daemon.sealing import MASK

if TYPE_CHECKING:
    from cdc_daemon.config.configuration import Configuration
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
@clear_option
@pass_given
def preview(given: Given, name: str, limit: int, clear: bool) -> None:
    """Show real rows of the table, what the mapping makes of them, and what the target has.

    Sensitive values are masked.
    """
    from cdc_daemon.verify import preview as look

    configuration = given.load_without_keys()
    view = View(configuration, clear=clear)
    found = look(configuration, name, limit)
    mapping = configuration.mapping(name)
    if clear:
        with control_of(configuration) as control:
            noted = {"by": "mappings preview", "mapping": name, "rows": len(found)}
            view.note_of(control, mapping.source, noted)
    shown = found if clear else [_masked(one, configuration, mapping) for one in found]
    if given.output == "json":
        pairs = zip(shown, found, strict=True)
        print_json([one.as_dict() | {"same": real.same} for one, real in pairs])
        return
    for number, (one, real) in enumerate(zip(shown, found, strict=True), 1):
        if number > 1:
            click.echo()
        click.echo(f"row {number}: {fate(real)}")
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


def _masked(one: Preview, configuration: Configuration, mapping: MappingConfig) -> Preview:
    """The row as everybody may see it."""
    from cdc_daemon.mapping.compile import sensitive_columns

    columns = sensitive_columns(configuration, mapping.from_)
    attributes = configuration.entities[mapping.to].sensitive
    return dataclasses.replace(
        one,
        source=_hidden(one.source, columns),
        result=None if one.result is None else _hidden(one.result, attributes),
        target=None if one.target is None else _hidden(one.target, attributes),
    )


def _hidden(row: dict[str, str | None], names: frozenset[str]) -> dict[str, str | None]:
    return {name: MASK if name in names else value for name, value in row.items()}


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
