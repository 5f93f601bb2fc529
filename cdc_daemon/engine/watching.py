"""What checks found of a running pipeline: refused, told once, and kept for the status.

A finding is logged when it comes and when it goes, however often it is seen.

At a start (``judge``) a check that cannot look refuses, by the reason (``findings.refusal``). While
the worker runs (``watch``) it means: look again. A question beside a DROP TABLE can meet a table
that is half gone, and the stream, which was checked when it was opened, is no worse for it. What
still cannot be seen at the third look in a row ends the run so that it is begun anew, by the worker
itself or by the supervisor; the checks at that start have the last word. Not in here: the checks
(adapters) and when they are made (worker).
"""

from __future__ import annotations

from collections.abc import Sequence

from cdc_daemon.engine.meter import Meter
from cdc_daemon.model.errors import CdcError, Disposition, Stop
from cdc_daemon.model.findings import Finding, Verdict, refusal
from cdc_daemon.telemetry import get_logger

log = get_logger(__name__)

LOOKS = 3
"""Looks in a row that a watched check may see nothing, the last of which ends the run."""

Told = tuple[str, str, str, str]


class Watching:
    """The latest findings of one pipeline's checks."""

    def __init__(self, pipeline: str, meter: Meter) -> None:
        self._pipeline = pipeline
        self._meter = meter
        self._amiss: dict[str, list[Finding]] = {}
        self._told: set[Told] = set()
        self._blind: dict[str, int] = {}  # by check: looks in a row that saw nothing

    def judge(self, findings: Sequence[Finding]) -> None:
        """Take in what the checks found at a start.

        Raises PreflightRefusal for what would lose changes, NotAdmitted, Unreachable or Stop as
        ``findings.refusal`` says.
        """
        self._take_in(findings)
        _raise(refusal(findings))

    def watch(self, findings: Sequence[Finding]) -> None:
        """Take in what the watched checks found.

        Raises as :meth:`judge` for what they saw. What they could not see is borne twice; then it
        raises what is tried again, or Stop.
        """
        self._take_in(findings)
        seen = [each for each in findings if each.verdict is not Verdict.UNKNOWN]
        _raise(refusal(seen))
        unseen = [each for each in findings if each.verdict is Verdict.UNKNOWN]
        lasting = refusal(each for each in unseen if self._blind[each.check.name] >= LOOKS)
        if lasting is not None:
            again = lasting.disposition is Disposition.RETRY
            raise lasting if again else Stop(lasting.message)

    def _take_in(self, findings: Sequence[Finding]) -> None:
        for name in dict.fromkeys(finding.check.name for finding in findings):
            mine = [finding for finding in findings if finding.check.name == name]
            self._amiss[name] = [each for each in mine if each.verdict is not Verdict.OK]
            blind = any(each.verdict is Verdict.UNKNOWN for each in mine)
            self._blind[name] = self._blind.get(name, 0) + 1 if blind else 0
        self._meter.found([each for some in self._amiss.values() for each in some])
        self._tell()

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


def _raise(error: CdcError | None) -> None:
    if error is not None:
        raise error


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
