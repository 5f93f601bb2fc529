"""``verify``: every mapped row of the sources against the control database."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

from cdc_daemon.config.configuration import Configuration
from cdc_daemon.config.schema import MappingConfig, PostgresSourceConfig
from cdc_daemon.mapping.compile import CompiledMapping, compile_mapping, tables_of
from cdc_daemon.model.changes import Relation
from cdc_daemon.model.errors import ConfigurationError, suggest
from cdc_daemon.sources.postgres.connection import Server
from cdc_daemon.sources.postgres.source import PostgresSource
from cdc_daemon.verify.attribute import Dialect
from cdc_daemon.verify.circumstances import keeps_all
from cdc_daemon.verify.comparison import Comparison
from cdc_daemon.verify.pipeline import PipelineVerification, Work
from cdc_daemon.verify.reading import SourceReader, encoding_of
from cdc_daemon.verify.report import MappingReport, Report
from cdc_daemon.verify.statement import mapped_attributes, source_statement
from cdc_daemon.verify.target import open_target


def verify(
    configuration: Configuration,
    *,
    mappings: Sequence[str] | None = None,
    timeout: float = 60,
    examples: int = 10,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Compare sources and control database, mapping by mapping (None: all of them).

    ``timeout``: seconds to wait, at each reading, for a pipeline to apply what its source has
    written; ``examples``: keys per mapping to be kept. Reads only, except for an empty message in
    each source's log. Raises Unreachable, or ConfigurationError for unknown mappings, tables that
    are not as configured, wrong passwords, missing rights, a missing ledger.
    """
    started = time.monotonic()
    chosen = _chosen(configuration, mappings)
    found: dict[str, MappingReport] = {}
    behind: list[str] = []
    for pipeline in dict.fromkeys(mapping.source for mapping in chosen):
        its_own = [mapping for mapping in chosen if mapping.source == pipeline]
        with _opened(configuration, pipeline, timeout, examples, progress) as verification:
            compiled = compile_source(configuration, pipeline)
            works = [_work(verification, mapping, compiled) for mapping in its_own]
            reports = verification.run(works, compiled)
        found |= {report.mapping: report for report in reports}
        behind += [pipeline] if verification.behind else []
    return Report(
        mappings=tuple(found[mapping.name] for mapping in chosen),
        behind=tuple(behind),
        seconds=time.monotonic() - started,
    )


def _chosen(configuration: Configuration, names: Sequence[str] | None) -> Sequence[MappingConfig]:
    if names is None:
        return configuration.mappings
    known = [mapping.name for mapping in configuration.mappings]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigurationError(
            "\n".join(f"there is no mapping {name!r}{suggest(name, known)}" for name in unknown)
        )
    return [mapping for mapping in configuration.mappings if mapping.name in names]


def compile_source(configuration: Configuration, source: str) -> dict[str, CompiledMapping]:
    """Every mapping of a source against its tables as they are now, by name."""
    mappings = configuration.mappings_of(source)
    config = postgres_source(configuration, source)
    tables = tables_of(mappings)
    with closing(
        PostgresSource(source, config.conninfo, config.slot, config.publication, tables)
    ) as opened:
        relations = {(relation.schema, relation.table): relation for relation in opened.relations()}
    return {
        mapping.name: compile_mapping(
            mapping,
            configuration,
            relations[mapping.schema_, mapping.table],
            relations,
        )
        for mapping in mappings
    }


def postgres_source(configuration: Configuration, source: str) -> PostgresSourceConfig:
    """A source of the only kind that can be verified. Raises ConfigurationError for another."""
    config = configuration.sources[source]
    if isinstance(config, PostgresSourceConfig):
        return config
    what = f"source {source}: rows of a {config.kind} source cannot be compared yet"
    raise ConfigurationError(what)


@contextmanager
def _opened(
    configuration: Configuration,
    pipeline: str,
    timeout: float,
    examples: int,
    progress: Callable[[str], None] | None,
) -> Iterator[PipelineVerification]:
    server = Server(pipeline, configuration.sources[pipeline].conninfo)
    with ExitStack() as stack:
        target = stack.enter_context(closing(open_target(configuration.target)))
        target.check()
        yield PipelineVerification(
            configuration,
            pipeline,
            source=stack.enter_context(closing(server.connect())),
            side=stack.enter_context(closing(server.connect())),
            target=target,
            server=server,
            timeout=timeout,
            examples=examples,
            progress=progress or _silent,
        )


@dataclass(frozen=True, slots=True)
class _Relations:
    """The table of each mapping, as compiled."""

    compiled: Mapping[str, CompiledMapping]

    def __call__(self, mapping: MappingConfig) -> Relation:
        return self.compiled[mapping.name].relation


def dialect_of(
    configuration: Configuration, compiled: Mapping[str, CompiledMapping], version: int
) -> Dialect:
    """What compiling to SQL needs to know."""
    return Dialect(configuration=configuration, relation_of=_Relations(compiled), version=version)


def _work(
    verification: PipelineVerification,
    mapping: MappingConfig,
    compiled: Mapping[str, CompiledMapping],
) -> Work:
    configuration, source = verification.configuration, verification.source
    dialect = dialect_of(configuration, compiled, source.info.server_version)
    attributes = mapped_attributes(configuration, mapping)
    statement = source_statement(dialect, mapping)
    keys = len(mapping.key)
    return Work(
        compiled=compiled[mapping.name],
        reader=SourceReader(
            connection=source,
            statement=statement,
            key_statement=source_statement(dialect, mapping, only_key=True),
            encoding=encoding_of(source),
        ),
        entity=configuration.entities[mapping.to],
        comparison=Comparison(
            attributes, keys, statement.identities, keep_extra=keeps_all(mapping)
        ),
    )


def _silent(_: str) -> None:
    pass
