"""Slack's incoming webhooks.

https://api.slack.com/messaging/webhooks: POST JSON; it answers 200 with ``ok``, else a status and a
word. One message a second; 429 with ``Retry-After`` beyond. ``text`` has 40,000 characters at most,
of which Slack recommends 4,000.
"""

from __future__ import annotations

from cdc_daemon.config.channels import SlackChannel
from cdc_daemon.notify.alert import Message
from cdc_daemon.notify.http import Answer, Request
from cdc_daemon.notify.jsonform import JSON, encoded
from cdc_daemon.notify.results import Delivered, Refused, Result, quoted
from cdc_daemon.notify.texts import SLACK, Manner, signed_body

LIMIT = 3500  # characters
CURES = {
    "no_service": "the webhook was removed: make another one",
    "invalid_token": "the address is not the webhook's",
    "channel_not_found": "the webhook's channel is gone: make another one",
    "channel_is_archived": "unarchive the webhook's channel",
}


def request(channel: SlackChannel, message: Message, manner: Manner, now: float) -> Request:
    """The POST for a message."""
    del now
    text = signed_body(message, manner, SLACK, LIMIT, len)
    return Request(
        url=channel.url.get_secret_value(),
        body=encoded({"text": text, "unfurl_links": False, "unfurl_media": False}),
        headers=JSON,
    )


def read(answer: Answer) -> Result | None:
    """What the service says; None: nothing beside its status."""
    word = quoted(answer.body.decode("utf-8", "replace").strip())
    if answer.status == 200 and word == "ok":
        return Delivered()
    if answer.status not in range(400, 429):
        return None
    return Refused(
        reason=f"status {answer.status}: {word}",
        cure=CURES.get(word, "see Slack's list of errors of incoming webhooks"),
    )
