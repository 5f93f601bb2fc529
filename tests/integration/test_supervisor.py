"""The supervisor with real processes, signals and pipes; only the workers are fakes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest
from prometheus_client.parser import text_string_to_metric_families

import cdc_daemon
from tests.support import fake_daemon
from tests.support.pipes import full_pipe
from tests.support.waiting import until

QUICK = {
    "drain_seconds": 1.0,
    "drain_margin": 0.5,
    "kill_seconds": 0.5,
    "hang_seconds": 1.0,
    "silence_seconds": 20.0,
    "watchdog_seconds": 20.0,
    "backoff_first": 0.05,
    "backoff_most": 0.2,
    "max_restarts": 3,
}

MOST_IDLE_SHARE = 0.03  # of a core, at ten status lines a second


class Daemon:
    """A supervisor process and what its fake workers wrote about themselves."""

    def __init__(self, folder: Path, limits: dict[str, float], **behaviours: object) -> None:
        self._folder = folder
        self._settings = folder / "daemon.json"
        self._journal = folder / "journal"
        self._log = folder / "log"
        self._limits = {**QUICK, **limits}
        self.configure(**behaviours)
        self.process: subprocess.Popen[bytes] | None = None

    def configure(self, **behaviours: object) -> None:
        """Write the configuration: pipeline name → behaviour, or a document's further keys."""
        documents = {}
        for name, behave in behaviours.items():
            more: dict[str, Any] = behave if isinstance(behave, dict) else {"behave": behave}
            documents[name] = {"journal": str(self._journal), **more}
        address = str(self._folder / "address")
        settings = {"documents": documents, "limits": self._limits, "address": address}
        self._settings.write_text(json.dumps(settings))

    def spoil(self) -> None:
        """Make the configuration unreadable."""
        self._settings.write_text("{")

    def start(self, stderr: int | None = None, **environment: str) -> None:
        root = str(Path(cdc_daemon.__file__).parents[1])
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, fake_daemon.__file__, str(self._settings)],
                stderr=log if stderr is None else stderr,
                env={**os.environ, "PYTHONPATH": root, **environment},
            )

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, seconds: float = 30) -> int:
        assert self.process is not None
        return self.process.wait(seconds)

    def close(self) -> None:
        """Leave nothing behind, whatever the test did."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        for pid in [pid for _, event, pid in self.events() if event == "started"]:
            if not _ended(pid):
                os.kill(pid, signal.SIGKILL)

    def events(self, name: str | None = None) -> list[tuple[str, str, int]]:
        """What workers wrote: (pipeline, event, pid)."""
        if not self._journal.exists():
            return []
        rows = [line.split() for line in self._journal.read_text().splitlines()]
        return [(row[0], row[1], int(row[2])) for row in rows if name in {None, row[0]}]

    def pids(self, name: str, event: str = "started") -> list[int]:
        """The workers of a pipeline to which this happened."""
        return [pid for _, found, pid in self.events(name) if found == event]

    def log(self) -> str:
        """What stands in the log by now: a thread writes it, after what it tells has happened."""
        return self._log.read_text()

    def until_logged(self, words: str) -> None:
        """Wait until these words stand in the log."""
        until(lambda: words in self.log(), what=f"{words!r} in the log")

    def get(self, path: str) -> tuple[int, str]:
        """Status code and body of a page."""
        place = self._folder / "address"
        until(place.exists)
        address = place.read_text()
        try:
            with urllib.request.urlopen(address + path, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as exc:
            return exc.code, exc.read().decode()

    def state(self, name: str) -> dict[str, Any]:
        """The pipeline's entry on the status page."""
        found = json.loads(self.get("/status")[1])
        return next((entry for entry in found if entry["pipeline"] == name), {})

    def until_state(self, name: str, *states: str) -> dict[str, Any]:
        """Wait until the pipeline is in one of these states; its entry."""

        def reached() -> dict[str, Any]:
            entry = self.state(name)
            return entry if entry.get("state") in states else {}

        return until(reached, what=f"{name} is {states}")


class _Start:
    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack

    def __call__(
        self,
        limits: dict[str, float] | None = None,
        environment: dict[str, str] | None = None,
        stderr: int | None = None,
        **behaviours: object,
    ) -> Daemon:
        daemon = Daemon(self._folder, limits or {}, **behaviours)
        self._stack.callback(daemon.close)
        daemon.start(stderr, **(environment or {}))
        return daemon


