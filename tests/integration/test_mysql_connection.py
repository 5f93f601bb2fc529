"""Connections to MySQL and MariaDB: who is let in, what is verified, and what an error says."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pymysql
import pytest

from cdc_daemon.demo.installation import server_account
from cdc_daemon.demo.mariadb import PrivateMariaDB
from cdc_daemon.model.errors import (
    CdcError,
    ConfigurationError,
    NotAdmitted,
    Stop,
    Unreachable,
)
from cdc_daemon.sources.mysql.connection import Server, query, socket_of
from cdc_daemon.sources.mysql.dump import open_dump, server_id_of
from cdc_daemon.sources.mysql.gtid import parse_set
from cdc_daemon.sources.mysql.position import FromDomains, FromSet
from tests.support.binlog import LogReader
from tests.support.fake_mysql import answering, packet, refusal
from tests.support.mysql_server import PrivateMySQL
from tests.support.tls import Authority, Certificate, require_openssl

Private = PrivateMariaDB | PrivateMySQL
SECRET = "s3cr3t-Пароль"


@pytest.fixture(params=["mariadb", "mysql9"])
def server(request: pytest.FixtureRequest) -> Private:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, PrivateMariaDB | PrivateMySQL)
    return found


@pytest.fixture
def accounts(server: Private) -> Iterator[list[str]]:
    """Names of accounts that are dropped afterwards."""
    names: list[str] = []
    yield names
    for name in names:
        server.execute(f"DROP USER IF EXISTS {name}@'%'")


def target(server: Private, **others: str) -> Server:
    settings = {name: str(value) for name, value in server.address.items()}
    if is_mysql(server):
        settings["sslmode"] = "require"  # else its plugin needs a package that is not installed
    return Server("hr", {**settings, **others})


def is_mysql(server: Private) -> bool:
    return isinstance(server, PrivateMySQL)


def refused(server: Server, kind: type[CdcError] = NotAdmitted) -> str:
    with pytest.raises(kind) as error:
        server.connect().close()
    assert SECRET not in str(error.value)
    return str(error.value)


# --- sessions -------------------------------------------------------------------------------------


def test_a_session_prints_the_same_whatever_the_server_is_set_to(server: Private) -> None:
    others = {"sql_mode": "ANSI,PAD_CHAR_TO_FULL_LENGTH", "time_zone": "+05:30"}
    if isinstance(server, PrivateMySQL):
        others["sql_mode"] = "ANSI"
    before = {name: server.query(f"SELECT @@global.{name}")[0][0] for name in others}
    for name, value in others.items():
        server.execute(f"SET GLOBAL {name} = %s", value)
    try:
        with closing(target(server).connect()) as connection:
            asked = "SELECT @@time_zone, @@sql_mode, CAST('0000-00-00' AS DATE), 'a' || 'b'"
            [found] = query(target(server), connection, asked)
            assert found[:2] == ("+00:00", "STRICT_ALL_TABLES")
    finally:
        for name, value in before.items():
            server.execute(f"SET GLOBAL {name} = %s", value)


def test_a_session_changes_nothing(server: Private) -> None:
    reader = target(server)
    with (
        closing(reader.connect()) as connection,
        pytest.raises(Stop, match=r"querying the source: error 1792|READ ONLY"),
    ):
        query(reader, connection, "CREATE DATABASE never")


def test_what_answers_is_told(server: Private) -> None:
    reader = target(server)
    with closing(reader.connect()) as connection:
        edition = reader.edition(connection)
    assert edition.mariadb is not is_mysql(server)
    assert str(edition).split()[0] in repr(server)
    assert edition.version >= (9, 0, 0)
    assert edition.dialect.version >= 90_000
    assert edition.lower_case == 0


# --- who is let in --------------------------------------------------------------------------------


def test_a_password_of_any_letters_logs_in_and_a_wrong_one_is_told(
    server: Private, accounts: list[str]
) -> None:
    accounts.append("letters")
    address = server.create_account("letters", SECRET)
    user = {"user": str(address["user"]), "password": SECRET}
    target(server, **user).connect().close()
    said = refused(target(server, **{**user, "password": SECRET + "x"}))
    assert "Access denied" in said
    assert "check user and password" in said
    said = refused(target(server, **user, database="mysql"))
    assert "grant the account" in said


def test_a_locked_account_is_told(server: Private, accounts: list[str]) -> None:
    accounts.append("locked")
    server.create_account("locked", SECRET)
    server.execute("ALTER USER locked@'%' ACCOUNT LOCK")
    assert "ACCOUNT UNLOCK" in refused(target(server, user="locked", password=SECRET))


def test_a_right_that_is_missing_is_told(server: Private, accounts: list[str]) -> None:
    accounts.append("poor")
    server.create_account("poor", SECRET)
    poor = target(server, user="poor", password=SECRET)
    with (
        closing(poor.connect()) as connection,
        pytest.raises(ConfigurationError, match="grant poor"),
    ):
        query(poor, connection, "SELECT * FROM mysql.user")
    start = FromSet(parse_set(""))
    with pytest.raises(ConfigurationError, match=r"asking for the binlog.*grant poor"):
        open_dump(poor, start, server_id=server_id_of("hr", "poor"))


def test_who_does_not_answer_is_unreachable(server: Private) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    assert "refused" in refused(target(server, port=port), Unreachable)
    assert "not known" in refused(target(server, host="no.such.invalid"), Unreachable)
    gone = target(server, socket="/nowhere/mysql.sock")
    assert "No such file" in refused(gone, Unreachable)


def test_a_full_server_is_asked_again(server: Private) -> None:
    [(allowed,)] = server.query("SELECT @@global.max_connections")
    with ExitStack() as stack:
        first = stack.enter_context(server.connect())
        with first.cursor() as cursor:
            cursor.execute("SET GLOBAL max_connections = 10")
            try:
                for _ in range(20):
                    stack.enter_context(server.connect())
            except pymysql.err.OperationalError:
                assert "Too many connections" in refused(target(server), Unreachable)
            finally:
                cursor.execute("SET GLOBAL max_connections = %s", (allowed,))


def test_a_socket_file_needs_no_tls(server: Private) -> None:
    local = target(server, socket=str(server.socket), sslmode="verify-full")
    with closing(local.connect()) as connection:
        assert socket_of(connection).family == socket.AF_UNIX


# --- TLS ------------------------------------------------------------------------------------------


def test_a_server_without_tls_is_never_talked_to_in_clear(mariadb: PrivateMariaDB) -> None:
    """Debian's MariaDB of the tests has no certificate."""
    for mode in ("require", "verify-ca", "verify-full"):
        said = refused(target(mariadb, sslmode=mode, password=SECRET))
        assert "does not speak TLS" in said
    target(mariadb, sslmode="prefer").connect().close()  # what this machine's own servers get


