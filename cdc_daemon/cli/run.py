"""``run``: the supervisor in the foreground, as a service manager wants it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from cdc_daemon.cli.administrators import VARIABLE as ADMINISTRATORS
from cdc_daemon.cli.given import Given, pass_given, shared_options

if TYPE_CHECKING:
    from cdc_daemon.config.configuration import Configuration
    from cdc_daemon.daemon import Document, Limits, Reloaded, Schedule


@click.command(
    epilog="TERM and INT drain, commit and exit 0; HUP reads the configuration again and keeps the"
    " old one if the new one is wrong; USR1 writes the state to the log."
)
@shared_options
@click.option(
    "--pipeline", "names", multiple=True, metavar="NAME", help="Run only this one; repeatable."
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    envvar="CDC_DAEMON_LOG_LEVEL",
    show_envvar=True,
    help="In place of the configuration's, also after a reload.",
)
@pass_given
def run(given: Given, names: tuple[str, ...], log_level: str | None) -> int:
    """Run the daemon: one process per pipeline, until TERM."""
    import faulthandler

    from cdc_daemon import telemetry
    from cdc_daemon.daemon import Supervisor
    from cdc_daemon.worker_document import same_work

    faulthandler.enable(2)  # the watchdog's SIGABRT shall tell where it found us
    given.environ = dict(os.environ)
    configuration = logging_at(log_level, given.load_with_warnings())
    withhold(configuration)
    settings = configuration.settings
    telemetry.check_log_file(settings.log_file)
    telemetry.configure(settings.log_level, settings.log_format, file=settings.log_file)
    listens = settings.metrics_listen
    supervisor = Supervisor(
        documents(configuration, names),
        reload=lambda: reloaded(logging_at(log_level, given.load()), names, listens),
        limits=limits(configuration),
        admin_address=(settings.metrics_host, settings.metrics_port),
        same=same_work,
        schedule=schedule(configuration),
        notifications=configuration.notifications,
    )
    return supervisor.run()


def logging_at(level: str | None, configuration: Configuration) -> Configuration:
    """The configuration with another log level; None: as it is."""
    import dataclasses

    if level is None:
        return configuration
    settings = configuration.settings.model_copy(update={"log_level": level})
    return dataclasses.replace(configuration, settings=settings)


def withhold(configuration: Configuration) -> None:
    """Take out of the environment, which every child inherits, what may be secret in it: workers
    are told what they need through their pipes."""
    for name in {*configuration.variables, ADMINISTRATORS}:
        os.environ.pop(name, None)


def reloaded(configuration: Configuration, names: Sequence[str], listens: str) -> Reloaded:
    """What a changed configuration says; logs go by it from here on.

    ``listens``: the address that the daemon listens at, for that it cannot change.
    """
    from cdc_daemon import telemetry
    from cdc_daemon.daemon import Reloaded

    settings = configuration.settings
    found = Reloaded(
        documents=documents(configuration, names),
        limits=limits(configuration),
        logs=settings.logs,
        schedule=schedule(configuration),
        notifications=configuration.notifications,
    )
    telemetry.check_log_file(settings.log_file)
    telemetry.configure(settings.log_level, settings.log_format, file=settings.log_file)
    log = telemetry.get_logger(__name__)
    for warning in configuration.warnings:  # stderr may be a pipe that nobody empties
        log.warning("configuration warning", warning=str(warning))
    if settings.metrics_listen != listens:
        log.warning(
            "another address takes effect with a restart",
            setting="daemon.metrics_listen",
            in_use=listens,
        )
    return found


def documents(configuration: Configuration, names: Sequence[str]) -> dict[str, Document]:
    """What each pipeline's worker is started with; only those named, where there are names."""
    from cdc_daemon.worker_document import document

    return {name: document(configuration, name) for name in chosen(configuration, names)}


def chosen(configuration: Configuration, names: Sequence[str]) -> list[str]:
    """The pipelines meant. Raises ConfigurationError for one that is not configured."""
    from cdc_daemon.model.errors import ConfigurationError, suggest

    for name in names:
        if name not in configuration.sources:
            raise ConfigurationError(
                f"no source is named {name!r}{suggest(name, configuration.sources)}",
                hint=f"sources: {', '.join(configuration.sources)}",
            )
    return [name for name in configuration.sources if not names or name in names]


def schedule(configuration: Configuration) -> Schedule:
    """When the daemon verifies by itself."""
    from cdc_daemon.daemon import Schedule

    verification = configuration.verification
    return Schedule(next_after=verification.next_after, max_seconds=verification.max_seconds)


def limits(configuration: Configuration) -> Limits:
    """The supervisor's limits from the ``daemon`` section."""
    from cdc_daemon.daemon import Limits

    settings = configuration.settings
    return Limits(
        drain_seconds=settings.drain_seconds,
        max_restarts=settings.max_restarts,
        restart_window=settings.restart_window_seconds,
    )
