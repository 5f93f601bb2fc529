"""A source as verification reads it, whichever kind it is.

A mapping's rows come computed, as ``identity columns, reason, dangling, attributes``, the key's
attributes first, ordered by the bytes of the key's texts; a row that lacks a part of its key may
come anywhere. ``reason`` says why the mapping cannot carry a row (``attribute: code``),
``dangling`` names, with commas, the attributes whose ``ref`` leads nowhere now. Keys are printed as
a target prints them (verify/target).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from cdc_daemon.config.configuration import Configuration
from cdc_daemon.config.schema import MysqlSourceConfig, PostgresSourceConfig
from cdc_daemon.mapping.compile import CompiledMapping, compile_mapping
from cdc_daemon.model.changes import Relation, Row
from cdc_daemon.model.effects import Key
from cdc_daemon.verify.reading import Texts
from cdc_daemon.verify.source_postgres import PostgresSide


class MappedRows(Protocol):
    """The rows of one mapping, in the open snapshot. Errors are ours."""

    def rows(self, keys: Sequence[Key] | None = None) -> Iterator[Texts]:
        """All rows in key order; only those with these keys where given."""

    def unfiltered(self, keys: Sequence[Key]) -> set[Key]:
        """Those of these keys that a row has when ``where`` is left aside."""


class SourceSide(Protocol):
    """An open source; reads only, but for an empty message in its log where that is usual."""

    def relations(self) -> list[Relation]:
        """Every mapped table as it is now. Raises ConfigurationError for what is not there."""

    def snapshot(self) -> AbstractContextManager[None]:
        """Everything read inside is of one moment."""

    def mapped(self, name: str, compiled: Mapping[str, CompiledMapping]) -> MappedRows:
        """The rows of the mapping of that name; ``compiled``: all mappings of the source."""

    def first(self, compiled: CompiledMapping, limit: int) -> list[Row]:
        """The first rows of a mapping's table by identity, as the log would say them."""

    def mark(self) -> str:
        """A place in the log behind everything that can be read now; the log reaches it soon."""

    def passed(self, position: str, mark: str) -> bool:
        """Whether a position is at or behind that place. Raises Stop for what is no position."""

    def close(self) -> None:
        """Close; never raises."""


def open_source(configuration: Configuration, name: str) -> SourceSide:
    """The source of that name; it is connected to when it is asked."""
    match configuration.sources[name]:
        case PostgresSourceConfig() as config:
            return PostgresSide(configuration, name, config)
        case MysqlSourceConfig() as config:
            from cdc_daemon.verify.source_mysql import MysqlSide

            return MysqlSide(configuration, name, config)


def compiled_by(
    configuration: Configuration, name: str, source: SourceSide
) -> dict[str, CompiledMapping]:
    """Every mapping of a source against its tables as they are now, by name."""
    relations = {(relation.schema, relation.table): relation for relation in source.relations()}
    return {
        mapping.name: compile_mapping(
            mapping, configuration, relations[mapping.schema_, mapping.table], relations
        )
        for mapping in configuration.mappings_of(name)
    }
