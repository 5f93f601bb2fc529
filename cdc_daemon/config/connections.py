"""Models of ``sources`` and ``target``: where databases are and how they are reached.

A password inside an address is moved into its own field at once, so that addresses can be shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, SecretStr, ValidationInfo, field_validator, model_validator

from cdc_daemon.config.conninfo import is_loopback, parse_conninfo, render_uri, secured
from cdc_daemon.config.mysql_address import (
    is_local_mysql,
    is_mysql,
    parse_mysql,
    render_mysql,
    secured_mysql,
)
from cdc_daemon.config.references import Rereading
from cdc_daemon.config.scalars import AsTuple, Complaint, Name, SlotName, ValueText
from cdc_daemon.config.sqlite_url import is_sqlite, parse_sqlite, render_sqlite
from cdc_daemon.config.strict import Model

TargetKind = Literal["postgresql", "mysql", "sqlite"]
SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
MIB = 1024 * 1024


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


def _take_password(data: Any, address: str) -> Any:
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


def _address(text: str) -> str:
    return render_uri(parse_conninfo(text))


def _target_address(text: str) -> str:
    if is_mysql(text):
        return render_mysql(parse_mysql(text))
    return render_sqlite(parse_sqlite(text)) if is_sqlite(text) else _address(text)


def _secret(value: Any) -> Any:
    return SecretStr(value) if isinstance(value, str) else value


class NullRules(Model):
    """Values that this source writes where others write NULL."""

    text: Annotated[tuple[ValueText, ...], AsTuple] = Field(
        default=(),
        description="Texts that mean NULL, in every column of a text type, also where `expr` and "
        "`where` read it (char columns are compared without their trailing blanks).",
        examples=[[" ", ""]],
    )
    integer: Annotated[tuple[ValueText, ...], AsTuple] = Field(
        default=(),
        description="Numbers that mean NULL, only in columns that a `ref` reads.",
        examples=[["0"]],
    )


class PostgresSourceConfig(Connection):
    """A PostgreSQL database, read through a logical replication slot."""

    kind: Literal["postgres"] = Field(description="Which kind of source this is.")
    dsn: str = Field(
        description="Where the database is: a libpq URI or keyword string.",
        examples=["postgresql://cdc@erp-db:5432/erp"],
    )
    slot: SlotName = Field(
        default="",
        description="Name of the replication slot. Default: `cdc_<source>`.",
        examples=["cdc_erp"],
    )
    publication: SlotName = Field(
        default="",
        description="Name of the publication. Default: `cdc_<source>`.",
        examples=["cdc_erp"],
    )
    nulls: NullRules = Field(
        default=NullRules(), description="Values that mean NULL in this source, beside NULL itself."
    )
    on_error: Literal["park", "stop"] = Field(
        default="park",
        description="What a change that cannot be applied does: wait in the failure queue (`park`) "
        "or stop the pipeline (`stop`), which keeps every source transaction whole.",
    )
    max_value_bytes: int = Field(
        default=64 * MIB,
        ge=1024,
        le=1024 * MIB,
        description="A larger single value stops the pipeline, naming table and key.",
    )

    _name: str = PrivateAttr("")

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, data: Any, info: ValidationInfo) -> Any:
        data = _take_password(data, "dsn")
        if isinstance(data, dict):
            name = (info.context or {}).get("name", "source")
            default = "cdc_" + re.sub("[^a-z0-9_]", "_", name.lower())[:59]
            data = {"slot": default, "publication": default} | data
        return data

    _read_password = field_validator("password", mode="before")(_secret)
    _check_dsn = field_validator("dsn")(_address)

    def model_post_init(self, context: Any, /) -> None:
        """Keep the address parsed and the name that the source has in the file."""
        super().model_post_init(context)
        self._parsed = parse_conninfo(self.dsn)
        self._name = (context or {}).get("name", "source")

    @property
    def name(self) -> str:
        """The source's name, and its pipeline's."""
        return self._name


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
        return _take_password(data, "url")

    _read_password = field_validator("password", mode="before")(_secret)
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


SOURCE_KINDS: dict[str, type[PostgresSourceConfig]] = {"postgres": PostgresSourceConfig}
"""The kinds of source that exist, with their models."""
