"""From a channel's configuration to what sends through it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import TypeAlias, assert_never
from urllib.parse import urlsplit

from cdc_daemon.config.channels import (
    AnyChannel,
    DingtalkChannel,
    EmailChannel,
    FeishuChannel,
    SlackChannel,
    TokenChannel,
    UrlChannel,
    WebhookChannel,
    WecomChannel,
)
from cdc_daemon.config.notifications import NotificationsConfig
from cdc_daemon.notify import dingtalk, feishu, mail, slack, webhook, wecom
from cdc_daemon.notify.alert import Message
from cdc_daemon.notify.http import Answer, Guard, Request, by_status, post
from cdc_daemon.notify.results import Deferred, Result
from cdc_daemon.notify.texts import Manner

Send: TypeAlias = Callable[[Message, float], Result]
"""Delivers a message at a time (seconds since 1970); waits for a bounded time, never raises what it
can put into words."""

WebChannel: TypeAlias = (
    DingtalkChannel | WecomChannel | FeishuChannel | SlackChannel | WebhookChannel
)


def sender(config: NotificationsConfig, name: str) -> Send:
    """What sends through the channel of that name."""
    channel = config.channels[name]
    manner = Manner(
        language=channel.language or config.language,
        zone=config.zone,
        instance=config.instance or socket.gethostname(),
    )
    if isinstance(channel, EmailChannel):
        return lambda message, now: mail.send(channel, mail.letter(channel, message, manner, now))
    guard = guard_of(channel)
    return lambda message, now: _posted(channel, message, manner, now, guard)


def guard_of(channel: WebChannel) -> Guard:
    """What a channel allows."""
    private = frozenset(host.strip("[]").lower() for host in channel.allow_private)
    return Guard(private=private, plain=channel.allow_plain, ca=channel.ca)


def destination(channel: AnyChannel) -> str:
    """The host that it leads to, which may be shown."""
    match channel:
        case EmailChannel():
            return channel.host
        case TokenChannel():
            return urlsplit(channel.base).hostname or ""
        case UrlChannel():
            return urlsplit(channel.url.get_secret_value()).hostname or ""
        case _:
            assert_never(channel)


def _posted(
    channel: WebChannel, message: Message, manner: Manner, now: float, guard: Guard
) -> Result:
    answer = post(_request(channel, message, manner, now), guard)
    return _read(channel, answer) if isinstance(answer, Answer) else answer


def _request(channel: WebChannel, message: Message, manner: Manner, now: float) -> Request:
    match channel:
        case DingtalkChannel():
            return dingtalk.request(channel, message, manner, now)
        case WecomChannel():
            return wecom.request(channel, message, manner, now)
        case FeishuChannel():
            return feishu.request(channel, message, manner, now)
        case SlackChannel():
            return slack.request(channel, message, manner, now)
        case WebhookChannel():
            return webhook.request(channel, message, manner, now)
        case _:
            assert_never(channel)


def _read(channel: WebChannel, answer: Answer) -> Result:
    """By the service's own words where it has any; else by the status."""
    host = destination(channel)
    strange = Deferred(reason=f"{host}: the answer is not that of the service")
    return _READ[channel.kind](answer) or by_status(answer, host) or strange


_READ: Mapping[str, Callable[[Answer], Result | None]] = {
    "dingtalk": dingtalk.CODES.read,
    "wecom": wecom.CODES.read,
    "feishu": feishu.CODES.read,
    "slack": slack.read,
    "webhook": webhook.read,
}
