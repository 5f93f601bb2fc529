"""Private servers hold committed data through a crash, and leave nothing behind."""

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE

import psycopg
import pytest

from cdc_daemon.demo import installation
from cdc_daemon.demo.installation import find_installation, workshop
from cdc_daemon.demo.processes import lives
from cdc_daemon.demo.server import PrivatePostgres, ServerError, find_postgres, free_port
from tests.conftest import DatabaseFactory, PostgresFactory
from tests.support.databases import Database

PROJECT = Path(__file__).parents[2]


def wait_until(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    """Wait for a condition; fail when it does not come true in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


@pytest.mark.parametrize("version", [15, 18])
def test_it_is_the_version_asked_for_with_logical_decoding_in_utf8(
    postgres_factory: PostgresFactory, version: int
) -> None:
    server = postgres_factory(version)
    [(number, level, encoding, zone, fsync)] = server.execute(
        "SELECT current_setting('server_version_num')::int / 10000, current_setting('wal_level'),"
        " current_setting('server_encoding'), current_setting('TimeZone'), current_setting('fsync')"
    )
    assert (number, level, encoding, zone, fsync) == (version, "logical", "UTF8", "UTC", "on")
    assert server.execute("SELECT upper('é'), '物料' < '客户'") == [("É", False)]


@pytest.mark.parametrize("version", [15, 18])
def test_killed_it_comes_back_on_its_port_with_all_committed_rows(
    postgres_factory: PostgresFactory, version: int
) -> None:
    server = postgres_factory(version)
    before = server.dsn(), server.pid
    server.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS id")
    server.kill()
    assert not lives(before[1])
    server.start()
    assert server.dsn() == before[0]
    assert server.pid != before[1]
    assert server.execute("SELECT count(*) FROM kept") == [(1000,)]


def test_kill_ends_backends_that_are_busy(postgres_factory: PostgresFactory) -> None:
    server = postgres_factory()
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        backend = connection.info.backend_pid
        sleeper = threading.Thread(target=_sleep_in, args=(connection,))
        sleeper.start()
        state = "SELECT state FROM pg_stat_activity WHERE pid = %s"
        wait_until(lambda: server.execute(state, (backend,)) == [("active",)])
        server.kill()
        assert not lives(backend)
        sleeper.join()


def _sleep_in(connection: psycopg.Connection) -> None:
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT pg_sleep(600)")


def test_leaving_the_context_leaves_no_process_and_no_file() -> None:
    with PrivatePostgres(18) as server:
        pid, folder = server.pid, server.data_dir.parent
        assert folder.is_dir()
    assert not lives(pid)
    assert not folder.exists()
    assert not server.running


def test_every_server_has_a_system_identifier_of_its_own(
    postgres18: PrivatePostgres, postgres_factory: PostgresFactory
) -> None:
    query = "SELECT system_identifier FROM pg_control_system()"
    assert postgres18.execute(query) != postgres_factory().execute(query)


def test_settings_and_password_apply(postgres_factory: PostgresFactory) -> None:
    settings: dict[str, str | int] = {"max_wal_senders": 3, "cluster_name": "it's \\ here"}
    server = postgres_factory(settings=settings, auth="scram-sha-256")
    query = "SELECT current_setting('max_wal_senders'), current_setting('cluster_name')"
    assert server.execute(query) == [("3", "it's \\ here")]
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(server.dsn(password="wrong"))


def test_stop_keeps_the_data_and_restart_brings_them_back(
    postgres_factory: PostgresFactory,
) -> None:
    server = postgres_factory()
    server.execute("CREATE TABLE kept (id int)")
    server.stop("smart")
    server.stop()
    with pytest.raises(ServerError, match="not running"):
        _ = server.pid
    server.start()
    server.restart("immediate")
    assert server.execute("SELECT count(*) FROM kept") == [(0,)]


def test_stop_says_so_when_a_client_holds_it_up(postgres_factory: PostgresFactory) -> None:
    server = postgres_factory()
    with psycopg.connect(server.dsn()), pytest.raises(ServerError, match="did not stop"):
        server.stop("smart", timeout=0.2)
    wait_until(lambda: not server.running)


def test_a_server_that_cannot_start_says_why() -> None:
    with (
        pytest.raises(ServerError, match="no_such_setting"),
        PrivatePostgres(18, settings={"no_such_setting": 1}),
    ):
        pass


def test_a_taken_port_is_exchanged_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    with PrivatePostgres(18) as first:
        ports = iter([first.port, free_port()])
        monkeypatch.setattr("cdc_daemon.demo.server.free_port", lambda: next(ports))
        with PrivatePostgres(18) as second:
            assert second.port != first.port


def test_a_missing_version_is_named() -> None:
    assert find_postgres(7) is None
    with pytest.raises(ServerError, match="PostgreSQL 7"):
        PrivatePostgres(7)


def test_it_survives_the_thread_that_started_it(postgres_factory: PostgresFactory) -> None:
    server = postgres_factory()
    server.stop()
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
    assert server.execute("SELECT 1") == [(1,)]


def test_databases_drop_in_spite_of_clients_and_slots(
    postgres18: PrivatePostgres, database_factory: DatabaseFactory
) -> None:
    database = database_factory("busy")
    database.query("SELECT pg_create_logical_replication_slot('busy', 'pgoutput')")
    with psycopg.connect(database.dsn):
        postgres18.drop_database("busy")
    assert postgres18.execute("SELECT 1 FROM pg_database WHERE datname = 'busy'") == []
    assert postgres18.execute("SELECT 1 FROM pg_replication_slots WHERE slot_name = 'busy'") == []


def test_each_test_gets_an_empty_database(database: Database) -> None:
    database.execute("CREATE TABLE one (id int); INSERT INTO one VALUES (1)")
    assert database.query("SELECT id FROM one WHERE id = %s", 1) == [(1,)]


OWNER = textwrap.dedent(
    """
    import sys, threading
    from cdc_daemon.demo.server import PrivatePostgres
    with PrivatePostgres(18) as server:
        print(server.pid, server.data_dir.parent.parent, flush=True)
        threading.Event().wait(60)
    """
)


@pytest.fixture
def apart() -> Iterator[Path]:
    """A temporary folder that no other test's process sweeps."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        yield Path(name)


def _start_owner(apart: Path) -> tuple[subprocess.Popen[str], int, Path]:
    """Another process with a server; its postmaster's pid and its working folder."""
    environment = {**os.environ, "TMPDIR": str(apart)}
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER], cwd=PROJECT, env=environment, stdout=PIPE, text=True
    )
    assert owner.stdout is not None
    pid, folder = owner.stdout.readline().split()
    return owner, int(pid), Path(folder)


