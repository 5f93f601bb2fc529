"""The way to a MySQL control database: what is checked, and why a certificate is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdc_daemon.demo.mariadb import PrivateMariaDB
from cdc_daemon.model.errors import NotAdmitted
from cdc_daemon.sinks.mysql.session import connect
from tests.contract.mysql_target import conninfo_of
from tests.support.certificates import Authority, install

CIPHER = "SHOW SESSION STATUS LIKE 'Ssl_cipher'"


@pytest.mark.usefixtures("mariadb")  # it is there
def test_a_server_is_known_by_its_certificate_and_name(tmp_path: Path) -> None:
    """`verify-full` wants both, `verify-ca` the certificate; nothing is sent before."""
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    with PrivateMariaDB() as server:
        server.stop()
        install(server.folder, ours.sign("control", "127.0.0.1"))
        server.configure(
            ssl_cert=str(server.folder / "server.crt"), ssl_key=str(server.folder / "server.key")
        )
        server.start()

        def cipher(mode: str, authority: Authority | None = ours, host: str = "127.0.0.1") -> bytes:
            ca = {"sslrootcert": str(authority.certificate)} if authority is not None else {}
            session = connect(conninfo_of(server, "mysql", sslmode=mode, host=host, **ca), "test")
            found = session.run(CIPHER).rows[0][1]
            session.close()
            return found or b""

        assert cipher("verify-full")
        assert cipher("verify-ca", host="localhost")
        assert cipher("require", None, "localhost")
        assert cipher("prefer", None)
        assert cipher("disable") == b""
        for refused, words in (
            (("verify-full", ours, "localhost"), "not for that name"),
            (("verify-full", theirs, "127.0.0.1"), "not signed by an authority"),
            (("verify-ca", theirs, "127.0.0.1"), "not signed by an authority"),
            (("verify-full", None, "127.0.0.1"), "not signed by an authority"),
        ):
            with pytest.raises(NotAdmitted, match=words):
                cipher(*refused)


def test_a_server_without_tls_gets_nothing(mariadb: PrivateMariaDB) -> None:
    """Where TLS must be; and a wrong password is told without it."""
    for mode in ("require", "verify-full"):
        with pytest.raises(NotAdmitted, match="encrypted connection was refused"):
            connect(conninfo_of(mariadb, "mysql", sslmode=mode), "test")
    with pytest.raises(NotAdmitted, match=r"target\.password") as caught:
        connect(conninfo_of(mariadb, "mysql", password="hunter2"), "test")
    assert "hunter2" not in str(caught.value)
