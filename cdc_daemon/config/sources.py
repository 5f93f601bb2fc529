"""Models of ``sources``: the databases that are read, one model a kind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from cdc_daemon.config.connections import Connection, postgres_address, secret, take_password
from cdc_daemon.config.conninfo import parse_conninfo
from cdc_daemon.config.mysql_address import DEFAULT_PORT
from cdc_daemon.config.scalars import AsTuple, SlotName, ValueText
from cdc_daemon.config.strict import Model

MIB = 1024 * 1024


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


class SourceConfig(Connection):
    """What every source has, of whatever kind."""

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

    _read_password = field_validator("password", mode="before")(secret)

    def model_post_init(self, context: Any, /) -> None:
        """Keep the name that the source has in the file."""
        super().model_post_init(context)
        self._name = (context or {}).get("name", "source")

    @property
    def name(self) -> str:
        """The source's name, and its pipeline's."""
        return self._name


class PostgresSourceConfig(SourceConfig):
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

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, data: Any, info: ValidationInfo) -> Any:
        data = take_password(data, "dsn")
        if isinstance(data, dict):
            name = (info.context or {}).get("name", "source")
            default = "cdc_" + re.sub("[^a-z0-9_]", "_", name.lower())[:59]
            data = {"slot": default, "publication": default} | data
        return data

    _check_dsn = field_validator("dsn")(postgres_address)

    def model_post_init(self, context: Any, /) -> None:
        """Keep the address parsed."""
        super().model_post_init(context)
        self._parsed = parse_conninfo(self.dsn)


class MysqlSourceConfig(SourceConfig):
    """A MySQL or MariaDB server, read through its binary log."""

    kind: Literal["mysql", "mariadb"] = Field(
        description="Which kind of source this is; both words mean both servers."
    )
    host: str = Field(
        default="localhost", description="The server's name or address.", examples=["hr-db"]
    )
    port: int = Field(default=DEFAULT_PORT, ge=1, le=65535, description="The server's port.")
    socket: str | None = Field(
        default=None,
        description="File of the server's socket, in place of host and port.",
        examples=["/run/mysqld/mysqld.sock"],
    )
    user: str = Field(description="The account that reads.", examples=["cdc"])
    server_id: int | None = Field(
        default=None,
        ge=1,
        le=(1 << 32) - 1,
        description="The number as which the log is read, unlike that of every server and every "
        "other reader. Default: made of the source's name and the target's address.",
        examples=[4001],
    )
    cascades: Literal["follow", "refuse", "ignore"] = Field(
        default="follow",
        description="What is done about foreign keys that change mapped rows without a word in "
        "the log (ON DELETE and ON UPDATE CASCADE and SET NULL): carry out what the server did "
        "(`follow`: the ledger notes which rows refer to which parent), refuse to start "
        "(`refuse`), or leave such rows as they are in the target (`ignore`).",
    )

    @field_validator("port", mode="before")
    @classmethod
    def _from_a_variable(cls, value: Any) -> Any:
        """A number that comes from ``${VAR}`` is a text."""
        return int(value) if isinstance(value, str) and value.isdecimal() else value

    def model_post_init(self, context: Any, /) -> None:
        """Keep the address as keywords."""
        super().model_post_init(context)
        self._mysql = True
        self._parsed = {"user": self.user}
        if self.socket is not None:
            self._parsed["socket"] = self.socket
        else:
            self._parsed |= {"host": self.host, "port": str(self.port)}

    @property
    def slot(self) -> str:
        """There is none: the server keeps nothing for its readers."""
        return ""


AnySource = PostgresSourceConfig | MysqlSourceConfig
"""A source of any kind."""

SOURCE_KINDS: Mapping[str, type[AnySource]] = {
    "postgres": PostgresSourceConfig,
    "mysql": MysqlSourceConfig,
    "mariadb": MysqlSourceConfig,
}
"""The kinds of source that exist, with their models."""
