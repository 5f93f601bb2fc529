"""Private servers that speak MySQL's protocol, for the demo and the tests (Linux).

One `FamilyServer` is one server with a data directory, a port, a socket and a server id of its own,
set up as a source of changes. It can be stopped, killed, and started again on the same port with
the same data; leaving the context removes everything. Which programs it runs, and what is
particular to MariaDB or MySQL, say those who derive from it (`mariadb.py`). It dies with this
process.
"""

from __future__ import annotations

import atexit
import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, Self, TypeAlias

import pymysql
from pymysql.constants import CLIENT
from pymysql.cursors import Cursor

from cdc_daemon.demo.installation import (
    Account,
    ServerError,
    remove_tree,
    server_account,
    workshop,
)
from cdc_daemon.demo.processes import spawn
from cdc_daemon.demo.server import free_port

Row: TypeAlias = tuple[Any, ...]
Setting: TypeAlias = str | int | None
"""A server option's value; None switches it off (`skip-NAME`)."""

HOST: Final = "127.0.0.1"
SUPERUSER: Final = "root"
SETTINGS: Final[Mapping[str, Setting]] = {
    "bind_address": HOST,
    "skip_name_resolve": 1,
    "default_time_zone": "+00:00",
    "character_set_server": "utf8mb4",
    "max_connections": 100,
    "log_bin": "binlog",
    "binlog_format": "ROW",
    "binlog_row_image": "FULL",
    "binlog_row_metadata": "FULL",
    "sync_binlog": 1,
    "innodb_flush_log_at_trx_commit": 1,
    "innodb_buffer_pool_size": "32M",
}

