"""Source rows noted under their parents: kept, found and forgotten in the unit of work."""

from __future__ import annotations

import pytest

from cdc_daemon.model.cascades import Child
from cdc_daemon.model.ports import Sink

ONE, TWO, THREE = (bytes([n]) * 16 for n in (1, 0xFF, 3))
TEXT = r"""["a'\\\"€𝄞\u0000",null]"""


def test_children_are_found_by_any_of_their_parents(sink: Sink) -> None:
    with sink.begin() as unit:
        unit.note_children("erp.a.t", [], [Child(ONE, ONE, TEXT), Child(TWO, ONE, "b")])
        unit.note_children("erp.a.t", [], [Child(TWO, ONE, "b"), Child(TWO, TWO, "c")])
        assert unit.children([ONE], 9) == [TEXT]
        assert sorted(unit.children([TWO, THREE, ONE], 9)) == [TEXT, "b", "c"]
        assert len(unit.children([ONE, TWO], 2)) == 2
        assert unit.children([THREE], 9) == []
    with sink.begin() as unit:
        unit.note_children("erp.a.t", [(TWO, ONE), (THREE, ONE)], [Child(THREE, ONE, "b")])
        assert unit.children([TWO], 9) == ["c"]
        assert unit.children([THREE], 9) == ["b"]


def test_children_of_one_table_or_of_the_pipeline_are_forgotten(sink: Sink) -> None:
    with sink.begin() as unit:
        unit.note_children("erp.a.t", [], [Child(ONE, ONE, "t")])
        unit.note_children("erp.a.u", [], [Child(ONE, TWO, "u")])
        unit.forget_children("erp.a.t")
        assert unit.children([ONE], 9) == ["u"]
    with pytest.raises(RuntimeError), sink.begin() as unit:  # noqa: PT012
        unit.forget_children()
        assert unit.children([ONE], 9) == []
        raise RuntimeError
    with sink.begin() as unit:
        assert unit.children([ONE], 9) == ["u"]


def test_many_children_come_and_go(sink: Sink) -> None:
    rows = [Child(ONE, n.to_bytes(16), f"{n}") for n in range(1200)]
    parents = [n.to_bytes(16) for n in range(1200)]
    with sink.begin() as unit:
        unit.note_children("erp.a.t", [], rows)
        assert len(unit.children([*parents, ONE], 2000)) == 1200
        unit.note_children("erp.a.t", [(row.parent, row.digest) for row in rows[:-1]], [])
        assert unit.children([*parents, ONE], 2000) == ["1199"]


def test_children_of_one_parent_come_in_the_order_of_their_digests(sink: Sink) -> None:
    with sink.begin() as unit:
        unit.note_children("erp.a.t", [], [Child(ONE, TWO, "3"), Child(ONE, THREE, "2")])
        unit.note_children("erp.a.t", [], [Child(ONE, ONE, "1"), Child(TWO, ONE, "x")])
        assert unit.children([ONE], 2) == ["1", "2"]
        assert unit.children([ONE], 2, THREE) == ["3"]
        assert unit.children([ONE], 2, TWO) == []
