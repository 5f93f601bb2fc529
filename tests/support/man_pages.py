"""Man pages of every command, by click-man: `python -m tests.support.man_pages FOLDER`."""

import copy
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from click_man.core import generate_man_page  # type: ignore[import-untyped]

from cdc_daemon import __version__
from cdc_daemon.cli.main import root


def pages() -> dict[str, str]:
    """File name → page, the same on every day."""
    return dict(_pages("cdc-daemon", root, None))


def _pages(
    name: str, command: click.Command, parent: click.Context | None
) -> Iterator[tuple[str, str]]:
    """The page of a command, and those of its own commands."""
    command = _complete(command)
    context = click.Context(command, info_name=name, parent=parent)
    page = generate_man_page(context, version=__version__, date=f"cdc-daemon {__version__}")
    notes = f".SH NOTES\n{command.epilog}\n" if command.epilog else ""
    yield f"{context.command_path.replace(' ', '-')}.1", page + notes
    if isinstance(command, click.Group):
        for own, found in command.commands.items():
            yield from _pages(own, found, context)


def _complete(command: click.Command) -> click.Command:
    """A group with the commands that it otherwise imports when they are used."""
    if not isinstance(command, click.Group):
        return command
    complete = copy.copy(command)
    context = click.Context(command)
    found = {name: command.get_command(context, name) for name in command.list_commands(context)}
    complete.commands = {name: own for name, own in found.items() if own is not None}
    return complete


def main(folder: Path) -> None:
    """Write them all, and remove those of commands that are gone."""
    folder.mkdir(parents=True, exist_ok=True)
    written = pages()
    for old in folder.glob("*.1"):
        if old.name not in written:
            old.unlink()
    for name, page in written.items():
        (folder / name).write_text(page, "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