def test_a_certificate_is_verified_as_the_mode_says(mysql9: PrivateMySQL) -> None:
    """MySQL makes one for itself, of an authority of its own and for no name of this machine."""
    ca = str(mysql9.data_dir / "ca.pem")
    target(mysql9, sslmode="verify-ca", sslrootcert=ca).connect().close()
    assert "for another name" in refused(target(mysql9, sslmode="verify-full", sslrootcert=ca))
    assert "not signed by an authority" in refused(target(mysql9, sslmode="verify-ca"))
    assert "cannot be read" in refused(
        target(mysql9, sslmode="verify-ca", sslrootcert="/nowhere/ca.pem")
    )
    assert "tls.cert" in refused(
        target(mysql9, sslmode="require", sslcert="/nowhere/c.pem", sslkey="/nowhere/c.key")
    )


def test_the_log_comes_over_verified_tls(tmp_path: Path) -> None:
    """Also events that are larger than a packet."""
    require_openssl()
    authority = Authority(tmp_path)
    shown = authority.sign("good", common_name="localhost")
    with tls_server(authority, shown) as server:
        server.execute("SET GLOBAL max_allowed_packet = 1 << 26; CREATE DATABASE d")
        server.execute(
            "CREATE TABLE d.t (a LONGTEXT); INSERT INTO d.t VALUES (REPEAT('x', 17 << 20))"
        )
        verified = {"host": "localhost", "sslmode": "verify-full"}
        source = target(server, **verified, sslrootcert=str(authority.own.path))
        dump = open_dump(
            source, FromDomains({}), server_id=server_id_of("hr", "tls"), until_end=True
        )
        with closing(dump):
            groups = LogReader(dump).groups(99)
        assert len(groups) == 3
        other = Authority(tmp_path, "other")
        assert "not signed" in refused(target(server, **verified, sslrootcert=str(other.own.path)))


@contextmanager
def tls_server(authority: Authority, shown: Certificate) -> Iterator[PrivateMariaDB]:
    """A MariaDB server that shows this certificate."""
    server = PrivateMariaDB()
    files = {"ssl_ca": authority.own.path, "ssl_cert": shown.path, "ssl_key": shown.key}
    for name, path in files.items():
        copy = server.folder / name
        copy.write_bytes(path.read_bytes())
        server_account().own(copy)
    server.configure(**{name: str(server.folder / name) for name in files})
    with server:
        yield server


# --- servers that are none ------------------------------------------------------------------------


@pytest.mark.parametrize("plugin", [b"mysql_clear_password\0", b"dialog\0\x04Password: "])
def test_the_password_is_not_sent_in_clear(plugin: bytes) -> None:
    """Whoever answers may ask for it."""
    with answering(packet(2, b"\xfe" + plugin)) as fake:
        settings = {"host": "127.0.0.1", "port": str(fake.port), "user": "u", "password": SECRET}
        said = refused(Server("hr", settings))
    assert "in clear" in said
    assert SECRET.encode() not in fake.heard


def test_a_plugin_that_is_not_known_is_told() -> None:
    with answering(packet(2, b"\xfeauth_parsec\0xx")) as fake:
        settings = {"host": "127.0.0.1", "port": str(fake.port), "user": "u", "password": SECRET}
        assert "another authentication plugin" in refused(Server("hr", settings))


def test_a_refusal_with_the_password_in_it_is_cleaned() -> None:
    with answering(refusal(1045, f"no {SECRET} for you")) as fake:
        settings = {"host": "127.0.0.1", "port": str(fake.port), "user": "u", "password": SECRET}
        assert "no ******** for you" in refused(Server("hr", settings))


def test_somebody_else_who_answers_is_unreachable() -> None:
    with answering(b"", greeting=b"HTTP/1.1 400 Bad Request\r\n\r\n") as fake:
        settings = {"host": "127.0.0.1", "port": str(fake.port), "user": "u"}
        refused(Server("hr", settings), Unreachable)
    with answering(b"", greeting=packet(0, b"\x0a")) as fake:
        settings = {"host": "127.0.0.1", "port": str(fake.port), "user": "u"}
        assert "protocol" in refused(Server("hr", settings), Unreachable)
