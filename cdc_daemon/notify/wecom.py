"""WeCom's group robots.

https://developer.work.weixin.qq.com/document/path/91770: POST to ``/cgi-bin/webhook/send`` with the
robot's key. It answers 200 with an ``errcode``. Markdown has 4,096 bytes of UTF-8 at most; a robot
takes 20 messages a minute (45009 beyond).
"""

from __future__ import annotations

from urllib.parse import quote

from cdc_daemon.config.channels import WecomChannel
from cdc_daemon.notify.alert import Message
from cdc_daemon.notify.http import Answer, Request
from cdc_daemon.notify.jsonform import JSON, encoded
from cdc_daemon.notify.results import Deferred, Delivered, Refused, Result, fields, number, quoted
from cdc_daemon.notify.texts import CARD, Manner, signed_body

LIMIT = 4096  # bytes
PAUSE = 60.0  # seconds
TOO_FAST = frozenset({45009, 45033})
BUSY = frozenset({-1})
CURES = {93000: "the key is unknown, or the robot was removed: copy it from the robot's address"}


def request(channel: WecomChannel, message: Message, manner: Manner, now: float) -> Request:
    """The POST for a message."""
    del now
    content = signed_body(message, manner, CARD, LIMIT)
    key = quote(channel.token.get_secret_value(), "")
    return Request(
        url=f"{channel.base}/cgi-bin/webhook/send?key={key}",
        body=encoded({"msgtype": "markdown", "markdown": {"content": content}}),
        headers=JSON,
    )


def read(answer: Answer) -> Result | None:
    """What the service says; None: nothing of its own."""
    found = fields(answer.body)
    code = number(found.get("errcode"))
    if code is None:
        return None
    if code == 0:
        return Delivered()
    said = f"errcode {code}: {quoted(found.get('errmsg', ''))}"
    if code in TOO_FAST:
        return Deferred(reason=said, after=PAUSE)
    if code in BUSY:
        return Deferred(reason=said)
    return Refused(reason=said, cure=CURES.get(code, "see WeCom's list of error codes"))
