"""The control database on MySQL or MariaDB, as verification reads it.

One REPEATABLE READ transaction is one snapshot. Columns are printed as PostgreSQL prints them by
the sink's own functions; the server orders by what orders alike. Rows are streamed, so one query
runs at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pymysql

from cdc_daemon.model.effects import Key, Layout
from cdc_daemon.model.entities import Attribute, Entity, Kind
from cdc_daemon.model.errors import DataError
from cdc_daemon.model.position import Phase
from cdc_daemon.sinks.columns import DELETED_AT, key_attributes, reference_columns
from cdc_daemon.sinks.mysql import failures
from cdc_daemon.sinks.mysql.checkpoint import check_version, checkpoints, held_pipelines
from cdc_daemon.sinks.mysql.errors import number_of
from cdc_daemon.sinks.mysql.names import ledger, listed, quote
from cdc_daemon.sinks.mysql.session import connect, translated
from cdc_daemon.sinks.mysql.shape import Shape, filled
from cdc_daemon.sinks.mysql.values import shown, shown_row
from cdc_daemon.verify.reading import Texts

APPLICATION = "cdc_daemon:verify"
_SETTINGS = {"net_write_timeout": "3600"}  # who compares may wait for the other side
_SNAPSHOT = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
)
_NO_TABLE = 1146
_NUMBERS = (Kind.INTEGER, Kind.BIGINT, Kind.DECIMAL)


class MysqlReader:
    """``TargetReader`` on MySQL. ``conninfo``: keywords of the driver; never logged."""

    def __init__(self, conninfo: Mapping[str, str]) -> None:
        self._session = connect(conninfo, APPLICATION, _SETTINGS)

    def check(self) -> None:
        """Refuse a ledger that is missing or of another version. Raises ConfigurationError."""
        with translated():
            check_version(self._session)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Everything read inside is of one moment."""
        with translated():
            self._session.script(_SNAPSHOT)
            try:
                yield
            finally:
                if self._session.alive:
                    self._session.run("ROLLBACK")

    def lanes(self, pipeline: str) -> set[bytes]:
        """Digests of the pipeline's blocked lanes."""
        with translated():
            return set(failures.lanes(self._session, pipeline))

    def progress(self, pipeline: str) -> tuple[str | None, bool, bool]:
        """The checkpoint's position, whether it streams, and whether a worker holds it now."""
        with translated():
            for one in checkpoints(self._session):
                if one.pipeline == pipeline:
                    alive = pipeline in held_pipelines(self._session)
                    return one.position, one.phase is Phase.STREAMING, alive
        return None, False, False

    def rows(
        self, entity: Entity, attributes: Sequence[Attribute], keys: Sequence[Key] | None = None
    ) -> Iterator[Texts]:
        """Living rows in key order, the key's attributes first; only of these keys where given."""
        source, where = f"{quote(entity.name)} t", ""
        if keys is not None:
            shape = self._keys_of(entity)
            source = filled(shape.keyed(), shape.key_json(keys))
        if entity.soft_delete:
            where = f" WHERE t.{quote(DELETED_AT)} IS NULL"
        names = listed([attribute.name for attribute in attributes], "t")
        order = ", ".join(map(_ordered, key_attributes(entity)))
        types = [attribute.type for attribute in attributes]
        width = len(entity.key)
        with translated():
            found = self._session.stream(f"SELECT {names} FROM {source}{where} ORDER BY {order}")
            rows: Iterator[Texts] = (shown_row(row, types) for row in found)
            if any(one.type.kind is Kind.DOUBLE for one in key_attributes(entity)):
                rows = iter(sorted(rows, key=lambda row: row[:width]))  # printed in another way
            yield from rows

    def identities(self, layout: Layout, keys: Sequence[Key]) -> Iterator[tuple[Key, Texts]]:
        """Entity key and source key of those keys that the mapping's reference table names."""
        assert layout.reference is not None
        sources, targets = reference_columns(layout)
        shape = self._keys_of(layout.entity)
        named = " AND ".join(
            f"r.{quote(target)} = t.{quote(key)}"
            for target, key in zip(targets, layout.entity.key, strict=True)
        )
        sql = (
            f"SELECT {listed(targets + sources, 'r')} FROM {shape.keys_only()} t"
            f" JOIN {ledger(layout.reference.name)} r ON {named}"
        )
        width = len(targets)
        with translated():
            for row in self._session.run(filled(sql, shape.key_json(keys))).rows:
                yield shape.shown_key(row[:width]), row[width:]

    def tombstones(self, entity: Entity, keys: Sequence[bytes]) -> list[bytes]:
        """Those of these keys (of one part) whose rows are deleted softly."""
        shape = self._keys_of(entity)
        sql = (
            f"SELECT t.{quote(entity.key[0])} FROM {shape.keyed()}"
            f" WHERE t.{quote(DELETED_AT)} IS NOT NULL"
        )
        asked = filled(sql, shape.key_json([(key,) for key in keys]))
        with translated():
            return [shape.shown_key(row)[0] for row in self._session.run(asked).rows]

    def meant(self, layout: Layout, value: bytes) -> bytes | None:
        """The entity key that a source id of one part stands for; None: not known (yet)."""
        shape = Shape(layout, self._session.collation)
        found = self._one(filled(shape.resolve, shape.source_json([(value,)])))
        return shape.shown_key(found[1:])[0] if found else None

    def row(
        self, entity: Entity, key: Sequence[bytes | None], names: Sequence[str]
    ) -> Texts | None:
        """These columns of the row with that key, as text; None where there is none."""
        shape = self._keys_of(entity)
        try:
            text = shape.key_json([tuple([part or b"" for part in key])])
        except DataError:
            return None  # what is no such key has no row
        found = self._one(filled(f"SELECT {listed(names, 't')} FROM {shape.keyed()}", text))
        if found is None:
            return None
        shows = {a.name: shown(a.type) for a in entity.attributes}
        pairs = zip(found, (shows.get(name) for name in names), strict=True)
        return tuple([v if v is None or show is None else show(v) for v, show in pairs])

    def close(self) -> None:
        """Close; never raises."""
        self._session.close()

    def _keys_of(self, entity: Entity) -> Shape:
        """The shape of an entity's keys."""
        width = len(entity.key)
        layout = Layout(mapping="", entity=entity, columns=entity.key, key=tuple(range(width)))
        return Shape(layout, self._session.collation)

    def _one(self, sql: str) -> Texts | None:
        with translated():
            try:
                rows = self._session.run(sql).rows
            except pymysql.Error as exc:
                if number_of(exc) != _NO_TABLE:
                    raise
                return None  # nothing was applied yet
        return rows[0] if rows else None


def _ordered(attribute: Attribute) -> str:
    """What orders as the bytes of the printed value do: texts and moments themselves."""
    column = f"t.{quote(attribute.name)}"
    return f"CAST({column} AS CHAR)" if attribute.type.kind in _NUMBERS else column
