"""One pipeline verified: both sides read once, then what differed read again until it is settled.

Order of one reading: source, wait until the pipeline has applied it, target, source again. A key is
equal if the target's row is what the source had before or after. What differs is read again up to
three times: it is a real difference if both sides still say exactly the same one reading later, and
moving if they never do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from cdc_daemon.config.configuration import Configuration
from cdc_daemon.mapping.compile import CompiledMapping
from cdc_daemon.model.entities import Entity
from cdc_daemon.verify.circumstances import (
    Circumstances,
    Queue,
    chunks,
    dangling_keys,
    ignores,
    kept,
)
from cdc_daemon.verify.comparison import WHOLE, Comparison, Group, Tally
from cdc_daemon.verify.judgement import judge
from cdc_daemon.verify.progress import await_applied
from cdc_daemon.verify.report import Example, MappingReport
from cdc_daemon.verify.source import MappedRows, SourceSide
from cdc_daemon.verify.target import TargetReader

ROUNDS = 3
"""How often rows that differ are read again."""

SET_ASIDE = 50_000
"""Keys per mapping that are kept to be read again; differences beyond count as they stand."""


@dataclass(slots=True, kw_only=True)
class Work:
    """One mapping on its way through a verification."""

    compiled: CompiledMapping
    reader: MappedRows
    entity: Entity
    comparison: Comparison
    tally: Tally = field(default_factory=lambda: Tally(SET_ASIDE))
    pending: list[Group] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)

    def count(self, kind: str, examples: Sequence[Example], number: int | None = None) -> None:
        """Count rows of a kind and keep the examples."""
        self.counts[kind] = self.counts.get(kind, 0) + (len(examples) if number is None else number)
        self.examples += examples


class PipelineVerification:
    """Verifies mappings of one source over open connections."""

    def __init__(
        self,
        configuration: Configuration,
        pipeline: str,
        *,
        source: SourceSide,
        target: TargetReader,
        timeout: float,
        examples: int,
        progress: Callable[[str], None],
    ) -> None:
        self.configuration = configuration
        self.pipeline = pipeline
        self.source = source
        self.target = target
        self.timeout = timeout
        self.examples = examples
        self.progress = progress
        self.behind = False
        self._compiled: Mapping[str, CompiledMapping] = {}

    def run(
        self, works: Sequence[Work], compiled: Mapping[str, CompiledMapping]
    ) -> list[MappingReport]:
        """Compare every mapping. ``compiled``: all mappings of the pipeline, by name."""
        self._compiled = compiled
        self._read_everything(works)
        for number in range(ROUNDS):
            pending = [work for work in works if work.pending]
            if not pending:
                break
            rows = sum(len(work.pending) for work in pending)
            self.progress(f"{self.pipeline}: reading {rows} rows again ({number + 1} of {ROUNDS})")
            self._read_again(pending, last=number == ROUNDS - 1)
        return [self._report(work) for work in works]

    # --- the first reading ---------------------------------------------------------------------

    def _read_everything(self, works: Sequence[Work]) -> None:
        with self.source.snapshot():
            self._wait(self.source.mark())
            with self._target_snapshot() as queue:
                for work in works:
                    self._compare(work)
                    self._judge_first(work, queue)

    def _compare(self, work: Work) -> None:
        theirs = self.target.rows(work.entity, work.comparison.attributes)
        work.tally = work.comparison.compare(work.reader.rows(), theirs, SET_ASIDE)
        self.progress(
            f"{work.compiled.layout.mapping}: {work.tally.source} rows in the source, "
            f"{work.tally.target} in the target"
        )

    def _judge_first(self, work: Work, queue: Queue) -> None:
        groups, work.tally.unequal = work.tally.unequal, []
        known = self._circumstances(work, groups, queue)
        for group in groups:
            if not self._settle(work, group, known):
                work.pending.append(group)

    # --- reading again ---------------------------------------------------------------------------

    def _read_again(self, works: Sequence[Work], *, last: bool) -> None:
        with self.source.snapshot():
            before = {id(work): self._source_groups(work) for work in works}
            mark = self.source.mark()
        self._wait(mark)
        with self.source.snapshot(), self._target_snapshot() as queue:
            for work in works:
                self._judge_again(work, before[id(work)], queue, last=last)

    def _judge_again(
        self, work: Work, before: dict[object, Group], queue: Queue, *, last: bool
    ) -> None:
        after = self._source_groups(work)
        ours = [*before.values(), *after.values()]
        dangling = {group.key for group in ours if any(row.dangling for row in group.rows)}
        whole = dangling | {group.key for group in work.pending[:WHOLE]}
        theirs = self._target_groups(work, whole)
        pending, work.pending = work.pending, []
        first, second = (
            [_joined(group, one, theirs) for group in pending] for one in (before, after)
        )
        known = self._circumstances(work, [*first, *second], queue)
        extra = {group.key for group in second if not group.rows and group.key is not None}
        known.owners = dict(queue.identities(self.target, work.compiled, extra)) if extra else {}
        for old, one, two in zip(pending, first, second, strict=True):
            if self._settle(work, one, known) or (one != two and self._settle(work, two, known)):
                continue
            if one == two == old:
                self._settle(work, two, known, final=True)
            elif last:
                verdict = judge(two, known, work.comparison.attributes)
                work.count("moving", [replace(e, kind="moving") for e in verdict.open])
                work.count("parked", verdict.parked)
            else:
                work.pending.append(two)

    def _settle(
        self, work: Work, group: Group, known: Circumstances, *, final: bool = False
    ) -> bool:
        """Count the rows of a group unless some are still open (or it is final); whether it did."""
        verdict = judge(group, known, work.comparison.attributes)
        if verdict.open and not final:
            return False
        work.count("match", (), verdict.match)
        work.count("kept", (), verdict.kept)
        work.count("parked", verdict.parked)
        for example in verdict.open:
            work.count(example.kind, [example])
        return True

    def _source_groups(self, work: Work) -> dict[object, Group]:
        """What the source now has at the pending keys; rows without a key by their identity."""
        found: dict[object, Group] = {}
        whole = {group.key for group in work.pending[:WHOLE]}
        for some in chunks([group.key for group in work.pending if group.key is not None]):
            for group in work.comparison.groups(work.reader.rows(some), ()):
                found[group.key] = group if group.key in whole else group.brief()
        wanted = {g.rows[0].identity for g in work.pending if g.key is None and g.rows}
        if wanted:
            width = len(work.compiled.relation.identity)
            rows = (row for row in work.reader.rows() if row[:width] in wanted)
            for group in work.comparison.groups(rows, ()):
                found.update({("row", *row.identity): group for row in group.rows})
        return found

    def _target_groups(self, work: Work, whole: Set[object]) -> dict[object, Group]:
        """What the target now has at the pending keys; with all values at those of ``whole``."""
        found: dict[object, Group] = {}
        for some in chunks([group.key for group in work.pending if group.key is not None]):
            theirs = self.target.rows(work.entity, work.comparison.attributes, some)
            for group in work.comparison.groups((), theirs):
                found[group.key] = group if group.key in whole else group.brief()
        return found

    # --- circumstances ---------------------------------------------------------------------------

    def _circumstances(self, work: Work, groups: Sequence[Group], queue: Queue) -> Circumstances:
        mapping = work.compiled.config
        known = Circumstances()
        known.parked_rows = {
            row.identity for g in groups for row in g.rows if queue.holds(work.compiled, row)
        }
        extra = {g.key for g in groups if not g.rows and g.key is not None}
        known.parked_keys = queue.holding(self.target, work.compiled, extra)
        if ignores(mapping):
            known.kept_keys = kept(mapping, extra, work.reader.unfiltered)
        for attribute, keys in dangling_keys(groups, work.comparison.attributes).items():
            target = self.configuration.ref_target(mapping, attribute)
            assert target is not None
            parent = self._compiled[target.name]
            orphans = queue.orphans(self.target, self.configuration, parent, keys)
            known.orphans |= {(attribute, key) for key in orphans}
        return known

    # --- both sides -----------------------------------------------------------------------------

    @contextmanager
    def _target_snapshot(self) -> Iterator[Queue]:
        with self.target.snapshot():
            yield Queue(self.target.lanes(self.pipeline))

    def _wait(self, mark: str) -> None:
        self.progress(f"{self.pipeline}: waiting until {mark} is applied")

        def reached(position: str) -> bool:
            return self.source.passed(position, mark)

        if not await_applied(self.target, self.pipeline, reached, self.timeout):
            self.behind = True
            self.progress(f"{self.pipeline}: {mark} is not applied; differences may be lag")

    def _report(self, work: Work) -> MappingReport:
        tally, counts = work.tally, work.counts
        order = {kind: n for n, kind in enumerate(("different", "missing", "extra"))}
        work.examples.sort(key=lambda example: order.get(example.kind, len(order)))
        return MappingReport(
            mapping=work.compiled.layout.mapping,
            entity=work.compiled.layout.entity.name,
            source=tally.source,
            target=tally.target,
            match=tally.match + counts.get("match", 0),
            missing=counts.get("missing", 0),
            extra=counts.get("extra", 0),
            different=counts.get("different", 0) + tally.beyond,
            moving=counts.get("moving", 0),
            parked=counts.get("parked", 0),
            kept=tally.kept + counts.get("kept", 0),
            source_hash=tally.source_hash,
            target_hash=tally.target_hash,
            examples=tuple(work.examples[: self.examples]),
        )


def _joined(group: Group, source: Mapping[object, Group], target: Mapping[object, Group]) -> Group:
    """A group as both sides have it now."""
    if group.key is not None:
        ours, theirs = source.get(group.key), target.get(group.key)
        return Group(group.key, ours.rows if ours else (), theirs.target if theirs else None)
    identity = group.rows[0].identity if group.rows else ()
    return source.get(("row", *identity), Group(None, (), None))