_PORT_TAKEN: Final = "server running on port"
_NOBODY_HOME: Final = (2002, 2003, 2006, 2013)
_LONGEST_SOCKET: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """The programs of one kind of server.

    `command` starts it, without options; `template` gives an initialised data directory that an
    account may read, and that is only copied from.
    """

    name: str
    command: tuple[str, ...]
    template: Callable[[Account], Path]
    options: Mapping[str, Setting]
    """What these programs need in any case, wherever they lie."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replication:
    """How one kind of server says what replication by GTID needs.

    `position` asks what the log holds, `wait` until that is here (0: it came), `follow` takes host,
    port, user and password of the primary.
    """

    position: str
    wait: str
    follow: str
    promote: str


class FamilyServer:
    """One private server on loopback; its context starts it, and at the end leaves nothing.

    `settings` are options of the server over `SETTINGS` and those of the kind. The superuser is
    `root` at 127.0.0.1 and on the socket, with all rights and the given password (none unless
    told). The server's time zone (UTC) and character set (utf8mb4) do not depend on the caller.
    """

    defaults: ClassVar[Mapping[str, Setting]] = {}
    """The kind's own settings."""
    replication: ClassVar[Replication]

    def __init__(
        self,
        programs: Programs,
        *,
        settings: Mapping[str, Setting] | None = None,
        password: str = "",
    ) -> None:
        self._programs = programs
        self._account = server_account()
        self._password = password
        identity = {"server_id": random.SystemRandom().randrange(1 << 16, 1 << 31)}
        self._settings = {
            **programs.options,
            **SETTINGS,
            **self.defaults,
            **identity,
            **(settings or {}),
        }
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
        return f"<{type(self).__name__} ({self._programs.name}) on port {self._port}>"

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1; once the server has started it stays, also over restarts."""
        return self._port

    @property
    def socket(self) -> Path:
        """The path of the server's Unix socket."""
        return self._folder / "server.sock"

    @property
    def server_id(self) -> int:
        """By which replicas tell servers apart; drawn at random unless it is among the settings."""
        return int(self._settings["server_id"] or 0)

    @property
    def running(self) -> bool:
        """Whether the process lives (it may be starting or stopping)."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The server's process id; ServerError if it does not run."""
        return self._alive().pid

    @property
    def folder(self) -> Path:
        """A folder of the server's account, with data directory and log; gone after `close`."""
        return self._folder

    @property
    def data_dir(self) -> Path:
        """The data directory; it exists from the first start until `close`."""
        return self._folder / "data"

    @property
    def log_path(self) -> Path:
        """The server's log, appended to over restarts."""
        return self._folder / "server.log"

    @property
    def address(self) -> dict[str, Any]:
        """Host, port, user and password of the superuser over TCP, for `pymysql.connect`."""
        return {"host": HOST, "port": self._port, "user": SUPERUSER, "password": self._password}

    def connect(self, database: str | None = None, **options: Any) -> pymysql.Connection[Cursor]:
        """A connection as superuser (autocommit, over TCP); `options` are PyMySQL's."""
        common = {"autocommit": True, "charset": "utf8mb4", "connect_timeout": 10}
        return pymysql.connect(database=database, **{**common, **self.address, **options})

    def execute(self, statements: str, *params: Any, database: str | None = None) -> None:
        """Run SQL as superuser in a connection of its own; it may be several statements."""
        flag = CLIENT.MULTI_STATEMENTS
        with self.connect(database, client_flag=flag) as connection, connection.cursor() as cursor:
            cursor.execute(statements, params or None)
            while cursor.nextset():
                pass

    def query(self, statement: str, *params: Any, database: str | None = None) -> list[Row]:
        """The rows of a query."""
        with self.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute(statement, params or None)
            return list(cursor.fetchall())

    def create_database(self, name: str) -> None:
        """Create an empty database."""
        self.execute(f"CREATE DATABASE {quoted(name)}")

    def drop_database(self, name: str) -> None:
        """End a database's connections and drop it; no error if there is none."""
        users = "SELECT id FROM information_schema.processlist WHERE db = %s"
        for (connection,) in self.query(users, name):
            with suppress(pymysql.err.OperationalError):
                self.execute(f"KILL {connection}")
        self.execute(f"DROP DATABASE IF EXISTS {quoted(name)}")

    def create_account(self, name: str, password: str, *grants: str) -> dict[str, Any]:
        """An account from everywhere; `grants` as in "SELECT ON shop.*". Its address."""
        self.execute("CREATE USER %s@'%%' IDENTIFIED BY %s", name, password)
        for grant in grants:
            self.execute(f"GRANT {grant.replace('%', '%%')} TO %s@'%%'", name)
        return {**self.address, "user": name, "password": password}

    def gtid(self) -> str:
        """The GTIDs of what this server has in its log."""
        [(position,)] = self.query(self.replication.position)
        return str(position).replace("\n", "")

    def follow(self, primary: FamilyServer) -> None:
        """Become the replica of another server of the kind by GTID, from what is here on."""
        self.execute(self.replication.follow, *primary.address.values())

    def wait_for(self, primary: FamilyServer, seconds: float = 30) -> None:
        """Until this replica has what the primary's log holds now; ServerError if it does not."""
        wanted = primary.gtid()
        if self.query(self.replication.wait, wanted, seconds) != [(0,)]:
            raise ServerError(f"{self!r} did not come to {wanted} within {seconds:g} s.")

    def promote(self) -> None:
        """Stop being a replica; the data and the log stay."""
        self.execute(self.replication.promote)

    def configure(self, **settings: Setting) -> None:
        """Change settings; they count from the next start."""
        self._settings.update(settings)

    def start(self, timeout: float = 60.0) -> None:
        """Start the server, on the first call with new data; wait until it accepts connections.
        ServerError with the end of the log if it does not come up."""
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
        self.kill()
        raise ServerError(f"{self!r} did not start: {self._log_end()}")

    def stop(self, timeout: float = 30.0) -> None:
        """Shut down in order and keep the data; no error if it does not run."""
        if not self.running:
            return
        process = self._alive()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired as exc:
            raise ServerError(f"{self!r} did not stop within {timeout:g} s.") from exc

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone; the data stay. No error if it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def restart(self) -> None:
        """Stop, then start with the same data on the same port."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Kill it and remove all files; may be called twice."""
        if os.getpid() != self._owner:
            return
        atexit.unregister(self.close)
        self.kill()
        remove_tree(self._folder)

    @property
    def _temporary(self) -> Path:
        """Where it keeps temporary tables: MariaDB clears that folder of all of them at its start,
        also of another server's that runs."""
        return self._folder / "tmp"

    def _alive(self) -> subprocess.Popen[bytes]:
        """The running server, or ServerError."""
        if self._process is None or self._process.poll() is not None:
            raise ServerError(f"{self!r} is not running.")
        return self._process

    def _initialise(self) -> None:
        """A copy of the template, and the statements that make the superuser."""
        template = self._programs.template(self._account)
        self._temporary.mkdir()
        self._account.own(self._temporary)
        self._copy(template)
        accounts = (f"'{SUPERUSER}'@'{HOST}'", f"'{SUPERUSER}'@'localhost'")
        password = pymysql.converters.escape_string(self._password)
        statements = ["SET SESSION sql_log_bin = 0;"]
        for account in accounts:
            statements.append(f"CREATE USER IF NOT EXISTS {account};")
            statements.append(f"ALTER USER {account} IDENTIFIED BY '{password}';")
            statements.append(f"GRANT ALL ON *.* TO {account} WITH GRANT OPTION;")
        self._write("init.sql", "\n".join(statements) + "\n")

    def _copy(self, template: Path) -> None:
        """Copy a data directory, by the server's account and for it alone."""
        subprocess.run(
            ["cp", "-r", str(template), str(self.data_dir)],
            check=True,
            cwd=self._folder,
            umask=0o077,
            user=self._account.uid,
            group=self._account.gid,
            extra_groups=self._account.groups,
        )

    def _launch(self) -> None:
        """Write the options and start the server, which needs `init.sql` only once."""
        self._write("server.cnf", self._options())
        command = [*self._programs.command, f"--defaults-file={self._folder / 'server.cnf'}"]
        self._process = spawn(
            command,
            log=self.log_path,
            account=self._account,
            environment={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            death=signal.SIGKILL,
        )

    def _options(self) -> str:
        """The option file; a socket path that is too long is told relative to the data."""
        fits = len(str(self.socket)) <= _LONGEST_SOCKET
        places: dict[str, Setting] = {
            "datadir": str(self.data_dir),
            "port": self._port,
            "socket": str(self.socket) if fits else "../server.sock",
            "pid_file": str(self._folder / "server.pid"),
            "tmpdir": str(self._temporary),
        }
        if (self._folder / "init.sql").exists():
            places["init_file"] = str(self._folder / "init.sql")
        lines = [option(name, value) for name, value in {**places, **self._settings}.items()]
        return "\n".join(["[mysqld]", *lines, ""])

    def _write(self, name: str, text: str) -> None:
        """A file for the server's account only."""
        path = self._folder / name
        path.touch()
        self._account.own(path)
        path.write_text(text, encoding="utf-8")

    def _wait_ready(self, timeout: float) -> bool:
        """Whether the server came to accept connections, before it ended or the time was over."""
        deadline = time.monotonic() + timeout
        while self.running and time.monotonic() < deadline:
            if self._ready():
                (self._folder / "init.sql").unlink(missing_ok=True)
                return True
            time.sleep(0.01)
        return False

    def _ready(self) -> bool:
        """Whether the superuser gets in, and the server on our port is ours."""
        try:
            [(found,)] = self.query("SELECT @@datadir")
        except pymysql.err.OperationalError:
            return False
        return Path(str(found)) == self.data_dir

    def _log_size(self) -> int:
        return self.log_path.stat().st_size if self.log_path.exists() else 0

    def _log_text(self, offset: int = 0) -> str:
        """The log from a byte offset on."""
        return self.log_path.read_bytes()[offset:].decode(errors="replace")

    def _log_end(self, lines: int = 8) -> str:
        """The last lines that tell of an error, else the last lines."""
        told = [line.strip() for line in self._log_text().splitlines() if line.strip()]
        errors = [line for line in told if "ERROR" in line or "unknown" in line]
        return " / ".join((errors or told)[-lines:]) or "it wrote no log."


def quoted(name: str) -> str:
    """An identifier in backticks."""
    return "`" + name.replace("`", "``") + "`"


def option(name: str, value: Setting) -> str:
    """A line of an option file."""
    if value is None:
        return f"skip-{name}"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'{name}="{text}"'
