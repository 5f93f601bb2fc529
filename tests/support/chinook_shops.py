"""The Chinook shop on servers of several kinds, mapped to the same entities by the same file.

On MySQL and MariaDB tables and columns have names as ``InvoiceLine`` and ``InvoiceLineId``: the
mappings are rewritten to them, and so is the SQL of the clerk, who edits all of them alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, Final

import psycopg
import yaml

from cdc_daemon import build, provision
from cdc_daemon.config.conninfo import parse_conninfo
from cdc_daemon.config.load import load
from cdc_daemon.config.mysql_address import parse_mysql
from cdc_daemon.demo.mysql_family import FamilyServer
from cdc_daemon.model.position import Checkpoint
from cdc_daemon.verify import content_hashes
from tests.support.any_pipeline import AnyPipeline
from tests.support.chinook import CONFIG, MYSQL_RECONNECT, MYSQL_SCRIPT, load_shop, statements_of
from tests.support.chinook_edits import Clerk
from tests.support.databases import Database
from tests.support.mysql_database import MysqlDatabase

_LYRICS: Final = "UPDATE track SET lyrics = repeat({number}, 400) WHERE track_id % 20 = 0"
_WIDE_TEXT: Final = """
    ALTER TABLE Customer ADD COLUMN Notes mediumtext;
    ALTER TABLE Track ADD COLUMN Lyrics mediumtext;
    ALTER TABLE InvoiceLine ADD COLUMN Remark mediumtext;
"""
_SETTINGS: Final = "SET sql_mode = 'STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES';"
_CORRECTED: Final = (
    (r"\bNVARCHAR\b", "VARCHAR"),  # it has no characters of four bytes
    (r"\bDATETIME\b", "DATETIME(6)"),
    ("'Edinburgh '", "'Edinburgh'"),
)
"""What the script for MySQL has otherwise than the one for PostgreSQL."""
_WORD: Final = re.compile(r"\b[a-z_]+\b")
_EMPTY_SELECT: Final = re.compile(r"\(SELECT FROM\b")


class ClerkOfAll(Clerk):
    """A clerk whose dates every kind of server holds."""

    births: ClassVar = ("1969-07-20 20:17:40.123456", "1000-03-15 12:00:00")
    issues: ClassVar = ("2024-02-29 23:59:59.999999", "2021-01-01", "9999-12-31")


class MysqlSession:
    """Takes PostgreSQL's SQL as far as the clerk speaks it."""

    def __init__(self, shop: MysqlShop) -> None:
        self._names = shop.names
        self._connection = shop.database.server.connect(shop.database.name, autocommit=False)
        self.commit, self.rollback = self._connection.commit, self._connection.rollback
        self.close = self._connection.close

    def execute(self, sql: str | bytes, params: Sequence[object] = ()) -> Any:
        """A cursor with the rows, and with the number of rows that were changed."""
        text = sql.decode() if isinstance(sql, bytes) else sql
        text = _EMPTY_SELECT.sub("(SELECT 1 FROM", text)
        cursor = self._connection.cursor()
        cursor.execute(renamed(text, self._names), tuple(params) or None)
        return cursor


def renamed(text: str, names: Mapping[str, str], quote: str = "`") -> str:
    """The text with other names of tables and columns."""

    def other(word: re.Match[str]) -> str:
        return f"{quote}{names[word[0]]}{quote}" if word[0] in names else word[0]

    return _WORD.sub(other, text)


class PostgresShop:
    """The shop on PostgreSQL, loaded."""

    def __init__(self, database: Database) -> None:
        self.database = database
        load_shop(database)
        database.execute(_LYRICS.format(number="track_id || ' la la '"))

    def clerk(self, seed: int) -> Clerk:
        """Who edits it."""
        return ClerkOfAll(psycopg.connect(self.database.dsn), seed)

    def configured(self, document: dict[str, Any]) -> dict[str, Any]:
        """The configuration for this shop."""
        document["sources"]["shop"]["dsn"] = self.database.dsn
        return document


class MysqlShop:
    """The shop on MySQL or MariaDB, loaded; ``names``: of tables and columns by PostgreSQL's."""

    def __init__(self, database: MysqlDatabase) -> None:
        self.database = database
        script = statements_of(MYSQL_SCRIPT, MYSQL_RECONNECT)
        for old, new in _CORRECTED:
            script = re.sub(old, new, script)
        database.server.execute(_SETTINGS + script + _WIDE_TEXT, database=database.name)
        self.names = {
            re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower(): name
            for row in database.query(
                "SELECT table_name, column_name FROM information_schema.columns"
                " WHERE table_schema = %s",
                database.name,
            )
            for name in row
        }
        lyrics = _LYRICS.format(number="CONCAT(track_id, ' la la ')")
        database.execute(renamed(lyrics, self.names))

    def clerk(self, seed: int) -> Clerk:
        """Who edits it."""
        return ClerkOfAll(MysqlSession(self), seed)

    def configured(self, document: dict[str, Any]) -> dict[str, Any]:
        """The configuration for this shop."""
        server: FamilyServer = self.database.server
        document["sources"]["shop"] = {
            "kind": "mysql", "host": server.address["host"], "port": server.port,
            "user": server.address["user"], "nulls": {"text": [" "]},
        }  # fmt: skip
        document["mappings"] = [self._mapped(mapping) for mapping in document["mappings"]]
        return document

    def _mapped(self, mapping: dict[str, Any]) -> dict[str, Any]:
        found = {
            **mapping,
            "from": self._table(mapping["from"]),
            "key": {name: self._column(one) for name, one in mapping["key"].items()},
            "fields": {name: self._column(one) for name, one in mapping["fields"].items()},
        }
        if "where" in mapping:
            found["where"] = renamed(mapping["where"], self.names, '"')
        return found

    def _table(self, title: str) -> str:
        return f"shop.{self.database.name}.{self.names[title.rpartition('.')[2]]}"

    def _column(self, field: Any) -> Any:
        if isinstance(field, str):
            return self.names[field]
        if "expr" in field:
            return {**field, "expr": renamed(field["expr"], self.names, '"')}
        if "ref" in field:
            return {
                **field,
                "ref": self.names[field["ref"]],
                "from": self._table(field["from"]),
            }
        return {**field, "from": self.names[field["from"]]}


def administrator(target: Database | MysqlDatabase) -> Mapping[str, str]:
    """The superuser's way to a control database."""
    if isinstance(target, Database):
        return parse_conninfo(target.dsn)
    return parse_mysql(MysqlDatabase(server=target.server, name=target.name).dsn)


class Canonical(AnyPipeline):
    """One shop, its control database, and a worker between them."""

    def __init__(
        self, shop: PostgresShop | MysqlShop, target: Database | MysqlDatabase, folder: Path
    ) -> None:
        self.shop = shop
        document = shop.configured(yaml.safe_load(CONFIG.read_text("utf-8")))
        document["target"]["url"] = target.dsn
        folder.mkdir()
        path = folder / "cdc.yaml"
        path.write_text(yaml.safe_dump(document, allow_unicode=True, sort_keys=False), "utf-8")
        super().__init__(load([path], environ={}), "shop")
        source = self.configuration.sources["shop"].conninfo
        provision.apply_all(
            self.configuration,
            {"shop": source, "target": administrator(target)},
        )

    def hashes(self) -> dict[str, str]:
        """Of every entity's content."""
        entities = self.configuration.entities.values()
        return content_hashes(self.configuration.target, entities)

    def checkpoint(self) -> Checkpoint:
        """Where the worker is."""
        with closing(build.make_control(self.configuration)) as control:
            (found,) = control.checkpoints()
            return found
