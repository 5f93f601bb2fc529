"""Every check on every server of a configuration: what ``doctor`` shows and ``check-config`` needs.

No server hides another: what one does not answer is a finding, and the others are asked on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Final

from cdc_daemon import build, provision
from cdc_daemon.cli.placing import placed
from cdc_daemon.config.configuration import Configuration
from cdc_daemon.engine.copied import misfits
from cdc_daemon.mapping.compile import CompiledMapping
from cdc_daemon.model.effects import Layout
from cdc_daemon.model.errors import CdcError, ConfigurationError
from cdc_daemon.model.findings import (
    CannotLook,
    Check,
    Finding,
    Note,
    Verdict,
    ok,
    problem,
    problems,
    run,
)
from cdc_daemon.model.position import Phase

Compile = Callable[[], Sequence[CompiledMapping]]


class Attempt:
    """Examining a server: what came of it, if it let us in."""

    def __init__(self, examine: Callable[[], list[Finding]]) -> None:
        self._examine = examine
        self.findings: list[Finding] = []

    def __call__(self) -> Iterator[Note]:
        """Do it; a note whether we were let in."""
        try:
            self.findings = self._examine()
            yield ok("it answers")
        except ConfigurationError as error:
            yield from problems(error.problems)


SOURCE_REACH: Final[Check[Attempt]] = Check(
    name="source.reach",
    title="The source answers and lets the daemon in",
    why="nothing can be read",
    look=Attempt.__call__,
)
TARGET_REACH: Final[Check[Attempt]] = Check(
    name="target.reach",
    title="The control database answers and lets the daemon in",
    why="nothing can be written",
    look=Attempt.__call__,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """One server: ``source NAME`` or ``target``, and what was found there."""

    server: str
    findings: tuple[Finding, ...]


def _fit(compiled: Compile) -> Iterator[Note]:
    try:
        yield ok(f"mappings: {len(compiled())}")
    except ConfigurationError as error:
        cure = "correct the mapping, or the column's type"
        for one in error.problems:
            yield problem(one.what, one.cure or cure, where=one.where)


MAPPING: Final[Check[Compile]] = Check(
    name="mapping.fit",
    title="The mappings fit the source's tables as they are",
    why="a column's type may have changed since the mapping was written",
    look=_fit,
)


def _fit_the_copy(at: tuple[str, provision.Standing, Compile]) -> Iterator[Note]:
    pipeline, standing, compiled = at
    if standing.checkpoint.phase is not Phase.STREAMING:
        yield ok("nothing was copied yet")
        return
    now = {one.layout.mapping: build.copied_mapping(one) for one in compiled()}
    found = list(misfits(pipeline, standing.copied, now))
    yield from problems(found) or [ok("the rows were copied by these mappings, or ones that fit")]


COPIED: Final[Check[tuple[str, provision.Standing, Compile]]] = Check(
    name="mapping.copied",
    title="The rows in the control database were copied by mappings that these fit",
    why="rows of before would be missing, and deletes would find nothing",
    look=_fit_the_copy,
)


def examine(
    configuration: Configuration, *, only: str | None = None, sample_seconds: float = 0.0
) -> list[Examination]:
    """Sources (or ``only`` that one), then the target."""
    try:
        standings = provision.standings(configuration)
    except CdcError:  # the target's own findings say why
        standings = {}
    found: list[Examination] = []
    layouts: list[Layout] = []
    for name in configuration.sources:
        if only in (None, name):
            findings, compiled = _source(configuration, name, standings.get(name), sample_seconds)
            found.append(_placed(configuration, f"source {name}", findings))
            layouts += [one.layout for one in compiled]
    target = _attempted(
        TARGET_REACH, "target", lambda: provision.examine_target(configuration, layouts)
    )
    return [*found, _placed(configuration, "target", target)]


def _attempted(
    check: Check[Attempt], server: str, examine_it: Callable[[], list[Finding]]
) -> list[Finding]:
    """Whether the server let us in, and if so, what was found."""
    attempt = Attempt(examine_it)
    reached = run([check], attempt, server, lambda _: nullcontext())
    return [*reached, *attempt.findings]


def _source(
    configuration: Configuration,
    name: str,
    standing: provision.Standing | None,
    sample_seconds: float,
) -> tuple[list[Finding], Sequence[CompiledMapping]]:
    """The findings of one source, and its mappings as far as they fit."""
    source = build.make_source(configuration, name)
    compiled: list[CompiledMapping] = []
    try:
        found = _attempted(
            SOURCE_REACH,
            f"source {name}",
            lambda: source.examine(
                standing.checkpoint if standing else None,
                held=standing.held if standing else False,
                sample_seconds=sample_seconds,
            ),
        )
        sound = {one.check.name for one in found if one.verdict is Verdict.OK}

        def compile_them() -> Sequence[CompiledMapping]:
            if "table.columns" not in sound:
                raise CannotLook("it needs the tables: see table.columns")
            compiler = build.compiler(configuration, name)
            compiled.extend(build.compile_all(configuration, source.relations(), compiler))
            return compiled

        if "source.reach" in sound:
            server = f"source {name}"
            fit = run([MAPPING], compile_them, server, lambda _: nullcontext())
            found += fit
            if standing is not None and all(one.verdict is Verdict.OK for one in fit):
                at = (name, standing, lambda: compiled)
                found += run([COPIED], at, server, lambda _: nullcontext())
    finally:
        source.close()
    return found, compiled


def _placed(configuration: Configuration, server: str, findings: Sequence[Finding]) -> Examination:
    """The findings, those that the files cause at their places in the files; none twice."""
    found = [
        dataclasses.replace(finding, what=one.what, where=one.where, cure=one.cure)
        for finding in findings
        for one in placed(configuration, [finding.problem])
    ]
    return Examination(server=server, findings=tuple(dict.fromkeys(found)))
