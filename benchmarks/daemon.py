"""The daemon under test: `cdc-daemon run` as an administrator would start it, on its own file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cpu import command_line, family
from benchmarks.probe import APPLICATION, BenchmarkError
from benchmarks.workload import COLUMNS
from cdc_daemon.demo.installation import remove_tree
from cdc_daemon.demo.mysql_family import FamilyServer
from cdc_daemon.demo.processes import die_with
from cdc_daemon.demo.server import PrivatePostgres

PROGRAM: Sequence[str] = (str(Path(sysconfig.get_path("scripts"), "cdc-daemon")),)
PIPELINE = "erp"
MAPPED: Mapping[str, str] = {"item": "id", "item_ref": "code", "single": "id"}
"""Tables that are read, each with the column that is its entity's key."""
_DRAIN_SECONDS = 60.0
_PEOPLE = (
    "SELECT pid FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'"
    " AND application_name <> %s AND pid <> pg_backend_pid()"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A source: its entry in the configuration, the schema of its tables, an administrator's
    connection where the configured one may not do everything."""

    entry: Mapping[str, object]
    schema: str
    admin: str | None = None


def postgres(server: PrivatePostgres, dbname: str, slot: str) -> Read:
    """A database of a PostgreSQL server, through that slot."""
    dsn = server.dsn(dbname)
    entry = {"kind": "postgres", "dsn": dsn, "slot": slot, "publication": slot}
    return Read(entry=entry, schema="public", admin=dsn)


def mysql(server: FamilyServer, database: str) -> Read:
    """A database of a MySQL or MariaDB server, as its superuser."""
    entry = {"kind": "mysql", **{key: server.address[key] for key in ("host", "port", "user")}}
    return Read(entry=entry, schema=database)


def apply_arguments(config: Path, source: Read, target_dsn: str) -> list[str]:
    """Command line that makes publication, ledger and entity tables. The only place that knows."""
    admin = ["--admin-dsn", f"{PIPELINE}={source.admin}"] if source.admin else []
    return [
        *("apply", "--config", str(config), "--yes"),
        *(*admin, "--admin-dsn", f"target={target_dsn}"),
    ]


def run_arguments(config: Path) -> list[str]:
    """Command line of the daemon itself."""
    return ["run", "--config", str(config)]


class Daemon:
    """The daemon's process tree between `start` and `stop`, and its control database."""

    def __init__(
        self,
        source: PrivatePostgres | FamilyServer,
        dbname: str,
        target: PrivatePostgres,
        *,
        name: str = "daemon",
        tables: Mapping[str, str] = MAPPED,
        marked: bool = True,
    ) -> None:
        self.name = name
        self.slot = f"cdc_{name}"
        self._tables = [*tables.items(), *([("marker", "id")] * marked)]
        if isinstance(source, PrivatePostgres):
            self._source = postgres(source, dbname, self.slot)
        else:
            self._source = mysql(source, dbname)
        self._target, self._target_db = target, f"control_{name}"
        self.dsn = target.dsn(self._target_db)
        self._folder = Path(tempfile.mkdtemp(prefix="cdc-bench-"))
        self._config = self._folder / "cdc-daemon.yaml"
        self._log = self._folder / "daemon.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the supervisor."""
        assert self._process is not None
        return self._process.pid

    def prepare(self) -> None:
        """Make the control database, the configuration, and with `apply` all tables."""
        self._target.create_database(self._target_db)
        document = configuration(self._source, self.dsn, self._tables)
        self._config.write_text(json.dumps(document, indent=2), encoding="utf-8")  # JSON is YAML
        done = subprocess.run(
            [*PROGRAM, *apply_arguments(self._config, self._source, self.dsn)],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            message = f"cdc-daemon apply ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            raise BenchmarkError(message)

    def start(self) -> None:
        """Start the supervisor."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*PROGRAM, *run_arguments(self._config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is ours to handle
                preexec_fn=die_with(os.getpid()),  # noqa: PLW1509 - one libc call, see there
            )

    def check(self) -> None:
        """Raise BenchmarkError with the end of its log when it does not run."""
        if self._process is None or self._process.poll() is not None:
            code = self._process and self._process.returncode
            raise BenchmarkError(f"cdc-daemon run ended with {code}:\n{self._tail()}")

    def stop(self) -> None:
        """TERM, and wait until it has drained; it must exit 0."""
        self.check()
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(_DRAIN_SECONDS)
        except subprocess.TimeoutExpired as exc:
            raise BenchmarkError(f"cdc-daemon run did not end:\n{self._tail()}") from exc
        if code != 0:
            raise BenchmarkError(f"cdc-daemon run ended with {code} on TERM:\n{self._tail()}")
        self._process = None

    def worker(self) -> int:
        """Process id of the pipeline's worker."""
        self.check()
        for pid in family(self.pid)[1:]:
            if "--pipeline" in command_line(pid):
                return pid
        raise BenchmarkError(f"the daemon runs no worker:\n{self._tail()}")

    def backends(self) -> list[int]:
        """Process ids of the worker's backends on the target."""
        return [pid for (pid,) in self._target.execute(_PEOPLE, (self._target_db, APPLICATION))]

    def drop(self) -> None:
        """Drop the control database."""
        self._target.drop_database(self._target_db)

    def close(self) -> None:
        """End it at once if it runs still, and remove its files."""
        if self._process is not None:
            for pid in family(self.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
        remove_tree(self._folder)

    def _tail(self, lines: int = 15) -> str:
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


def configuration(
    source: Read, target_dsn: str, tables: Sequence[tuple[str, str]]
) -> dict[str, object]:
    """The configuration file: every table as an entity of the same name and columns.

    ``tables``: name, and the column that is the entity's key.
    """
    attributes = {column.name: column.attribute for column in COLUMNS}
    marker = {"id": "integer", "number": {"type": "bigint", "required": True}}
    entities: dict[str, object] = {}
    mappings: list[dict[str, object]] = []
    for table, key in tables:
        shape = marker if table == "marker" else attributes
        entities[table] = {"key": [key], "attributes": shape}
        fields = {name: name for name in shape if name != key}
        origin = f"{PIPELINE}.{source.schema}.{table}"
        mappings.append({"from": origin, "to": table, "key": {key: key}, "fields": fields})
    return {
        "sources": {PIPELINE: source.entry},
        "target": {"url": target_dsn},
        "entities": entities,
        "mappings": mappings,
        "daemon": {"metrics_listen": "127.0.0.1:0"},
        "failures": {"breaker": {"parked": 0, "share": 0, "same_error": 0}},  # it is poison's turn
    }
