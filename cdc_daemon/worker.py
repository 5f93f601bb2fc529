"""One pipeline in one process: document in by pipe, status out by pipe, retry in between.

Started by the supervisor as ``python -m cdc_daemon.worker``; the first line on stdin is the
document (worker_document), the end of stdin means drain and exit. Exit codes as DESIGN section 8.
Not in here: what a pipeline consists of (build) and what it does with a batch (engine).
"""

from __future__ import annotations

import argparse
import datetime as dt
import gc
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import tenacity

from cdc_daemon import build
from cdc_daemon.config.configuration import Configuration
from cdc_daemon.engine import copied
from cdc_daemon.engine.meter import Meter, report
from cdc_daemon.engine.pipeline import Pipeline
from cdc_daemon.engine.reading import DrainExpired, Stopping
from cdc_daemon.engine.snapshot import take_snapshot
from cdc_daemon.engine.status import State, verification_of
from cdc_daemon.engine.watching import Watching
from cdc_daemon.model.errors import (
    EXIT_FAILED,
    EXIT_OK,
    EXIT_TRY_LATER,
    CdcError,
    Disposition,
    NotAdmitted,
    PreflightRefusal,
    Retryable,
    disposition_of,
)
from cdc_daemon.model.ports import Source
from cdc_daemon.model.position import Checkpoint, Phase
from cdc_daemon.telemetry import configure, flush, get_logger
from cdc_daemon.worker_document import received

log = get_logger("cdc_daemon.worker")  # also where this module is __main__

HEARTBEAT = 5.0  # seconds; the checkpoint row's seen_at may be at most 10 s old
ORPHAN_GRACE = 5.0  # seconds beyond the drain time before a worker ends itself
GARBAGE = 200_000  # containers made and not freed between two searches for cycles
SWITCH = 0.001  # seconds that one of two busy threads waits for the other
RECHECK = 10.0  # seconds between looks at publication and slot
TARGET_RECHECK = 60.0  # seconds between looks at the control database's settings


class SnapshotBegun(Exception):
    """The checkpoint says ``snapshotting`` by now: leave the stream and begin a new session."""


