"""Composition root: a configuration becomes pipelines. Alone names adapters.

Not in here: retrying and signals (worker), processes (daemon).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

from cdc_daemon.config.configuration import Configuration
from cdc_daemon.config.schema import MappingConfig, MysqlSourceConfig, PostgresSourceConfig
from cdc_daemon.engine.applying import Applier
from cdc_daemon.engine.attempting import Attempting, MakeApplier
from cdc_daemon.engine.awaiting import Awaited
from cdc_daemon.engine.blocked import Lanes
from cdc_daemon.engine.breaker import Breaker, BreakerLimits
from cdc_daemon.engine.cascading import Cascading
from cdc_daemon.engine.editing import Editing
from cdc_daemon.engine.mending import Mending, Reading
from cdc_daemon.engine.meter import Meter
from cdc_daemon.engine.payload import Parking
from cdc_daemon.engine.privacy import Privacy
from cdc_daemon.engine.purging import Purging
from cdc_daemon.engine.reading import Limits
from cdc_daemon.engine.releasing import Releasing
from cdc_daemon.engine.repair import Repairs, Standing
from cdc_daemon.engine.replay import Replay
from cdc_daemon.engine.resolve import Resolver
from cdc_daemon.engine.resyncing import Resyncing
from cdc_daemon.engine.rotating import Rotating
from cdc_daemon.engine.schedule import Backoff, Schedule
from cdc_daemon.engine.snapshot import Copying
from cdc_daemon.mapping.compile import (
    CompiledMapping,
    compile_mapping,
    mapping_shape,
    sensitive_columns,
    tables_of,
)
from cdc_daemon.mapping.mapper import Mapper
from cdc_daemon.model.cascades import Cascades
from cdc_daemon.model.changes import Relation
from cdc_daemon.model.effects import Layout
from cdc_daemon.model.entities import reference_order
from cdc_daemon.model.errors import ConfigurationError, Problem
from cdc_daemon.model.ports import Control, CopiedMapping, Sink, Source, Table
from cdc_daemon.sinks.postgres.control import PostgresControl
from cdc_daemon.sinks.postgres.sink import PostgresSink
from cdc_daemon.sinks.sqlite.control import SqliteControl
from cdc_daemon.sinks.sqlite.sink import SqliteSink
from cdc_daemon.sources.mysql.dump import server_id_of
from cdc_daemon.sources.mysql.source import MysqlSource
from cdc_daemon.sources.postgres.source import PostgresSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """One pipeline, put together against what its source's catalogue says now."""

    name: str
    configuration: Configuration
    source: Source
    sink: Sink
    layouts: tuple[Layout, ...]
    mapper: Mapper
    lanes: Lanes
    applier: Applier
    repairs: Repairs
    replay: Replay
    releasing: Releasing
    purging: Purging
    copying: Copying
    limits: Limits
    mappings: dict[str, CopiedMapping]

    def close(self) -> None:
        """Close every connection; never raises."""
        self.sink.close()
        self.source.close()


def make_source(
    configuration: Configuration, name: str, conninfo: Mapping[str, str] | None = None
) -> Source:
    """The source of that name, not yet connected; ``conninfo``: not as configured."""
    source = configuration.sources[name]
    tables = tables_of(configuration.mappings_of(name))
    match source:
        case PostgresSourceConfig():
            return PostgresSource(
                name=name,
                conninfo=conninfo or source.conninfo,
                slot=source.slot,
                publication=source.publication,
                tables=tables,
                max_value_bytes=source.max_value_bytes,
            )
        case MysqlSourceConfig():
            return MysqlSource(
                name,
                conninfo or source.conninfo,
                tables,
                server_id=source.server_id or server_id_of(name, configuration.target.url),
                cascades=source.cascades,
                max_value_bytes=source.max_value_bytes,
            )


def make_control(configuration: Configuration) -> Control:
    """The control database as command line and pages see it."""
    target = configuration.target
    match target.kind:
        case "sqlite":
            return SqliteControl(target.path)
        case "mysql":
            from cdc_daemon.sinks.mysql.control import MysqlControl

            return MysqlControl(target.conninfo)
        case "postgresql":
            return PostgresControl(target.conninfo, target.schema_)


