"""Certificates of a test's own, and a private server that shows them.

Made with the ``openssl`` command: nothing that the daemon needs can make a certificate.
"""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import struct
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cdc_daemon.demo.server import PrivatePostgres
from tests.support.waiting import until

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_SSL_REQUEST = struct.pack(">II", 8, (1234 << 16) + 5679)
HOST = "db.test"


def require_openssl() -> None:
    """Skip where the command is missing; in CI that is a failure."""
    if shutil.which("openssl"):
        return
    if os.environ.get("CI"):
        pytest.fail("openssl is not installed")
    pytest.skip("openssl is not installed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate and its key."""

    path: Path
    key: Path


@dataclass(slots=True)
class Authority:
    """One authority in a folder of its own."""

    folder: Path
    name: str = "ca"
    own: Certificate = field(init=False)

    def __post_init__(self) -> None:
        self.own = self._files(self.name)
        _openssl("req", "-x509", *_KEY, "-days", "2", "-subj", f"/CN={self.name}",
                 "-keyout", self.own.key, "-out", self.own.path)  # fmt: skip

    def sign(self, name: str, *, common_name: str = HOST, days: int = 2) -> Certificate:
        """A certificate for that name; with negative days it has expired."""
        made = self._files(name)
        request = self.folder / f"{name}.csr"
        named = ("-subj", f"/CN={common_name}", "-addext", f"subjectAltName=DNS:{common_name}")
        _openssl("req", *_KEY, *named, "-keyout", made.key, "-out", request)
        _openssl("x509", "-req", "-in", request, "-CA", self.own.path, "-CAkey", self.own.key,
                 "-days", days, "-copy_extensions", "copy", "-out", made.path)  # fmt: skip
        return made

    def _files(self, name: str) -> Certificate:
        return Certificate(path=self.folder / f"{name}.pem", key=self.folder / f"{name}.key")


def _openssl(*arguments: object) -> None:
    command = ["openssl", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class TlsServer:
    """A private server whose certificate and host rules can be changed while it runs."""

    def __init__(self, server: PrivatePostgres) -> None:
        self.server = server
        self.rules("host all all all scram-sha-256", "host replication all all scram-sha-256")

    def serve(self, shown: Certificate, *, clients: Certificate | None = None) -> None:
        """Speak TLS with that certificate; ``clients``: the authority of theirs."""
        self._place("server.crt", shown.path)
        self._place("server.key", shown.key)
        self._place("clients.crt", (clients or shown).path)
        self._set("ssl_ca_file", "clients.crt")
        self._set("ssl", "on")
        wanted = shown.path.read_text()
        until(lambda: _shown(self.server.port) == wanted, what="the certificate is shown")

    def stop_tls(self) -> None:
        """Speak no TLS any longer."""
        self._set("ssl", "off")
        until(lambda: _shown(self.server.port) == "", what="no TLS is spoken")

    def rules(self, *lines: str) -> None:
        """pg_hba.conf; the superuser comes in over the socket's rules of its own."""
        path = self.server.data_dir / "pg_hba.conf"
        path.write_text("\n".join(["host all postgres all scram-sha-256", *lines]) + "\n")
        self._reload()

    def admitted(self) -> list[str]:
        """What the server's log says about connections that it let in, of the role ``cdc``."""
        lines = self.server.log_path.read_text(errors="replace").splitlines()
        return [line for line in lines if "connection authorized: user=cdc" in line]

    def _place(self, name: str, content: Path) -> None:
        path = self.server.data_dir / name
        path.touch(mode=0o600)
        path.write_bytes(content.read_bytes())
        found = self.server.data_dir.stat()
        os.chown(path, found.st_uid, found.st_gid)

    def _set(self, name: str, value: str) -> None:
        self.server.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        self._reload()

    def _reload(self) -> None:
        self.server.execute("SELECT pg_reload_conf()")


def _shown(port: int) -> str:
    """The certificate that a server shows, as PEM with Unix line ends; empty: it speaks no TLS."""
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(_SSL_REQUEST)
        if connection.recv(1) != b"S":
            return ""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with context.wrap_socket(connection) as wrapped:
            shown = wrapped.getpeercert(binary_form=True)
    return ssl.DER_cert_to_PEM_cert(shown) if shown else ""
