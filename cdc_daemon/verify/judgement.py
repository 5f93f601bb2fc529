"""What becomes of a group that is not plainly equal: rows match, are parked, or really differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cdc_daemon.model.entities import Attribute
from cdc_daemon.verify.circumstances import Circumstances
from cdc_daemon.verify.comparison import Group, SourceRow
from cdc_daemon.verify.hashes import Digest
from cdc_daemon.verify.report import Example


@dataclass(slots=True)
class Verdict:
    """Rows of one group by what they are; ``parked`` and ``open`` as examples to be shown.

    ``open``: differences, unless they turn out to be moving.
    """

    match: int = 0
    kept: int = 0
    parked: list[Example] = field(default_factory=list)
    open: list[Example] = field(default_factory=list)


def judge(group: Group, known: Circumstances, attributes: Sequence[Attribute]) -> Verdict:
    """Judge one group by what is known about it."""
    verdict = Verdict()
    if not group.rows:
        _judge_extra(group, known, verdict)
        return verdict
    rows = list(group.rows)
    if group.target is not None:
        equal = next((row for row in rows if _equals(row, group, known, attributes)), None)
        if equal is not None:
            rows.remove(equal)
            verdict.match = 1
    for row in rows:
        if row.identity in known.parked_rows:
            verdict.parked.append(_example("parked", group, row, attributes))
        elif group.target is not None and not verdict.match:
            verdict.open.append(_example("different", group, row, attributes))
        else:
            verdict.open.append(_example("missing", group, row, attributes))
    return verdict


def _judge_extra(group: Group, known: Circumstances, verdict: Verdict) -> None:
    if group.target is None or group.key is None:
        return  # neither side has it any longer
    if group.key in known.parked_keys:
        verdict.parked.append(Example(kind="parked", key=_shown(group.key)))
    elif group.key in known.kept_keys:
        verdict.kept = 1
    else:
        came_from = _whole(known.owners.get(group.key, ()))
        verdict.open.append(Example(kind="extra", key=_shown(group.key), source_row=came_from))


def _equals(
    row: SourceRow, group: Group, known: Circumstances, attributes: Sequence[Attribute]
) -> bool:
    assert group.target is not None
    if not row.equals(group.target, attributes):
        return False
    if isinstance(group.target, Digest):
        return not row.dangling
    named = dict(zip((a.name for a in attributes), group.target, strict=True))
    return all((name, named[name]) in known.orphans for name in row.dangling)


def _example(kind: str, group: Group, row: SourceRow, attributes: Sequence[Attribute]) -> Example:
    reason = row.reason or ", ".join(f"{name}: reference_unresolved" for name in row.dangling)
    differing: tuple[str, ...] = ()
    if group.target is not None and not row.reason:
        differing = row.differing(group.target, attributes)
    return Example(
        kind=kind,
        key=_shown(row.identity if group.key is None else group.key),
        of_source=group.key is None,
        source_row=_whole(row.identity),
        attributes=differing,
        reason=reason,
    )


def _whole(identity: Sequence[bytes | None]) -> tuple[str, ...]:
    """An identity that names one row; nothing where a part of it is NULL."""
    return () if None in identity else _shown(identity)


def _shown(texts: Sequence[bytes | None]) -> tuple[str, ...]:
    return tuple("NULL" if text is None else text.decode(errors="replace") for text in texts)
