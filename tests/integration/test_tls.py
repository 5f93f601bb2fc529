"""Encrypted connections: what is refused, by which words, and that nothing ever goes without.

PostgreSQL 15 stands for all: the wheel's PostgreSQL 18 is built without TLS and serves as the
server that does not speak it. An attacker in between is in the tests of faults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from cdc_daemon.demo.server import PrivatePostgres
from cdc_daemon.model.errors import NotAdmitted
from cdc_daemon.sinks.postgres.session import connect
from cdc_daemon.sources.postgres.connection import Server
from tests.conftest import _require
from tests.support.cli import call, write_configuration
from tests.support.tls import HOST, Authority, Certificate, TlsServer, require_openssl
from tests.support.waiting import until

PASSWORD = "tls-passwort"
ROLE = f"CREATE ROLE cdc LOGIN REPLICATION PASSWORD '{PASSWORD}'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A server that speaks TLS, and certificates of every kind."""

    tls: TlsServer
    ca: Authority
    good: Certificate
    expired: Certificate
    elsewhere: Certificate
    foreign: Certificate
    client: Certificate

    def conninfo(self, **change: str) -> dict[str, str]:
        """How the daemon reaches it; an empty value leaves a keyword out."""
        found = {
            "host": HOST,
            "hostaddr": "127.0.0.1",
            "port": str(self.tls.server.port),
            "user": "cdc",
            "dbname": "postgres",
            "password": PASSWORD,
            "sslmode": "verify-full",
            "sslrootcert": str(self.ca.own.path),
            **change,
        }
        return {keyword: value for keyword, value in found.items() if value}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server for all; each test sets what it shows."""
    _require(15)
    require_openssl()
    ca = Authority(tmp_path_factory.mktemp("ca"))
    other = Authority(tmp_path_factory.mktemp("other"), "another")
    settings = {"log_connections": "on"}
    with PrivatePostgres(15, auth="scram-sha-256", settings=settings) as server:
        server.execute(ROLE)
        yield Site(
            tls=TlsServer(server),
            ca=ca,
            good=ca.sign("good"),
            expired=ca.sign("expired", days=-1),
            elsewhere=ca.sign("elsewhere", common_name="else.test"),
            foreign=other.sign("foreign"),
            client=ca.sign("client", common_name="cdc"),
        )


def both(
    conninfo: dict[str, str],
) -> Iterator[Callable[[], psycopg.Connection[tuple[object, ...]]]]:
    """The ways in: the source's, its walsender's, the control database's."""
    server = Server("erp", conninfo)
    yield server.connect
    yield server.connect_for_replication
    yield lambda: connect(conninfo, "cdc_daemon:test")


def admitted(conninfo: dict[str, str]) -> None:
    """Every way in works, encrypted."""
    for way in both(conninfo):
        with way() as connection:
            assert connection.pgconn.ssl_in_use


def refused(conninfo: dict[str, str], what: str, cure: str) -> None:
    """Every way in is refused with these words, and never the password."""
    for way in both(conninfo):
        with pytest.raises(NotAdmitted) as caught:
            way()
        problem = caught.value.problems[0]
        assert what in problem.what
        assert cure in problem.cure
        assert PASSWORD not in str(problem)
        assert caught.value.exit_code == 78


def test_a_certificate_that_is_right_lets_us_in(site: Site) -> None:
    """Also when the login must be bound to the channel."""
    site.tls.serve(site.good)
    admitted(site.conninfo())
    admitted(site.conninfo(channel_binding="require"))


@pytest.mark.parametrize(
    "shown, what, cure",
    [
        ("expired", "has expired", "renewed"),
        ("elsewhere", "is for else.test, not for db.test", "hostaddr"),
        ("foreign", "was not signed by an authority that is trusted", "tls.ca"),
    ],
)
def test_a_certificate_that_is_wrong(site: Site, shown: str, what: str, cure: str) -> None:
    """The words tell which of the three it is; nobody is let in, encrypted or not."""
    site.tls.serve(getattr(site, shown))
    before = len(site.tls.admitted())
    refused(site.conninfo(), what, cure)
    assert len(site.tls.admitted()) == before
    site.tls.serve(site.good)


def test_a_file_of_authorities_that_is_missing_or_none(site: Site, tmp_path: Path) -> None:
    """Also where nobody named one."""
    site.tls.serve(site.good)
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("no certificate")
    for path in ("/nowhere/ca.pem", str(nonsense)):
        refused(site.conninfo(sslrootcert=path), "no file, or no readable one", "tls.ca")
    system = site.conninfo(sslrootcert="system", sslmode="require")
    refused(system, "sslmode: verify-full only", "tls.ca")


def test_a_server_without_tls_gets_nothing(site: Site) -> None:
    """Neither a password nor a start-up packet; it is not asked again without TLS."""
    site.tls.stop_tls()
    before = len(site.tls.admitted())
    for mode in ("verify-full", "verify-ca", "require"):
        refused(site.conninfo(sslmode=mode), "does not speak TLS", "turn ssl on")
    assert len(site.tls.admitted()) == before
    site.tls.serve(site.good)


