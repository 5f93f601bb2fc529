"""A checkpoint that no daemon wrote: what stands in it cannot be compared with anything.

Somebody has edited the row, or a restore lost a part of it. To go on would be to guess, and a part
that is missing would silently leave out the comparison that it is for. No server is asked.
"""

from __future__ import annotations

from cdc_daemon.model.errors import RESNAPSHOT, Problem
from cdc_daemon.model.position import Checkpoint, Phase
from cdc_daemon.sources.postgres.lsn import is_lsn

_CURE = f"restore the row as it was, or {RESNAPSHOT}"


def damaged(checkpoint: Checkpoint) -> list[Problem]:
    """What is missing or unreadable in a checkpoint that says streaming."""
    if checkpoint.phase is not Phase.STREAMING:
        return []
    found = [_position(checkpoint.position), _identity(checkpoint)]
    where = f"checkpoint {checkpoint.pipeline}"
    return [Problem(what=what, where=where, cure=_CURE) for what in found if what]


def _position(position: str | None) -> str:
    if position is None:
        return "the position is missing"
    return "" if is_lsn(position) else f"the position is damaged: {position!r} is none"


def _identity(checkpoint: Checkpoint) -> str:
    identity = checkpoint.identity
    known = identity and identity.system and identity.timeline and identity.database
    if not known:
        return "it does not say which server and database it belongs to"
    return "" if identity and identity.publication else "it does not say what was published"
