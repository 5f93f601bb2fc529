"""``failures export``: parked changes as JSON lines, one each, with all that an import needs.

A line holds row values: a file is made for its owner alone. Sensitive ones are masked, unless
they are asked for in clear; an import takes a mask for the value that is there.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import click

from cdc_daemon.cli.given import Given, pass_given, shared_options
from cdc_daemon.cli.output import words
from cdc_daemon.cli.parked import control_of, count, dry_option, meant_by
from cdc_daemon.cli.revealing import View, clear_option
from cdc_daemon.cli.selecting import Chosen, selection_options
from cdc_daemon.model.errors import CdcError
from cdc_daemon.model.ports import Control
from cdc_daemon.model.queue import Failure
from cdc_daemon.model.selection import Selection

FORMAT = 1
"""The version of a line's form."""

_AT_ONCE = 500  # changes in memory


@click.command()
@shared_options
@selection_options
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write there instead of stdout; an older file is replaced.",
)
@dry_option
@clear_option
@pass_given
def export(given: Given, chosen: Chosen, out: Path | None, dry_run: bool, clear: bool) -> None:
    """Write parked changes as JSON lines, for `failures import`.

    Only values under payload.new may be edited. Sensitive values are masked; a mask that stays
    changes nothing.
    """
    configuration = given.load_for_control()
    view = View(configuration, clear=clear)
    with control_of(configuration) as control:
        meant = meant_by(chosen, configuration, control)
        if dry_run:
            words(f"{count(meant.total)}; nothing was written")
            return
        with _written(out) as file:
            for page in _pages(control, meant.selection):
                for failure in view.shown(control, page, "export"):
                    file.write(line_of(failure) + "\n")
    words(f"{count(meant.total)} exported{'' if out is None else f' to {out}'}")


def line_of(failure: Failure) -> str:
    """One change as a line, its payload last: there are the values that people edit."""
    from cdc_daemon.engine.payload import fingerprint

    found: dict[str, object] = {"format": FORMAT}
    for field in dataclasses.fields(failure):
        value = getattr(failure, field.name)
        found[field.name] = value.isoformat() if hasattr(value, "isoformat") else value
    for name in ("lanes", "awaits"):
        found[name] = [lane.hex() for lane in getattr(failure, name)]
    found["fingerprint"] = fingerprint(failure.payload)
    found["payload"] = found.pop("payload")
    text = json.dumps(found, ensure_ascii=False)
    return text if text.isascii() or _is_text(text) else json.dumps(found)


def _is_text(text: str) -> bool:
    """Whether it can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _pages(control: Control, selection: Selection) -> Iterator[list[Failure]]:
    """The changes in order, some hundred in memory."""
    after = 0
    while True:
        found = control.failures(dataclasses.replace(selection, after=after), _AT_ONCE)
        yield found
        if len(found) < _AT_ONCE:
            return
        after = found[-1].id


@contextmanager
def _written(path: Path | None) -> Iterator[TextIO]:
    """Stdout, or a file of this name that is there only when it is whole."""
    if path is None:
        yield sys.stdout
        return
    new = path.with_name(f".{path.name}.new{os.getpid()}")
    try:
        opened = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(opened, "w", encoding="utf-8") as file:
            yield file
        new.replace(path)
    except OSError as error:
        raise CdcError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        new.unlink(missing_ok=True)
