"""What an administrator may write into a parked change, and what is refused, with words."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from cdc_daemon.engine.editing import Editing
from cdc_daemon.engine.lanes import entity_lane, source_lane
from cdc_daemon.engine.payload import fingerprint
from cdc_daemon.mapping.compile import compile_mapping
from cdc_daemon.mapping.source_text import source_text
from cdc_daemon.model.changes import ColumnType
from cdc_daemon.model.errors import CdcError, DataError
from cdc_daemon.model.ports import Command, Sink
from cdc_daemon.model.queue import PARKED, Failure
from cdc_daemon.model.selection import Selection
from tests.unit.test_mapper import MAPPING, configuration, relation

NAME = "erp.t_material.material"
LANE = source_lane(NAME, (b"1",))
PAYLOAD: dict[str, Any] = {
    "operation": "insert",
    "new": {
        "fid": "1",
        "fnumber": "M1",
        "fname": None,
        "funit": "PCS",
        "fprice": "1.5000",
        "fremark": {"base64": "/w=="},
    },
}
FAILURE = Failure(
    id=7,
    pipeline="erp",
    mapping=NAME,
    entity="material",
    table="erp.public.t_material",
    operation="insert",
    position="0/1",
    sequence=0,
    commit_time=None,
    parked_at=dt.datetime(2026, 7, 28, tzinfo=dt.UTC),
    error_code="required",
    error_message="name is required",
    attempts=1,
    state="parked",
    payload=PAYLOAD,
    mapping_version="v",
    lanes=(LANE,),
)


class FakeSink:
    """Holds parked changes, and notes what a committed unit edited."""

    def __init__(self, *failures: Failure) -> None:
        self.held = failures
        self.edits: list[tuple[int, dict[str, Any], tuple[bytes, ...], str, str]] = []

    def failures(self, selection: Selection = PARKED) -> list[Failure]:
        return [one for one in self.held if one.id in (selection.ids or ())]

    @contextmanager
    def begin(self) -> Iterator[FakeSink]:
        yield self

    @property
    def queue(self) -> FakeSink:
        return self

    def edited(
        self, failure: int, payload: Any, lanes: Sequence[bytes], *, actor: str, reason: str
    ) -> None:
        self.edits.append((failure, payload, tuple(lanes), actor, reason))


class Desk:
    """Edits over one table whose rows `fid` names."""

    def __init__(self, folder: Path, *failures: Failure) -> None:
        self.sink = FakeSink(*failures)
        table = relation(identity=(0,))
        compiled = compile_mapping(
            (files := configuration(folder, MAPPING)).mappings[0], files, table
        )
        self.editing = Editing(
            sink=cast(Sink, self.sink),
            compile_relation=lambda _: [compiled],
            relations=lambda: [table],
        )

    def ask(self, *edits: Any, **more: Any) -> dict[str, Any]:
        arguments = {"edits": list(edits), **more}
        command = Command(id=1, pipeline="erp", verb="edit", arguments=arguments, actor="ann")
        return self.editing.carry_out(command, "a test")

    def refused(self, values: dict[str, Any]) -> str:
        found = self.ask({"id": 7, "values": values})
        assert self.sink.edits == []
        ((number, said),) = found["refused"]
        assert number == 7
        return str(said)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, FAILURE, replace(FAILURE, id=8, operation="delete", payload={
        "operation": "delete", "old": {"fid": "1"}, "old_full": False,
    }))  # fmt: skip


def test_a_value_is_written_as_the_log_would_say_it(desk: Desk) -> None:
    """The rest of the payload stays; the lane of the key that the row has is blocked, too."""
    values = {"fname": "bolt", "fprice": " 02.50 ", "fremark": None}
    found = desk.ask({"id": 7, "values": values})
    assert found == {"edited": [7], "same": [], "refused": []}
    ((number, payload, lanes, actor, reason),) = desk.sink.edits
    assert (number, actor, reason) == (7, "ann", "a test")
    new = PAYLOAD["new"]
    assert payload["new"] == {**new, "fname": "bolt", "fprice": "2.5000", "fremark": None}
    assert lanes == (LANE, entity_lane("material", (b"M1",)))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a column that nobody reads": (
        {"fname": "bolt", "fcolour": "red"},
        "column 'fcolour' is not one that the mapping reads: fname, fnumber, fprice, fremark",
    ),
    "a text in a number": ({"fname": "bolt", "fprice": "secret"}, "column 'fprice' is numeric"),
    "too many digits": ({"fname": "bolt", "fprice": "1.23456"}, "column 'fprice' is numeric"),
    "too long a text": ({"fname": "x" * 41}, "column 'fname' is varchar"),
    "a row the mapping does not take": ({"fprice": "2"}, "required"),
    "a text too long for the attribute": ({"fname": "x" * 21}, "too_long"),
    "a number": ({"fprice": 2}, "write its value as a text, or null for NULL"),
    "half a character": ({"fname": "\ud800"}, "not valid Unicode"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_mapping_would_not_take_is_refused(desk: Desk, name: str) -> None:
    """Before it is kept, and without a value in the words."""
    values, words = REFUSED[name]
    said = desk.refused(values)
    assert words in said
    assert "secret" not in said
    assert "1.23456" not in said


def test_the_source_row_stays_the_one_it_is(tmp_path: Path) -> None:
    """Its identity is its lane; that no mapping reads it here is said as well."""
    mapping = MAPPING.replace("remark: fremark", 'remark: {expr: "fid || fremark"}')
    files = configuration(tmp_path, mapping.replace("fid ||", "CAST(fid AS text) ||"))
    table = relation(identity=(0,))
    desk = Desk(tmp_path, FAILURE)
    compiled = compile_mapping(files.mappings[0], files, table)
    desk.editing._compile = lambda _: [compiled]
    assert desk.refused({"fid": "2"}) == "column 'fid' names the source row and cannot be edited"


def test_a_delete_has_nothing_to_edit_and_what_is_settled_stays(desk: Desk) -> None:
    """One refusal, and nothing of the command is done."""
    found = desk.ask(
        {"id": 7, "values": {"fname": "bolt"}},
        {"id": 8, "values": {"fname": "bolt"}},
        {"id": 9, "values": {"fname": "bolt"}},
    )
    assert [number for number, _ in found["refused"]] == [8, 9]
    assert "a delete has no values" in found["refused"][0][1]
    assert "not parked" in found["refused"][1][1]
    assert desk.sink.edits == []


def test_a_whole_payload_may_differ_in_its_new_values_only(desk: Desk) -> None:
    """What the log said else stays; values that are no text may stay as they are."""
    was = fingerprint(PAYLOAD)

    def ask(payload: dict[str, Any], was: str = was) -> str:
        found = desk.ask({"id": 7, "payload": payload, "was": was})
        return found["refused"][0][1] if found["refused"] else ""

    new = PAYLOAD["new"]
    assert "only values under payload.new" in ask({**PAYLOAD, "operation": "update"})
    assert "'fremark' is missing" in ask(
        {**PAYLOAD, "new": {k: v for k, v in new.items() if k != "fremark"}}
    )
    assert "must hold columns" in ask({**PAYLOAD, "new": [1]})
    edited = {**PAYLOAD, "new": {**new, "fname": "bolt"}}
    assert "edited since" in ask(edited, was="0")
    assert desk.sink.edits == []
    assert desk.ask({"id": 7, "payload": edited, "was": was}, check=True)["edited"] == [7]
    assert desk.sink.edits == [], "it was only asked"
    assert ask(edited) == ""
    assert desk.sink.edits[0][1] == edited


def test_a_payload_as_it_is_is_no_edit(tmp_path: Path) -> None:
    good = replace(FAILURE, payload={**PAYLOAD, "new": {**PAYLOAD["new"], "fname": "bolt",
                                                        "fremark": None}})  # fmt: skip
    desk = Desk(tmp_path, good)
    found = desk.ask({"id": 7, "payload": dict(good.payload), "was": fingerprint(good.payload)})
    assert (found["edited"], found["same"]) == ([], [7])
    assert desk.sink.edits == []


SHAPELESS: tuple[Any, ...] = (
    {"id": "7", "values": {}},
    {"id": 7},
    {"id": 7, "values": {}, "payload": {}},
    {"id": 7, "values": [1]},
    7,
)


@pytest.mark.parametrize("edit", SHAPELESS)
def test_a_command_of_no_shape_is_refused(desk: Desk, edit: Any) -> None:
    with pytest.raises(CdcError, match="edits must be a list"):
        desk.ask(edit)


TYPES = {
    ("smallint", "32768"): None,
    ("integer", "+7"): "7",
    ("oid", "-1"): None,
    ("boolean", "yes"): "t",
    ("date", "2026-02-30"): None,
    ("timestamp", "2026-02-28 23:59"): "2026-02-28 23:59:00",
    ("json", "{"): None,
    ("bytes", "\\xFF"): "\\xff",
    ("uuid", "zz"): None,
    ("array", "{1,2}"): "{1,2}",
    ("varchar", "é"): "é",
}


@pytest.mark.parametrize("name, text", TYPES)
def test_a_text_is_a_value_of_its_column_or_is_refused(name: str, text: str) -> None:
    wanted = TYPES[name, text]
    length = 1 if name == "varchar" else None
    if wanted is None:
        with pytest.raises(DataError):
            source_text(ColumnType(name, length), text.encode())
    else:
        assert source_text(ColumnType(name, length), text.encode()).decode() == wanted
