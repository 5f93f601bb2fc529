"""``cdc-daemon``: the program as a table of its commands, and how every error leaves it.

Not in here: what a command does (one module per noun) and the options they share (``given``).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from cdc_daemon.cli.given import Given, shared_options
from cdc_daemon.cli.lazy import LazyGroup
from cdc_daemon.model.errors import EXIT_FAILED, EXIT_OK, CdcError

EXIT_INTERRUPTED = 130

COMMANDS: Mapping[str, tuple[str, str]] = {
    "run": ("cdc_daemon.cli.run:run", "Run the daemon."),
    "check-config": ("cdc_daemon.cli.check:check_config", "Check the configuration."),
    "doctor": ("cdc_daemon.cli.doctor:doctor", "Examine sources and target."),
    "config": ("cdc_daemon.cli.config:config", "Show the configuration, its schema or reference."),
    "plan": ("cdc_daemon.cli.plan:plan", "Show what has to be created in the databases."),
    "apply": ("cdc_daemon.cli.plan:apply", "Create what the plan shows."),
    "status": ("cdc_daemon.cli.status:status", "Show where every pipeline stands."),
    "healthcheck": (
        "cdc_daemon.cli.healthcheck:healthcheck",
        "Ask the running daemon whether it is well.",
    ),
    "snapshot": ("cdc_daemon.cli.snapshot:snapshot", "Take the first copy again."),
    "failures": ("cdc_daemon.cli.failures:failures", "Show and settle parked changes."),
    "verify": ("cdc_daemon.cli.verify:verify", "Compare source and target row by row."),
    "mappings": ("cdc_daemon.cli.mappings:mappings", "Show mappings and what they make of rows."),
    "checkpoint": ("cdc_daemon.cli.checkpoint:checkpoint", "Show the checkpoints."),
    "notify": ("cdc_daemon.cli.notify:notify", "Test notifications and show what was sent."),
    "demo": ("cdc_daemon.cli.demo:demo", "Show the daemon at work on private databases."),
    "version": ("cdc_daemon.cli.version:version", "Print the version."),
    "completion": ("cdc_daemon.cli.completion:completion", "Print a shell completion script."),
}


class Program(LazyGroup):
    """The root: turns every exception into words on stderr and an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run and exit."""
        del standalone_mode
        given = Given()
        extra.setdefault("obj", given)
        try:
            returned = super().main(
                args,
                prog_name,
                complete_var,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                **extra,
            )
            code = returned if isinstance(returned, int) else EXIT_OK
            sys.stdout.flush()
        except Exception as error:  # noqa: BLE001 - the last place that can say what happened
            code = explain(error, debug=given.debug)
        except KeyboardInterrupt:
            code = EXIT_INTERRUPTED
        sys.exit(code)


def explain(error: Exception, *, debug: bool) -> int:
    """Say on stderr what went wrong; the exit code."""
    match error:
        case click.Abort():
            return EXIT_INTERRUPTED
        case click.exceptions.Exit():
            return error.exit_code
        case click.ClickException():
            error.show()
            return error.exit_code
        case BrokenPipeError():
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whoever read us has gone
            return EXIT_FAILED
        case _:
            pass
    from cdc_daemon.cli import complaints

    complaints.show(error, debug=debug)
    return error.exit_code if isinstance(error, CdcError) else EXIT_FAILED


@click.group(
    cls=Program,
    commands_by_name=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 ok, 1 failed, 2 usage, 3 a difference or degradation was found,"
    " 69 a server does not answer, 75 try later, 78 configuration.",
)
@shared_options
def root() -> None:
    """Carry committed changes of ERP, CRM and HR databases into group entities, exactly once."""


def main() -> None:
    """Entry point of the script ``cdc-daemon``; exits."""
    root.main(prog_name="cdc-daemon")


if __name__ == "__main__":
    main()