@pytest.fixture
def start(tmp_path: Path) -> Iterator[_Start]:
    """Starts a daemon that is gone after the test."""
    with ExitStack() as stack:
        yield _Start(tmp_path, stack)


def _ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_term_drains_every_worker_and_exits_with_0(start: _Start) -> None:
    daemon = start(erp="stream", hr="stream")
    daemon.until_state("erp", "streaming", "idle")
    daemon.until_state("hr", "streaming", "idle")
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    for name in ("erp", "hr"):
        assert [event for _, event, _ in daemon.events(name)] == ["started", "eof", "drained"]


def test_a_crashing_worker_is_restarted_with_pauses_then_given_up_and_others_live(
    start: _Start,
) -> None:
    daemon = start(erp="die", hr="stream")
    entry = daemon.until_state("erp", "stopped")
    assert "signal 9" in entry["error"]
    assert entry["restarts"] == 3
    assert len(daemon.pids("erp")) == 4
    assert daemon.until_state("hr", "streaming", "idle")["restarts"] == 0
    assert len(daemon.pids("hr")) == 1
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0


def test_a_configuration_exit_is_not_restarted_and_ends_the_daemon_when_it_is_the_last(
    start: _Start,
) -> None:
    daemon = start(erp={"behave": "leave", "code": 78}, hr={"behave": "leave", "code": 2})
    assert daemon.wait() == 78
    assert len(daemon.pids("erp")) == len(daemon.pids("hr")) == 1
    daemon.until_logged("as it was told")


def test_exits_that_blame_a_server_never_use_up_the_bound(start: _Start) -> None:
    daemon = start(erp={"behave": "leave", "code": 69}, hr="stream")
    until(lambda: len(daemon.pids("erp")) > QUICK["max_restarts"] + 3)
    assert daemon.until_state("erp", "blocked")["error"] == "as it was told"
    until(lambda: "event=ready" in daemon.log(), what="an outage of one must not delay READY")


def test_an_exit_with_0_that_nobody_asked_for_is_restarted(start: _Start) -> None:
    daemon = start(erp={"behave": "leave", "code": 0})
    assert daemon.wait() == 1
    assert len(daemon.pids("erp")) == 4


def test_a_silent_worker_is_killed_and_restarted_and_its_sibling_lives(start: _Start) -> None:
    daemon = start({"silence_seconds": 5.0}, erp="silent", hr="stream")
    until(lambda: len(daemon.pids("erp")) >= 2)
    daemon.until_logged("no status for")
    assert _ended(daemon.pids("erp")[0])
    assert daemon.pids("hr") == [daemon.until_state("hr", "streaming", "idle")["pid"]]


def test_a_worker_that_reports_without_progress_is_killed_unless_it_asked_for_patience(
    start: _Start,
) -> None:
    daemon = start({"watchdog_seconds": 5.0}, erp="stuck", hr="patient")
    until(lambda: len(daemon.pids("erp")) >= 2)
    daemon.until_logged("no progress for")
    assert len(daemon.pids("hr")) == 1


def test_a_worker_that_hears_nothing_is_killed_after_its_drain_time(start: _Start) -> None:
    daemon = start(erp="deaf", hr="stream")
    daemon.until_state("erp", "streaming", "idle")
    daemon.until_state("hr", "streaming", "idle")
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    assert daemon.pids("erp", "termed") == daemon.pids("erp")
    assert _ended(daemon.pids("erp")[0])


def test_a_second_interrupt_hastens(start: _Start) -> None:
    daemon = start({"drain_seconds": 600.0}, erp="deaf")
    daemon.until_state("erp", "streaming", "idle")
    daemon.signal(signal.SIGINT)
    daemon.until_logged("event=stopping")
    daemon.signal(signal.SIGINT)
    assert daemon.wait() == 0


def test_no_worker_outlives_a_killed_supervisor(start: _Start) -> None:
    daemon = start(erp="stream", hr="stream")
    daemon.until_state("erp", "streaming", "idle")
    daemon.until_state("hr", "streaming", "idle")
    daemon.signal(signal.SIGKILL)
    daemon.wait()
    for pid in daemon.pids("erp") + daemon.pids("hr"):
        until(partial(_ended, pid), what=f"{pid} ends")
    assert daemon.pids("erp", "drained")
    assert daemon.pids("hr", "drained")


def test_a_killed_worker_comes_back_and_the_other_never_notices(start: _Start) -> None:
    daemon = start(erp="stream", hr="stream")
    daemon.until_state("hr", "streaming", "idle")
    os.kill(daemon.until_state("erp", "streaming", "idle")["pid"], signal.SIGKILL)
    until(lambda: len(daemon.pids("erp")) == 2)
    until(lambda: daemon.state("erp")["restarts"] == 1)
    assert len(daemon.pids("hr")) == 1