def test_a_killed_owner_leaves_no_server_and_the_next_one_sweeps_its_files(apart: Path) -> None:
    owner, pid, folder = _start_owner(apart)
    with owner:
        owner.kill()
    wait_until(lambda: not lives(pid))
    assert folder.is_dir()
    another, _, _ = _start_owner(apart)
    with another:
        assert not folder.exists()
        another.send_signal(signal.SIGINT)


def test_ctrl_c_leaves_nothing(apart: Path) -> None:
    owner, pid, folder = _start_owner(apart)
    with owner:
        owner.send_signal(signal.SIGINT)
    assert not lives(pid)
    assert not folder.exists()


def test_sweeping_spares_the_living(apart: Path) -> None:
    first, pid, folder = _start_owner(apart)
    with first:
        second, _, _ = _start_owner(apart)
        with second:
            second.send_signal(signal.SIGINT)
        assert folder.is_dir()
        assert lives(pid)
        first.send_signal(signal.SIGINT)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers under another account")
def test_root_runs_it_unprivileged_from_a_copy_if_the_programs_are_out_of_reach(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(installation, "_reachable", lambda path: False)
    found = find_installation(18)
    assert found is not None
    copy = installation.usable(found)
    assert copy.tree.is_relative_to(workshop())
    with PrivatePostgres(18) as server:
        assert Path(f"/proc/{server.pid}/exe").readlink() == Path(copy.program("postgres"))
        assert Path(f"/proc/{server.pid}").stat().st_uid != 0
        assert server.execute("SELECT 1") == [(1,)]


def _others_run(path: Path) -> bool:
    return path.exists() and all(map(installation._reachable, (path, path.resolve())))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_ordinary_user_runs_it_directly() -> None:
    system = Path(f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}")
    pythons = [path for path in (Path(sys.executable), system) if _others_run(path)]
    if not pythons or not _others_run(Path(psycopg.__file__).parent):
        pytest.skip("this Python or its packages are out of reach for other users")
    code = OWNER.replace("threading.Event().wait(60)", "print(server.execute('SELECT 42'))")
    paths = [str(PROJECT), *(path for path in sys.path if path)]
    done = subprocess.run(
        [str(pythons[0]), "-c", code],
        check=False,
        cwd="/",
        env={"PYTHONPATH": os.pathsep.join(paths), "TMPDIR": tempfile.gettempdir()},
        capture_output=True,
        text=True,
        user="nobody",
        group="nogroup",
        extra_groups=[],
    )
    assert "[(42,)]" in done.stdout, done.stderr
