"""What a connection is made with: encryption by default, passwords read anew."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from click import UsageError

from cdc_daemon.cli.administrators import connections
from cdc_daemon.config.configuration import Configuration
from cdc_daemon.config.conninfo import parse_conninfo, secured
from cdc_daemon.config.load import load
from cdc_daemon.demo.show import shipped_configuration
from tests.unit.test_config_problems import changed

DSN = "dsn: postgresql://cdc@127.0.0.1/erp"
FAR = "postgresql://cdc@erp-db/erp"


def loaded(text: str, folder: Path, **environ: str) -> Configuration:
    path = folder / "c.yaml"
    path.write_text(text)
    path.chmod(0o600)
    return load([path], environ=environ)


@pytest.mark.parametrize(
    "address, binding",
    [
        ("postgresql://u:p@erp-db/d", "require"),
        ("postgresql://u:p@erp-db/d?sslmode=require", "require"),
        ("postgresql://u:p@erp-db/d?sslmode=verify-ca", "require"),
        ("postgresql://u:p@erp-db/d?channel_binding=prefer", "prefer"),
        ("postgresql://u:p@erp-db/d?sslmode=prefer", None),  # might go without TLS
        ("postgresql://u:p@erp-db/d?sslcert=/c.pem", None),  # the certificate logs in
        ("postgresql://u@erp-db/d", None),  # whatever logs in, it is no password of ours
        ("postgresql://u:p@127.0.0.1/d", None),
    ],
)
def test_beyond_this_machine_a_login_is_bound_to_its_channel(
    address: str, binding: str | None
) -> None:
    assert secured(parse_conninfo(address)).get("channel_binding") == binding


def test_a_password_from_a_file_is_read_anew(tmp_path: Path) -> None:
    """For each connection, also in another process; one that is gone is the last that was there."""
    secret = tmp_path / "secret"
    secret.write_text("first\n")
    found = loaded(changed(DSN, f"{DSN}\n    password: ${{file:{secret}}}"), tmp_path)
    sent = pickle.loads(pickle.dumps(found))
    for configuration in (found, sent):
        secret.write_text("first\n")
        conninfo = configuration.sources["erp"].conninfo
        assert conninfo["password"] == "first"
        secret.write_text("newer-pw\n")
        assert dict(conninfo)["password"] == "newer-pw"
        assert {**conninfo}["password"] == "newer-pw"
        secret.unlink()
        assert conninfo["password"] == "newer-pw"
        assert "newer-pw" not in repr(conninfo) + repr(configuration)


def test_a_password_from_a_credential_is_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "erp").write_text("first")
    text = changed(DSN, f"{DSN}\n    password: ${{cred:erp}}")
    conninfo = loaded(text, tmp_path, CREDENTIALS_DIRECTORY=str(tmp_path)).sources["erp"].conninfo
    (tmp_path / "erp").write_text("newer-pw")
    assert conninfo["password"] == "newer-pw"


def test_a_password_that_cannot_change_is_none_to_read_anew(tmp_path: Path) -> None:
    found = loaded(changed(DSN, f"{DSN}\n    password: ${{PW}}"), tmp_path, PW="x")
    assert type(found.sources["erp"].conninfo) is dict
    assert found.sources["erp"].conninfo["password"] == "x"


@pytest.mark.parametrize(
    "admin, authority",
    [
        ("postgresql://admin@erp-db/erp", "/erp-ca.pem"),
        ("postgresql://admin@erp-db/erp?sslrootcert=/other.pem", "/other.pem"),
        ("postgresql://admin@erp-db/erp?sslmode=prefer", None),
        ("postgresql://admin@localhost/erp", None),
    ],
)
def test_an_administrator_trusts_whom_the_daemon_trusts(
    admin: str, authority: str | None, tmp_path: Path
) -> None:
    """The daemon's own certificate is not lent to anybody."""
    tls = "tls: {ca: /erp-ca.pem, cert: /c.pem, key: /k.pem}"
    found = loaded(changed(DSN, f"dsn: {FAR}\n    {tls}"), tmp_path)
    conninfo = connections(found, [f"erp={admin}"])["erp"]
    assert conninfo.get("sslrootcert") == authority
    assert "sslcert" not in conninfo


def test_an_administrator_of_a_mysql_source_names_no_database(tmp_path: Path) -> None:
    """The server is set up as a whole; certificates are checked as with any other."""
    source = "  hr: {kind: mysql, host: hr-db, user: cdc, tls: {ca: /hr-ca.pem}}\n"
    text = changed("sources:\n", "sources:\n" + source)
    found = loaded(text, tmp_path)
    given = ["hr=mysql://root:secret@hr-db:3307"]
    assert connections(found, given)["hr"] == {
        "host": "hr-db",
        "port": "3307",
        "user": "root",
        "password": "secret",
        "sslmode": "verify-full",
        "sslrootcert": "/hr-ca.pem",
    }
    with pytest.raises(UsageError, match="hr"):
        connections(found, ["hr=postgresql://root@hr-db/hr"])


def test_a_port_may_come_from_a_variable(tmp_path: Path) -> None:
    source = "  hr: {kind: mysql, port: '${HR_PORT}', user: cdc}\n"
    found = loaded(changed("sources:\n", "sources:\n" + source), tmp_path, HR_PORT="3310")
    assert found.sources["hr"].conninfo["port"] == "3310"


def test_the_shipped_pattern_with_a_mysql_source_is_whole() -> None:
    """The demo reaches its private MariaDB by these variables."""
    environ = {"CDC_HR_PORT": "3310", "CDC_HR_PASSWORD": "demo"}
    found = load([shipped_configuration() / "mixed.yaml"], environ=environ)
    assert {mapping.source for mapping in found.mappings} == {"erp", "hr"}
    assert dict(found.sources["hr"].conninfo) == {
        "user": "cdc",
        "host": "127.0.0.1",
        "port": "3310",
        "password": "demo",
        "sslmode": "prefer",
    }


TARGET = "url: postgresql://cdc@127.0.0.1/control"


@pytest.mark.parametrize("scheme", ["mysql", "mariadb"])
def test_a_mysql_target_is_reached_like_any_other(tmp_path: Path, scheme: str) -> None:
    """Its password leaves the address, its name and certificate are checked beyond this machine."""
    url = f"url: {scheme}://cdc:hunter2@control-db/group?connect_timeout=5"
    found = loaded(changed(TARGET, f"{url}\n  tls: {{ca: /etc/ca.pem}}"), tmp_path)
    target = found.target
    assert (target.kind, target.loopback) == ("mysql", False)
    assert target.url == "mysql://cdc@control-db/group?connect_timeout=5"
    assert dict(target.conninfo) == {
        "user": "cdc",
        "password": "hunter2",
        "host": "control-db",
        "dbname": "group",
        "connect_timeout": "5",
        "sslmode": "verify-full",
        "sslrootcert": "/etc/ca.pem",
    }
    assert "hunter2" not in repr(found) + str(found.describe())
    admin = connections(found, ["target=mysql://root@control-db/group"])["target"]
    assert (admin["user"], admin["sslmode"], admin["sslrootcert"]) == (
        "root",
        "verify-full",
        "/etc/ca.pem",
    )
