"""``completion``: what a shell needs to complete our words."""

from __future__ import annotations

import click

from cdc_daemon.cli.given import shared_options

_INSTALL = {
    "bash": "~/.local/share/bash-completion/completions/cdc-daemon",
    "zsh": "a folder of $fpath, as _cdc-daemon",
    "fish": "~/.config/fish/completions/cdc-daemon.fish",
}


@click.command(
    epilog="Write it to: " + "; ".join(f"{shell}: {path}" for shell, path in _INSTALL.items()) + "."
)
@shared_options
@click.argument("shell", type=click.Choice(list(_INSTALL)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a shell completion script."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    root = ctx.find_root().command
    click.echo(found(root, {}, "cdc-daemon", "_CDC_DAEMON_COMPLETE").source())
