"""Alerts, their cases, their pages and the dashboard fit together; what the handbook shows as
printed is an event that the daemon knows. Its commands and links: ``test_documents``.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

import cdc_daemon
from tests.support.prometheus import ALERTS_TEST, alerts, dashboard

REPOSITORY = Path(__file__).parents[2]
HANDBOOK = REPOSITORY / "docs" / "operations"
PAGES = {page.stem: page for page in (HANDBOOK / "alerts").glob("*.md")}
ALERTS = {rule["alert"]: rule for rule in alerts()}
SECTIONS = ["Meaning", "Impact", "Look", "Do", "Clears"]


@cache
def _cases() -> list[dict[str, Any]]:
    tests = yaml.safe_load(ALERTS_TEST.read_text(encoding="utf-8"))["tests"]
    return [case for test in tests for case in test["alert_rule_test"]]


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_a_case_that_fires_and_one_that_does_not(name: str) -> None:
    expected = [bool(case["exp_alerts"]) for case in _cases() if case["alertname"] == name]
    assert set(expected) == {True, False}


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_and_leads_to_its_page(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/operations/alerts/{name}.md"
    text = PAGES[name].read_text("utf-8")
    assert text.startswith(f"# {name}\n\nSeverity: {rule['labels']['severity']}.")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS


def test_every_page_belongs_to_an_alert_and_stands_in_the_index() -> None:
    assert PAGES.keys() == ALERTS.keys()
    index = (HANDBOOK / "README.md").read_text("utf-8")
    for name, rule in ALERTS.items():
        assert f"| [{name}](alerts/{name}.md) | {rule['labels']['severity']} |" in index
    for page in HANDBOOK.glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in index, page.name


def test_what_the_handbook_shows_as_logged_is_logged_by_the_code() -> None:
    code = "\n".join(
        path.read_text("utf-8") for path in Path(cdc_daemon.__file__).parent.rglob("*.py")
    )
    shown = set()
    for page in HANDBOOK.rglob("*.md"):
        shown |= set(re.findall(r'\bevent=(?:"([^"]+)"|(\w+))', page.read_text("utf-8")))
    assert len(shown) > 8
    for quoted, bare in shown:
        assert f'"{quoted or bare}"' in code, quoted or bare


FOREIGN = ("is shutting down", "session is read-only", "password authentication failed")
"""Of messages that quote a server or its client library."""
MOSTLY = 0.65


def test_a_message_in_the_handbook_is_in_the_words_of_the_code() -> None:
    """Who searches for what he sees must find it; what is put in (names, positions) is little."""
    words = _literals()
    messages = [
        line.replace('\\"', '"')
        for page in HANDBOOK.rglob("*.md")
        for text in re.findall(r'error="((?:[^"\\]|\\.)*)"', page.read_text("utf-8"))
        for line in text.split("\\n")
    ]
    assert len(messages) > 10
    for message in messages:
        if not any(text in message for text in FOREIGN):
            assert _covered(message, words) > MOSTLY, message


def _literals() -> set[str]:
    """The longer string literals of the code, and of f-strings what is fixed."""
    return {
        node.value
        for path in Path(cdc_daemon.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) > 5
    }


def _covered(message: str, words: set[str]) -> float:
    """The share of the message that is made of these words."""
    found = bytearray(len(message))
    for word in words:
        place = message.find(word)
        while place >= 0:
            found[place : place + len(word)] = b"\1" * len(word)
            place = message.find(word, place + 1)
    return sum(found) / len(message)


def test_the_dashboard_can_be_imported_anywhere() -> None:
    """It names no data source of ours, and no panel twice."""
    board = dashboard()
    assert [one["name"] for one in board["templating"]["list"]] == [
        "datasource",
        "instance",
        "pipeline",
    ]
    panels = board["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(ids) == len(set(ids))
    titles = [panel["title"] for panel in panels if panel["type"] == "timeseries"]
    assert len(titles) == len(set(titles))
    for panel in panels:
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["targets"]
            assert all(one["datasource"]["uid"] == "${datasource}" for one in panel["targets"])
    places = [
        (panel["gridPos"]["y"] + y, panel["gridPos"]["x"] + x)
        for panel in panels
        for y in range(panel["gridPos"]["h"])
        for x in range(panel["gridPos"]["w"])
    ]
    assert len(places) == len(set(places)), "two panels lie on each other"
