"""Lines of the failure queue: written as they are read, and every bad one is named."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cdc_daemon.cli.exporting import line_of
from cdc_daemon.cli.importing import Line, _pieces, read_lines
from cdc_daemon.engine.payload import fingerprint
from cdc_daemon.model.errors import CdcError
from tests.unit.test_editing import FAILURE


def read(folder: Path, *lines: str | bytes) -> list[Line]:
    file = folder / "lines"
    file.write_bytes(b"\n".join(one.encode() if isinstance(one, str) else one for one in lines))
    return read_lines(file, ["erp"])


def line(**changed: Any) -> str:
    return json.dumps(json.loads(line_of(FAILURE)) | changed)


def test_a_line_comes_back_as_it_went(tmp_path: Path) -> None:
    """With a byte order mark, blank lines and halves of characters; edited or not."""
    odd = replace(FAILURE, id=8, payload={"new": {"fname": "\ud800 螺母"}}, commit_time=None,
                  retry_at=dt.datetime(2026, 7, 28, tzinfo=dt.UTC))  # fmt: skip
    edited = line(id=9, payload={"new": {"fname": "x"}})
    found = read(tmp_path, "\ufeff" + line_of(FAILURE), "", line_of(odd), edited)
    assert [(one.number, one.id, one.payload) for one in found] == [
        (1, 7, None),
        (3, 8, None),
        (4, 9, {"new": {"fname": "x"}}),
    ]
    assert found[2].was == fingerprint(FAILURE.payload)


BAD: dict[str, tuple[str | bytes, str]] = {
    "no JSON": ('{"id": 7,}', "1:10: this is no JSON"),
    "no UTF-8": (b'{"id": "\xff"}', "1:9: is not in UTF-8"),
    "no object": ("[7]", "1:1: a line holds one JSON object"),
    "another format": (line(format=2), "1:1: the line's format is not 1"),
    "no id": (line(id="7"), "1:1: id must be"),
    "another pipeline": (line(pipeline="crm"), "1:1: pipeline is not one"),
    "a list as pipeline": (line(pipeline=[1]), "1:1: pipeline is not one"),
    "no payload": (line(payload=None), "1:1: fingerprint and payload"),
    "too deep": ("[" * 100_000, "1:1: this is nested too deeply"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_line_is_named_by_its_place(tmp_path: Path, name: str) -> None:
    text, words = BAD[name]
    with pytest.raises(CdcError) as caught:
        read(tmp_path, text)
    assert f"lines:{words}" in str(caught.value)


def test_two_lines_of_one_change_and_a_file_of_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CdcError, match="lines:2:1: change 7 stands in line 1 too"):
        read(tmp_path, line(), line())
    with pytest.raises(CdcError, match="holds no changes"):
        read(tmp_path, "", "  ")
    with pytest.raises(CdcError, match="gone cannot be read: No such file"):
        read_lines(tmp_path / "gone", ["erp"])
    with pytest.raises(CdcError, match="and 5 more"):
        read(tmp_path, *["[7]"] * 25)


def test_commands_stay_small_and_of_one_pipeline() -> None:
    """However many lines there are, and however long."""

    def edits(number: int, size: int, pipeline: str = "erp") -> list[Line]:
        one = Line(number=1, id=1, pipeline=pipeline, was="", payload={}, size=size)
        return [one] * number

    assert [len(some) for some in _pieces(edits(450, 10))] == [200, 200, 50]
    assert [len(some) for some in _pieces(edits(3, 200_000))] == [1, 1, 1]
    assert [len(some) for some in _pieces(edits(2, 10) + edits(2, 10, "crm"))] == [2, 2]
