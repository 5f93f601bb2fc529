"""What may stand in a log line, and how it looks."""

import io
import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from cdc_daemon import telemetry


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    before, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = before
    root.setLevel(level)
    logging.raiseExceptions = raising
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def _event(**fields: object) -> dict[str, object]:
    out = io.StringIO()
    telemetry.configure("info", "json", out)
    telemetry.get_logger("test").info("something", **fields)
    telemetry.flush()
    found: dict[str, object] = json.loads(out.getvalue())
    return found


@pytest.mark.parametrize(
    "field,value,shown",
    [
        ("password", "hunter2", "***"),
        ("api_key", ["hunter2"], "***"),
        ("credentials", {"a": "hunter2"}, "***"),
        ("dsn", "postgresql://cdc:hunter2@db/erp", "postgresql://cdc:***@db/erp"),
        ("dsn", "postgresql://cdc:hun/t@er2@db/erp", "postgresql://cdc:***@db/erp"),
        ("url", "postgresql://db/erp?password=hunter2", "postgresql://db/erp?password=***"),
        ("conninfo", r"host=a password='hun\'ter 2' user=b", "host=a password=*** user=b"),
        ("source", {"dsn": "mysql://u:hunter2@h", "n": 1}, {"dsn": "mysql://u:***@h", "n": 1}),
        ("error", "broken\nDETAIL:  Key (id)=(4711)", "broken\nDETAIL: ***"),
        (
            "error",
            "broken\nDETAIL:  row (4711, two\nlines)\nHINT:  do\nCONTEXT:  COPY x, line 1: 4711",
            "broken\nDETAIL: ***\nHINT:  do\nCONTEXT: ***",
        ),
        (
            "error",
            "source erp: DETAIL:  Only roles with the REPLICATION attribute may start it.",
            "source erp: DETAIL:  Only roles with the REPLICATION attribute may start it.",
        ),
        ("error", "psycopg.Error: broken DETAIL:  4711", "psycopg.Error: broken DETAIL: ***"),
        (
            "error",
            "E: x\nDETAIL:  4711\n4712\n\nThe above exception was the direct cause",
            "E: x\nDETAIL: ***\n\nThe above exception was the direct cause",
        ),
        ("error", "{'password': 'hun\\'ter2', 'n': 1}", "{'password': '***', 'n': 1}"),
        ("error", '{"sslpassword": "hunter2"}', "{\"sslpassword\": '***'}"),
        ("error", ValueError("at redis://:hunter2@h"), "at redis://:***@h"),
        ("position", "0/1A2B", "0/1A2B"),
        ("time", "12:30:00 by a@b", "12:30:00 by a@b"),
    ],
)
def test_secrets_and_row_values_are_masked(field: str, value: object, shown: object) -> None:
    assert _event(**{field: value})[field] == shown


def test_tracebacks_and_what_libraries_log_are_masked_too() -> None:
    out = io.StringIO()
    telemetry.configure("info", "logfmt", out)
    try:
        raise RuntimeError("no postgresql://a:hunter2@b\nCONTEXT: COPY t, line 1: 4711")
    except RuntimeError:
        telemetry.get_logger("test").exception("failed")
    logging.getLogger("library").warning("at %s", "mysql://a:hunter2@b")
    telemetry.flush()
    first, second = out.getvalue().splitlines()
    assert "RuntimeError" in first
    assert "logger=library" in second
    assert "hunter2" not in out.getvalue()
    assert "4711" not in first.partition("raise ")[0] + first.rpartition("RuntimeError: ")[2]


def test_lines_below_the_level_are_left_out() -> None:
    out = io.StringIO()
    telemetry.configure("warning", "logfmt", out)
    telemetry.get_logger("test").info("quiet")
    logging.getLogger("library").info("quiet")
    telemetry.get_logger("test", pipeline="erp").warning("loud", rows=3)
    telemetry.flush()
    (line,) = out.getvalue().splitlines()
    assert "level=warning" in line
    assert "event=loud" in line
    assert "pipeline=erp rows=3" in line
    assert re.match(r"timestamp=2\d{3}-\d\d-\d\dT[\d:.]+Z ", line)


def test_in_the_journal_lines_carry_a_priority_and_no_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "journal").open("w+") as journal:
        found = os.fstat(journal.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        telemetry.configure("info", "logfmt", journal)
        telemetry.get_logger("test").error("bad")
        telemetry.get_logger("test").info("good")
        telemetry.flush()
        journal.seek(0)
        assert journal.read() == (
            "<3>level=error logger=test event=bad\n<6>level=info logger=test event=good\n"
        )


def test_on_a_terminal_lines_are_for_people_and_colours_can_be_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    telemetry.configure("info", "auto", out)
    telemetry.get_logger("test").info("hello", dsn="postgresql://a:hunter2@b")
    telemetry.flush()
    assert "hello" in out.getvalue()
    assert "postgresql://a:***@b" in out.getvalue()
    assert "\x1b" not in out.getvalue()
    assert "event=" not in out.getvalue()


def test_a_closed_stream_does_not_raise() -> None:
    out = io.StringIO()
    telemetry.configure("info", "logfmt", out)
    out.close()
    telemetry.get_logger("test").error("nobody reads this")
    telemetry.flush()
