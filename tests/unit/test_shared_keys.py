"""Source rows that share an entity key for a moment: a batch never leaves what nobody has."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdc_daemon.model.changes import Operation
from tests.support.simulation import Change, Simulation, Texts


def row(identity: str, number: str, name: str) -> Texts:
    return {"id": identity, "number": number, "name": name, "note": None}


def insert(identity: str, number: str, name: str) -> Change:
    return Change("customer", Operation.INSERT, new=row(identity, number, name))


def update(identity: str, number: str, before: str, after: str) -> Change:
    old, new = row(identity, number, before), row(identity, number, after)
    return Change("customer", Operation.UPDATE, old=old, new=new)


def delete(identity: str, number: str, name: str) -> Change:
    return Change("customer", Operation.DELETE, old=row(identity, number, name))


def left(folder: Path, mode: str, *changes: Change) -> tuple[dict[str, str], list[str]]:
    """Names by number, and error codes, after customer 2 has had number E."""
    simulation = Simulation(folder, mode)
    simulation.commit([[insert("2", "E", "a")]])
    simulation.commit([changes])
    found = simulation.found("customer")
    names = {(key[0]).decode(): (row[1] or b"").decode() for key, row in found.items()}
    return names, [one.error.code for one in simulation.parked]


MODES = pytest.mark.parametrize("mode", ["hard", "soft"])


@MODES
def test_a_row_that_comes_back_under_another_key_leaves_none_behind(
    tmp_path: Path, mode: str
) -> None:
    """Its old key was another row's, too, which is gone as well."""
    other = [insert("4", "E", "x"), delete("4", "E", "x")]
    own = [update("2", "E", "a", "b"), delete("2", "E", "b"), insert("2", "B", "z")]
    assert left(tmp_path, mode, *other, *own) == ({"B": "z"}, [])


@MODES
def test_a_row_that_shared_its_key_twice_keeps_its_own_change(tmp_path: Path, mode: str) -> None:
    """What cannot be told as a set is carried out one by one, and then the second guest parks."""
    first = [insert("3", "E", "x"), delete("3", "E", "x")]
    second = [insert("4", "E", "y"), delete("4", "E", "y")]
    names, codes = left(tmp_path, mode, *first, update("2", "E", "a", "b"), *second)
    assert names == {"E": "a"}
    assert codes == ["duplicate_entity_key", "waiting", "waiting", "waiting", "waiting"]