class Worker:
    """Runs one pipeline until asked to stop or until it must not go on."""

    def __init__(
        self, configuration: Configuration, name: str, meter: Meter, stopping: Stopping
    ) -> None:
        self._configuration = configuration
        self._name = name
        self._meter = meter
        self._stopping = stopping
        self._parts: build.Parts | None = None
        self._seen_queue: tuple[int, ...] = ()
        self._released = 0  # parked changes that took effect by themselves
        self._watching = Watching(name, meter)
        self._rechecked = self._target_rechecked = 0.0
        self._began = time.time()
        self._admitted = False  # by both servers, for every kind of connection
        self._checkpoint: Checkpoint | None = None
        self._streamed_from: str | None = None  # the meter's position when this session began

    def run(self) -> int:
        """Work; the exit code."""
        heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        heart.start()
        try:
            self._until_stopped()
        except CdcError as error:
            if self._stopping.asked and self._may_retry(error):
                return EXIT_OK  # drained as far as it went; the unit was rolled back
            self._meter.error(error)
            log.error("pipeline stopped", pipeline=self._name, error=str(error))
            return error.exit_code
        except Exception as error:  # noqa: BLE001 - the last place that can say what happened
            self._meter.error(f"unexpected {type(error).__name__}")
            log.error(
                "pipeline stopped by an unexpected error",
                pipeline=self._name,
                error=type(error).__name__,
                at=_frames(error),
            )
            return EXIT_FAILED
        finally:
            self._meter.phase(State.STOPPED)
            if self._parts is not None:
                self._parts.close()
        return EXIT_OK

    # --- retrying -------------------------------------------------------------------------------

    def _until_stopped(self) -> None:
        """Sessions, with backoff between those that failed without any progress."""
        settings = self._configuration.settings
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(self._may_retry),
            wait=tenacity.wait_random_exponential(
                multiplier=settings.retry_first_seconds, max=settings.retry_max_seconds
            ),
            stop=lambda _: self._stopping.asked,
            sleep=self._sleep,
            before_sleep=self._note_retry,
            reraise=True,
        )
        while not self._stopping.asked:
            retrying.copy()(self._session)

    def _session(self) -> None:
        """One try; returns when asked to stop, and after progress also when it broke off."""
        before = self._meter.status().commits
        try:
            self._stream()
        except SnapshotBegun:
            log.info("snapshot asked for", pipeline=self._name)
        except CdcError as error:
            self._meter.lost()
            if self._parts is not None:
                self._parts.source.close()  # all of it may lead to another server by now
            if self._may_retry(error) and self._meter.status().commits > before:
                self._meter.retrying(error)
                log.warning("interrupted", pipeline=self._name, error=str(error))
                return
            raise

    def _may_retry(self, error: BaseException) -> bool:
        """Also when a server that let us in before does so no more: a password is being changed,
        and the next connection reads it anew."""
        if isinstance(error, NotAdmitted) and self._admitted:
            return True
        return disposition_of(error) is Disposition.RETRY

    def _sleep(self, seconds: float) -> None:
        """Wait, and attest that this is meant: the longest wait may be an hour."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._meter.turned()
            if self._stopping.wait(min(left, HEARTBEAT)):
                return

    def _note_retry(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if error is None:
            return
        self._meter.retrying(error)
        log.warning(
            "will try again",
            pipeline=self._name,
            error=str(error),
            attempt=state.attempt_number,
            wait_s=round(state.next_action.sleep, 2) if state.next_action else 0,
        )

    # --- one session ----------------------------------------------------------------------------

    def _stream(self) -> None:
        parts = self._opened()
        checkpoint = self._hold(parts)
        self._require_resumed(parts)
        position = self._position(parts, checkpoint)
        self._watch_parked(parts)
        self._streamed_from = self._meter.position
        log.info("streaming", pipeline=self._name, position=position, epoch=self._meter.epoch)
        Pipeline(
            source=parts.source,
            sink=parts.sink,
            applier=parts.applier,
            meter=self._meter,
            limits=parts.limits,
            stopping=self._stopping,
            parking=parts.copying.parking,
            breaker=parts.copying.breaker,
            between=self._between,
            cascading=parts.copying.cascading,
        ).stream(position)

    def _opened(self) -> build.Parts:
        if self._parts is None:
            self._parts = build.open_pipeline(self._configuration, self._name, self._meter)
        return self._parts

    def _hold(self, parts: build.Parts) -> Checkpoint:
        """Take the pipeline, or take it again after a lost connection; check both ends."""
        if self._checkpoint is None:
            self._watching.judge(parts.sink.examine())
            self._checkpoint = parts.sink.acquire()
        else:
            self._checkpoint = parts.sink.recover()
        self._meter.epoch = self._checkpoint.epoch
        self._checkpoint = parts.repairs.run_commands(self._checkpoint, only="snapshot")
        self._note_slot(parts.source, self._checkpoint)
        self._rechecked = 0.0  # and again once its log is open
        findings = parts.source.examine(self._checkpoint)
        self._remember(parts)
        self._watching.judge(findings)
        self._admitted = True
        self._note_identity(parts)
        self._note_mappings(parts)
        if due := parts.releasing.begin():
            log.info("parked changes of altered mappings are tried", pipeline=self._name, due=due)
        return self._checkpoint

    def _require_resumed(self, parts: build.Parts) -> None:
        """Where the breaker has stopped the pipeline: carry out commands until one says resume."""
        stopped = False
        while (reason := parts.sink.tripped()) and not self._stopping.wait(1.0):
            stopped = True
            self._meter.stopped_by_breaker(reason)
            self._carry_out_commands(parts)
            self._watch_waiting_log(parts)
        if self._stopping.asked:
            raise DrainExpired
        if stopped:
            self._meter.resumed()
            self._rechecked = 0.0
        if seconds := parts.sink.disarmed():
            parts.copying.breaker.disarm(seconds)

    def _carry_out_commands(self, parts: build.Parts) -> None:
        assert self._checkpoint is not None
        after = parts.repairs.run_commands(self._checkpoint)
        if after.phase is not self._checkpoint.phase:
            raise SnapshotBegun
        self._watch_parked(parts)
        self._meter.turned()

    def _remember(self, parts: build.Parts) -> None:
        """Store what was seen before it is refused: its cause may be gone at the next start."""
        assert self._checkpoint is not None
        known = self._checkpoint.identity
        if self._checkpoint.phase is Phase.STREAMING and known is not None:
            identity = parts.source.remember(known)
            if identity != known:
                self._checkpoint = parts.sink.save_identity(identity)

    def _note_identity(self, parts: build.Parts) -> None:
        """A checked new timeline, or fewer mapped tables, is what the next start compares with.

        What is stored is itself compared: something may have happened since the check.
        """
        assert self._checkpoint is not None
        known = self._checkpoint.identity
        if self._checkpoint.phase is not Phase.STREAMING or known is None:
            return
        identity = parts.source.identify()
        if identity != known:
            _refuse(parts.source.compare(known, identity))
            self._checkpoint = parts.sink.save_identity(identity)

    def _note_mappings(self, parts: build.Parts) -> None:
        """The rows that are there must have been made by these mappings, or ones that fit."""
        if self._checkpoint is None or self._checkpoint.phase is not Phase.STREAMING:
            return
        then = parts.sink.copied_mappings()
        if then == parts.mappings:
            return
        _refuse(list(copied.misfits(self._name, then, parts.mappings)))
        for mapping in copied.altered(then, parts.mappings):
            log.warning(
                "mapping changed: rows written before stay as they are until they change",
                pipeline=self._name,
                mapping=mapping,
                cure=f"to bring them up to date: cdc-daemon snapshot start {self._name}",
            )
        with parts.sink.begin() as unit:
            unit.note_copied(parts.mappings)

    def _position(self, parts: build.Parts, checkpoint: Checkpoint) -> str:
        """Where to stream from, after the first copy where there was none."""
        if checkpoint.phase is Phase.STREAMING:
            assert checkpoint.position is not None
            return checkpoint.position
        log.info("snapshot begins", pipeline=self._name)
        self._meter.opened()
        position, identity = take_snapshot(
            parts.source,
            parts.sink,
            parts.applier,
            self._meter,
            self._stopping,
            parts.copying,
            checkpoint,
        )
        self._checkpoint = replace(
            checkpoint,
            phase=Phase.STREAMING,
            position=position,
            identity=identity,
            slot=parts.copying.slot,
            generation=checkpoint.generation + 1,
        )
        log.info("snapshot done", pipeline=self._name, position=position)
        return position

    def _between(self) -> None:
        """Once a second between units: commands, the failure queue's size, the publication."""
        assert self._parts is not None
        assert self._checkpoint is not None
        self._carry_out_commands(self._parts)
        if done := self._parts.releasing.turn():
            self._released += done
            log.info("parked changes have taken effect", pipeline=self._name, changes=done)
        if purged := self._parts.purging.tend():
            log.info("settled failures purged", pipeline=self._name, changes=purged)
        self._watch_parked(self._parts)
        now = time.monotonic()
        if self._is_time_to_look(now):
            self._watch_source(self._parts, self._checkpoint)
            self._watch_verification(self._parts)
        if now - self._target_rechecked >= TARGET_RECHECK:
            self._target_rechecked = now
            self._watching.watch(self._parts.sink.watch())

    def _is_time_to_look(self, now: float) -> bool:
        """Whether the source was looked at long ago; it is, then."""
        due = now - self._rechecked >= RECHECK
        if due:
            self._rechecked = now
        return due

    def _watch_waiting_log(self, parts: build.Parts) -> None:
        """Nobody reads the log meanwhile, so it grows in the source until it is lost."""
        assert self._checkpoint is not None
        if self._checkpoint.phase is Phase.STREAMING and self._is_time_to_look(time.monotonic()):
            self._watch_source(parts, self._checkpoint)
            self._watch_verification(parts)

    def _watch_source(self, parts: build.Parts, checkpoint: Checkpoint) -> None:
        """The publication must not change; what the slot keeps is to be seen."""
        self._note_slot(parts.source, checkpoint)
        findings = parts.source.watch(self._moved(checkpoint), self._meter.log_rate)
        self._remember(parts)
        self._watching.watch(findings)

    def _moved(self, checkpoint: Checkpoint) -> Checkpoint:
        """As it stands now: this session's units of work have moved it since it was read."""
        position, commit_time = self._meter.position, self._meter.commit_time
        if position is None or position == self._streamed_from:
            return checkpoint
        moment = dt.datetime.fromtimestamp(commit_time, dt.UTC) if commit_time else None
        return replace(checkpoint, position=position, commit_time=moment or checkpoint.commit_time)

    def _note_slot(self, source: Source, checkpoint: Checkpoint) -> None:
        """A slot that is lost is to be seen also where the pipeline is refused for it."""
        position = self._meter.position or checkpoint.position
        self._meter.slot(source.slot_state(position) if position else None)

    def _watch_verification(self, parts: build.Parts) -> None:
        """What the newest verification found, by whomever it was made, and when one is due."""
        found = parts.sink.verification()
        since = found.last_started.timestamp() if found and found.last_started else self._began
        due = self._configuration.verification.next_after(since)
        self._meter.verification = verification_of(found, due)

    def _watch_parked(self, parts: build.Parts) -> None:
        """Ask for the failure queue's size when something may have changed it."""
        done = parts.repairs.carried_out + self._released
        signs = (len(parts.lanes), self._meter.failed_rows, done)
        if signs != self._seen_queue:
            self._seen_queue = signs
            rows, oldest = parts.sink.parked(), parts.sink.parked_since()
            self._meter.failures.holds(rows, oldest=oldest, lanes=len(parts.lanes))

    def _beat(self) -> None:
        """Attest that this holder lives, also while a unit of work takes long."""
        while not self._stopping.wait(HEARTBEAT):
            if self._parts is not None and self._checkpoint is not None:
                with suppress(CdcError):  # the applier meets the same error and reports it
                    self._parts.sink.heartbeat()


