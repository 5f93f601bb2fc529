"""What checks found of a running pipeline: refused, told once, and kept for the status.

A finding is logged when it comes and when it goes, however often it is seen. Not in here: the
checks (adapters) and when they are made (worker).
"""

from __future__ import annotations

from collections.abc import Sequence

from cdc_daemon.engine.meter import Meter
from cdc_daemon.model.errors import PreflightRefusal
from cdc_daemon.model.findings import Finding, Verdict, refusals
from cdc_daemon.telemetry import get_logger

log = get_logger(__name__)

Told = tuple[str, str, str, str]


class Watching:
    """The latest findings of one pipeline's checks."""

    def __init__(self, pipeline: str, meter: Meter) -> None:
        self._pipeline = pipeline
        self._meter = meter
        self._amiss: dict[str, list[Finding]] = {}
        self._told: set[Told] = set()

    def judge(self, findings: Sequence[Finding]) -> None:
        """Take in what some checks found.

        Raises PreflightRefusal for what would lose changes, Unreachable where nobody answers.
        """
        for name in dict.fromkeys(finding.check.name for finding in findings):
            mine = [finding for finding in findings if finding.check.name == name]
            self._amiss[name] = [each for each in mine if each.verdict is not Verdict.OK]
        self._meter.found([each for some in self._amiss.values() for each in some])
        self._tell()
        problems = refusals(findings)
        if problems:
            raise PreflightRefusal(problems)

    def _tell(self) -> None:
        """Log what is new, and what is no longer so."""
        now = {
            _mark(each): each for some in self._amiss.values() for each in some if not _ends(each)
        }
        for mark, finding in now.items():
            if mark not in self._told:
                log.warning("check failed", pipeline=self._pipeline, **_fields(finding))
        for check, where, *_ in sorted(self._told - now.keys()):
            log.info("check passed again", pipeline=self._pipeline, check=check, where=where)
        self._told = set(now)


def _ends(finding: Finding) -> bool:
    """Whether the worker ends, or tries again, because of it, and says so then."""
    if finding.verdict is Verdict.UNREACHABLE:
        return True
    return finding.check.refuses and finding.verdict is Verdict.PROBLEM


def _mark(finding: Finding) -> Told:
    """What makes two findings the same; figures in their words may differ."""
    return (finding.check.name, finding.where, finding.verdict.value, finding.cure)


def _fields(finding: Finding) -> dict[str, str]:
    names = ("check", "state", "where", "what", "cure")
    return {name: text for name, text in finding.to_dict().items() if name in names}
