"""Which source rows parked changes are of, and which of these rows hang together.

A change that gave a row another identity is of two rows: they are read again together, or not at
all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from cdc_daemon.engine.lanes import identities_of
from cdc_daemon.engine.payload import run_of
from cdc_daemon.model.changes import Relation
from cdc_daemon.model.effects import Key
from cdc_daemon.model.errors import Stop
from cdc_daemon.model.queue import Failure


def rows_of(failure: Failure, relation: Relation) -> list[Key]:
    """The identities of a change's row, before and after it; none where they cannot be told."""
    try:
        found = identities_of(run_of(failure.payload, relation, sequence=0), 0)
        for identity in found:
            b"\0".join(identity).decode()
    except (Stop, UnicodeDecodeError):
        return []
    return found


def together(changes: Iterable[Sequence[Key]]) -> list[list[Key]]:
    """Rows that changes connect, as groups; each row is in one."""
    groups: dict[Key, list[Key]] = {}
    for rows in changes:
        for row in rows:
            groups.setdefault(row, [row])
        for other in rows[1:]:
            first, second = groups[rows[0]], groups[other]
            if first is not second:
                first += second
                groups.update(dict.fromkeys(second, first))
    return list({id(group): group for group in groups.values()}.values())


def in_pieces(groups: Iterable[list[Key]], most: int) -> Iterator[list[Key]]:
    """Groups put together to pieces of so many rows; none is cut, however large."""
    piece: list[Key] = []
    for group in groups:
        if piece and len(piece) + len(group) > most:
            yield piece
            piece = []
        piece = piece + group
    if piece:
        yield piece