def _refuse(problems: Sequence[object]) -> None:
    if problems:
        raise PreflightRefusal(list(problems))  # type: ignore[arg-type]


def _frames(error: BaseException) -> str:
    """Where it happened, without the message: that could hold a row value."""
    frames = traceback.extract_tb(error.__traceback__)
    return " < ".join(f"{os.path.basename(f.filename)}:{f.lineno}" for f in reversed(frames))  # noqa: PTH119


# --- the process --------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m cdc_daemon.worker --pipeline NAME --status-fd N``."""
    parser = argparse.ArgumentParser(prog="cdc-daemon-worker")
    parser.add_argument("--pipeline", required=True)
    parser.add_argument("--status-fd", type=int, required=True)
    given = parser.parse_args(arguments)
    try:
        configuration = received()
    except Retryable as error:
        configure()
        log.error("worker not started", pipeline=given.pipeline, error=str(error))
        return error.exit_code
    settings = configuration.settings
    configure(settings.log_level, settings.log_format, file=settings.log_file)
    meter = Meter(given.pipeline, build.mapping_names(configuration.mappings_of(given.pipeline)))
    stopping = Stopping(settings.drain_seconds)
    stop_when_told(stopping)
    threading.Thread(target=_listen, args=(stopping, meter), daemon=True).start()
    reporting = threading.Event()
    reporter = threading.Thread(
        target=report, args=(meter, given.status_fd, reporting), daemon=True
    )
    reporter.start()
    try:
        _share_the_interpreter()
        return Worker(configuration, given.pipeline, meter, stopping).run()
    finally:
        reporting.set()
        meter.changed.set()
        reporter.join(5.0)


