"""Where databases are and how they are reached: what sources and target share, and the target.

A password inside an address is moved into its own field at once, so that addresses can be shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, PrivateAttr, SecretStr, field_validator, model_validator

from cdc_daemon.config.conninfo import is_loopback, parse_conninfo, render_uri, secured
from cdc_daemon.config.mysql_address import (
    is_local_mysql,
    is_mysql,
    parse_mysql,
    render_mysql,
    secured_mysql,
)
from cdc_daemon.config.references import Rereading
from cdc_daemon.config.scalars import Complaint, Name
from cdc_daemon.config.sqlite_url import is_sqlite, parse_sqlite, render_sqlite
from cdc_daemon.config.strict import Model

TargetKind = Literal["postgresql", "mysql", "sqlite"]
SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]


class TlsConfig(Model):
    """Certificates for a connection."""

    ca: str | None = Field(
        default=None,
        description="File with the certificate authority's certificates; `system` for the "
        "system's own.",
        examples=["/etc/ssl/erp-ca.pem"],
    )
    cert: str | None = Field(default=None, description="File with the client's certificate.")
    key: str | None = Field(
        default=None, description="File with the client's private key (mode 0600)."
    )


class Connection(Model):
    """What source and target have in common: password and encryption beside the address."""

    password: SecretStr | None = Field(
        default=None,
        description="Password; better from `${cred:name}`, `${file:/path}` or `${VAR}` than "
        "written here.",
        examples=["${cred:erp}"],
    )
    sslmode: SslMode | None = Field(
        default=None,
        description="Encryption, as libpq names it. Default: `verify-full` for hosts beyond this "
        "machine.",
    )
    tls: TlsConfig | None = Field(default=None, description="Certificates for the connection.")

    _parsed: dict[str, str] = PrivateAttr(default_factory=dict)
    _mysql: bool = PrivateAttr(False)
    _reference: str = PrivateAttr("")

    def read_anew(self, reference: str) -> None:
        """Note what the password was written as, where it may change while the daemon runs."""
        self._reference = reference

    @property
    def conninfo(self) -> Mapping[str, str]:
        """Keywords for the driver with the password: for connecting, never for showing.

        A password from a file or credential is read anew whenever it is looked at.
        """
        found = dict(self._parsed)
        if self.password is not None:
            found["password"] = self.password.get_secret_value()
        if self.sslmode is not None:
            found["sslmode"] = self.sslmode
        if self.tls is not None:
            given = {"sslrootcert": self.tls.ca, "sslcert": self.tls.cert, "sslkey": self.tls.key}
            found |= {keyword: path for keyword, path in given.items() if path is not None}
        found = secured_mysql(found) if self._mysql else secured(found)
        return Rereading(found, self._reference) if self._reference else found

    @property
    def loopback(self) -> bool:
        """Whether the connection stays on this machine."""
        return is_local_mysql(self._parsed) if self._mysql else is_loopback(self._parsed)

    def _keep(self, address: str) -> None:
        """Keep a server's address parsed."""
        self._mysql = is_mysql(address)
        self._parsed = parse_mysql(address) if self._mysql else parse_conninfo(address)


def take_password(data: Any, address: str) -> Any:
    """Move a password inside the address into its own field, where it is masked."""
    if not isinstance(data, dict) or not isinstance(data.get(address), str):
        return data
    if address == "url" and is_sqlite(data[address]):
        return data
    mysql = is_mysql(data[address])
    try:
        found = parse_mysql(data[address]) if mysql else parse_conninfo(data[address])
    except Complaint:
        return data  # the field's own validator says what is wrong
    password = found.pop("password", None)
    if password is None:
        return data
    if data.get("password") is not None:
        raise Complaint(
            f"the password stands both in {address!r} and in 'password'", "leave one of them"
        )
    shown = render_mysql(found) if mysql else render_uri(found)
    return data | {address: shown, "password": password}


def postgres_address(text: str) -> str:
    """A libpq address without its password, as it is shown. Raises Complaint."""
    return render_uri(parse_conninfo(text))


def _target_address(text: str) -> str:
    if is_mysql(text):
        return render_mysql(parse_mysql(text))
    return render_sqlite(parse_sqlite(text)) if is_sqlite(text) else postgres_address(text)


def secret(value: Any) -> Any:
    """A text that is masked wherever it is shown."""
    return SecretStr(value) if isinstance(value, str) else value


class TargetConfig(Connection):
    """The control database that the entities are written to."""

    url: str = Field(
        description="Where the control database is: a libpq URI, the address of a MySQL or "
        "MariaDB database (`mysql://user@host:port/database`), or an SQLite file "
        "(`sqlite:///control.db` relative to the working directory, `sqlite:////absolute/path`), "
        "which takes one source. `target: <url>` alone will do.",
        examples=[
            "postgresql://cdc@control-db:5432/group_control",
            "mysql://cdc@control-db:3306/group_control",
            "sqlite:///control.db",
        ],
    )
    schema_: Name = Field(
        default="public",
        alias="schema",
        description="Schema of the entity tables; the ledger is in `cdc`. PostgreSQL only.",
    )

    _path: str | None = PrivateAttr(None)

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, data: Any) -> Any:
        return take_password(data, "url")

    _read_password = field_validator("password", mode="before")(secret)
    _check_url = field_validator("url")(_target_address)

    def model_post_init(self, context: Any, /) -> None:
        """Keep the address parsed."""
        super().model_post_init(context)
        if is_sqlite(self.url):
            self._path = parse_sqlite(self.url)
        else:
            self._keep(self.url)

    @property
    def kind(self) -> TargetKind:
        """Which kind of database the target is; MariaDB counts as MySQL."""
        if self._path is not None:
            return "sqlite"
        return "mysql" if self._mysql else "postgresql"

    @property
    def path(self) -> str:
        """The file of an SQLite target."""
        assert self._path is not None
        return self._path

    @property
    def conninfo(self) -> Mapping[str, str]:
        """Keywords for the driver with the password; none for SQLite."""
        return {} if self._path is not None else super().conninfo

    @property
    def loopback(self) -> bool:
        """Whether the connection stays on this machine."""
        return self._path is not None or super().loopback
