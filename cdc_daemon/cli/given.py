"""What every command is given: configuration files, how to print, whether to ask.

The same options stand before and after the subcommand; both places count. Nothing is read here
until a command asks for it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from cdc_daemon.config.locate import SYSTEM, VARIABLE, locate
from cdc_daemon.model.errors import suggest

if TYPE_CHECKING:
    from cdc_daemon.config.configuration import Configuration
    from cdc_daemon.config.load import Examine

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class Given:
    """The shared options of one call."""

    config: list[Path] = field(default_factory=list)
    output: Literal["table", "json"] = "table"
    no_input: bool = False
    debug: bool = False
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    @property
    def files(self) -> list[Path]:
        """The files or folders to read. Raises ConfigurationError where nobody named any."""
        return locate(self.config, self.environ)

    def load(
        self, *, resolve_secrets: bool = True, examine: Examine | None = None
    ) -> Configuration:
        """Read and check the configuration. Raises ConfigurationError with every problem."""
        from cdc_daemon.config.load import load

        return load(
            self.files, environ=self.environ, resolve_secrets=resolve_secrets, examine=examine
        )

    def load_without_keys(self) -> Configuration:
        """The same for who need not see sensitive values: their keys need not be there."""
        from cdc_daemon.config.load import load
        from cdc_daemon.config.secrets import SECTIONS

        return load(self.files, environ=self.environ, needed=SECTIONS - {"failures"})

    def load_for_control(self) -> Configuration:
        """The same for what looks into the control database only: the sources' secrets, which the
        daemon may read and the operator not, need not be there.
        """
        from cdc_daemon.config.load import load

        return load(self.files, environ=self.environ, needed=("target", "daemon"))

    def load_for_notifications(self) -> Configuration:
        """The same for what only sends messages."""
        from cdc_daemon.config.load import load

        return load(self.files, environ=self.environ, needed=("notifications",))

    def load_offline(self) -> Configuration:
        """The same for what needs no secret at all."""
        from cdc_daemon.config.load import load

        return load(self.files, environ=self.environ, resolve_secrets=False, needed=())

    def load_with_warnings(self) -> Configuration:
        """The same, and its warnings on stderr."""
        configuration = self.load()
        for warning in configuration.warnings:
            click.echo(f"warning: {warning}", err=True)
        return configuration

    def confirm(self, question: str, *, yes: bool) -> bool:
        """Whether to go on: asked on stderr unless ``yes``. UsageError where nobody can answer."""
        if yes:
            return True
        if self.no_input or not at_terminal():
            raise click.UsageError("this needs a confirmation: pass --yes")
        return click.confirm(question, err=True)


def known_name(option: str, name: str | None, known: Collection[str]) -> None:
    """UsageError, with the nearest that there is, for a name that an option does not know."""
    if name is not None and name not in known:
        raise click.UsageError(f"there is no {option} {name!r}{suggest(name, known)}")


def at_terminal() -> bool:
    """Whether somebody can answer a question."""
    return sys.stdin.isatty()


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Note an option where it was given, and leave alone what stands where it was not."""
    given = ctx.find_object(Given)
    assert given is not None
    assert param.name is not None
    if param.name == "config":
        given.config += value
    elif value:
        setattr(given, param.name, value)


def shared_options(command: F) -> F:
    """Decorator: ``--config``, ``--no-input`` and ``--debug``."""
    options = [
        click.option(
            "-c",
            "--config",
            multiple=True,
            metavar="PATH",
            type=click.Path(path_type=Path),
            help=f"Configuration file or folder; repeatable. Default: ${VARIABLE}, else {SYSTEM}.",
            expose_value=False,
            callback=_keep,
        ),
        click.option(
            "--no-input", is_flag=True, help="Never ask.", expose_value=False, callback=_keep
        ),
        click.option(
            "--debug",
            is_flag=True,
            help="Show the traceback of an unexpected error.",
            expose_value=False,
            callback=_keep,
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def output_option(command: F) -> F:
    """Decorator: ``-o table|json``."""
    option = click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json"]),
        help="Form of the data on stdout.  [default: table]",
        expose_value=False,
        callback=_keep,
    )
    return option(command)


pass_given = click.make_pass_decorator(Given)
