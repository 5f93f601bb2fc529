"""Every error the daemon raises on purpose, and the exit code each one ends a process with.

::

    CdcError
    ├── ConfigurationError      exit 78   the files, or a server's settings, must be changed first
    │   ├── NotAdmitted         exit 78   a server, or its certificate, refuses the connection
    │   └── PreflightRefusal    exit 78   going on would skip changes in silence
    ├── Unreachable             exit 69   a server does not answer; worth another try
    ├── Fenced                  exit 75   another instance holds this pipeline
    ├── Retryable               (RETRY)   connection lost, deadlock, disk full, read-only ...
    ├── DataError               (PARK)    one change cannot be applied as it is
    ├── LateFailure             (replay)  lanes at fault found only at the end of a huge transaction
    └── Stop                    exit 1    the pipeline cannot go on and must not guess
        └── DecodeError         exit 1    bytes of the log that do not follow the protocol

A driver's exception is wrapped at its adapter's edge with ``raise ... from exc``. No message ever
carries a row value or a secret: names, positions, types and SQLSTATEs only. The class docstring is
the default message; ``hint`` tells the operator what to do.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Sequence
from dataclasses import dataclass

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_DIFFERENCE = 3
EXIT_UNREACHABLE = 69
EXIT_TRY_LATER = 75
EXIT_CONFIGURATION = 78


class Disposition(enum.Enum):
    """What becomes of a change, or of the unit of work it stands in, after an error."""

    RETRY = "retry"  # the same work may succeed later; never counts against a row
    PARK = "park"  # this row is at fault: into the failure queue, its lane waits
    STOP = "stop"  # nobody knows; the pipeline stops, visibly


class CdcError(Exception):
    """The daemon cannot go on."""

    exit_code = EXIT_FAILED
    disposition = Disposition.STOP

    def __init__(self, message: str | None = None, *, hint: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").split("\n", 1)[0]
        self.hint = hint
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


RESNAPSHOT = "take a new snapshot: cdc-daemon snapshot start"
"""The cure where the log cannot be followed from the checkpoint on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One finding: what is wrong, where, and what to do.

    ``where`` is ``file:line:column``, or a server's or table's name; empty when there is no place.
    """

    what: str
    where: str = ""
    cure: str = ""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        cure = f" ({self.cure})" if self.cure else ""
        return f"{place}{self.what}{cure}"


class ConfigurationError(CdcError):
    """The configuration must be changed first."""

    exit_code = EXIT_CONFIGURATION

    def __init__(self, problems: Sequence[Problem] | str, *, hint: str | None = None) -> None:
        found = [Problem(what=problems)] if isinstance(problems, str) else list(problems)
        self.problems: tuple[Problem, ...] = tuple(found)
        super().__init__("\n".join(str(problem) for problem in found), hint=hint)


class NotAdmitted(ConfigurationError):
    """A server refuses the connection: password, role, database, rules, encryption.

    Who was let in before tries again: a password is being changed, a certificate renewed.
    """


class PreflightRefusal(ConfigurationError):
    """Going on from here would skip changes in silence."""


class Unreachable(CdcError):
    """A server does not answer."""

    exit_code = EXIT_UNREACHABLE
    disposition = Disposition.RETRY


class Fenced(CdcError):
    """Another instance holds this pipeline."""

    exit_code = EXIT_TRY_LATER


class Retryable(CdcError):
    """The control database could not take this unit of work now."""

    exit_code = EXIT_TRY_LATER
    disposition = Disposition.RETRY


class DataError(CdcError):
    """A change cannot be applied as it is.

    ``code`` is a short stable name for grouping (``required``, ``too_long``, ``sqlstate_23514``).
    ``attribute`` names the attribute at fault where one is, ``constraint`` the constraint.
    ``awaits``: 16-byte digests of rows that may yet arrive, and would cure it.
    """

    disposition = Disposition.PARK

    def __init__(
        self,
        message: str,
        *,
        code: str,
        attribute: str | None = None,
        constraint: str | None = None,
        awaits: tuple[bytes, ...] = (),
    ) -> None:
        self.code = code
        self.attribute = attribute
        self.constraint = constraint
        self.awaits = awaits
        super().__init__(message)


class LateFailure(CdcError):
    """Lanes at fault became known only at the end of an open unit of work.

    ``reasons`` maps each lane (16-byte digest) to the error it is parked with when it comes again.
    """

    disposition = Disposition.RETRY

    def __init__(self, reasons: dict[bytes, DataError]) -> None:
        self.reasons = reasons
        super().__init__(f"{len(reasons)} lanes failed at the end of a transaction")


class Stop(CdcError):
    """The pipeline met a state that it must not guess about."""


class DecodeError(Stop):
    """Bytes of the log that do not follow the protocol."""

    def __init__(self, message: str, *, kind: str, offset: int) -> None:
        self.kind = kind
        self.offset = offset
        super().__init__(f"{message} (message kind {kind!r}, offset {offset})")


def disposition_of(error: BaseException) -> Disposition:
    """RETRY, PARK or STOP; what nobody here raised on purpose stops."""
    return error.disposition if isinstance(error, CdcError) else Disposition.STOP


def suggest(word: str, known: Collection[str]) -> str:
    """``; did you mean 'x'?`` for the nearest known word, or nothing."""
    import difflib

    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
