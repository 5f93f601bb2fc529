"""Verifications are noted in the control database: when, by whom, and what they found.

One that cannot be noted (a standby, missing rights) is made all the same; it says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from cdc_daemon.cli.commanding import actor
from cdc_daemon.model.errors import CdcError
from cdc_daemon.model.ports import Control, VerifiedMapping

if TYPE_CHECKING:
    from cdc_daemon.config.configuration import Configuration
    from cdc_daemon.verify import MappingReport, Report


class BrokenOff(KeyboardInterrupt):
    """Whoever started the run ends it; queries under way are cancelled, as psycopg does for any
    KeyboardInterrupt. ``code``: the exit code; ``state``: failed, or abandoned, which is nobody's
    fault and leaves what was found before to be told."""

    def __init__(self, code: int, reason: str, *, state: str = "failed") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.state = state


class Record:
    """The notes on one run: a number for each pipeline."""

    def __init__(self, control: Control, say: Callable[[str], None]) -> None:
        self._control = control
        self._say = say
        self._numbers: dict[str, int] = {}

    def begin(self, pipelines: Sequence[str], origin: str, *, whole: bool) -> None:
        """Note that it begins."""
        for pipeline in pipelines:
            with self._trying():
                number = self._control.begin_verification(pipeline, origin, actor(), whole=whole)
                self._numbers[pipeline] = number

    def finish(self, configuration: Configuration, report: Report) -> None:
        """Note what it found, for each pipeline."""
        sources = {mapping.name: mapping.source for mapping in configuration.mappings}
        for pipeline, number in self._numbers.items():
            own = [one for one in report.mappings if sources[one.mapping] == pipeline]
            state, error = _state(pipeline, own, report)
            with self._trying():
                self._control.finish_verification(number, state, error, [*map(_verified, own)])

    def fail(self, reason: str, state: str = "failed") -> None:
        """Note that it broke off."""
        for number in self._numbers.values():
            with self._trying():
                self._control.finish_verification(number, state, reason, ())

    @contextmanager
    def _trying(self) -> Iterator[None]:
        try:
            yield
        except CdcError as error:
            self._say(f"warning: this verification is not noted: {error}")


@contextmanager
def recorded(
    configuration: Configuration,
    pipelines: Sequence[str],
    origin: str,
    say: Callable[[str], None],
    *,
    whole: bool,
) -> Iterator[Record]:
    """Note a run: its begin, and that it failed where an exception leaves the block."""
    from cdc_daemon import build

    with closing(build.make_control(configuration)) as control:
        record = Record(control, say)
        try:
            record.begin(pipelines, origin, whole=whole)
            yield record
        except BrokenOff as end:
            record.fail(end.reason, end.state)
            raise
        except BaseException as error:
            record.fail(str(error) if isinstance(error, CdcError) else type(error).__name__)
            raise


def _state(
    pipeline: str, mappings: Sequence[MappingReport], report: Report
) -> tuple[str, str | None]:
    """Equal, different, or failed: differences of a pipeline that is behind may be lag."""
    number = sum(one.differences for one in mappings)
    if number == 0:
        return "equal", None
    if pipeline in report.behind:
        return "failed", f"the pipeline is behind its source; {number} differences may be lag"
    return "different", None


def _verified(report: MappingReport) -> VerifiedMapping:
    return VerifiedMapping(
        mapping=report.mapping,
        rows={
            "source_rows": report.source,
            "target_rows": report.target,
            "matching": report.match,
            "missing": report.missing,
            "extra": report.extra,
            "different": report.different,
            "moving": report.moving,
            "parked": report.parked,
            "kept": report.kept,
        },
        differences=[
            {
                "kind": one.kind,
                "key": list(one.key),
                "source_row": list(one.source_row),
                "attributes": list(one.attributes),
                "reason": one.reason,
            }
            for one in report.examples
        ],
    )