def make_sink(configuration: Configuration, pipeline: str, layouts: Sequence[Layout]) -> Sink:
    """The control database as a worker holds it, not yet connected."""
    target, entities = configuration.target, configuration.entities
    match target.kind:
        case "sqlite":
            return SqliteSink(target.path, pipeline, entities, layouts)
        case "mysql":
            from cdc_daemon.sinks.mysql.sink import MysqlSink

            return MysqlSink(target.conninfo, pipeline, entities, layouts)
        case "postgresql":
            return PostgresSink(target.conninfo, pipeline, entities, layouts, schema=target.schema_)


class Compiler:
    """Compiles the mappings of one source's relations, each in the light of the others.

    A table described anew keeps its layouts where they are the same, so that what a sink has
    prepared for them stays of use.
    """

    def __init__(self, configuration: Configuration, name: str) -> None:
        self._configuration = configuration
        self._mappings: dict[tuple[str, str], list[MappingConfig]] = {}
        for mapping in configuration.mappings_of(name):
            self._mappings.setdefault((mapping.schema_, mapping.table), []).append(mapping)
        self._layouts: dict[str, Layout] = {}
        self._relations: dict[tuple[str, str], Relation] = {}

    def learn(self, relations: Sequence[Relation]) -> None:
        """Know these relations as they are now."""
        self._relations |= {(one.schema, one.table): one for one in relations}

    def __call__(self, relation: Relation) -> list[CompiledMapping]:
        """The mappings of a relation. Raises ConfigurationError."""
        self.learn([relation])
        found = [
            compile_mapping(mapping, self._configuration, relation, self._relations)
            for mapping in self._mappings.get((relation.schema, relation.table), ())
        ]
        return [_with_known_layout(compiled, self._layouts) for compiled in found]


def compiler(configuration: Configuration, name: str) -> Compiler:
    """What compiles the mappings of a relation of that source."""
    return Compiler(configuration, name)


def _with_known_layout(compiled: CompiledMapping, known: dict[str, Layout]) -> CompiledMapping:
    layout = compiled.layout
    before = known.get(layout.mapping)
    if before is None or _shape(before) != _shape(layout):
        known[layout.mapping] = layout
        return compiled
    leave = before if compiled.leave is layout else compiled.leave
    return replace(compiled, layout=before, leave=leave)


def _shape(layout: Layout) -> tuple[object, ...]:
    return (layout.columns, layout.key, layout.soft, layout.reference, layout.refs)


def compile_all(
    configuration: Configuration,
    relations: Sequence[Relation],
    compile_relation: Compiler,
) -> list[CompiledMapping]:
    """Every mapping of these relations. Raises ConfigurationError with every problem at once."""
    compile_relation.learn(relations)
    problems: list[Problem] = []
    found: list[CompiledMapping] = []
    for relation in relations:
        try:
            found += compile_relation(relation)
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(problems)
    return found


def open_pipeline(configuration: Configuration, name: str, meter: Meter) -> Parts:
    """Read the source's catalogue and put the pipeline together.

    Raises Unreachable, and ConfigurationError for mappings that do not fit the source's tables.
    """
    source = make_source(configuration, name)
    try:
        return _assemble(configuration, name, source, meter)
    except BaseException:
        source.close()
        raise


