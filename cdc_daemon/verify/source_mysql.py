"""A MySQL or MariaDB source, as verification reads it: rows by plain SELECT, in one snapshot.

What a mapping makes of them is computed and sorted here (verify/computed, verify/sorting): the
server has no work but a scan, and texts compare by their bytes, whatever its collations say. A
``ref`` is looked up among the rows of the table that it means, read in the same snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from cdc_daemon.config.configuration import Configuration
from cdc_daemon.config.schema import MysqlSourceConfig
from cdc_daemon.mapping.compile import CompiledMapping, tables_of
from cdc_daemon.model.changes import Relation, Row
from cdc_daemon.model.effects import Key
from cdc_daemon.model.ports import Table
from cdc_daemon.sources.mysql.dump import server_id_of
from cdc_daemon.sources.mysql.snapshot import MysqlSnapshot
from cdc_daemon.sources.mysql.source import MysqlSource
from cdc_daemon.verify.computed import Computed
from cdc_daemon.verify.known_keys import KnownKeys
from cdc_daemon.verify.reading import Texts
from cdc_daemon.verify.sorting import Sorter
from cdc_daemon.verify.statement import mapped_attributes

Piece = tuple[list[Texts], int]
"""Some rows, and the bytes of one, about."""


class MysqlSide:
    """``SourceSide`` on MySQL and MariaDB. The snapshot has a connection of its own, for the log's
    end is asked for meanwhile."""

    def __init__(self, configuration: Configuration, name: str, config: MysqlSourceConfig) -> None:
        self._configuration = configuration
        tables = tables_of(configuration.mappings_of(name))
        self._tables = {(table.schema, table.name): table for table in tables}
        self._source = MysqlSource(
            name,
            config.conninfo,
            tables,
            server_id=config.server_id or server_id_of(name, configuration.target.url),
            max_value_bytes=config.max_value_bytes,
            cascades=config.cascades,
        )
        self._moment: _Moment | None = None

    def relations(self) -> list[Relation]:
        """Every mapped table as it is now. Raises ConfigurationError for what is not there."""
        return self._source.relations()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Everything read inside is of one moment."""
        with self._source.view() as rows, ExitStack() as stack:
            self._moment = _Moment(rows, stack)
            try:
                yield
            finally:
                self._moment = None

    def mapped(self, name: str, compiled: Mapping[str, CompiledMapping]) -> _MappedRows:
        """The rows of a mapping."""
        return _MappedRows(self, compiled[name], compiled)

    def first(self, compiled: CompiledMapping, limit: int) -> list[Row]:
        """The first rows of a mapping's table by identity, as the log would say them."""
        return self.moment.rows.first(self.table_of(compiled), limit)

    def mark(self) -> str:
        """The log's end."""
        return self._source.mark()

    def passed(self, position: str, mark: str) -> bool:
        """Whether a position is at or behind that place."""
        return self._source.passed(position, mark)

    def close(self) -> None:
        """Close; never raises."""
        self._source.close()

    # --- for the rows of its mappings -----------------------------------------------------------

    @property
    def moment(self) -> _Moment:
        """The open snapshot."""
        assert self._moment is not None, "nothing is read outside of a snapshot"
        return self._moment

    def table_of(self, compiled: CompiledMapping) -> Table:
        """A mapping's table."""
        return self._tables[compiled.relation.schema, compiled.relation.table]

    def computed(
        self, compiled: CompiledMapping, *, only_key: bool = False, filters: bool = True
    ) -> Computed:
        """What computes a mapping's attributes, or only those of its key."""
        attributes = mapped_attributes(self._configuration, compiled.config)
        wanted = attributes[: len(compiled.key_fields)] if only_key else attributes
        return Computed(compiled, wanted, filters=filters)


@dataclass(slots=True)
class _Moment:
    """An open snapshot. ``keys``: of the mappings that a ``ref`` was looked up in, as far as they
    were read; they go with the snapshot."""

    rows: MysqlSnapshot
    stack: ExitStack
    keys: dict[str, KnownKeys] = field(default_factory=dict)


class _MappedRows:
    """``MappedRows`` of one mapping; ``others``: all mappings of the source."""

    def __init__(
        self, side: MysqlSide, compiled: CompiledMapping, others: Mapping[str, CompiledMapping]
    ) -> None:
        self._side = side
        self._compiled = compiled
        self._others = others
        self._width = len(compiled.key_fields)
        start = len(compiled.relation.identity) + 2
        self._key_of: Callable[[Texts], Any] = itemgetter(*range(start, start + self._width))

    def rows(self, keys: Sequence[Key] | None = None) -> Iterator[Texts]:
        """All rows in key order; only those with these keys where given."""
        wanted = None if keys is None else self._spelt(keys)
        pieces = self._pieces(self._side.computed(self._compiled))
        with closing(Sorter(self._key_of)) as ordered, closing(Sorter(_alike)) as keyless:
            for rows, each in pieces:
                taken = rows if wanted is None else [r for r in rows if self._key_of(r) in wanted]
                lacking = [row for row in taken if self._lacks(self._key_of(row))]
                keyless.add(lacking, each)
                ordered.add(self._without(taken, lacking), each)
            yield from keyless.sorted()
            yield from ordered.sorted()

    def unfiltered(self, keys: Sequence[Key]) -> set[Key]:
        """Those of these keys that a row has when ``where`` is left aside."""
        wanted = self._spelt(keys)
        computed = self._side.computed(self._compiled, only_key=True, filters=False)
        found = {self._key_of(row) for rows, _ in self._pieces(computed) for row in rows}
        return {(key,) if self._width == 1 else key for key in found & wanted}

    def known(self) -> KnownKeys:
        """The mapping's keys by identity, each of one column, as far as it carries the rows."""
        known = self._side.moment.stack.enter_context(closing(KnownKeys()))
        for rows, _ in self._pieces(self._side.computed(self._compiled, only_key=True)):
            known.put(
                [
                    (identity, key)
                    for identity, reason, _, key in rows
                    if reason is None and identity is not None and key is not None
                ]
            )
        return known

    # --- parts ----------------------------------------------------------------------------------

    def _pieces(self, computed: Computed) -> Iterator[Piece]:
        """The rows without order. What refs mean is read before: one query runs at a time."""
        known = {name: self._known(name) for name in computed.refs}

        def look_up(name: str, identities: Collection[bytes]) -> Mapping[bytes, bytes]:
            return known[name].get(identities)

        for batch in self._side.moment.rows.read([self._side.table_of(self._compiled)]):
            for run in batch.runs:
                yield computed.rows(run, look_up), batch.size // max(len(run), 1)

    def _known(self, name: str) -> KnownKeys:
        keys = self._side.moment.keys
        if name not in keys:
            keys[name] = self._side.mapped(name, self._others).known()
        return keys[name]

    def _spelt(self, keys: Sequence[Key]) -> set[Any]:
        """Keys as ``_key_of`` gives them."""
        return {key[0] for key in keys} if self._width == 1 else set(keys)

    def _without(self, rows: list[Texts], lacking: Sequence[Texts]) -> list[Texts]:
        """The rows that have a whole key."""
        return [row for row in rows if not self._lacks(self._key_of(row))] if lacking else rows

    def _lacks(self, key: Any) -> bool:
        return key is None if self._width == 1 else None in key


def _alike(_: Texts) -> int:
    return 0
