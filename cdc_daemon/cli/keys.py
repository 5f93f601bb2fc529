"""``failures new-key | keys | rotate-key``: the keys that sensitive values are sealed with."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cdc_daemon.cli.given import Given, known_name, output_option, pass_given, shared_options
from cdc_daemon.cli.output import print_json, print_table, words
from cdc_daemon.cli.parked import control_of, timeout_option
from cdc_daemon.model.errors import EXIT_DIFFERENCE, EXIT_OK, CdcError
from cdc_daemon.sealing import is_sealed, key_of

if TYPE_CHECKING:
    from cdc_daemon.config.configuration import Configuration
    from cdc_daemon.engine.rotating import Rotated
    from cdc_daemon.model.ports import Control
    from cdc_daemon.model.queue import Kept

_CLEAR = "-"  # in place of a key's id: a sensitive value that is not sealed
_HEAD = ("PIPELINE", "TO SEAL", "AS THEY ARE", "REFUSED")


@click.command("new-key")
@shared_options
@click.argument("path", metavar="[FILE]", required=False, type=click.Path(path_type=Path))
def new_key(path: Path | None) -> None:
    """Make a key for `failures.keys`: on stdout, or into a new file that its owner alone reads."""
    from cdc_daemon import sealing

    key = sealing.new_key()
    if path is None:
        click.echo(key)
        return
    try:
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(opened, "w", encoding="ascii") as file:
            file.write(key + "\n")
    except FileExistsError:
        raise CdcError(f"{path} is there already", hint="a key is never written over") from None
    except OSError as error:
        raise CdcError(f"{path} cannot be written: {error.strerror}") from None
    words(f"a key is in {path}: name it under failures.keys, with its id as current")


@click.command()
@shared_options
@output_option
@pass_given
def keys(given: Given) -> None:
    """List the keys by id, and how many kept values each seals.

    A key that seals none may be removed from the configuration. `-`: sensitive values that are not
    sealed; `rotate-key` seals them.
    """
    configuration = given.load_for_control()
    with control_of(configuration) as control:
        counts = _counts(configuration, control)
    vault = configuration.failures.vault
    configured = set(configuration.failures.keys) - {"current"}
    rows = [
        {
            "key": name,
            "state": _state(name, vault.current, vault.keys, configured),
            "values": counts[name],
        }
        for name in sorted({*configured, *counts})
    ]
    if given.output == "json":
        print_json(rows)
    else:
        print_table(("KEY", "STATE", "VALUES"), [tuple(row.values()) for row in rows])


def _state(
    name: str, current: str | None, readable: Mapping[str, bytes], configured: set[str]
) -> str:
    if name == _CLEAR:
        return "not sealed"
    if name not in configured:
        return "not configured"
    if name not in readable:
        return "not readable here"
    return "current" if name == current else "old"


@click.command("rotate-key")
@shared_options
@output_option
@click.option("--pipeline", metavar="NAME", help="Only of this one.")
@click.option("--dry-run", is_flag=True, help="Only say how many there are.")
@timeout_option
@pass_given
def rotate_key(given: Given, pipeline: str | None, dry_run: bool, timeout: float) -> int:
    """Seal all kept sensitive values with the current key, of parked and settled changes.

    Those that are sealed so already are left alone: it may be broken off and said again. Exits 3 if
    some could not be opened.
    """
    configuration = given.load()
    known_name("pipeline", pipeline, configuration.sources)
    if configuration.failures.current is None:
        raise CdcError("there is no key", hint="add failures.keys: cdc-daemon failures new-key")
    with control_of(configuration) as control:
        found = _rotations(configuration, control, pipeline)
        if not dry_run:
            found = _carried_out(configuration, control, found, timeout)
    return _report(given, found, dry_run=dry_run)


def _rotations(
    configuration: Configuration, control: Control, pipeline: str | None
) -> dict[str, Rotated]:
    """What a rotation would come to, by pipeline where anything is kept."""
    from cdc_daemon import build
    from cdc_daemon.engine.rotating import Rotated, changed

    names = configuration.sources if pipeline is None else (pipeline,)
    privacies = {name: build.privacy_of(configuration, name) for name in names}
    found: dict[str, Rotated] = {}
    for page in _pages(control):
        for one in page:
            if one.pipeline in privacies:
                total = found.setdefault(one.pipeline, Rotated())
                for _ in changed([one], privacies[one.pipeline], total):
                    pass
    return found


def _carried_out(
    configuration: Configuration, control: Control, found: Mapping[str, Rotated], timeout: float
) -> dict[str, Rotated]:
    from cdc_daemon.cli.commanding import command
    from cdc_daemon.engine.rotating import Rotated

    failures = configuration.failures
    arguments = {"key": failures.current, "cipher": failures.cipher}
    done = dict(found)
    for name, total in found.items():
        if total.sealed:
            result: dict[str, Any] = command(
                configuration, control, name, "rotate", arguments, timeout
            )
            refused = [(number, said) for number, said in result["refused"]]
            done[name] = Rotated(result["sealed"], result["current"], refused)
    return done


def _report(given: Given, found: Mapping[str, Rotated], *, dry_run: bool) -> int:
    if given.output == "json":
        print_json([{"pipeline": name} | one.as_result() for name, one in found.items()])
    else:
        rows = [(name, one.sealed, one.current, len(one.refused)) for name, one in found.items()]
        print_table(_HEAD if dry_run else ("PIPELINE", "SEALED", *_HEAD[2:]), rows)
    refused = [(number, said) for one in found.values() for number, said in one.refused]
    for number, said in refused[:20]:
        words(f"change {number}: {said}")
    if dry_run:
        words("nothing was done")
    return EXIT_DIFFERENCE if refused else EXIT_OK


def _counts(configuration: Configuration, control: Control) -> Counter[str]:
    """Kept sensitive values by the id of the key that seals them."""
    from cdc_daemon import build
    from cdc_daemon.engine.privacy import IMAGES

    privacies = {name: build.privacy_of(configuration, name) for name in configuration.sources}
    counts: Counter[str] = Counter()
    for page in _pages(control):
        for one in page:
            known = privacies.get(one.pipeline)
            sensitive = frozenset() if known is None else known.of(one.table)
            for image in (one.payload.get(name) for name in IMAGES):
                for column, value in image.items() if isinstance(image, dict) else ():
                    if is_sealed(value):
                        counts[key_of(value)] += 1
                    elif column in sensitive:
                        counts[_CLEAR] += 1
    return counts


def _pages(control: Control) -> Iterator[list[Kept]]:
    from cdc_daemon.engine.rotating import pages

    return pages(control.kept_payloads)
