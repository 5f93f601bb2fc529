"""The contract suite's control database on MySQL and MariaDB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pymysql.constants import CLIENT

from cdc_daemon.demo.mysql_family import FamilyServer
from cdc_daemon.model.effects import Key, Layout
from cdc_daemon.model.entities import Entity, EntityType
from cdc_daemon.sinks.columns import key_attributes, reference_columns
from cdc_daemon.sinks.mysql import MysqlControl, MysqlSink, apply_plan
from cdc_daemon.sinks.mysql.ledger import TABLES
from cdc_daemon.sinks.mysql.names import ledger, listed, quote
from cdc_daemon.sinks.mysql.values import columns_of, literal, shown_row
from tests.contract.targets import Alteration, Found

_MULTI = CLIENT.MULTI_STATEMENTS


class MysqlTarget:
    """``Target`` on MySQL or MariaDB."""

    def __init__(
        self,
        server: FamilyServer,
        database: str,
        entities: Mapping[str, Entity],
        layouts: Sequence[Layout],
    ) -> None:
        self.server = server
        self.database = database
        self._entities = dict(entities)
        self._layouts = tuple(layouts)
        self._made: list[MysqlSink | MysqlControl] = []
        self.conninfo = conninfo_of(server, database)
        self._kept = server.connect(  # to connect takes longer than most tests
            database, use_unicode=False, conv={}, autocommit=None, client_flag=_MULTI
        )
        self._kept.query("SET autocommit = 1, sql_mode = 'STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES'")
        apply_plan(self.conninfo, self._entities, self._layouts)

    def sink(self, pipeline: str = "erp", *, instance: str = "here") -> MysqlSink:
        sink = MysqlSink(self.conninfo, pipeline, self._entities, self._layouts, instance=instance)
        self._made.append(sink)
        return sink

    def control(self) -> MysqlControl:
        control = MysqlControl(self.conninfo)
        self._made.append(control)
        return control

    def living(self, layout: Layout) -> dict[Key, Found]:
        where = "WHERE deleted_at IS NULL" if layout.entity.soft_delete else ""
        return {layout.key_of(row): row for row, _ in self._texts(layout, where)}

    def tombstones(self, layout: Layout) -> dict[Key, tuple[Found, int]]:
        if not layout.entity.soft_delete:
            return {}
        rows = self._texts(
            layout,
            "WHERE deleted_at IS NOT NULL",
            "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', deleted_at)",
        )
        return {layout.key_of(row): (row, int(more[0] or 0)) for row, more in rows}

    def references(self, layout: Layout) -> dict[Key, Key]:
        assert layout.reference is not None
        sources, targets = reference_columns(layout)
        names = listed(sources + targets)
        rows = self.query(f"SELECT {names} FROM {ledger(layout.reference.name)}")
        types = [one.type for one in key_attributes(layout.entity)]
        width = len(sources)
        return {row[:width]: shown_row(row[width:], types) for row in rows}  # type: ignore[misc]

    def age(self, layout: Layout, key: Key) -> None:
        where = " AND ".join(f"{quote(name)} = %s" for name in layout.entity.key)
        values = [column[0] for column in columns_of([key], key_attributes(layout.entity))]
        self.execute(
            f"UPDATE {quote(layout.entity.name)} SET last_sync_time = '2000-01-01' WHERE {where}",
            *values,
        )

    @property
    def embedded(self) -> bool:
        return False

    @property
    def earliest(self) -> bytes:
        return b"0001-01-01 00:00:00"

    def knows(self, change: Alteration) -> bool:
        return change.mysql is not None

    def alter(self, layout: Layout, change: Alteration, *, back: bool = False) -> None:
        assert change.mysql is not None
        self.execute(f"ALTER TABLE {quote(layout.entity.name)} {change.mysql[back]}")

    def forget_holder_for(self, pipeline: str, seconds: int) -> None:
        self.execute(
            "UPDATE cdc_checkpoint SET seen_at = UTC_TIMESTAMP(6) - INTERVAL %s SECOND"
            " WHERE pipeline = %s",
            seconds,
            pipeline,
        )

    def take_over(self, pipeline: str) -> MysqlSink:
        self.execute(
            "UPDATE cdc_checkpoint SET backend_pid = NULL WHERE pipeline = %s",
            pipeline,
        )
        sink = self.sink(pipeline, instance="there")
        sink.acquire()
        return sink

    def count(self, table: str) -> int:
        ((number,),) = self.query(f"SELECT count(*) FROM {ledger(table)}")
        return int(number or 0)

    def clear(self, *, ledger: bool = False) -> None:
        tables = [quote(name) for name in self._entities]
        tables += [_ledger(one.reference.name) for one in self._layouts if one.reference]
        if ledger:
            tables += [_ledger(name) for name in TABLES if name != "meta"]
        deletes = "; ".join(f"DELETE FROM {table}" for table in tables)
        self.execute(f"START TRANSACTION; {deletes}; COMMIT")

    def close(self) -> None:
        while self._made:
            self._made.pop().close()

    def execute(self, statements: str, *params: object) -> None:
        """Statements, as an administrator's shell runs them."""
        made = statements % tuple(map(literal, params)) if params else statements
        self._kept.query(made)
        while self._kept._result.has_next:  # type: ignore[attr-defined]
            self._kept.next_result()

    def query(self, statement: str) -> list[tuple[bytes | None, ...]]:
        """The rows of a query, each value as the server prints it."""
        self._kept.query(statement)
        return list(self._kept._result.rows)  # type: ignore[attr-defined]

    def _texts(
        self, layout: Layout, where: str, *more: str
    ) -> list[tuple[Found, tuple[bytes | None, ...]]]:
        types: list[EntityType] = [one.type for one in layout.attributes]
        names = ", ".join([listed(layout.columns), *more])
        rows = self.query(f"SELECT {names} FROM {quote(layout.entity.name)} {where}")
        width = len(types)
        return [(shown_row(row[:width], types), row[width:]) for row in rows]


def conninfo_of(server: FamilyServer, database: str, **changed: str) -> dict[str, str]:
    """Keywords of the sink for a server's superuser."""
    address = {name: str(value) for name, value in server.address.items()}
    return {**address, "dbname": database, "sslmode": "disable", **changed}


def _ledger(name: str) -> str:
    return ledger(name)
