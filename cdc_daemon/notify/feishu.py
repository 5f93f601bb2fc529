r"""Feishu's (and Lark's) custom bots.

https://open.feishu.cn/document/client-docs/bot-v3/add-custom-bot: POST to
``/open-apis/bot/v2/hook/<token>``; where the bot asks for a signature the body has ``timestamp``
(seconds) and ``sign``, the Base64 of HMAC-SHA256 over nothing with ``timestamp\nsecret`` as its
key. It answers with a ``code`` (older ones with ``StatusCode``), mostly under status 200. A body
has 20 KB at most; a bot takes 5 messages a second and 100 a minute (11232, or 9499 with "too many
request", beyond).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from urllib.parse import quote

from cdc_daemon.config.channels import FeishuChannel
from cdc_daemon.notify.alert import Message, Severity
from cdc_daemon.notify.codes import Codes
from cdc_daemon.notify.http import Request
from cdc_daemon.notify.jsonform import JSON, encoded, encoded_size
from cdc_daemon.notify.texts import CARD, Manner, body, subject

LIMIT = 18_000  # bytes of text as JSON; the rest of the body is small
COLOURS = {Severity.CRITICAL: "red", Severity.WARNING: "orange", Severity.INFO: "blue"}
CODES = Codes(
    service="Feishu",
    code=("code", "StatusCode"),
    text=("msg", "StatusMessage"),
    pause=60.0,
    too_fast=frozenset({11232}),
    ambiguous=frozenset({9499}),  # a bad request, or too many
    cures={
        19001: "the token is unknown: copy it from the bot's address",
        19021: "the signature does not fit: check secret and this machine's clock",
        19022: "the bot's list of addresses leaves this machine out",
        19024: "the bot asks for a keyword: take that setting out, and use its secret",
    },
)


def request(channel: FeishuChannel, message: Message, manner: Manner, now: float) -> Request:
    """The POST for a message; ``now``: seconds since 1970."""
    card = {
        "config": {"wide_screen_mode": True},
        "header": {
            "title": {"tag": "plain_text", "content": subject(message, manner)},
            "template": "green" if message.over else COLOURS[message.severity],
        },
        "elements": [
            {"tag": "markdown", "content": body(message, manner, CARD, LIMIT, encoded_size)}
        ],
    }
    plain: dict[str, object] = {"msg_type": "interactive", "card": card}
    if channel.secret is not None:
        timestamp = str(int(now))
        plain |= {
            "timestamp": timestamp,
            "sign": sign(channel.secret.get_secret_value(), timestamp),
        }
    hook = quote(channel.token.get_secret_value(), "")
    return Request(
        url=f"{channel.base}/open-apis/bot/v2/hook/{hook}", body=encoded(plain), headers=JSON
    )


def sign(secret: str, timestamp: str) -> str:
    """Base64."""
    key = f"{timestamp}\n{secret}".encode()
    return base64.b64encode(hmac.digest(key, b"", hashlib.sha256)).decode()
