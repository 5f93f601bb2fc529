"""``failures resume``: let pipelines go on that the breaker has stopped."""

from __future__ import annotations

import click

from cdc_daemon.cli.given import Given, known_name, output_option, pass_given, shared_options
from cdc_daemon.cli.output import print_json, words
from cdc_daemon.cli.parked import control_of
from cdc_daemon.model.errors import EXIT_OK


@click.command()
@shared_options
@output_option
@click.argument("pipeline")
@click.option(
    "--for",
    "seconds",
    type=click.FloatRange(min=1, max=7 * 86_400),
    default=3600.0,
    show_default=True,
    help="Seconds for which whatever fails is parked and does not stop the pipeline again.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Seconds to wait for the worker.",
)
@pass_given
def resume(given: Given, pipeline: str, seconds: float, timeout: float) -> int:
    """Let a pipeline go on that the breaker has stopped.

    Also before much is known to fail, or once more for longer.
    """
    from cdc_daemon.cli.commanding import command

    configuration = given.load_without_keys()
    known_name("pipeline", pipeline, configuration.sources)
    with control_of(configuration) as control:
        done = command(configuration, control, pipeline, "resume", {"seconds": seconds}, timeout)
    if given.output == "json":
        print_json(done)
    elif not done.get("resumed"):
        words(f"the breaker had not stopped {pipeline}, and will not for {seconds:g} s")
    return EXIT_OK
