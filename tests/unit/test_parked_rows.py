"""Rows that parked changes connect are read again together."""

from __future__ import annotations

from cdc_daemon.engine.parked_rows import in_pieces, together
from cdc_daemon.model.effects import Key

A, B, C, D, E = [(name.encode(),) for name in "abcde"]


def sets(groups: list[list[Key]]) -> list[list[Key]]:
    assert all(len(set(group)) == len(group) for group in groups)
    return sorted(sorted(group) for group in groups)


def test_rows_hang_together_by_any_chain_of_changes() -> None:
    assert sets(together([[A], [B], [A]])) == [[A], [B]]
    assert sets(together([[A, B], [C, D], [E], [B, C]])) == [[A, B, C, D], [E]]
    assert sets(together([[A, B], [B, A], []])) == [[A, B]]
    assert together([]) == []


def test_a_group_is_never_cut() -> None:
    assert list(in_pieces([[A], [B, C], [D], [E]], 2)) == [[A], [B, C], [D, E]]
    assert list(in_pieces([[A, B, C]], 2)) == [[A, B, C]]
    assert list(in_pieces([], 2)) == []
