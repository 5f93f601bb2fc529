"""A message as text: Chinese or English, plain or in a service's markup, cut to its limit.

What does not fit is left out by whole alerts, and how many is said. Values come from servers and
files, so that what a service would take for a mention, a link or markup is made harmless. Not in
here: the words (``words``).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from cdc_daemon.config.channels import Language
from cdc_daemon.notify.alert import Fact, Message, Notice, Phase
from cdc_daemon.notify.words import (
    COMMANDS,
    FACTS,
    LOOK,
    MOMENTS,
    MORE,
    PHASES,
    SEVERITIES,
    SINCE,
    SUBJECT,
    TITLES,
    UNTIL,
    Both,
)

LONGEST_FACT = 300  # characters
LONGEST_TITLE = 120

Size = Callable[[str], int]
"""How much of a service's limit a text takes."""


def utf8(text: str) -> int:
    """Bytes of UTF-8."""
    return len(text.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How a service writes: ``title`` and ``bold`` are formats; ``safe`` makes a value harmless."""

    title: str = "{0}"
    bold: str = "{0}"
    item: str = "- {0}"
    gap: str = "\n"
    safe: Callable[[str], str] = str


_MARKS = "<>[]*`@"
_LIKE_THEM = "\uff1c\uff1e\uff3b\uff3d\u2217'\uff20"


def _disarmed(text: str) -> str:
    """Without what Markdown dialects take for tags, links and emphasis; people read the same."""
    return text.translate(str.maketrans(_MARKS, _LIKE_THEM))


def _slack(text: str) -> str:
    """As https://api.slack.com/reference/surfaces/formatting#escaping says; no emphasis either."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("*", "\u2217").replace("`", "'")


PLAIN = Style()
MARKDOWN = Style(title="### {0}", bold="**{0}**", gap="\n\n", safe=_disarmed)
CARD = Style(bold="**{0}**", safe=_disarmed)
SLACK = Style(title="*{0}*", bold="*{0}*", item="• {0}", safe=_slack)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How somebody is addressed: in which language, by whose clock, from whom."""

    language: Language
    zone: str
    instance: str

    def word(self, both: Both) -> str:
        """The text in the language."""
        return both.zh if self.language == "zh" else both.en

    def moment(self, seconds: float) -> str:
        """A time by the zone's clock."""
        found = dt.datetime.fromtimestamp(seconds, ZoneInfo(self.zone))
        return found.strftime("%Y-%m-%d %H:%M:%S %Z")


def subject(message: Message, manner: Manner) -> str:
    """One line that says what it is about."""
    first = _headline(message.notices[0], manner)
    rest = len(message.notices) - 1
    line = manner.word(SUBJECT).format(first=first, count=rest) if rest else first
    return _cut(f"[{manner.instance}] {line}", LONGEST_TITLE)


def body(message: Message, manner: Manner, style: Style, limit: int, size: Size = utf8) -> str:
    """Everything in it, or as much as ``size`` allows within ``limit``."""
    blocks = [_block(notice, manner, style) for notice in message.notices]
    count = _most(len(blocks), lambda n: size(_joined(blocks, n, manner, style)) <= limit)
    if count:
        return _joined(blocks, count, manner, style)
    tail = _joined(["", *blocks[1:]], 1, manner, style) if len(blocks) > 1 else ""
    room = limit - size(tail)
    first = blocks[0]
    return f"{first[: _most(len(first), lambda n: size(first[:n] + '…') <= room)]}…{tail}"


def signed_body(
    message: Message, manner: Manner, style: Style, limit: int, size: Size = utf8
) -> str:
    """The same below a line that says who tells it, for services that show no subject."""
    head = f"{style.bold.format(style.safe(manner.instance))}{style.gap}"
    return head + body(message, manner, style, limit - size(head), size)


def _joined(blocks: Sequence[str], count: int, manner: Manner, style: Style) -> str:
    left = len(blocks) - count
    more = [manner.word(MORE).format(count=left)] if left else []
    return f"{style.gap}\n".join([*blocks[:count], *more])


def _most(number: int, fits: Callable[[int], bool]) -> int:
    """The largest number up to that which fits, as none above one that does not fit does."""
    low, high = 0, number
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _headline(notice: Notice, manner: Manner) -> str:
    alert = notice.alert
    phase = manner.word(PHASES[notice.phase])
    severity = manner.word(SEVERITIES[alert.severity])
    mark = phase if notice.phase is Phase.ENDED else ", ".join(filter(None, (severity, phase)))
    names = {"pipeline": alert.pipeline, "entity": alert.entity or alert.subject}
    title = manner.word(TITLES[alert.kind]).format(**names, subject=alert.subject)
    return f"[{mark}] {_line(title)}"


def _block(notice: Notice, manner: Manner, style: Style) -> str:
    """An alert: what it is, its facts, since when, and where to look."""
    rows = [(manner.word(SINCE), manner.moment(notice.since))]
    if notice.phase is Phase.ENDED:
        rows.append((manner.word(UNTIL), manner.moment(notice.time)))
    else:
        facts = notice.alert.facts.items()
        rows[:0] = [(manner.word(FACTS[key]), _fact(key, value, manner)) for key, value in facts]
        rows += _look(notice, manner)
    head = style.title.format(style.safe(_headline(notice, manner)))
    lines = [style.item.format(f"{style.bold.format(k)}: {style.safe(v)}") for k, v in rows]
    return style.gap.join([head, *lines])


def _look(notice: Notice, manner: Manner) -> list[tuple[str, str]]:
    command = COMMANDS.get(notice.alert.kind)
    if command is None:
        return []
    alert = notice.alert
    return [(manner.word(LOOK), command.format(pipeline=alert.pipeline, subject=alert.subject))]


def _fact(key: str, value: Fact, manner: Manner) -> str:
    if key in MOMENTS:
        return manner.moment(float(value))
    if isinstance(value, str):
        return _cut(_line(value), LONGEST_FACT)
    return f"{value:,}"


def _line(text: str) -> str:
    """On one line, without what steers a terminal or turns the writing around."""
    return "".join(c if c.isprintable() else " " for c in text)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
