"""The control database on SQLite, as verification reads it.

Its texts are of one form for each value, the one that PostgreSQL prints, so nothing is converted
here but whole numbers. One deferred transaction is one snapshot; the daemon goes on writing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from cdc_daemon.model.effects import Key, Layout
from cdc_daemon.model.entities import Attribute, Entity
from cdc_daemon.model.errors import DataError
from cdc_daemon.sinks.columns import DELETED_AT, key_attributes, reference_columns
from cdc_daemon.sinks.forms import key_texts
from cdc_daemon.sinks.sqlite.checkpoint import check_version
from cdc_daemon.sinks.sqlite.database import Connection, connect, missing, translated
from cdc_daemon.sinks.sqlite.holder import sign_of
from cdc_daemon.sinks.sqlite.names import ledger, listed, parts, printed, quote
from cdc_daemon.verify.reading import Texts


class SqliteReader:
    """``TargetReader`` on SQLite. A file that is not there counts as an empty database."""

    def __init__(self, path: str) -> None:
        self._path = path
        if missing(path):
            self._connection: Connection = sqlite3.connect(":memory:", isolation_level=None)
        else:
            self._connection = connect(path, read_only=True)

    def check(self) -> None:
        """Refuse a ledger that is missing or of another version. Raises ConfigurationError."""
        with translated():
            check_version(self._connection)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Everything read inside is of one moment."""
        with translated():
            self._connection.execute("BEGIN")
            self._connection.execute("SELECT count(*) FROM cdc_meta")  # it is taken with a read
            try:
                yield
            finally:
                self._connection.execute("ROLLBACK")

    def lanes(self, pipeline: str) -> set[bytes]:
        """Digests of the pipeline's blocked lanes."""
        sql = "SELECT DISTINCT digest FROM cdc_failure_lane WHERE pipeline = ?"
        with translated():
            return {bytes(row[0]) for row in self._connection.execute(sql, (pipeline,))}

    def progress(self, pipeline: str) -> tuple[str | None, bool, bool]:
        """The checkpoint's position, whether it streams, and whether a worker holds it now."""
        sql = "SELECT position, phase = 'streaming' FROM cdc_checkpoint WHERE pipeline = ?"
        with translated():
            row = self._connection.execute(sql, (pipeline,)).fetchone()
        sign = sign_of(self._path)
        alive = sign is not None and sign.alive and sign.pipeline == pipeline
        return (row[0], bool(row[1]), alive) if row else (None, False, False)

    def rows(
        self, entity: Entity, attributes: Sequence[Attribute], keys: Sequence[Key] | None = None
    ) -> Iterator[Texts]:
        """Living rows in key order, the key's attributes first; only of these keys where given."""
        texts = [
            f"{printed(attribute.type, f't.{quote(attribute.name)}')} AS a{n}"
            for n, attribute in enumerate(attributes)
        ]
        conditions = [f"t.{quote(DELETED_AT)} IS NULL"] if entity.soft_delete else []
        source, params = f"{quote(entity.name)} AS t", []
        if keys is not None:
            source = f"json_each(?1) AS k CROSS JOIN {source}"
            params.append(_keys(entity, keys))
            conditions += [
                f"t.{quote(name)} = {part}"
                for name, part in zip(entity.key, parts(len(entity.key)), strict=True)
            ]
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        order = ", ".join(f"a{n}" for n in range(len(entity.key)))
        sql = f"SELECT {', '.join(texts)} FROM {source}{where} ORDER BY {order}"
        with translated():
            for row in self._connection.execute(sql, params):
                yield _encoded(row)

    def identities(self, layout: Layout, keys: Sequence[Key]) -> Iterator[tuple[Key, Texts]]:
        """Entity key and source key of those keys that the mapping's reference table names."""
        assert layout.reference is not None
        sources, targets = reference_columns(layout)
        width = len(targets)
        texts = [
            printed(attribute.type, f"r.{quote(name)}")
            for attribute, name in zip(key_attributes(layout.entity), targets, strict=True)
        ]
        texts += [f"CAST(r.{quote(name)} AS TEXT)" for name in sources]
        meant = listed(targets) if width == 1 else f"({listed(targets)})"
        sql = (
            f"SELECT {', '.join(texts)} FROM {ledger(layout.reference.name)} AS r"
            f" WHERE {meant} IN (SELECT {', '.join(parts(width))} FROM json_each(?1) k)"
        )
        with translated():
            for row in self._connection.execute(sql, (_keys(layout.entity, keys),)):
                found = _encoded(row)
                yield found[:width], found[width:]  # type: ignore[misc]

    def tombstones(self, entity: Entity, keys: Sequence[bytes]) -> list[bytes]:
        """Those of these keys (of one part) whose rows are deleted softly."""
        (attribute,) = key_attributes(entity)
        column = f"t.{quote(attribute.name)}"
        sql = (
            f"SELECT {printed(attribute.type, column)} FROM {quote(entity.name)} AS t"
            f" WHERE t.{quote(DELETED_AT)} IS NOT NULL"
            f" AND {column} IN (SELECT k.value FROM json_each(?1) k)"
        )
        params = (_keys(entity, [(key,) for key in keys]),)
        with translated():
            return [str(row[0]).encode() for row in self._connection.execute(sql, params)]

    def meant(self, layout: Layout, value: bytes) -> bytes | None:
        """The entity key that a source id of one part stands for; None: not known (yet)."""
        assert layout.reference is not None
        sources, targets = reference_columns(layout)
        (type_,) = [attribute.type for attribute in key_attributes(layout.entity)]
        sql = (
            f"SELECT {printed(type_, f'r.{quote(targets[0])}')}"
            f" FROM {ledger(layout.reference.name)} AS r WHERE r.{quote(sources[0])} = ?"
        )
        found = self._one(sql, (value.decode(),))
        return found[0] if found else None

    def row(
        self, entity: Entity, key: Sequence[bytes | None], names: Sequence[str]
    ) -> Texts | None:
        """These columns of the row with that key, as text; None where there is none."""
        types = {attribute.name: attribute.type for attribute in entity.attributes}
        texts = [
            printed(types[name], f"t.{quote(name)}") if name in types else f"t.{quote(name)}"
            for name in names
        ]
        on = " AND ".join(
            f"t.{quote(name)} = {part}"
            for name, part in zip(entity.key, parts(len(entity.key)), strict=True)
        )
        sql = (
            f"SELECT {', '.join(texts)} FROM json_each(?1) k CROSS JOIN {quote(entity.name)} t"
            f" WHERE {on}"
        )
        try:
            wanted = _keys(entity, [tuple([part or b"" for part in key])])
        except DataError:
            return None  # what is no such key has no row
        return self._one(sql, (wanted,))

    def close(self) -> None:
        """Close; never raises."""
        with suppress(Exception):
            self._connection.close()

    def _one(self, sql: str, params: Sequence[str]) -> Texts | None:
        with translated():
            try:
                row = self._connection.execute(sql, params).fetchone()
            except sqlite3.OperationalError as exc:
                if not str(exc).startswith("no such table"):
                    raise
                return None  # nothing was applied yet
        return None if row is None else _encoded(row)


def _keys(entity: Entity, keys: Sequence[Key]) -> str:
    return key_texts(keys, [attribute.type for attribute in key_attributes(entity)])


def _encoded(row: Sequence[str | None]) -> Texts:
    return tuple([None if value is None else value.encode() for value in row])