def _assemble(configuration: Configuration, name: str, source: Source, meter: Meter) -> Parts:
    compile_relation = compiler(configuration, name)
    relations = source.relations()
    cascades = source.cascades()
    compiled = compile_all(configuration, relations, compile_relation)
    layouts = tuple(one.layout for one in compiled)
    sink = make_sink(configuration, name, layouts)
    rank = entity_rank(configuration)
    targets = {layout.mapping: layout for layout in layouts}
    known = _by_relation(compiled)

    def compile_once(relation: Relation) -> Sequence[CompiledMapping]:
        return known.get(relation) or compile_relation(relation)

    def make_applier(mapper: Mapper, lanes: Lanes) -> Applier:
        return Applier(
            mapper=mapper,
            resolver=Resolver(targets, lanes.__contains__),
            lanes=lanes,
            awaited=awaited,
            reread=source.reread,
            rank=rank,
            linked=linked_entities(configuration),
            stop_on_error=configuration.sources[name].on_error == "stop",
            progressed=meter.progressed,
            patience=meter.patience,
        )

    again: _Again = {
        "sink": sink,
        "reading": Reading(
            relations=source.relations,
            reread=source.reread,
            mark=source.mark,
            passed=source.passed,
        ),
        "compile_relation": compile_once,
        "applier": make_applier,
    }
    privacy = privacy_of(configuration, name)
    rotating = Rotating(sink=sink, privacy=privacy, progressed=meter.progressed)
    kept = configuration.failures.kept
    purging = Purging(sink=sink, kept=kept, progressed=meter.progressed)
    lanes, awaited, schedule = Lanes(), Awaited(), schedule_of(configuration)
    breaker = Breaker(breaker_limits(configuration))
    mapper = Mapper(compile_once)
    mappings = {one.layout.mapping: copied_mapping(one) for one in compiled}
    versions = {mapping: one.version for mapping, one in mappings.items()}
    attempting = Attempting(
        sink=sink,
        compile_relation=compile_once,
        applier=make_applier,
        awaited=awaited,
        schedule=schedule,
        versions=versions,
        privacy=privacy,
        tell=lambda one, done: meter.failures.replayed(one.mapping, one.error_code, applied=done),
    )
    replay = Replay(
        sink=sink,
        attempting=attempting,
        relations=source.relations,
        lanes=lanes,
        progressed=meter.progressed,
    )
    return Parts(
        name=name,
        configuration=configuration,
        source=source,
        sink=sink,
        layouts=layouts,
        mapper=mapper,
        lanes=lanes,
        applier=make_applier(mapper, lanes),
        replay=replay,
        purging=purging,
        repairs=Repairs(
            sink=sink,
            lanes=lanes,
            standing=Standing(source.identify, lambda: meter.position),
            replay=replay,
            keeping={"purge": purging.carry_out, "rotate": rotating.carry_out},
            editing=Editing(
                sink=sink,
                compile_relation=compile_once,
                relations=source.relations,
                privacy=privacy,
            ),
            resumed=breaker.disarm,
            progressed=meter.progressed,
            mending=Mending(**again),
            resyncing=Resyncing(**again, privacy=privacy),
        ),
        releasing=Releasing(
            sink=sink,
            lanes=lanes,
            awaited=awaited,
            relations=source.relations,
            trying=attempting,
            versions=versions,
            progressed=meter.progressed,
        ),
        copying=Copying(
            name=name,
            slot=configuration.sources[name].slot,
            groups=[*snapshot_groups(configuration, name), *beside(cascades)],
            layouts=layouts,
            mappings=mappings,
            cascading=Cascading(name, cascades, relations, meter.progressed, meter.patience),
            parking=Parking(pipeline=name, versions=versions, schedule=schedule, privacy=privacy),
            breaker=breaker,
        ),
        limits=limits(configuration),
        mappings=mappings,
    )


def privacy_of(configuration: Configuration, name: str) -> Privacy:
    """The sensitive columns of one source's tables, and the keys that could be read."""
    tables = {".".join(one.from_): one.from_ for one in configuration.mappings_of(name)}
    return Privacy(
        pipeline=name,
        columns={text: sensitive_columns(configuration, one) for text, one in tables.items()},
        vault=configuration.failures.vault,
    )


def require_keys(configuration: Configuration, name: str) -> None:
    """Raise ConfigurationError where the source has sensitive columns and a key cannot be read."""
    failures = configuration.failures
    unread = set(failures.keys) - {"current", *failures.vault.keys}
    sensitive = any(privacy_of(configuration, name).columns.values())
    if sensitive and (unread or not failures.keys):
        raise ConfigurationError(
            f"no worker runs pipeline {name}, and without the keys of its sensitive values nothing "
            "can be done here",
            hint="run it as somebody who may read the keys under failures.keys, or start a worker",
        )


