"""Who the daemon is, whether it believes the server, and where the server is: all of it changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from cdc_daemon import build, worker
from cdc_daemon.config.load import load
from tests.conftest import ErpFactory, PostgresFactory
from tests.support.catalogue import CONTROLS, POSTGRES, fault
from tests.support.certificates import Authority, install
from tests.support.databases import Database
from tests.support.erp import Erp
from tests.support.fault_proxy import FaultProxy
from tests.support.linked import through
from tests.support.mounts import root_only, servers_folder
from tests.support.real_daemon import RealDaemon
from tests.support.waiting import until

# --- roles ----------------------------------------------------------------------------------------

ROLE = "carrier"


OURS = "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND application_name LIKE 'cdc_daemon%'"


def sessions_ended(database: Database) -> None:
    """Whoever is connected has to do it again."""
    database.execute(f"SELECT pg_terminate_backend(pid) {OURS}")


@pytest.fixture
def served(postgres_factory: PostgresFactory, make_erp: ErpFactory) -> Erp:
    """The daemon has roles of its own, with passwords, that may do no more than it needs."""
    erp = make_erp(source=postgres_factory(auth="scram-sha-256"))
    erp.source.execute(
        f"CREATE ROLE {ROLE} LOGIN REPLICATION PASSWORD 'old';"
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {ROLE}"
    )
    server, name = erp.source.server, erp.source.name
    erp.reached["source"] = server.dsn(name, ROLE)
    erp.more["source"] = {"password": "old"}
    erp.configure()
    return erp


SOURCE_LOCKS = {
    "password rotated": (
        f"ALTER ROLE {ROLE} PASSWORD 'new'",
        f"ALTER ROLE {ROLE} PASSWORD 'old'",
        "password authentication failed",
    ),
    "VALID UNTIL passed": (
        f"ALTER ROLE {ROLE} VALID UNTIL '2020-01-01'",
        f"ALTER ROLE {ROLE} VALID UNTIL 'infinity'",
        "password authentication failed",
    ),
    "account locked": (
        f"ALTER ROLE {ROLE} NOLOGIN",
        f"ALTER ROLE {ROLE} LOGIN",
        "is not permitted to log in",
    ),
    "REPLICATION revoked": (
        f"ALTER ROLE {ROLE} NOREPLICATION",
        f"ALTER ROLE {ROLE} REPLICATION",
        "REPLICATION",
    ),
}


def loop_turned(erp: Erp) -> None:
    """Until the worker has carried out a command: its stream is open, it was let in everywhere."""
    with closing(build.make_control(load([erp.configuration], environ={}))) as control:
        number = control.submit("erp", "retry", {}, "test")
        until(lambda: control.command(number).state == "done", what="the worker's loop turns")


@fault(
    33,
    "source: password rotated, expired, account locked, REPLICATION revoked",
    state="blocked",
    targets=CONTROLS,
)
def test_the_sources_role_is_changed(served: Erp) -> None:
    """Whoever was let in before waits for it to be put right; a new start is refused."""
    erp = served
    for n, (lock, unlock, words) in enumerate(SOURCE_LOCKS.values()):
        with erp.streaming() as daemon:
            erp.insert_materials(1 + 10 * n, 2)
            erp.caught_up(daemon)
            loop_turned(erp)
            erp.source.execute(lock)
            sessions_ended(erp.source)
            daemon.shows("blocked", error=words)
            assert "'old'" not in daemon.log
            erp.source.execute(unlock)
            erp.insert_materials(5 + 10 * n, 2)
            erp.healed(daemon)
            assert daemon.stop() == 0, daemon.log
        erp.source.execute(lock)
        with erp.daemon() as daemon:
            assert daemon.wait(60) == 78, daemon.log
            daemon.said("pipeline stopped", error=words)
        erp.source.execute(unlock)
    erp.settled()


def test_a_new_password_is_waited_for_also_where_only_a_check_meets_it(served: Erp) -> None:
    """The control database is lost, the source's own connection lives: the next session's checks
    open another, with the password of yesterday."""
    erp = served
    with erp.worker() as meter:
        erp.insert_materials(1, 2)
        erp.caught_up()
        loop_turned(erp)
        erp.source.execute(f"ALTER ROLE {ROLE} PASSWORD 'new'")
        sessions_ended(erp.target)
        until(lambda: "password authentication failed" in meter.status().error)
        erp.source.execute(f"ALTER ROLE {ROLE} PASSWORD 'old'")
        erp.insert_materials(11, 2)
        erp.caught_up()
    erp.agrees()


def test_a_check_that_cannot_look_for_a_moment_ends_nothing(
    served: Erp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told, looked at again, and told when it passes."""
    monkeypatch.setattr(worker, "RECHECK", 0.0)
    erp = served
    with erp.worker() as meter:
        erp.caught_up()
        erp.source.execute("REVOKE SELECT ON pg_catalog.pg_publication FROM PUBLIC")
        until(lambda: "publication.identity" in str(meter.status().findings))
        erp.source.execute("GRANT SELECT ON pg_catalog.pg_publication TO PUBLIC")
        until(lambda: "publication.identity" not in str(meter.status().findings))
        erp.insert_materials(1, 2)
        erp.caught_up()
    erp.agrees()