def _share_the_interpreter() -> None:
    """Rows are tuples without cycles: looking for some among them cost a third of decoding. And the
    applier, which keeps the control database busy, must not wait long for a reader that decodes."""
    gc.freeze()
    gc.set_threshold(GARBAGE)
    sys.setswitchinterval(SWITCH)


def stop_when_told(stopping: Stopping) -> None:
    """TERM and INT stop it.

    Each wakes a thread. A handler alone would not do: it runs in the main thread, and may find it
    with the very lock in hand that stopping needs.
    """
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        signal.signal(number, lambda *_: None)

    def wait() -> None:
        while number := os.read(told, 1):
            if number[0] in numbers:
                stopping.ask()

    threading.Thread(target=wait, name="signals", daemon=True).start()


def _listen(stopping: Stopping, meter: Meter) -> None:
    """Messages of the supervisor; its end of the pipe closed means: stop."""
    try:
        for line in sys.stdin:
            _heed(line, meter)
    finally:  # nothing that is received leaves a worker that outlives its supervisor
        stopping.ask()
        time.sleep(stopping.drain_seconds + ORPHAN_GRACE)
        flush()
        os._exit(EXIT_TRY_LATER)  # nobody is left to kill an applier that hangs in SQL


def _heed(line: str, meter: Meter) -> None:
    """Do what one message asks for; one that is cut short is the last, and asks for nothing."""
    try:
        message = json.loads(line)
        if "dump" in message:
            log.info("state", **meter.status().to_dict())
        if "logs" in message:
            configure(**message["logs"])
    except Exception as error:  # noqa: BLE001 - the next message may be that the pipe has ended
        log.warning("message of the daemon not carried out", error=type(error).__name__)


if __name__ == "__main__":
    sys.exit(main())
