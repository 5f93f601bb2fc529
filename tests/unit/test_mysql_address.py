"""Addresses of MySQL and MariaDB: what they say, what they never show, and which TLS they mean."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from cdc_daemon.config.mysql_address import (
    is_local_mysql,
    is_mysql,
    mysql_place,
    parse_mysql,
    render_mysql,
    secured_mysql,
    tls_context,
    tls_keywords,
)
from cdc_daemon.config.scalars import Complaint
from cdc_daemon.model.errors import ConfigurationError
from tests.support.certificates import Authority


def test_an_address_becomes_keywords() -> None:
    """Either scheme, every part, percent-encoded where it must be."""
    found = parse_mysql("mariadb://c%40dc:p%2Fw@db.example:3307/group%20control?sslmode=verify-ca")
    assert found == {
        "user": "c@dc",
        "password": "p/w",
        "host": "db.example",
        "port": "3307",
        "dbname": "group control",
        "sslmode": "verify-ca",
    }
    assert parse_mysql("mysql:///control?socket=%2Frun%2Fdb.sock") == {
        "dbname": "control",
        "socket": "/run/db.sock",
    }
    assert is_mysql("MySQL://x/y")
    assert not is_mysql("postgresql://x/y")


def test_what_is_shown_has_no_password_and_means_the_same() -> None:
    """Rendered and parsed again, all else is there."""
    for text in (
        "mysql://cdc:secret@[::1]:3306/control?sslmode=require&connect_timeout=5",
        "mysql:///control?socket=%2Frun%2Fdb.sock",
    ):
        found = parse_mysql(text)
        shown = render_mysql(found)
        assert "secret" not in shown
        assert parse_mysql(shown) == {k: v for k, v in found.items() if k != "password"}
        assert "secret" not in mysql_place(found)


@pytest.mark.parametrize(
    "text",
    [
        "mysql://h",
        "mysql://h/",
        "mysql://h/a/b",
        "mysql://h:port/a",
        "mysql://h1,h2/a",
        "mysql://h/a?sslmode=sure",
        "mysql://h/a?charset=latin1",
        "mysql://h/a?connect_timeout=soon",
        "mysql://h/a%00b",
    ],
)
def test_what_is_no_address_is_refused_without_quoting_it(text: str) -> None:
    """It may hold a password."""
    with pytest.raises(Complaint) as caught:
        parse_mysql(text.replace("h", "u:hunter2@h", 1))
    assert "hunter2" not in str(caught.value)


def test_beyond_this_machine_the_server_is_checked() -> None:
    """Unless the address says otherwise."""
    assert secured_mysql({"host": "db"})["sslmode"] == "verify-full"
    assert secured_mysql({"host": "db", "sslmode": "disable"})["sslmode"] == "disable"
    for local in ({}, {"host": "127.0.0.1"}, {"host": "localhost"}, {"socket": "/run/s"}):
        assert is_local_mysql(local)
        assert secured_mysql(local)["sslmode"] == "prefer"


def test_what_is_checked_by_each_mode(tmp_path: Path) -> None:
    """Certificate and name, the certificate, or nothing."""
    authority = str(Authority(tmp_path, "ca").certificate)
    assert tls_keywords({"sslmode": "disable"}) == {"ssl_disabled": True}
    assert tls_keywords({"sslmode": "prefer"}) == tls_keywords({}) == {}
    expected = {
        ("verify-full", authority): (True, ssl.CERT_REQUIRED),
        ("verify-full", None): (True, ssl.CERT_REQUIRED),
        ("verify-ca", authority): (False, ssl.CERT_REQUIRED),
        ("require", authority): (False, ssl.CERT_REQUIRED),
        ("require", None): (False, ssl.CERT_NONE),
    }
    for (mode, ca), checks in expected.items():
        context = tls_context(mode, ca, None, None)
        assert context is not None
        assert (context.check_hostname, context.verify_mode) == checks


def test_a_missing_authority_is_told(tmp_path: Path) -> None:
    """By the file's name."""
    with pytest.raises(ConfigurationError, match="gone"):
        tls_keywords({"sslmode": "verify-full", "sslrootcert": str(tmp_path / "gone.pem")})
