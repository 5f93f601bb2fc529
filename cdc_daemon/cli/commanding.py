"""One command to one pipeline: through its worker, or, where none runs, by taking the epoch.

The command always goes through ``cdc.command``, so that who did what is kept; whoever holds the
epoch carries out what is pending, by the same code. A repair needs a worker that follows the log;
one may run in here for so long (``followed``). What could not be carried out here is withdrawn, so
that no worker does later what its sender was told had failed.
"""

from __future__ import annotations

import os
import pwd
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from cdc_daemon.cli.output import words
from cdc_daemon.model.errors import CdcError, Fenced, Retryable
from cdc_daemon.model.findings import refusal
from cdc_daemon.model.ports import Command, Control, Sink
from cdc_daemon.model.position import Phase

if TYPE_CHECKING:
    from cdc_daemon.config.configuration import Configuration
    from cdc_daemon.engine.meter import Meter

EVERY = 0.1  # seconds between looks
STREAMING = frozenset({"repair", "resync"})
"""Verbs that only a pipeline which follows its log can carry out."""

HEARTBEAT = 5.0  # seconds; a holder that is not seen for 30 is taken over


def command(
    configuration: Configuration,
    control: Control,
    pipeline: str,
    verb: str,
    arguments: Mapping[str, object],
    timeout: float,
) -> dict[str, object]:
    """Have it carried out; its result.

    Raises CdcError when it failed, Retryable when nobody did it within ``timeout`` seconds.
    """
    if pipeline not in configuration.sources:
        raise CdcError(f"pipeline {pipeline} is not configured any longer")
    number = control.submit(pipeline, verb, dict(arguments), actor())
    deadline = time.monotonic() + timeout
    fenced: Fenced | None = None
    while True:
        found = control.command(number)
        if found.state != "pending":
            return _result(found)
        if not control.holder_alive(pipeline):
            with _withdrawn_on_failure(control, number):
                if verb in STREAMING:
                    raise CdcError(f"no worker runs pipeline {pipeline}", hint="cdc-daemon run")
                fenced = _carry_out(configuration, pipeline)
            if fenced is None:
                return _result(control.command(number))
        if time.monotonic() >= deadline:
            reason = f": {fenced.message}" if fenced else ""
            raise Retryable(
                f"command {number} is still pending after {timeout:g} s{reason}",
                hint="the worker carries it out as soon as it can",
            )
        time.sleep(EVERY)


def actor() -> str:
    """Who asks: the operating system's name of the user."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


@contextmanager
def _withdrawn_on_failure(control: Control, number: int) -> Iterator[None]:
    """Take the command back when an error leaves the block, also where the user gave up."""
    try:
        yield
    except BaseException as error:
        reason = str(error) if isinstance(error, CdcError) else type(error).__name__
        with suppress(CdcError):  # the first error is the one to be told
            control.withdraw(number, reason)
        raise


def _carry_out(configuration: Configuration, pipeline: str) -> Fenced | None:
    """Hold the pipeline for as long as its pending commands take; who else holds it, if so."""
    from cdc_daemon import build
    from cdc_daemon.engine.meter import Meter

    build.require_keys(configuration, pipeline)
    meter = Meter(pipeline, build.mapping_names(configuration.mappings_of(pipeline)))
    parts = build.open_pipeline(configuration, pipeline, meter)
    try:
        refused = refusal(parts.sink.examine())
        if refused is not None:
            raise refused
        checkpoint = parts.sink.acquire()
        words(f"no worker runs pipeline {pipeline}: doing it here")
        parts.releasing.reload()  # what it writes may be what parked changes wait for
        with _attested(parts.sink):
            parts.repairs.run_commands(checkpoint, hurried=False)
    except Fenced as error:
        return error
    finally:
        parts.close()
    return None


@contextmanager
def followed(
    configuration: Configuration, control: Control, pipeline: str, timeout: float = 60.0
) -> Iterator[None]:
    """See to it that the pipeline follows its log for as long as the block takes.

    Where no worker holds it, one runs in here; changes that wait are applied as ever. Raises
    CdcError where it cannot, Retryable where it does not within ``timeout`` seconds.
    """
    from cdc_daemon import build

    if control.holder_alive(pipeline):
        yield
        return
    phases = {one.pipeline: one.phase for one in control.checkpoints()}
    if phases.get(pipeline) is not Phase.STREAMING:
        raise CdcError(
            f"pipeline {pipeline} has not finished its first copy", hint="cdc-daemon run takes it"
        )
    build.require_keys(configuration, pipeline)
    words(f"no worker runs pipeline {pipeline}: running it here until this is done")
    deadline = time.monotonic() + timeout
    with _worker(configuration, pipeline) as (running, meter):
        while not control.holder_alive(pipeline):
            if not running.is_alive():
                raise CdcError(f"pipeline {pipeline} cannot run: {meter.status().error}")
            if time.monotonic() >= deadline:
                raise Retryable(
                    f"pipeline {pipeline} does not run after {timeout:g} s:"
                    f" {meter.status().error or 'it is still starting'}",
                    hint="cdc-daemon doctor says what is in its way",
                )
            time.sleep(EVERY)
        yield


@contextmanager
def _worker(
    configuration: Configuration, pipeline: str
) -> Iterator[tuple[threading.Thread, Meter]]:
    """A worker in a thread of this process; it drains when the block ends."""
    from cdc_daemon import build, telemetry
    from cdc_daemon.engine.meter import Meter
    from cdc_daemon.engine.reading import Stopping
    from cdc_daemon.worker import Worker

    telemetry.configure("warning")
    meter = Meter(pipeline, build.mapping_names(configuration.mappings_of(pipeline)))
    stopping = Stopping(configuration.settings.drain_seconds)
    worker = Worker(configuration, pipeline, meter, stopping)
    running = threading.Thread(target=worker.run, name="worker", daemon=True)
    running.start()
    try:
        yield running, meter
    finally:
        stopping.ask()
        running.join()


@contextmanager
def _attested(sink: Sink) -> Iterator[None]:
    """Attest that this holder lives for as long as the block takes."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(HEARTBEAT):
            with suppress(CdcError):  # the work meets the same error and reports it
                sink.heartbeat()

    heart = threading.Thread(target=beat, name="heartbeat", daemon=True)
    heart.start()
    try:
        yield
    finally:
        done.set()
        heart.join()


def _result(found: Command) -> dict[str, object]:
    result = found.result or {}
    if found.state == "failed":
        raise CdcError(str(result.get("error", f"command {found.id} failed")))
    return result
