"""What checks of a server found, and what follows from it.

The same checks serve three times: a worker refuses to start with what :func:`refusal` says,
``doctor`` shows everything, and a running worker repeats the watched ones (``engine.watching``).
The checks themselves are in the adapters (``sources/*/checks``, ``sinks/*/checks``), each with its
cure.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from cdc_daemon.model.errors import (
    CdcError,
    ConfigurationError,
    Disposition,
    NotAdmitted,
    PreflightRefusal,
    Problem,
    Stop,
    Unreachable,
)

S = TypeVar("S")


class Verdict(enum.Enum):
    """How a check came out; the worst last."""

    OK = "ok"
    WARNING = "warning"  # it works, and may fail or lose something later
    UNKNOWN = "unknown"  # the check could not look: a right is missing, or what it builds upon
    UNREACHABLE = "unreachable"  # the server does not answer
    PROBLEM = "problem"


class CannotLook(Exception):
    """What a check would look at cannot be seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One thing that a check has to say; ``where`` empty: about the server as a whole.

    ``error``: what it was told by, where the kind of it decides whether another try makes sense.
    """

    verdict: Verdict
    what: str
    cure: str = ""
    where: str = ""
    error: CdcError | None = field(default=None, compare=False)


def ok(what: str) -> Note:
    """All is well, and what was found."""
    return Note(verdict=Verdict.OK, what=what)


def warning(what: str, cure: str, *, where: str = "") -> Note:
    """It works for now."""
    return Note(verdict=Verdict.WARNING, what=what, cure=cure, where=where)


def problem(what: str, cure: str, *, where: str = "", error: CdcError | None = None) -> Note:
    """It does not work, or would lose changes."""
    return Note(verdict=Verdict.PROBLEM, what=what, cure=cure, where=where, error=error)


def problems(found: Iterable[Problem], error: CdcError | None = None) -> list[Note]:
    """Problems as notes."""
    return [problem(one.what, one.cure, where=one.where, error=error) for one in found]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(Generic[S]):
    """One thing to look at. ``why``: what goes wrong otherwise.

    ``refuses``: a worker does not start with such a problem, for it would lose or corrupt data;
    without, it waits and tries again. ``watched``: looked at also while running.
    """

    name: str
    title: str
    why: str
    look: Callable[[S], Iterable[Note]]
    refuses: bool = True
    watched: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One result of one check; ``where`` names server, slot, publication or table."""

    check: Check[Any]
    verdict: Verdict
    what: str
    where: str
    cure: str = ""
    error: CdcError | None = field(default=None, compare=False)  # as the note's

    @property
    def problem(self) -> Problem:
        """The same as a problem."""
        return Problem(what=self.what, where=self.where, cure=self.cure)

    def to_dict(self) -> dict[str, str]:
        """JSON-ready."""
        return {
            "check": self.check.name,
            "title": self.check.title,
            "state": self.verdict.value,
            "where": self.where,
            "what": self.what,
            "why": self.check.why if self.verdict is not Verdict.OK else "",
            "cure": self.cure,
        }


Errors = Callable[[str], AbstractContextManager[None]]
"""Turns a driver's errors inside its block into ours; called with what is being done."""


def run(checks: Iterable[Check[S]], subject: S, where: str, errors: Errors) -> list[Finding]:
    """The findings of all checks; only a server that stops answering ends it early."""
    found: list[Finding] = []
    for check in checks:
        try:
            with errors(f"check {check.name}"):
                notes = list(check.look(subject))
        except Unreachable as error:
            cure = "see whether the server runs, and the way to it"
            notes = [Note(verdict=Verdict.UNREACHABLE, what=error.message, cure=cure)]
            return [*found, *_findings(check, notes, where)]
        except (CannotLook, CdcError) as error:
            notes = _unseen(error)
        found += _findings(check, notes, where)
    return list(dict.fromkeys(found))


