"""``notify test | log``: whether channels work, and what was sent."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, assert_never

import click

from cdc_daemon.cli.given import Given, known_name, output_option, pass_given, shared_options
from cdc_daemon.cli.output import print_json, print_table, words
from cdc_daemon.model.errors import EXIT_FAILED, EXIT_OK, ConfigurationError

if TYPE_CHECKING:
    from cdc_daemon.config.notifications import NotificationsConfig
    from cdc_daemon.notify.results import Result
    from cdc_daemon.notify.spool import Ended, Waiting

_TRIED = ("CHANNEL", "KIND", "HOST", "RESULT", "ANSWER")
_LOG = ("TIME", "CHANNEL", "RESULT", "TRIES", "ALERTS", "SEVERITY", "FIRST", "ANSWER")


@click.group()
def notify() -> None:
    """Test notifications and show what was sent."""


@notify.command()
@shared_options
@output_option
@click.argument("channels", metavar="[CHANNEL]...", nargs=-1)
@pass_given
def test(given: Given, channels: tuple[str, ...]) -> int:
    """Send a test message now, through all channels or those named; exits 1 if one failed.

    It goes around rules, quiet hours and what waits, and counts for the service's limits.
    """
    config = _section(given.load_for_notifications().notifications)
    for name in channels:
        known_name("channel", name, config.channels)
    results = {name: _try(config, name) for name in channels or config.channels}
    rows = [_tried(config, name, result) for name, result in results.items()]
    if given.output == "json":
        print_json([dict(zip(map(str.lower, _TRIED), row, strict=True)) for row in rows])
    else:
        print_table(_TRIED, rows)
    return EXIT_OK if all(row[3] == "ok" for row in rows) else EXIT_FAILED


@notify.command()
@shared_options
@output_option
@click.option("--channel", metavar="NAME", help="Only of this channel.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@pass_given
def log(given: Given, channel: str | None, limit: int) -> None:
    """Show what waits for delivery and what was sent, newest first."""
    from cdc_daemon.notify.spool import read_log

    config = _section(given.load_offline().notifications)
    file = config.file(given.environ)
    waiting, ended = read_log(file, channel, limit)
    if not waiting and not ended:
        known_name("channel", channel, config.channels)
        words(f"nothing waits and nothing was sent: {file}")
    if given.output == "json":
        print_json(
            {"waiting": [_waits(one) for one in waiting], "ended": [_went(one) for one in ended]}
        )
    else:
        print_table(_LOG, [*map(_waiting_row, waiting), *map(_ended_row, ended)])


def _section(config: NotificationsConfig | None) -> NotificationsConfig:
    if config is None:
        raise ConfigurationError(
            "no notifications are configured", hint="add a section 'notifications:'"
        )
    return config


def _try(config: NotificationsConfig, name: str) -> Result:
    import time

    from cdc_daemon.notify.alert import Alert, Kind, Message, Notice, Phase, Severity
    from cdc_daemon.notify.senders import sender

    now = time.time()
    alert = Alert(kind=Kind.TEST, severity=Severity.INFO)
    notice = Notice(alert=alert, phase=Phase.BEGAN, since=now, time=now)
    return sender(config, name)(Message(channel=name, notices=(notice,)), now)


def _tried(config: NotificationsConfig, name: str, result: Result) -> tuple[str, ...]:
    from cdc_daemon.notify.results import Deferred, Delivered, Refused
    from cdc_daemon.notify.senders import destination

    channel = config.channels[name]
    match result:
        case Delivered():
            how, answer = "ok", result.answer
        case Deferred():
            how, answer = "failed", result.reason
        case Refused():
            how, answer = "refused", str(result)
        case _:
            assert_never(result)
    return (name, channel.kind, destination(channel), how, answer)


def _waiting_row(one: Waiting) -> Sequence[object]:
    return _row(one, "waiting", one.created, one.error)


def _ended_row(one: Ended) -> Sequence[object]:
    return _row(one, one.result, one.ended, one.answer)


def _row(one: Waiting | Ended, result: str, moment: float, answer: str) -> Sequence[object]:
    message = one.message
    alert = message.notices[0].alert
    about = " ".join(filter(None, (alert.pipeline, alert.entity, alert.subject)))
    return (
        _moment(moment),
        message.channel,
        result,
        one.attempts,
        len(message.notices),
        message.severity.name.lower(),
        f"{alert.kind.value} {about}".rstrip(),
        answer,
    )


def _waits(one: Waiting) -> dict[str, object]:
    return {
        **_common(one),
        "due": _moment(one.due),
        "error": one.error,
    }


def _went(one: Ended) -> dict[str, object]:
    return {
        **_common(one),
        "ended": _moment(one.ended),
        "result": one.result,
        "answer": one.answer,
    }


def _common(one: Waiting | Ended) -> dict[str, object]:
    return {
        "id": one.message.id,
        "channel": one.message.channel,
        "created": _moment(one.created),
        "attempts": one.attempts,
        "alerts": [notice.to_dict() for notice in one.message.notices],
    }


def _moment(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)