def breaker_limits(configuration: Configuration) -> BreakerLimits:
    """When the breaker stops a pipeline."""
    config = configuration.failures.breaker
    return BreakerLimits(
        window=config.window_seconds,
        parked=config.parked,
        share=config.share,
        least=config.least,
        same_error=config.same_error,
    )


def schedule_of(configuration: Configuration) -> Schedule:
    """When parked changes are tried again by themselves."""
    return Schedule(
        by_class={
            code: Backoff(first=one.first_seconds, most=one.max_seconds, tries=one.tries)
            for code, one in configuration.failures.retry.items()
        }
    )


class _Again(TypedDict):
    """What it takes to read rows again and write them."""

    sink: Sink
    reading: Reading
    compile_relation: Callable[[Relation], Sequence[CompiledMapping]]
    applier: MakeApplier


def copied_mapping(compiled: CompiledMapping) -> CopiedMapping:
    """What is noted of a mapping when its rows are copied."""
    return CopiedMapping(
        shape=mapping_shape(compiled.config),
        referenced=compiled.layout.reference is not None,
        version=compiled.version,
    )


def _by_relation(compiled: Sequence[CompiledMapping]) -> dict[Relation, list[CompiledMapping]]:
    found: dict[Relation, list[CompiledMapping]] = {}
    for one in compiled:
        found.setdefault(one.relation, []).append(one)
    return found


def entity_rank(configuration: Configuration) -> dict[str, int]:
    """Each entity's place in reference order, parents first."""
    order = reference_order(configuration.entities)
    return {name: n for n, name in enumerate(name for group in order for name in group)}


def linked_entities(configuration: Configuration) -> frozenset[str]:
    """Entities that refer to others or are referred to."""
    entities = configuration.entities
    referring = {name for name, entity in entities.items() if entity.references}
    return frozenset(referring.union(*(entity.references for entity in entities.values())))


def snapshot_groups(configuration: Configuration, name: str) -> list[list[Table]]:
    """The source's tables in the reference order of the entities they fill.

    Tables whose entities refer to each other in a circle, and a table that fills entities of
    several groups, end up in one group.
    """
    tables = {(t.schema, t.name): t for t in tables_of(configuration.mappings_of(name))}
    order = reference_order(configuration.entities)
    place = {entity: n for n, group in enumerate(order) for entity in group}
    first: dict[tuple[str, str], int] = {}
    merged = list(range(len(order)))
    for mapping in configuration.mappings_of(name):
        key, here = (mapping.schema_, mapping.table), place[mapping.to]
        low = first.setdefault(key, here)
        for n in range(min(low, here), max(low, here) + 1):
            merged[n] = min(merged[n], merged[min(low, here)])
    groups: dict[int, list[Table]] = {}
    for key, table in tables.items():
        groups.setdefault(_root(merged, first[key]), []).append(table)
    return [groups[n] for n in sorted(groups)]


def beside(cascades: Cascades) -> list[list[Table]]:
    """The tables that nobody maps and whose rows refer to others, to be copied as a group."""
    tables = [
        Table(
            schema=one.schema,
            name=one.table,
            columns=frozenset(column.name for column in one.columns),
            mapped=False,
        )
        for one in cascades.beside
        if (one.schema, one.table) in {key.child for key in cascades.keys}
    ]
    return [tables] if tables else []


def _root(merged: Sequence[int], n: int) -> int:
    while merged[n] != n:
        n = merged[n]
    return n


def limits(configuration: Configuration) -> Limits:
    """The engine's limits from the ``daemon`` section."""
    settings = configuration.settings
    return Limits(
        queue_bytes=settings.queue_bytes,
        batch_bytes=settings.batch_bytes,
        batch_changes=settings.batch_rows,
        idle_seconds=settings.idle_checkpoint_seconds,
    )


def mapping_names(mappings: Sequence[MappingConfig]) -> dict[str, str]:
    """Mapping → entity, for counters that exist from the start."""
    return {mapping.name: mapping.to for mapping in mappings}