@fault(
    33,
    "control database: password rotated, then a right revoked",
    state="blocked",
    targets=[POSTGRES],
)
def test_the_control_databases_role_is_changed(
    postgres_factory: PostgresFactory, make_erp: ErpFactory
) -> None:
    """It has the right words and keeps trying; given back what it lacks, it goes on."""
    server = postgres_factory(auth="scram-sha-256")
    erp = make_erp(target=server)
    erp.target.execute(
        f"CREATE ROLE {ROLE} LOGIN PASSWORD 'old';"
        f"GRANT USAGE ON SCHEMA public, cdc TO {ROLE};"
        f"GRANT ALL ON ALL TABLES IN SCHEMA public, cdc TO {ROLE};"
        f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public, cdc TO {ROLE}"
    )
    erp.reached["target"] = server.dsn(erp.target.name, ROLE)
    erp.more["target"] = {"password": "old"}
    erp.configure()
    with erp.streaming() as daemon:
        erp.insert_materials(1, 2)
        erp.caught_up(daemon)
        erp.target.execute(f"ALTER ROLE {ROLE} PASSWORD 'new'")
        sessions_ended(erp.target)
        erp.insert_materials(11, 2)
        daemon.shows("blocked", error="password")
        erp.target.execute(f"ALTER ROLE {ROLE} PASSWORD 'old'")
        erp.healed(daemon)
        erp.target.execute(f"REVOKE INSERT ON material FROM {ROLE}")
        erp.insert_materials(21, 2)
        daemon.shows("blocked", error="lacks a right")
        erp.target.execute(f"GRANT INSERT ON material TO {ROLE}")
        erp.healed(daemon)


# --- TLS ------------------------------------------------------------------------------------------


class Secured:
    """A server that speaks TLS, and certificates good and bad for it."""

    def __init__(self, folder: Path, postgres_factory: PostgresFactory) -> None:
        self.folder = folder
        self.authority = Authority(self.folder, "group-ca")
        other = Authority(self.folder, "other-ca")
        self.good = self.authority.sign("good", "127.0.0.1")
        self.bad = {
            "expired": self.authority.sign("expired", "127.0.0.1", days=-1),
            "for another host": self.authority.sign("elsewhere", "10.9.8.7"),
            "of another authority": other.sign("foreign", "127.0.0.1"),
        }
        install(self.folder, self.good)
        self.server = postgres_factory(
            15,  # the wheel's PostgreSQL is built without TLS
            settings={
                "ssl": "on",
                "ssl_cert_file": str(self.folder / "server.crt"),
                "ssl_key_file": str(self.folder / "server.key"),
            },
        )
        self.more = {"sslmode": "verify-full", "tls": {"ca": str(self.authority.certificate)}}

    def present(self, signed: tuple[Path, Path]) -> None:
        """The server has that certificate from now on."""
        install(self.folder, signed)
        self.reload()

    def reload(self) -> None:
        """New connections go by the files as they are now."""
        ((before,),) = self.server.execute("SELECT pg_conf_load_time()")
        self.server.execute("SELECT pg_reload_conf()")
        until(
            lambda: self.server.execute("SELECT pg_conf_load_time() > %s", (before,))[0][0],
            what="the server has read its configuration",
        )

    @contextmanager
    def faults(self, proxy: FaultProxy) -> Iterator[dict[str, Callable[[], None]]]:
        """What is done to it, by name."""

        def off() -> None:
            self.server.execute("ALTER SYSTEM SET ssl = off")
            self.reload()

        def strip() -> None:
            proxy.stripping = True

        found: dict[str, Callable[[], None]] = {
            name: lambda signed=signed: self.present(signed)  # type: ignore[misc]
            for name, signed in self.bad.items()
        }
        yield {**found, "server without TLS": off, "stripped on the way": strip}
        self.heal(proxy)

    def heal(self, proxy: FaultProxy) -> None:
        proxy.heal()
        self.server.execute("ALTER SYSTEM RESET ssl")
        self.present(self.good)


@pytest.fixture
def secured(postgres_factory: PostgresFactory) -> Iterator[Secured]:
    with servers_folder() as folder:
        yield Secured(folder, postgres_factory)


@fault(
    34,
    "source: certificate expired, wrong host, other CA, no TLS, stripped on the way",
    state="blocked",
)
def test_the_sources_certificate(secured: Secured, make_erp: ErpFactory) -> None:
    """It was good before, so it is tried again, and nothing is sent; a new start refuses."""
    erp = make_erp(source=secured.server)
    with FaultProxy(secured.server.port) as proxy:
        erp.reached["source"] = through(erp.source.dsn, proxy)
        erp.more["source"] = {**secured.more}
        erp.configure()
        with secured.faults(proxy) as faults, erp.streaming() as daemon:
            loop_turned(erp)
            for n, (name, inject) in enumerate(faults.items()):
                encrypted(erp.source, name)
                inject()
                proxy.reset()
                daemon.shows("blocked", error="TLS" if n > 2 else "certificate")
                erp.insert_materials(1 + 10 * n, 2)
                secured.heal(proxy)
                erp.healed(daemon)
        secured.present(secured.bad["expired"])
        with erp.daemon() as daemon:
            assert daemon.wait(60) == 78, daemon.log
            daemon.said("pipeline stopped", error="certificate")
        secured.heal(proxy)
        erp.settled()