def test_hup_restarts_what_changed_and_leaves_the_rest_alone(start: _Start) -> None:
    daemon = start(erp="stream", hr="stream", old="stream", wrong={"behave": "leave", "code": 78})
    for name in ("erp", "hr", "old"):
        daemon.until_state(name, "streaming", "idle")
    daemon.until_state("wrong", "stopped")
    changed = {"behave": "stream", "mapping": 2}
    daemon.configure(erp=changed, hr="stream", new="stream", wrong="stream")
    daemon.signal(signal.SIGHUP)
    until(lambda: len(daemon.pids("erp")) == 2 and daemon.pids("erp", "drained"))
    daemon.until_state("new", "streaming", "idle")
    daemon.until_state("wrong", "streaming", "idle")
    until(lambda: not daemon.state("old"), what="the removed pipeline leaves the page")
    assert daemon.pids("old", "drained") == daemon.pids("old")
    assert len(daemon.pids("hr")) == 1


def test_hup_with_a_wrong_file_keeps_what_runs(start: _Start) -> None:
    daemon = start(erp="stream")
    daemon.until_state("erp", "streaming", "idle")
    assert "cdc_config_last_reload_successful 1.0" in daemon.get("/metrics")[1]
    daemon.spoil()
    daemon.signal(signal.SIGHUP)
    daemon.until_logged("reload refused")
    until(lambda: "cdc_config_last_reload_successful 0.0" in daemon.get("/metrics")[1])
    assert daemon.events("erp") == daemon.events("erp")[:1]
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0


def test_usr1_dumps_to_the_log_and_asks_the_workers(start: _Start) -> None:
    daemon = start(erp="stream")
    daemon.until_state("erp", "streaming", "idle")
    daemon.signal(signal.SIGUSR1)
    daemon.until_logged("pipeline state")
    until(lambda: daemon.pids("erp", 'heard:{"dump":true}'))


def test_a_document_larger_than_a_pipe_arrives(start: _Start) -> None:
    daemon = start(erp={"behave": "stream", "filling": "ä" * 1_000_000})
    daemon.until_state("erp", "streaming", "idle")


def test_metrics_health_and_readiness_of_a_running_daemon(start: _Start) -> None:
    daemon = start(erp="stream", hr="stream")
    for name in ("erp", "hr"):
        daemon.until_state(name, "streaming", "idle")
    families = {family.name: family for family in text_string_to_metric_families(_page(daemon))}
    up = {sample.labels["source"]: sample.value for sample in families["cdc_up"].samples}
    assert up == {"erp": 1.0, "hr": 1.0}
    applied = families["cdc_rows_applied"].samples
    assert {sample.labels["op"] for sample in applied} == {"insert", "update", "delete", "noop"}
    assert daemon.get("/healthz")[0] == 200
    assert daemon.get("/-/healthy")[0] == 200
    assert daemon.get("/readyz")[0] == 200
    assert daemon.get("/readyz?source=erp")[0] == 200
    assert daemon.get("/readyz?source=nobody")[0] == 404


