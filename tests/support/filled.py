"""A source and a control database filled by hand, through ``Field.of`` row by row: no daemon."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

import psycopg

from cdc_daemon.config.configuration import Configuration
from cdc_daemon.config.load import load
from cdc_daemon.engine.lanes import source_lane
from cdc_daemon.mapping.compile import CompiledMapping
from cdc_daemon.model.changes import Operation, Row
from cdc_daemon.model.effects import Key, Parked
from cdc_daemon.model.entities import reference_order
from cdc_daemon.model.errors import DataError
from cdc_daemon.sinks.postgres import apply_plan, parking
from cdc_daemon.sinks.postgres.names import LEDGER, listed, qualified, reference_columns
from cdc_daemon.sinks.postgres.session import Connection
from cdc_daemon.sinks.postgres.wire import Statement, Wire, failure
from cdc_daemon.verify import Report, verify
from cdc_daemon.verify.verification import compile_source
from tests.support.databases import Database

EVERYTHING = "FFFFFFFF/FFFFFFFF"


@dataclass(slots=True)
class Filled:
    """Both databases and the configuration between them."""

    source: Database
    control: Database
    configuration: Configuration
    references: dict[str, dict[Key, Key]] = field(default_factory=dict)

    def fill(self, *, parking: bool = True) -> list[DataError]:
        """Map every source row into the control database; what cannot be mapped is parked."""
        with psycopg.connect(self.control.dsn) as connection:
            return self._fill(connection, parking=parking)

    def _fill(self, connection: Connection, *, parking: bool) -> list[DataError]:
        compiled = compile_source(self.configuration, "erp")
        order = [name for group in reference_order(self.configuration.entities) for name in group]
        errors: list[DataError] = []
        for one in sorted(compiled.values(), key=lambda one: order.index(one.config.to)):
            self.references[one.config.name] = {}
            for row in self._source_rows(one):
                error = self._carry(connection, one, row)
                if error is not None:
                    errors.append(error)
                    if parking:
                        self._park(connection, one, row, error)
        return errors

    def park(self, compiled: CompiledMapping, row: Row, error: DataError) -> None:
        """Put one source row into the failure queue."""
        with psycopg.connect(self.control.dsn) as connection:
            self._park(connection, compiled, row, error)

    def _park(
        self, connection: Connection, compiled: CompiledMapping, row: Row, why: DataError
    ) -> None:
        parked = Parked(
            pipeline="erp",
            mapping=compiled.config.name,
            entity=compiled.config.to,
            lanes=(source_lane(compiled.config.name, compiled.source_key(row)),),
            position="0/1",
            sequence=0,
            commit_time=0,
            operation=Operation.INSERT,
            table=compiled.relation.name,
            payload={},
            error_code=why.code,
            error_message=why.message,
            mapping_version="",
        )
        unnamed = [(Statement(b"", one.sql), params) for one, params in parking.calls([parked])]
        error = failure(Wire(connection).pipeline(unnamed))
        assert error is None, error

    def reach(self, position: str = EVERYTHING) -> None:
        """Say that the pipeline has applied everything up to a position."""
        self.control.execute(
            "INSERT INTO cdc.checkpoint (pipeline, phase, position) VALUES ('erp', 'streaming', %s)"
            " ON CONFLICT (pipeline) DO UPDATE SET position = EXCLUDED.position",
            position,
        )

    def verify(self, *, timeout: float = 10, mappings: Sequence[str] | None = None) -> Report:
        """Verify; the pipeline must have reached what is waited for."""
        return verify(self.configuration, timeout=timeout, mappings=mappings)

    def _source_rows(self, compiled: CompiledMapping) -> list[Row]:
        relation = compiled.relation
        columns = ", ".join(
            f"CASE WHEN {name} IS NOT NULL THEN concat({name}) END"
            for name in (listed([column.name]) for column in relation.columns)
        )
        sql = f"SELECT {columns} FROM {qualified(relation.schema, relation.table)}"
        with psycopg.connect(self.source.dsn, options="-c TimeZone=UTC -c DateStyle=ISO") as found:
            rows = found.execute(sql.encode()).fetchall()
        return [tuple(None if v is None else v.encode() for v in row) for row in rows]

    def _carry(
        self, connection: Connection, compiled: CompiledMapping, row: Row
    ) -> DataError | None:
        layout = compiled.layout
        try:
            if not compiled.passes(row):
                return None
            values = [v if isinstance(v, bytes) else None for v in compiled.row(row)]
            for position, mapping in layout.refs:
                value = values[position]
                if value is not None:
                    found = self.references[mapping].get((value,))
                    if found is None:
                        raise DataError("leads nowhere", code="reference_unresolved")
                    values[position] = found[0]
            _insert(connection, qualified("public", layout.entity.name), layout.columns, values)
        except DataError as error:
            return error
        key = tuple(values[i] or b"" for i in layout.key)
        self.references[layout.mapping][compiled.source_key(row)] = key
        if layout.reference is not None:
            sources, targets = reference_columns(layout)
            table = qualified(LEDGER, layout.reference.name)
            _insert(connection, table, sources + targets, [*compiled.source_key(row), *key])
        return None


def _insert(
    connection: Connection, table: str, columns: Sequence[str], values: Sequence[bytes | None]
) -> None:
    places = ", ".join(["%s"] * len(values))
    texts = [None if value is None else value.decode() for value in values]
    sql = f"INSERT INTO {table} ({listed(columns)}) VALUES ({places})"
    if not connection.execute(f"{sql} ON CONFLICT DO NOTHING".encode(), texts).rowcount:
        raise DataError("another row has this key", code="duplicate_entity_key")


def filled(
    source: Database, control: Database, folder: Path, ddl: str, sections: str, nulls: str = "{}"
) -> Filled:
    """Create the source's tables, load a configuration over both databases, create the target's.

    ``sections``: ``entities`` and ``mappings``; the source is called ``erp``.
    """
    source.execute(dedent(ddl))
    connections = f"""\
        sources:
          erp: {{kind: postgres, dsn: "{source.dsn}", nulls: {nulls}}}
        target: {{url: "{control.dsn}"}}
        """
    file = folder / "cdc.yaml"
    file.write_text(dedent(connections) + dedent(sections))
    configuration = load([file], environ={})
    compiled = compile_source(configuration, "erp")
    layouts = [one.layout for one in compiled.values()]
    apply_plan(configuration.target.conninfo, configuration.entities, layouts)
    made = Filled(source, control, configuration)
    made.reach()
    return made