@fault(
    34,
    "control database: certificate expired, wrong host, other CA, no TLS, stripped",
    state="blocked",
    targets=[POSTGRES],
)
def test_the_control_databases_certificate(secured: Secured, make_erp: ErpFactory) -> None:
    """It was good before, so it is tried again, and nothing is sent; a new start refuses."""
    erp = make_erp(target=secured.server)
    with FaultProxy(secured.server.port) as proxy:
        erp.reached["target"] = through(erp.target.dsn, proxy)
        erp.more["target"] = {**secured.more}
        erp.configure()
        with secured.faults(proxy) as faults, erp.streaming() as daemon:
            for n, (name, inject) in enumerate(faults.items()):
                encrypted(erp.target, name)
                inject()
                proxy.reset()
                erp.insert_materials(1 + 10 * n, 2)
                daemon.shows("blocked", error="certificate" if n < 3 else "TLS")
                secured.heal(proxy)
                erp.healed(daemon)
        secured.present(secured.bad["expired"])
        with erp.daemon() as daemon:
            assert daemon.wait(60) == 78, daemon.log
        secured.heal(proxy)
        erp.settled()


def encrypted(database: Database, name: str) -> None:
    rows = database.query(
        "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity a USING (pid)"
        " WHERE a.application_name LIKE 'cdc_daemon%'"
    )
    assert rows == [(True,)], name


# --- connections ----------------------------------------------------------------------------------


@fault(39, "max_connections reached on the source", state="blocked")
def test_the_source_takes_no_more_connections(
    postgres_factory: PostgresFactory, make_erp: ErpFactory
) -> None:
    server = postgres_factory(settings={"max_connections": 20, "max_wal_senders": 5})
    erp = make_erp(source=server)
    with erp.streaming() as daemon:
        crowded(erp, erp.source, daemon)


@fault(39, "max_connections reached on the control database", state="blocked", targets=[POSTGRES])
def test_the_control_database_takes_no_more_connections(
    postgres_factory: PostgresFactory, make_erp: ErpFactory
) -> None:
    server = postgres_factory(settings={"max_connections": 20})
    erp = make_erp(target=server)
    with erp.streaming() as daemon:
        crowded(erp, erp.target, daemon)


def crowded(erp: Erp, database: Database, daemon: RealDaemon) -> None:
    """Take every connection that there is, also those that the daemon has had."""
    erp.insert_materials(1, 2)
    erp.caught_up(daemon)
    with ExitStack() as stack:
        admin = stack.enter_context(psycopg.connect(database.dsn, autocommit=True))

        def full() -> bool:
            """Whether none is left and none is the daemon's."""
            admin.execute(f"SELECT pg_terminate_backend(pid) {OURS}".encode())
            with suppress(psycopg.OperationalError):
                while True:
                    stack.enter_context(psycopg.connect(database.dsn))
            return admin.execute(f"SELECT count(*) {OURS}".encode()).fetchone() == (0,)

        until(full, what="every connection is taken")
        daemon.shows("blocked")
    erp.insert_materials(11, 2)
    erp.healed(daemon)
    assert len(daemon.events("worker started")) == 1


# --- names ----------------------------------------------------------------------------------------

OWN_HOSTS = 'mount --bind "$0" /etc/hosts && exec "$@"'


@fault(40, "the source's name leads to another address", state="blocked")
def test_the_sources_name_moves(erp: Erp, tmp_path: Path) -> None:
    """The name is asked again for each connection; /etc/hosts is the daemon's own here."""
    root_only()
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost erp-db.test\n")
    port = erp.source.server.port
    with FaultProxy(port) as old, FaultProxy(port, listen=("127.0.0.2", old.port)) as new:
        erp.reached["source"] = make_conninfo(erp.source.dsn, host="erp-db.test", port=old.port)
        erp.more["source"] = {"sslmode": "disable"}
        erp.configure()
        under = ("unshare", "--mount", "sh", "-c", OWN_HOSTS, str(hosts))
        with erp.streaming(under=under) as daemon:
            erp.insert_materials(1, 2)
            erp.caught_up(daemon)
            with old.down():
                daemon.shows("blocked", error="erp-db.test")
                assert new.accepted == 0
                hosts.write_text("127.0.0.1 localhost\n127.0.0.2 erp-db.test\n")
                erp.insert_materials(11, 2)
                erp.healed(daemon)
            assert new.accepted > 0
            assert len(daemon.events("worker started")) == 1
