"""Certificates for tests, made by the openssl program: an authority and what it signs."""

from __future__ import annotations

import subprocess
from pathlib import Path

from cdc_daemon.demo.installation import server_account


class Authority:
    """A certificate authority; `certificate` is the file that trusts it."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = folder / f"{name}.key"
        self.certificate = folder / f"{name}.pem"
        self._name = name
        _openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"),
            *("-keyout", str(self._key), "-out", str(self.certificate), "-days", "2"),
        )

    def sign(self, name: str, address: str, days: int = 2) -> tuple[Path, Path]:
        """Certificate and key for an IP address; with days < 0 it has expired."""
        key, request, made = (self._folder / f"{name}.{end}" for end in ("key", "csr", "crt"))
        extensions = self._folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName=IP:{address}\n")
        _openssl(
            *("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"),
            *("-keyout", str(key), "-out", str(request)),
        )
        _openssl(
            *("x509", "-req", "-in", str(request), "-CA", str(self.certificate)),
            *("-CAkey", str(self._key), "-CAcreateserial", "-days", str(days)),
            *("-extfile", str(extensions), "-out", str(made)),
        )
        return made, key


def install(folder: Path, signed: tuple[Path, Path]) -> None:
    """Make it the certificate of the server whose settings name `server.crt` and `server.key`."""
    for file, end in zip(signed, ("crt", "key"), strict=True):
        path = folder / f"server.{end}"
        path.write_bytes(file.read_bytes())
        server_account().own(path)


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
