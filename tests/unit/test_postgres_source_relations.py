"""What the catalogue says of mapped tables, learnt by one thread while another reads the log."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest

from cdc_daemon.model.changes import ColumnType, Replica
from cdc_daemon.model.errors import PreflightRefusal
from cdc_daemon.model.ports import Table
from cdc_daemon.sources.postgres.relations import Described, Known, Relations

P = Table(schema="s", name="p", columns=frozenset({"a", "b", "x"}))
Q = Table(schema="s", name="q", columns=frozenset({"a"}))


def test_the_reader_always_finds_what_was_known_before_and_after() -> None:
    """At every step of learning anew, a table, its leaves and its name are as they were."""
    relations = Relations("erp", [P, Q])
    facts = {("s", "p"): Known(oid=1, leaves=frozenset({11, 12})), ("s", "q"): Known(oid=2)}
    relations.learn(facts)
    steps = 0

    def look(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal steps
        steps += event == "line"
        for oid, name, table in ((1, "p", P), (11, "p1", P), (12, "p2", P), (2, "q", Q)):
            assert relations.mapped(oid, "s", name) is table, (event, frame.f_lineno)
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        relations.learn(dict(facts))
    finally:
        sys.settrace(before)
    assert steps > 2


def test_tables_may_change_their_names_with_each_other() -> None:
    relations = Relations("erp", [P, Q])
    relations.learn({("s", "p"): Known(oid=1), ("s", "q"): Known(oid=2)})
    relations.learn({("s", "p"): Known(oid=2), ("s", "q"): Known(oid=1)})
    assert relations.mapped(1, "s", "p") is Q
    assert relations.mapped(2, "s", "q") is P
    with pytest.raises(PreflightRefusal, match="another table has its name"):
        relations.mapped(3, "s", "p")
    relations.learn({("s", "p"): Known(oid=3)})
    assert relations.mapped(3, "s", "p") is P
    assert relations.mapped(2, "s", "old") is None, "what is forgotten is nobody's"


@pytest.mark.parametrize(
    "names, wanted",
    [(("a", "b", "x"), (0, 1)), (("x", "b", "a"), (2, 1)), (("b", "x", "a"), (2, 0))],
)
@pytest.mark.parametrize("replica", [Replica.KEY, Replica.FULL])
def test_the_identity_stands_in_the_tables_order(
    names: tuple[str, ...], wanted: tuple[int, ...], replica: Replica
) -> None:
    relations = Relations("erp", [P])
    relations.learn({("s", "p"): Known(columns=("a", "b", "x"), primary_key=("a", "b"))})
    flagged = names if replica is Replica.FULL else ("a", "b")
    described = Described(
        schema="s",
        table="p1",
        names=names,
        types=(ColumnType("text"),) * 3,
        flagged=frozenset(flagged),
        replica=replica,
    )
    relation, where = relations.describe(described, P)
    assert relation.identity == wanted
    assert where == (0, 1, 2)
    assert relations.describe(described, P)[0] is relation
