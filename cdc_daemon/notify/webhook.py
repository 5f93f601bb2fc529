"""Any service that takes JSON, signed as https://www.standardwebhooks.com says.

``webhook-id`` is the same each time that a message comes (also as ``Idempotency-Key``);
``webhook-signature`` is ``v1,`` and the Base64 of HMAC-SHA256 over ``id.timestamp.body``, with
``webhook-timestamp`` in seconds since 1970. Every 2xx counts as taken.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac

from cdc_daemon.config.channels import WebhookChannel, webhook_key
from cdc_daemon.notify.alert import Message, Notice
from cdc_daemon.notify.http import Answer, Request
from cdc_daemon.notify.jsonform import JSON, encoded
from cdc_daemon.notify.results import Delivered, Result
from cdc_daemon.notify.texts import PLAIN, Manner, body, subject

TYPE = "cdc.alerts"
MOST_NOTICES = 500
LIMIT = 100_000  # bytes of the text


def request(channel: WebhookChannel, message: Message, manner: Manner, now: float) -> Request:
    """The POST for a message; ``now``: seconds since 1970."""
    plain = {
        "type": TYPE,
        "timestamp": _iso(now),
        "data": {
            "id": message.id,
            "instance": manner.instance,
            "severity": message.severity.name.lower(),
            "title": subject(message, manner),
            "text": body(message, manner, PLAIN, LIMIT),
            "total": len(message.notices),
            "alerts": [_alert(notice) for notice in message.notices[:MOST_NOTICES]],
        },
    }
    content, timestamp = encoded(plain), str(int(now))
    headers = {
        **JSON,
        "Idempotency-Key": message.id,
        "webhook-id": message.id,
        "webhook-timestamp": timestamp,
        "webhook-signature": sign(
            channel.secret.get_secret_value(), message.id, timestamp, content
        ),
    }
    return Request(url=channel.url.get_secret_value(), body=content, headers=headers)


def sign(secret: str, id: str, timestamp: str, content: bytes) -> str:
    """The header's value."""
    signed = b"%s.%s.%s" % (id.encode(), timestamp.encode(), content)
    digest = hmac.digest(webhook_key(secret), signed, hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"


def read(answer: Answer) -> Result | None:
    """Every 2xx will do; what others mean, their status says."""
    taken = 200 <= answer.status < 300
    return Delivered(answer=f"status {answer.status}") if taken else None


def _alert(notice: Notice) -> dict[str, object]:
    plain = notice.to_dict()
    return plain | {"since": _iso(notice.since), "time": _iso(notice.time)}


def _iso(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="seconds")
