r"""DingTalk's custom robots.

https://open.dingtalk.com/document/robots/custom-robot-access: POST to ``/robot/send`` with the
token; where the robot asks for a signature also ``timestamp`` (milliseconds) and ``sign``, the
Base64 of HMAC-SHA256 over ``timestamp\nsecret``. It answers 200 with an ``errcode``. A body has
20,000 bytes at most. Who sends more than 20 messages in a minute is refused for ten minutes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from urllib.parse import quote, urlencode

from cdc_daemon.config.channels import DingtalkChannel
from cdc_daemon.notify.alert import Message
from cdc_daemon.notify.codes import Codes
from cdc_daemon.notify.http import Request
from cdc_daemon.notify.jsonform import JSON, encoded, encoded_size
from cdc_daemon.notify.texts import MARKDOWN, Manner, signed_body, subject

LIMIT = 18_000  # bytes of text as JSON; the rest of the body is small
CODES = Codes(
    service="DingTalk",
    code=("errcode",),
    text=("errmsg",),
    pause=600.0,
    too_fast=frozenset({130101, 410100, 90030, 90018}),
    busy=frozenset({-1}),
    cures={
        310000: "robot's security settings: secret, keywords or address range do not fit",
        300001: "the token is unknown: copy it from the robot's address",
        300005: "the token is unknown: copy it from the robot's address",
        400101: "the token is unknown: copy it from the robot's address",
        400102: "the robot is switched off in its group",
        400013: "the group is dissolved",
    },
)


def request(channel: DingtalkChannel, message: Message, manner: Manner, now: float) -> Request:
    """The POST for a message; ``now``: seconds since 1970."""
    query = {"access_token": channel.token.get_secret_value()}
    if channel.secret is not None:
        timestamp = str(int(now * 1000))
        query |= {
            "timestamp": timestamp,
            "sign": sign(channel.secret.get_secret_value(), timestamp),
        }
    text = signed_body(message, manner, MARKDOWN, LIMIT, encoded_size)
    markdown = {"title": subject(message, manner), "text": text}
    return Request(
        url=f"{channel.base}/robot/send?{urlencode(query, quote_via=quote)}",
        body=encoded({"msgtype": "markdown", "markdown": markdown}),
        headers=JSON,
    )


def sign(secret: str, timestamp: str) -> str:
    """Base64, not yet escaped for an address."""
    signed = f"{timestamp}\n{secret}".encode()
    return base64.b64encode(hmac.digest(secret.encode(), signed, hashlib.sha256)).decode()
