"""What each service is sent and how its answers are read; which addresses are refused; its limits.

Signatures were made with `openssl dgst -sha256 -hmac`, not with the code under test.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from cdc_daemon.config.channels import (
    DingtalkChannel,
    EmailChannel,
    FeishuChannel,
    SlackChannel,
    WebhookChannel,
    WecomChannel,
)
from cdc_daemon.notify import dingtalk, feishu, mail, slack, webhook, wecom
from cdc_daemon.notify.addresses import refusal
from cdc_daemon.notify.alert import Alert, Kind, Message, Notice, Phase, Severity
from cdc_daemon.notify.http import Answer, by_status
from cdc_daemon.notify.limits import BY_KIND, Limits, Window
from cdc_daemon.notify.results import Deferred, Delivered, Refused, Result
from cdc_daemon.notify.texts import Manner

NOW = 1_790_000_000.0
EN = Manner(language="en", zone="UTC", instance="hub")
ALERT = Alert(
    kind=Kind.BLOCKED, severity=Severity.CRITICAL, pipeline="erp", facts={"error": "e" * 300}
)


def message(number: int = 1, phase: Phase = Phase.BEGAN) -> Message:
    one = Notice(alert=ALERT, phase=phase, since=NOW, time=NOW)
    return Message(channel="x", notices=(one,) * number, id="0123abcd")


def answered(body: object, status: int = 200) -> Answer:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status=status, body=content)


# --- requests -----------------------------------------------------------------------------------


def test_dingtalk_is_asked_with_a_signature() -> None:
    channel = DingtalkChannel.model_validate({"kind": "dingtalk", "token": "a+b", "secret": "SECx"})
    found = dingtalk.request(channel, message(), EN, NOW)
    assert found.url.startswith("https://oapi.dingtalk.com/robot/send?")
    query = parse_qs(urlsplit(found.url).query, strict_parsing=True)
    assert query["access_token"] == ["a+b"]
    assert query["timestamp"] == ["1790000000000"]
    assert query["sign"] == ["1B5qC/NVHS6uUvXiH127E6SJkrUiw6pSH9BZkMeu0ZU="]
    body = json.loads(found.body)
    assert body["msgtype"] == "markdown"
    assert body["markdown"]["title"] == (
        "[hub] [critical] Pipeline erp is blocked: every attempt fails and is repeated"
    )
    assert "hub" in body["markdown"]["text"]
    assert "a+b" not in repr(found)
    assert "SECx" not in repr(found)


def test_feishu_is_asked_with_a_signature() -> None:
    channel = FeishuChannel.model_validate({"kind": "feishu", "token": "tok", "secret": "sec"})
    found = feishu.request(channel, message(), EN, NOW)
    assert found.url == "https://open.feishu.cn/open-apis/bot/v2/hook/tok"
    body = json.loads(found.body)
    assert body["timestamp"] == "1790000000"
    assert body["sign"] == "KkniUliZFPY34nV+4+KZv7bzVlRw7OdHKk5h6DwDHuE="
    assert body["card"]["header"]["template"] == "red"
    over = json.loads(feishu.request(channel, message(1, Phase.ENDED), EN, NOW).body)
    assert over["card"]["header"]["template"] == "green"


def test_without_a_secret_nothing_is_signed() -> None:
    ding = DingtalkChannel.model_validate({"kind": "dingtalk", "token": "t"})
    assert "sign" not in dingtalk.request(ding, message(), EN, NOW).url
    fly = FeishuChannel.model_validate({"kind": "feishu", "token": "t"})
    assert "sign" not in json.loads(feishu.request(fly, message(), EN, NOW).body)


def test_a_webhook_is_signed_over_id_time_and_body() -> None:
    channel = WebhookChannel.model_validate(
        {"kind": "webhook", "url": "https://hooks.corp/cdc", "secret": "0123456789abcdef"}
    )
    found = webhook.request(channel, message(2), EN, NOW)
    headers = found.headers
    assert headers["Idempotency-Key"] == headers["webhook-id"] == "0123abcd"
    assert headers["webhook-timestamp"] == "1790000000"
    signed = b"0123abcd.1790000000." + found.body
    digest = hmac.new(b"0123456789abcdef", signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()
    data = json.loads(found.body)["data"]
    assert (data["id"], data["severity"], data["total"]) == ("0123abcd", "critical", 2)
    assert data["alerts"][0]["since"] == "2026-09-21T14:13:20+00:00"
    assert data["alerts"][0]["facts"] == {"error": "e" * 300}


def test_the_signature_is_that_of_the_standards_own_example() -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    found = webhook.sign(
        secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}'
    )
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("number", [1, 10, 500])
def test_no_body_is_larger_than_its_service_takes(number: int) -> None:
    ding = DingtalkChannel.model_validate({"kind": "dingtalk", "token": "t"})
    assert len(dingtalk.request(ding, message(number), EN, NOW).body) <= 20_000
    fly = FeishuChannel.model_validate({"kind": "feishu", "token": "t", "secret": "s"})
    assert len(feishu.request(fly, message(number), EN, NOW).body) <= 20 * 1024
    robot = WecomChannel.model_validate({"kind": "wecom", "token": "k"})
    body = json.loads(wecom.request(robot, message(number), EN, NOW).body)
    assert len(body["markdown"]["content"].encode()) <= 4096
    hook = SlackChannel.model_validate({"kind": "slack", "url": "https://hooks.slack.com/x"})
    assert len(json.loads(slack.request(hook, message(number), EN, NOW).body)["text"]) <= 4000


def test_a_mail_is_one_that_programs_know_and_comes_with_the_same_id_again() -> None:
    channel = EmailChannel.model_validate(
        {"kind": "email", "host": "h", "from": "cdc@corp", "to": ("ops@corp", "b@corp")}
    )
    found = mail.letter(channel, message(), Manner(language="zh", zone="UTC", instance="集团"), NOW)
    assert found["Message-ID"] == "<0123abcd@corp>"
    assert found["To"] == "ops@corp, b@corp"
    assert found["Auto-Submitted"] == "auto-generated"
    assert found["Subject"].startswith("[集团] [严重]")
    assert "错误" in found.get_content()


# --- answers ------------------------------------------------------------------------------------

READ: dict[str, Any] = {
    "dingtalk": dingtalk.CODES.read,
    "wecom": wecom.CODES.read,
    "feishu": feishu.CODES.read,
    "slack": slack.read,
    "webhook": webhook.read,
}


@pytest.mark.parametrize(
    "kind, answer, kind_of_result, after",
    [
        ("dingtalk", answered({"errcode": 0, "errmsg": "ok"}), Delivered, None),
        ("dingtalk", answered({"errcode": 130101, "errmsg": "send too fast"}), Deferred, 600),
        ("dingtalk", answered({"errcode": 410100, "errmsg": "too fast"}), Deferred, 600),
        ("dingtalk", answered({"errcode": 310000, "errmsg": "sign not match"}), Refused, None),
        ("dingtalk", answered({"errcode": -1, "errmsg": "busy"}), Deferred, None),
        ("wecom", answered({"errcode": 0, "errmsg": "ok"}), Delivered, None),
        ("wecom", answered({"errcode": 45009, "errmsg": "freq out of limit"}), Deferred, 60),
        ("wecom", answered({"errcode": 93000, "errmsg": "invalid webhook"}), Refused, None),
        ("feishu", answered({"code": 0, "msg": "success", "data": {}}), Delivered, None),
        ("feishu", answered({"StatusCode": 0, "StatusMessage": "success"}), Delivered, None),
        ("feishu", answered({"code": 11232, "msg": "frequency limited"}), Deferred, 60),
        ("feishu", answered({"code": 9499, "msg": "too many request"}, 400), Deferred, 60),
        ("feishu", answered({"code": 9499, "msg": "Bad Request"}, 400), Refused, None),
        ("feishu", answered({"code": 19021, "msg": "sign match fail"}), Refused, None),
        ("slack", answered(b"ok"), Delivered, None),
        ("slack", answered(b"no_service", 404), Refused, None),
        ("webhook", answered(b"", 204), Delivered, None),
    ],
)
def test_answers(
    kind: str, answer: Answer, kind_of_result: type[Result], after: float | None
) -> None:
    found = READ[kind](answer)
    assert isinstance(found, kind_of_result)
    assert getattr(found, "after", None) == after
    assert not isinstance(found, Refused) or found.cure


@pytest.mark.parametrize("kind", ["dingtalk", "wecom", "feishu", "slack"])
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'"x"', b"{}", b"[" * 50_000, b"\xff"])
def test_an_answer_of_somebody_else_is_none(kind: str, body: bytes) -> None:
    assert READ[kind](answered(body)) is None


@pytest.mark.parametrize(
    "status, headers, kind_of_result, after",
    [
        (200, {}, type(None), None),
        (429, {"retry-after": "7"}, Deferred, 7.0),
        (429, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, Deferred, None),
        (503, {}, Deferred, None),
        (404, {}, Refused, None),
        (401, {}, Refused, None),
    ],
)
def test_what_a_status_says(
    status: int, headers: dict[str, str], kind_of_result: type, after: float | None
) -> None:
    found = by_status(Answer(status=status, headers=headers), "hooks.corp")
    assert isinstance(found, kind_of_result)
    assert getattr(found, "after", None) == after


# --- addresses ----------------------------------------------------------------------------------

INSIDE = (
    "127.0.0.1", "127.1.2.3", "::1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1",
    "fc00::1", "fd12::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "::10.0.0.1", "fec0::1",
    "2002:0a00:0001::", "2002:7f00:1::", "64:ff9b::10.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b:1::808:808", "198.18.0.1", "192.0.2.1", "2001:db8::1",
)  # fmt: skip
NEVER = (
    "169.254.169.254", "169.254.0.1", "fe80::1", "100.100.100.200", "fd00:ec2::254",
    "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "224.0.0.1", "ff02::1",
    "0.0.0.0", "::", "255.255.255.255", "240.0.0.1", "2001:0:102:304::1", "::ffff:0.0.0.0",
)  # fmt: skip
OUTSIDE = ("8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::")


@pytest.mark.parametrize("text", INSIDE)
def test_an_address_inside_is_refused_unless_its_host_is_named(text: str) -> None:
    assert refusal(ipaddress.ip_address(text), private=False)
    assert refusal(ipaddress.ip_address(text), private=True) is None


@pytest.mark.parametrize("text", NEVER)
def test_some_addresses_are_never_sent_to(text: str) -> None:
    assert refusal(ipaddress.ip_address(text), private=True)
    assert refusal(ipaddress.ip_address(text), private=False)


@pytest.mark.parametrize("text", OUTSIDE)
def test_an_address_outside_is_sent_to(text: str) -> None:
    assert refusal(ipaddress.ip_address(text), private=False) is None


# --- limits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BY_KIND)
def test_no_window_of_a_service_holds_more_than_it_takes(kind: str) -> None:
    """Sent as fast as allowed for ten minutes; any window of any position is looked at."""
    limits, now, sent = Limits(BY_KIND[kind]), 0.0, []
    while now < 600:
        pause = limits.wait(now)
        if pause == 0:
            limits.note(now)
            sent.append(now)
        now += max(pause, 0.01)
    for window in BY_KIND[kind]:
        for first, later in zip(sent, sent[window.most :], strict=False):
            assert later - first >= window.seconds
    slowest = min(window.most / window.seconds for window in BY_KIND[kind])
    assert len(sent) >= 0.9 * 600 * slowest


def test_what_another_process_sent_counts() -> None:
    limits = Limits([Window(3, 60)], sent=[100.0, 101.0, 102.0])
    assert limits.wait(110.0) == pytest.approx(53.0)
    assert limits.wait(163.1) == 0
