"""From what a pipeline reports to what somebody should know of it: pure.

Not in here: when that is told, and to whom (``notify``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cdc_daemon.admin.board import DIFFERENCES, PipelineView, Reload
from cdc_daemon.engine.status import AT_RISK, State, WorkerStatus
from cdc_daemon.notify.alert import Alert, Kind, Severity
from cdc_daemon.telemetry import redact_text

HALTED = frozenset({State.BLOCKED, State.STOPPED})
MOST_CLASSES = 5
UNREACHABLE = "unreachable"
SEVERITIES = {"problem": Severity.WARNING, "warning": Severity.INFO}
"""Of what checks find, by its state."""


def is_silent(view: PipelineView) -> bool:
    """Whether it is not known what is amiss no longer: its worker is just starting, or has met an
    obstacle before it came as far as to look at queue, slot and verifications."""
    status = view.status
    looked = status.event_time is not None or status.tripped
    return status.state is State.STARTING or (status.state in HALTED and not looked)


def alerts_of(view: PipelineView) -> Iterator[Alert]:
    """What is known to be amiss with a pipeline."""
    status = view.status
    if status.state is State.STARTING:
        return
    unreachable = [found for found in status.findings if found.get("state") == UNREACHABLE]
    yield from _halt(status, explained=bool(unreachable))
    if status.state is not State.STOPPED:
        yield from (_unreachable(status, found) for found in unreachable)
    if status.state not in HALTED:
        yield from _checks(status)
    if status.slot is not None and status.slot.status in AT_RISK:
        facts = {"slot": status.slot.status}
        yield _alert(status, Kind.LOG_AT_RISK, Severity.CRITICAL, facts=facts)
    yield from _parked(status)
    yield from _verified(status)


def refused(reload: Reload) -> Iterator[Alert]:
    """That a changed configuration was refused."""
    if not reload.successful:
        yield Alert(kind=Kind.RELOAD, severity=Severity.WARNING)


def _halt(status: WorkerStatus, *, explained: bool) -> Iterator[Alert]:
    """That it does not go on; ``explained``: another alert says why it is blocked."""
    facts = {"error": redact_text(status.error)} if status.error else {}
    if status.state is State.STOPPED:
        yield _alert(status, Kind.STOPPED, Severity.CRITICAL, facts=facts)
    elif status.state is State.BLOCKED and status.tripped:
        yield _alert(status, Kind.BREAKER, Severity.CRITICAL, facts=facts)
    elif status.state is State.BLOCKED and not explained:
        yield _alert(status, Kind.BLOCKED, Severity.CRITICAL, facts=facts)
    elif status.state is State.STALLED:
        yield _alert(status, Kind.STALLED, Severity.CRITICAL)


def _unreachable(status: WorkerStatus, found: Mapping[str, str]) -> Alert:
    facts = {"what": redact_text(found.get("what", "")), "cure": found.get("cure", "")}
    where = found.get("where", "")
    return _alert(status, Kind.UNREACHABLE, Severity.CRITICAL, subject=where, facts=facts)


def _checks(status: WorkerStatus) -> Iterator[Alert]:
    """One for each check, whatever number of tables it complains of."""
    found: dict[str, list[Mapping[str, str]]] = {}
    for one in status.findings:
        if one.get("state") in SEVERITIES:
            found.setdefault(one["check"], []).append(one)
    for check, some in found.items():
        worst = max(some, key=lambda one: SEVERITIES[one["state"]])
        more = f" (+{len(some) - 1})" if len(some) > 1 else ""
        facts = {
            "where": worst.get("where", "") + more,
            "what": redact_text(worst.get("what", "")),
            "cure": worst.get("cure", ""),
        }
        severity = SEVERITIES[worst["state"]]
        yield _alert(status, Kind.CHECK, severity, subject=check, weight=len(some), facts=facts)


def _parked(status: WorkerStatus) -> Iterator[Alert]:
    """One for each entity; classes of errors and age are those of the pipeline."""
    if not status.parked_rows:
        return
    rows: dict[str, int] = {}
    entities = _entities(status)
    for mapping, number in status.parked.items():
        entity = entities.get(mapping, mapping)
        rows[entity] = rows.get(entity, 0) + number
    common = sorted(status.failed, key=status.failed.__getitem__, reverse=True)[:MOST_CLASSES]
    facts: dict[str, str | float] = {"classes": ", ".join(common)} if common else {}
    if status.parked_since is not None:
        facts["oldest"] = status.parked_since
    for entity, number in rows.items():
        if number:
            yield _alert(
                status,
                Kind.PARKED,
                Severity.WARNING,
                entity=entity,
                weight=number,
                facts={"changes": number, **facts},
            )


def _verified(status: WorkerStatus) -> Iterator[Alert]:
    """What the newest verification found; one that failed leaves what the one before it found."""
    told = status.verification or {}
    if told.get("failed"):
        error = redact_text(str(told.get("error") or ""))
        yield _alert(status, Kind.UNVERIFIED, Severity.WARNING, facts={"error": error})
    names = sorted(DIFFERENCES)
    different = {
        mapping: {name: int(found.get(name, 0)) for name in names}
        for mapping, found in told.get("mappings", {}).items()
        if any(found.get(name) for name in names)
    }
    entities = _entities(status) if different else {}
    for mapping, rows in different.items():
        yield _alert(
            status,
            Kind.DIFFERENT,
            Severity.CRITICAL,
            entity=entities.get(mapping, mapping),
            subject=mapping,
            weight=sum(rows.values()),
            facts={**rows, "verified": told.get("last_run") or told.get("started") or 0.0},
        )


def _entities(status: WorkerStatus) -> dict[str, str]:
    """The entity of each mapping."""
    return {mapping: entity for mapping, entity, _ in status.applied}


def _alert(status: WorkerStatus, kind: Kind, severity: Severity, **more: Any) -> Alert:
    return Alert(kind=kind, severity=severity, pipeline=status.pipeline, **more)
