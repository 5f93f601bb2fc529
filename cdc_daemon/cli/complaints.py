"""An exception as a user reads it: what, where, what to do; no traceback, secret or row value."""

from __future__ import annotations

import traceback
from pathlib import Path

import click

from cdc_daemon.model.errors import CdcError, ConfigurationError
from cdc_daemon.telemetry import redact_text


def show(error: Exception, *, debug: bool) -> None:
    """On stderr: one line for each problem, a hint where there is one."""
    if debug:
        text = "".join(traceback.format_exception(error))
        click.echo(redact_text(text.rstrip()), err=True)
    for line in lines(error):
        click.echo(redact_text(line), err=True)


def lines(error: Exception) -> list[str]:
    """The words for an error."""
    match error:
        case ConfigurationError():
            found = [f"error: {problem}" for problem in error.problems]
        case CdcError():
            found = [f"error: {error.message}"]
        case _:
            return [f"error: unexpected {type(error).__name__} in {place(error)}"]
    return [*found, f"hint: {error.hint}"] if error.hint else found


def place(error: Exception) -> str:
    """Where it was raised, and where our own code was at that moment; never its message."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "an unknown place"
    own = [frame for frame in frames if "cdc_daemon" in Path(frame.filename).parts]
    shown = (frames[-1], own[-1] if own else frames[-1])
    words = [f"{Path(frame.filename).name}:{frame.lineno} ({frame.name})" for frame in shown]
    return " < ".join(dict.fromkeys(words))