def _findings(check: Check[Any], notes: Sequence[Note], where: str) -> list[Finding]:
    return [
        Finding(
            check=check,
            verdict=note.verdict,
            what=note.what,
            where=note.where or where,
            cure=note.cure,
            error=note.error,
        )
        for note in notes or [ok("as it should be")]
    ]


def _unseen(error: CannotLook | CdcError) -> list[Note]:
    match error:
        case ConfigurationError():
            return [_blind(one.what, one.cure, error) for one in error.problems]
        case CdcError():
            return [_blind(error.message, error.hint or "see the server's log", error)]
        case _:
            return [_blind(str(error))]


def _blind(what: str, cure: str = "", error: CdcError | None = None) -> Note:
    return Note(verdict=Verdict.UNKNOWN, what=f"cannot look: {what}", cure=cure, error=error)


def refusals(findings: Iterable[Finding]) -> list[Problem]:
    """Why a worker must not go on.

    Raises Unreachable where the only reason is a server that does not answer. A check that could
    not look counts, unless something else explains why.
    """
    return _problems(_wrong(list(findings)))


def refusal(findings: Iterable[Finding]) -> CdcError | None:
    """The same as the error that a worker ends with, or tries again after; None: it may go on.

    NotAdmitted where nothing is wrong but that the server does not let us in (who was let in before
    tries again), else PreflightRefusal. Where checks only could not look, it is by the reason: a
    right that is missing refuses, what may pass is tried again, anything else is a Stop (which the
    supervisor starts anew a few times). Raises Unreachable as :func:`refusals`.
    """
    wrong = _wrong(list(findings))
    if not wrong:
        return None
    found, seen = _problems(wrong), wrong[0].verdict is Verdict.PROBLEM
    errors = [each.error for each in wrong if seen or each.error is not None]
    if errors and all(isinstance(error, NotAdmitted) for error in errors):
        return NotAdmitted(found)
    if seen or not errors or any(isinstance(error, ConfigurationError) for error in errors):
        return PreflightRefusal(found)
    passing = (error for error in errors if error and error.disposition is Disposition.RETRY)
    return next(passing, Stop("\n".join(map(str, found))))


def _wrong(found: Sequence[Finding]) -> list[Finding]:
    """The findings that refuse: problems, else what could not be seen."""
    wrong = [each for each in found if each.verdict is Verdict.PROBLEM and each.check.refuses]
    if wrong:
        return wrong
    for each in found:
        if each.verdict is Verdict.UNREACHABLE:
            raise Unreachable(each.what)
    return [each for each in found if each.verdict is Verdict.UNKNOWN and each.check.refuses]


def _problems(found: Iterable[Finding]) -> list[Problem]:
    return list(dict.fromkeys(each.problem for each in found))


# --- what every server is asked ------------------------------------------------------------------

CLOCK_TOLERANCE = 2.0
"""Seconds by which two clocks may differ before lag and times of parking mislead."""


def clock_note(asked: float, answered: float, said: float) -> Note:
    """A server's clock (seconds since 1970) against ours before and after the question."""
    unsure = (answered - asked) / 2
    ahead = said - (asked + answered) / 2
    off = max(0.0, abs(ahead) - unsure)
    if off <= CLOCK_TOLERANCE:
        return ok(f"within {off + unsure:.3f} s of the daemon's")
    direction = "ahead of" if ahead > 0 else "behind"
    what = f"the server's clock is {off:.1f} s {direction} the daemon's"
    return warning(what, "let NTP set the clocks of both machines")


def tls_note(*, encrypted: bool, loopback: bool, mode: str) -> Note:
    """A connection's encryption against where it goes."""
    if loopback:
        return ok("the connection stays on this machine")
    if not encrypted:
        what = "the connection leaves this machine unencrypted"
    elif mode != "verify-full":
        what = f"the connection is encrypted, but sslmode {mode} does not check whom it reaches"
    else:
        return ok("encrypted, and the server's certificate and name were checked")
    return warning(what, "set sslmode to verify-full, and tls.ca where the authority is your own")


def duration(seconds: float) -> str:
    """Seconds in a unit that people read."""
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} s"
