"""``failures edit``: other values for one parked change, carried out by its pipeline's worker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cdc_daemon.cli.given import Given, output_option, pass_given, shared_options
from cdc_daemon.cli.output import print_json, words
from cdc_daemon.cli.parked import (
    all_there,
    control_of,
    reason_option,
    report,
    timeout_option,
)
from cdc_daemon.cli.revealing import sealed_edits
from cdc_daemon.cli.settling import check_reason
from cdc_daemon.model.errors import EXIT_OK, CdcError
from cdc_daemon.model.selection import Selection

if TYPE_CHECKING:
    from cdc_daemon.config.configuration import Configuration
    from cdc_daemon.model.ports import Control


@click.command()
@shared_options
@output_option
@click.argument("number", metavar="ID", type=click.IntRange(min=1))
@click.option("--set", "settings", metavar="COLUMN=VALUE", multiple=True, help="A value.")
@click.option("--null", "nulls", metavar="COLUMN", multiple=True, help="NULL for this column.")
@click.option(
    "--file",
    "path",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Values as a JSON object: texts, or null.",
)
@reason_option
@click.option("--retry", is_flag=True, help="Then apply it again.")
@click.option("--dry-run", is_flag=True, help="Only say whether it would be taken.")
@timeout_option
@pass_given
def edit(
    given: Given,
    number: int,
    settings: tuple[str, ...],
    nulls: tuple[str, ...],
    path: Path | None,
    reason: str,
    retry: bool,
    dry_run: bool,
    timeout: float,
) -> int:
    """Give a parked change other values.

    Columns are those of the source table. The mapping must take the row; what was there before is
    kept, with who and why.
    """
    check_reason(reason)
    values = _values(settings, nulls, path)
    configuration = given.load_without_keys()
    with control_of(configuration) as control:
        found = control.failures(Selection(ids=(number,)))
        all_there([number], found)
        pipeline = found[0].pipeline
        arguments = {"edits": [{"id": number, "values": values}], "reason": reason}
        done = ask(configuration, control, pipeline, {**arguments, "check": dry_run}, timeout)
        if done["refused"]:
            raise CdcError(f"change {number} stays as it is: {done['refused'][0][1]}")
        if dry_run or not retry:
            return _said(given, number, done, dry_run=dry_run)
        from cdc_daemon.cli.commanding import command

        tried = command(configuration, control, pipeline, "retry", {"ids": [number]}, timeout)
    return report(given, [tried], good=("applied",), bad=("failed", "waiting"))


def ask(
    configuration: Configuration,
    control: Control,
    pipeline: str,
    arguments: dict[str, object],
    timeout: float,
) -> dict[str, Any]:
    """Have changes edited; ids ``edited`` and ``same``, and pairs of id and words ``refused``.

    Sensitive values are sealed on the way. Raises Stop where there is no key for that.
    """
    from cdc_daemon.cli.commanding import command

    edits: Any = arguments["edits"]
    sent = {**arguments, "edits": sealed_edits(configuration, control, pipeline, edits)}
    return command(configuration, control, pipeline, "edit", sent, timeout)


def _said(given: Given, number: int, done: dict[str, Any], *, dry_run: bool) -> int:
    if given.output == "json":
        print_json({"edited": done["edited"], "same": done["same"]})
    if done["same"]:
        words(f"change {number} has these values already")
    elif dry_run:
        words(f"change {number} would be edited; nothing was done")
    elif given.output == "table":
        words(f"change {number} was edited; to apply it: cdc-daemon failures retry {number}")
    return EXIT_OK


def _values(
    settings: tuple[str, ...], nulls: tuple[str, ...], path: Path | None
) -> dict[str, str | None]:
    """The values by column. UsageError where there are none, or two for one column."""
    pairs: list[tuple[str, str | None]] = [*_from_file(path)] if path else []
    for text in settings:
        column, equals, value = text.partition("=")
        if not equals or not column:
            raise click.UsageError("--set takes COLUMN=VALUE")
        pairs.append((column, value))
    pairs += [(column, None) for column in nulls]
    values = dict(pairs)
    if not values:
        raise click.UsageError("say what to edit: --set COLUMN=VALUE, --null COLUMN or --file")
    if len(values) < len(pairs):
        raise click.UsageError("a column is given two values")
    return values


def _from_file(path: Path) -> list[tuple[str, str | None]]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except UnicodeDecodeError:
        raise CdcError(f"{path}: is not in UTF-8") from None
    except json.JSONDecodeError as error:
        raise CdcError(f"{path}:{error.lineno}:{error.colno}: {error.msg}") from None
    if not isinstance(found, dict):
        raise CdcError(f"{path}:1:1: must hold an object of columns and values")
    for column, value in found.items():
        if value is not None and not isinstance(value, str):
            raise CdcError(f"{path}: the value of {column!r} must be a text in quotes, or null")
    return list(found.items())
