"""What there is to tell: alerts, what became of them, and messages made of both.

Facts are figures, names and the daemon's own words; never a row's value, never a secret. Not in
here: what an alert is made of (``daemon.telling``) and how it is worded (``texts``).
"""

from __future__ import annotations

import enum
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Fact: TypeAlias = str | int | float


class Severity(enum.IntEnum):
    """How bad it is; the worst last."""

    INFO = 1
    WARNING = 2
    CRITICAL = 3


class Kind(enum.Enum):
    """What an alert is about."""

    STOPPED = "stopped"  # the pipeline is not started again by itself
    BLOCKED = "blocked"  # every attempt fails
    STALLED = "stalled"  # neither progress nor an error
    LOG_AT_RISK = "log_at_risk"  # the source is about to remove unread log, or has
    PARKED = "parked"  # changes of an entity wait in the failure queue
    BREAKER = "breaker"  # too many changes failed, so the pipeline waits
    CHECK = "check"  # a check finds something amiss
    UNREACHABLE = "unreachable"  # a server does not answer
    DIFFERENT = "different"  # a verification found an entity different
    UNVERIFIED = "unverified"  # a verification could not be carried out
    RELOAD = "reload"  # a changed configuration was refused
    TEST = "test"

    @property
    def lasting(self) -> bool:
        """Whether it cannot pass by itself, so that waiting to tell it is of no use."""
        return self in _LASTING


_LASTING = frozenset(
    {Kind.STOPPED, Kind.BREAKER, Kind.DIFFERENT, Kind.UNVERIFIED, Kind.RELOAD, Kind.TEST}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something that somebody should know.

    ``pipeline`` is empty for what is about the daemon. ``subject`` tells alerts of one kind and
    pipeline apart: a check, a server, a mapping. ``weight``: a figure that says how much it is.
    """

    kind: Kind
    severity: Severity
    pipeline: str = ""
    entity: str | None = None
    subject: str = ""
    weight: int = 0
    facts: Mapping[str, Fact] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What makes two of them the same, whatever their facts."""
        key = "\n".join((self.kind.value, self.pipeline, self.entity or "", self.subject))
        return key.encode(errors="backslashreplace").decode()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "kind": self.kind.value,
            "severity": self.severity.name.lower(),
            "pipeline": self.pipeline,
            "entity": self.entity,
            "subject": self.subject,
            "weight": self.weight,
            "facts": dict(self.facts),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Alert:
        """The inverse of :meth:`to_dict`."""
        read = {"kind": Kind(plain["kind"]), "severity": Severity[plain["severity"].upper()]}
        return cls(**{**plain, **read})


class Phase(enum.Enum):
    """What became of an alert."""

    BEGAN = "began"
    WORSE = "worse"
    GOES_ON = "goes_on"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """An alert and what became of it; ``since`` and ``time`` in seconds since 1970."""

    alert: Alert
    phase: Phase
    since: float
    time: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            **self.alert.to_dict(),
            "phase": self.phase.value,
            "since": self.since,
            "time": self.time,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Notice:
        """The inverse of :meth:`to_dict`."""
        own = {"phase", "since", "time"}
        return cls(
            alert=Alert.from_dict({k: v for k, v in plain.items() if k not in own}),
            phase=Phase(plain["phase"]),
            since=plain["since"],
            time=plain["time"],
        )


def new_id() -> str:
    """What a receiver may know a message by that comes twice."""
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a channel is sent at once, the worst first."""

    channel: str
    notices: tuple[Notice, ...]
    id: str = field(default_factory=new_id)

    @property
    def severity(self) -> Severity:
        """That of the worst alert that is not over; of the worst where all are."""
        bad = [notice for notice in self.notices if notice.phase is not Phase.ENDED]
        return max(notice.alert.severity for notice in bad or self.notices)

    @property
    def over(self) -> bool:
        """Whether everything in it is over."""
        return all(notice.phase is Phase.ENDED for notice in self.notices)
