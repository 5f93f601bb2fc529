"""``python -m cdc_daemon.cli.scheduled``: the verification of one pipeline, as the daemon runs it.

Document on stdin as a worker has it; what is found goes to the control database and the log. At the
lowest priority, so that it takes what the pipelines leave; it ends with the daemon that started it
(SIGTERM, or the daemon is gone: abandoned) and when it took too long (SIGALRM: failed), and notes
which. Exit codes as ``verify``.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence

from cdc_daemon.cli.recording import BrokenOff, recorded
from cdc_daemon.config.configuration import Configuration
from cdc_daemon.model.errors import EXIT_FAILED, EXIT_TRY_LATER, CdcError, Retryable
from cdc_daemon.telemetry import configure, flush, get_logger
from cdc_daemon.worker_document import received

log = get_logger(__name__)

NICENESS = 19
_LOOK = 1.0  # seconds between looks whether the daemon is still there
_LAST = 10.0  # seconds that an orphan may take to note why it ends


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify; the exit code."""
    parser = argparse.ArgumentParser(prog="cdc-daemon-verification")
    parser.add_argument("--pipeline", required=True)
    parser.add_argument("--parent", required=True, type=int)
    given = parser.parse_args(arguments)
    try:
        configuration = received()
    except Retryable as error:
        configure()
        log.error("verification not started", pipeline=given.pipeline, error=str(error))
        return error.exit_code
    settings = configuration.settings
    configure(settings.log_level, settings.log_format, file=settings.log_file)
    os.nice(NICENESS)
    try:
        _end_when_told(configuration.verification.max_seconds)
        threading.Thread(target=_end_with, args=(given.parent,), daemon=True).start()
        return verified(configuration, given.pipeline)
    except BrokenOff as end:
        log.warning("verification broken off", pipeline=given.pipeline, reason=end.reason)
        return end.code
    except CdcError as error:
        log.error("verification failed", pipeline=given.pipeline, error=str(error))
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the last place that can say what happened
        log.error("verification failed", pipeline=given.pipeline, error=type(error).__name__)
        return EXIT_FAILED


def verified(configuration: Configuration, pipeline: str) -> int:
    """Compare, note, log; the exit code."""
    from cdc_daemon.verify import verify

    settings = configuration.verification

    def say(text: str) -> None:
        log.debug("verification", pipeline=pipeline, note=text)

    with recorded(configuration, [pipeline], "schedule", say, whole=True) as record:
        report = verify(
            configuration,
            timeout=settings.timeout_seconds,
            examples=settings.examples,
            progress=say,
        )
        record.finish(configuration, report)
    for one in report.mappings:
        tell = log.info if one.equal else log.error
        tell(
            "verified" if one.equal else "verification found differences",
            pipeline=pipeline,
            mapping=one.mapping,
            rows=one.source,
            missing=one.missing,
            extra=one.extra,
            different=one.different,
            behind=bool(report.behind),
        )
    return report.exit_code


def _end_when_told(max_seconds: float) -> None:
    """Leave by an exception that says why, which reaches the note on this run."""
    ends = {
        signal.SIGTERM: BrokenOff(EXIT_TRY_LATER, "the daemon ended", state="abandoned"),
        signal.SIGALRM: BrokenOff(EXIT_FAILED, f"it took more than {max_seconds:g} seconds"),
    }

    def end(number: int, _: object) -> None:
        for each in ends:
            signal.signal(each, signal.SIG_IGN)  # the note itself is not broken off
        raise ends[signal.Signals(number)]

    for each in ends:
        signal.signal(each, end)


def _end_with(parent: int) -> None:
    """End when the daemon has: nobody would end this."""
    while os.getppid() == parent:
        time.sleep(_LOOK)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_LAST)
    flush()
    os._exit(EXIT_TRY_LATER)


if __name__ == "__main__":
    sys.exit(main())
