"""Texts in two languages, cut to each service's limit, and harmless whatever names hold."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from cdc_daemon.notify.alert import Alert, Kind, Message, Notice, Phase, Severity
from cdc_daemon.notify.jsonform import encoded_size
from cdc_daemon.notify.texts import (
    CARD,
    MARKDOWN,
    PLAIN,
    SLACK,
    Manner,
    Style,
    body,
    signed_body,
    subject,
    utf8,
)
from cdc_daemon.notify.words import COMMANDS, FACTS, TITLES
from tests.support.documents import calls, understood

EN = Manner(language="en", zone="UTC", instance="hub")
ZH = Manner(language="zh", zone="Asia/Shanghai", instance="集团")


def notice(phase: Phase = Phase.BEGAN, **alert: Any) -> Notice:
    made = {"kind": Kind.BLOCKED, "severity": Severity.CRITICAL, "pipeline": "erp", **alert}
    return Notice(alert=Alert(**made), phase=phase, since=1_790_000_000.0, time=1_790_003_600.0)


def message(*notices: Notice) -> Message:
    return Message(channel="x", notices=notices or (notice(),))


@pytest.mark.parametrize("kind, phase", list(itertools.product(Kind, Phase)))
def test_every_alert_has_words_in_both_languages(kind: Kind, phase: Phase) -> None:
    facts = dict.fromkeys(FACTS, 1790000000)
    one = message(notice(phase, kind=kind, entity="order", subject="s", facts=facts))
    english, chinese = body(one, EN, PLAIN, 99_999), body(one, ZH, PLAIN, 99_999)
    assert english.isascii()
    assert not chinese.isascii()
    assert "{" not in english + chinese
    assert subject(one, EN).startswith("[hub] [")
    assert subject(one, ZH).startswith("[集团] [")


def test_the_words_are_complete() -> None:
    assert TITLES.keys() == set(Kind)
    assert COMMANDS.keys() == set(Kind) - {Kind.TEST}


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_command_that_is_named_is_one(kind: Kind) -> None:
    words = COMMANDS[kind].format(pipeline="erp", subject="erp.public.t_order")
    for call in calls(words):
        understood(call)


def test_a_text_says_what_it_is_about() -> None:
    facts = {"changes": 1234, "classes": "required", "oldest": 1_790_000_000.0}
    one = message(notice(kind=Kind.PARKED, entity="order", severity=Severity.WARNING, facts=facts))
    assert body(one, EN, PLAIN, 9999).splitlines() == [
        "[warning] Changes of order (pipeline erp) wait in the failure queue",
        "- Changes: 1,234",
        "- Error classes: required",
        "- Oldest parked: 2026-09-21 14:13:20 UTC",
        "- Since: 2026-09-21 14:13:20 UTC",
        "- Look: cdc-daemon failures list --pipeline erp",
    ]
    assert body(one, ZH, PLAIN, 9999).splitlines()[:2] == [
        "[警告] 实体 order（管道 erp）有变更进入失败队列",
        "- 变更数: 1,234",
    ]
    assert "2026-09-21 22:13:20 CST" in body(one, ZH, PLAIN, 9999)


def test_an_end_says_when_and_leaves_the_facts_out() -> None:
    text = body(message(notice(Phase.ENDED, facts={"error": "gone"})), EN, PLAIN, 9999)
    assert text.startswith("[over] Pipeline erp is blocked")
    assert "- Until: 2026-09-21 15:13:20 UTC" in text
    assert "gone" not in text


@pytest.mark.parametrize(
    "style, limit, size",
    [(MARKDOWN, 18_000, encoded_size), (CARD, 4096, utf8), (SLACK, 3500, len), (PLAIN, 600, utf8)],
)
@pytest.mark.parametrize("manner", [EN, ZH])
def test_what_does_not_fit_is_counted(style: Style, limit: int, size: Any, manner: Manner) -> None:
    facts = {"error": '"错误\\ ' * 60}
    many = message(*(notice(pipeline=f"erp_{n}", facts=facts) for n in range(200)))
    text = signed_body(many, manner, style, limit, size)
    assert limit / 3 < size(text) <= limit
    shown = text.count("erp_")
    assert f"{200 - shown}" in text.splitlines()[-1]
    assert 0 < shown < 200


def test_one_alert_that_is_too_large_is_cut() -> None:
    text = body(message(notice(facts={"error": "错" * 300})), ZH, PLAIN, 200)
    assert utf8(text) <= 200
    assert text.endswith("…")


@pytest.mark.parametrize("style", [MARKDOWN, CARD, SLACK])
def test_no_name_becomes_a_mention_or_a_link(style: Style) -> None:
    evil = (
        "<!channel> <at id=all></at> <@U1> @all [here](https://evil) **x** `y`\n# z\u202e\x1b[31m"
    )
    text = body(message(notice(facts={"error": evil}, pipeline=evil)), EN, style, 9999)
    for markup in ("<", "@all [", "](h", "**x", "`", "\n# z", "\u202e", "\x1b"):
        if style is SLACK and markup in {"@all [", "](h"}:
            continue  # it has neither
        assert markup not in text, markup


def test_a_subject_is_one_line_however_long_names_are() -> None:
    line = subject(message(notice(pipeline="x\r\nBcc: y" * 50), notice()), EN)
    assert line.isprintable()
    assert len(line) <= 120
