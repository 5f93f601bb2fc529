"""Tables and JSON on stdout."""

import datetime as dt
import json

import click
import pytest

from cdc_daemon.cli.given import known_name
from cdc_daemon.cli.output import ago, print_json, print_table, row_value


def table(capsys: pytest.CaptureFixture[str], *rows: tuple[object, ...]) -> list[str]:
    print_table(("NAME", "ROWS"), rows)
    return capsys.readouterr().out.splitlines()


def test_columns_align_and_numbers_stand_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert table(capsys, ("material", 5), ("unit", 12_345)) == [
        "NAME        ROWS",
        "material       5",
        "unit      12,345",
    ]


def test_wide_characters_count_double(capsys: pytest.CaptureFixture[str]) -> None:
    assert table(capsys, ("物料", 1), ("unit", 2)) == ["NAME  ROWS", "物料     1", "unit     2"]


def test_nothing_is_a_dash_and_control_characters_are_replaced(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert table(capsys, (None, None), ("a\x1b[31m\nb", 0))[1:] == [
        "-            -",
        "a\ufffd[31m\ufffdb     0",
    ]


def test_an_empty_table_has_its_head(capsys: pytest.CaptureFixture[str]) -> None:
    assert table(capsys) == ["NAME  ROWS"]


def test_no_colour_where_stdout_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("STATE",), [("blocked",)])
    assert "\x1b" not in capsys.readouterr().out


def test_json_keeps_characters_and_writes_times_in_iso(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": "物料", "at": dt.datetime(2026, 1, 2, tzinfo=dt.UTC)})
    out = capsys.readouterr().out
    assert "物料" in out
    assert json.loads(out)["at"] == "2026-01-02T00:00:00+00:00"


@pytest.mark.parametrize(
    "seconds,words",
    [
        (0, "0 s ago"),
        (119, "119 s ago"),
        (120, "2 min ago"),
        (7200, "2 h ago"),
        (172800, "2 d ago"),
    ],
)
def test_ago(seconds: int, words: str) -> None:
    assert ago(dt.datetime.now(dt.UTC) - dt.timedelta(seconds=seconds)) == words


@pytest.mark.parametrize(
    "value, shown",
    [
        (None, "NULL"),
        ("NULL", "'NULL'"),
        ("-", "'-'"),
        ("", "''"),
        (" a", "' a'"),
        ("a", "a"),
        ({"base64": "AA=="}, "{'base64': 'AA=='}"),
    ],
)
def test_null_is_told_from_texts_that_look_like_it(value: object, shown: str) -> None:
    assert row_value(value) == shown


def test_a_name_that_an_option_does_not_know_is_a_usage_error() -> None:
    known_name("pipeline", None, ["erp"])
    known_name("pipeline", "erp", ["erp"])
    with pytest.raises(click.UsageError, match="there is no pipeline 'epr'; did you mean 'erp'"):
        known_name("pipeline", "epr", ["erp"])
