"""``verify``: every mapped row of the sources against the control database."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager

from cdc_daemon.config.configuration import Configuration
from cdc_daemon.config.schema import MappingConfig
from cdc_daemon.mapping.compile import CompiledMapping
from cdc_daemon.model.errors import ConfigurationError, suggest
from cdc_daemon.verify.circumstances import keeps_all
from cdc_daemon.verify.comparison import Comparison
from cdc_daemon.verify.pipeline import PipelineVerification, Work
from cdc_daemon.verify.report import MappingReport, Report
from cdc_daemon.verify.source import compiled_by, open_source
from cdc_daemon.verify.statement import mapped_attributes
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
            compiled = compiled_by(configuration, pipeline, verification.source)
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
    with closing(open_source(configuration, source)) as opened:
        return compiled_by(configuration, source, opened)


@contextmanager
def _opened(
    configuration: Configuration,
    pipeline: str,
    timeout: float,
    examples: int,
    progress: Callable[[str], None] | None,
) -> Iterator[PipelineVerification]:
    with ExitStack() as stack:
        target = stack.enter_context(closing(open_target(configuration.target)))
        target.check()
        yield PipelineVerification(
            configuration,
            pipeline,
            source=stack.enter_context(closing(open_source(configuration, pipeline))),
            target=target,
            timeout=timeout,
            examples=examples,
            progress=progress or _silent,
        )


def _work(
    verification: PipelineVerification,
    mapping: MappingConfig,
    compiled: Mapping[str, CompiledMapping],
) -> Work:
    configuration, one = verification.configuration, compiled[mapping.name]
    return Work(
        compiled=one,
        reader=verification.source.mapped(mapping.name, compiled),
        entity=configuration.entities[mapping.to],
        comparison=Comparison(
            mapped_attributes(configuration, mapping),
            len(mapping.key),
            len(one.relation.identity),
            keep_extra=keeps_all(mapping),
        ),
    )


def _silent(_: str) -> None:
    pass