class Manager:
    """A service manager's socket."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "notify")
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._channel.bind(self.address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    @property
    def environment(self) -> dict[str, str]:
        """For the daemon: five times a second it shall say that it lives."""
        return {"NOTIFY_SOCKET": self.address, "WATCHDOG_USEC": "400000"}

    def hear(self, wanted: str, seconds: float = 30) -> list[str]:
        """What is said until a line begins so, that line included."""
        self._channel.settimeout(seconds)
        heard: list[str] = []
        while not any(line.startswith(wanted) for line in heard):
            heard += self._channel.recv(4096).decode().splitlines()
        return heard

    def said_within(self, seconds: float) -> list[str]:
        """What is said from now on, so long."""
        self._channel.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self._channel.recv(4096)
        heard: list[str] = []
        deadline = time.monotonic() + seconds
        with suppress(TimeoutError):
            while (left := deadline - time.monotonic()) > 0:
                self._channel.settimeout(left)
                heard += self._channel.recv(4096).decode().splitlines()
        return heard


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with Manager(tmp_path) as found:
        yield found


def test_the_service_manager_hears_ready_status_watchdog_reloading_and_stopping(
    start: _Start, manager: Manager
) -> None:
    daemon = start(environment=manager.environment, erp="stream")
    before = manager.hear("READY=1")
    assert any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in before)
    manager.hear("STATUS=1 streaming")
    manager.hear("WATCHDOG=1")
    daemon.signal(signal.SIGHUP)
    assert "READY=1" not in manager.hear("RELOADING=1")
    manager.hear("READY=1")
    daemon.spoil()
    daemon.signal(signal.SIGHUP)
    manager.hear("RELOADING=1")
    manager.hear("READY=1")
    daemon.until_logged("reload refused")
    daemon.signal(signal.SIGTERM)
    manager.hear("STOPPING=1")
    manager.hear("EXTEND_TIMEOUT_USEC=2500000")
    assert daemon.wait() == 0


def test_the_service_manager_hears_who_is_in_trouble(start: _Start, manager: Manager) -> None:
    start(environment=manager.environment, erp="stream", hr={"behave": "leave", "code": 78})
    manager.hear("STATUS=1 stopped (hr), 1 streaming")


def test_the_watchdog_is_silent_while_a_worker_hangs_and_speaks_when_it_is_replaced(
    start: _Start, manager: Manager
) -> None:
    limits = {"silence_seconds": 5.0, "hang_seconds": 600.0}
    daemon = start(limits, manager.environment, erp="stream", hr="stream")
    for name in ("erp", "hr"):
        daemon.until_state(name, "streaming", "idle")
    manager.hear("READY=1")
    manager.hear("WATCHDOG=1")
    (halted,) = daemon.pids("erp")
    os.kill(halted, signal.SIGSTOP)
    daemon.until_logged("no status for")
    assert "WATCHDOG=1" not in manager.said_within(2)
    os.kill(halted, signal.SIGKILL)
    manager.hear("WATCHDOG=1")
    until(lambda: len(daemon.pids("erp")) == 2)
    assert len(daemon.pids("hr")) == 1


def test_a_hung_worker_is_killed_soon_however_long_a_drain_may_take(start: _Start) -> None:
    limits = {"silence_seconds": 5.0, "drain_seconds": 600.0}
    daemon = start(limits, erp="stream")
    daemon.until_state("erp", "streaming", "idle")
    os.kill(daemon.pids("erp")[0], signal.SIGSTOP)
    until(lambda: len(daemon.pids("erp")) == 2)


def test_a_reload_tells_workers_that_are_left_alone_how_to_log(start: _Start) -> None:
    daemon = start(erp="stream")
    daemon.until_state("erp", "streaming", "idle")
    daemon.signal(signal.SIGHUP)
    until(lambda: daemon.pids("erp", 'heard:{"logs":{"level":"debug"}}'))
    assert len(daemon.pids("erp")) == 1


def test_nobody_reading_the_log_holds_up_nothing(start: _Start) -> None:
    """As in `cdc-daemon run 2>&1 | sleep 3600`."""
    with full_pipe() as full:
        daemon = start(stderr=full, erp="stream", hr="die")
        daemon.until_state("hr", "stopped")
        for _ in range(3):
            daemon.signal(signal.SIGHUP)
            daemon.signal(signal.SIGUSR1)
        position = daemon.until_state("erp", "streaming", "idle")["position"]
        until(lambda: daemon.state("erp")["position"] != position)
        assert daemon.get("/healthz")[0] == 200
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0
    assert daemon.pids("erp", "drained")


def test_the_dump_holds_no_secret(start: _Start) -> None:
    """What a worker reports of a server's error may quote a connection string."""
    secret = "postgresql://cdc:hunter2@erp-db/erp"
    daemon = start(erp={"behave": "stuck", "error": f"no answer from {secret} password='hunter2'"})
    until(lambda: daemon.state("erp").get("error"))
    daemon.signal(signal.SIGUSR1)
    daemon.until_logged("pipeline state")
    daemon.until_logged("no answer from postgresql://cdc:***@erp-db/erp")
    assert "hunter2" not in daemon.log()


def test_an_idle_supervisor_costs_next_to_no_processor_time(start: _Start) -> None:
    daemon = start(erp="stream")  # reports ten times a second: ten times what a real worker does
    daemon.until_state("erp", "streaming", "idle")
    assert daemon.process is not None
    pid = daemon.process.pid
    began, used = time.monotonic(), _cpu_seconds(pid)
    until(lambda: time.monotonic() - began > 3)
    share = (_cpu_seconds(pid) - used) / (time.monotonic() - began)
    assert share < MOST_IDLE_SHARE


def _page(daemon: Daemon) -> str:
    code, page = daemon.get("/metrics")
    assert code == 200
    return page