def test_a_client_certificate(site: Site) -> None:
    """Logs in where the server asks for one; what is wrong with it is said."""
    site.tls.serve(site.good, clients=site.ca.own)
    site.tls.rules("hostssl all all all cert", "hostssl replication all all cert")
    named = {"sslcert": str(site.client.path), "sslkey": str(site.client.key), "password": ""}
    try:
        until(lambda: _asks_for_certificates(site), what="the rules are in force")
        admitted(site.conninfo(**named))
        refused(site.conninfo(), "asks for a client certificate", "tls.cert")
        site.client.key.chmod(0o644)
        refused(site.conninfo(**named), "others may read the client's private key", "chmod 0600")
        site.client.key.chmod(0o600)
        named["sslkey"] = "/nowhere/key.pem"
        refused(site.conninfo(**named), "cannot be read", "tls.key")
    finally:
        site.client.key.chmod(0o600)
        _usual_rules(site)


def _asks_for_certificates(site: Site) -> bool:
    try:
        psycopg.connect(**site.conninfo()).close()  # type: ignore[arg-type]
    except psycopg.OperationalError as error:
        return "valid client certificate" in str(error)
    return False


def _usual_rules(site: Site) -> None:
    site.tls.rules("host all all all scram-sha-256", "host replication all all scram-sha-256")
    until(lambda: not _asks_for_certificates(site), what="the rules are in force")


def test_a_login_that_is_not_bound_to_the_channel(site: Site) -> None:
    """The default beyond this machine: no password for a server that would take it in clear."""
    site.tls.serve(site.good)
    site.tls.rules("hostssl all all all password", "hostssl replication all all password")
    try:
        bound = site.conninfo(channel_binding="require")
        until(lambda: _unbound(bound), what="the rules are in force")
        refused(bound, "does not log in by SCRAM", "channel_binding=prefer")
        admitted(site.conninfo(channel_binding="prefer"))
    finally:
        _usual_rules(site)


def _unbound(conninfo: dict[str, str]) -> bool:
    try:
        psycopg.connect(**conninfo).close()  # type: ignore[arg-type]
    except psycopg.OperationalError as error:
        return "channel binding" in str(error)
    return False


CONFIGURATION = """
sources:
  erp: {{kind: postgres, dsn: "{dsn}", password: "{password}", sslmode: verify-full,
         tls: {{ca: {ca}}}}}
target: {{url: "{dsn}", password: "{password}", sslmode: verify-full, tls: {{ca: {ca}}}}}
entities:
  material: {{key: [code], attributes: {{code: string(40)}}}}
mappings:
  - {{from: erp.public.t_material, to: material, key: {{code: fnumber}}}}
"""


def test_the_commands_say_it_too(site: Site, tmp_path: Path) -> None:
    """78 from every one, for source and target, on stderr, without a traceback or a secret."""
    site.tls.serve(site.expired)
    dsn = f"postgresql://cdc@{HOST}:{site.tls.server.port}/postgres?hostaddr=127.0.0.1"
    text = CONFIGURATION.format(dsn=dsn, password=PASSWORD, ca=site.ca.own.path)
    path = str(write_configuration(tmp_path, text))
    for command in (("check-config",), ("plan",), ("status",), ("run",)):
        done = call(*command, "--config", path)
        assert done.returncode == 78, (command, done.stderr)
        assert "has expired" in done.stderr
        assert "have it renewed" in done.stderr
        assert PASSWORD not in done.stderr + done.stdout
        assert "Traceback" not in done.stderr
    assert "source erp" in call("check-config", "--config", path).stderr
    site.tls.serve(site.good)


def test_an_administrator_is_checked_by_the_same_authority(site: Site, tmp_path: Path) -> None:
    """``tls.ca`` holds for ``--admin-dsn`` too, unless that names another."""
    site.tls.serve(site.good)
    server = site.tls.server
    dsn = f"postgresql://cdc@{HOST}:{server.port}/postgres?hostaddr=127.0.0.1"
    text = CONFIGURATION.format(dsn=dsn, password=PASSWORD, ca=site.ca.own.path)
    path = str(write_configuration(tmp_path, text))
    admin = f"postgresql://postgres:{server.password}@{HOST}:{server.port}/postgres"
    admin += "?hostaddr=127.0.0.1&sslmode=verify-full"
    server.execute("CREATE TABLE t_material (fnumber text PRIMARY KEY)")
    command = ("plan", "--config", path, "--admin-dsn", admin, "--admin-dsn", f"erp={admin}")
    done = call(*command)
    assert done.returncode == 0, done.stderr
    assert "CREATE TABLE" in done.stdout
    other = f"{admin}&sslrootcert=/nowhere/ca.pem"
    done = call(*command[:3], "--admin-dsn", other, "--admin-dsn", f"erp={admin}")
    assert done.returncode == 78
    assert "no file, or no readable one" in done.stderr


def test_the_wheel_speaks_no_tls(postgres18: PrivatePostgres) -> None:
    """A server that was built without it is refused in the same words."""
    conninfo = {
        "host": "127.0.0.1",
        "port": str(postgres18.port),
        "user": "postgres",
        "dbname": "postgres",
        "sslmode": "require",
    }
    refused(conninfo, "does not speak TLS", "turn ssl on")
