"""WeCom's group robots.

https://developer.work.weixin.qq.com/document/path/91770: POST to ``/cgi-bin/webhook/send`` with the
robot's key. It answers 200 with an ``errcode``. Markdown has 4,096 bytes of UTF-8 at most; a robot
takes 20 messages a minute (45009 beyond).
"""

from __future__ import annotations

from urllib.parse import quote

from cdc_daemon.config.channels import WecomChannel
from cdc_daemon.notify.alert import Message
from cdc_daemon.notify.codes import Codes
from cdc_daemon.notify.http import Request
from cdc_daemon.notify.jsonform import JSON, encoded
from cdc_daemon.notify.texts import CARD, Manner, signed_body

LIMIT = 4096  # bytes
CODES = Codes(
    service="WeCom",
    code=("errcode",),
    text=("errmsg",),
    pause=60.0,
    too_fast=frozenset({45009, 45033}),
    busy=frozenset({-1}),
    cures={93000: "the key is unknown, or the robot was removed: copy it from the robot's address"},
)


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
