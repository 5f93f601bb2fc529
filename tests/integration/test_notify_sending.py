"""Senders against real servers on 127.0.0.1: HTTPS and SMTP, well-behaved and not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cdc_daemon.config.channels import webhook_key
from cdc_daemon.config.notifications import NotificationsConfig
from cdc_daemon.notify import http
from cdc_daemon.notify.addresses import Address
from cdc_daemon.notify.alert import Alert, Kind, Message, Notice, Phase, Severity
from cdc_daemon.notify.http import MOST_BYTES, Guard, Request, post
from cdc_daemon.notify.results import Deferred, Delivered, Refused, Result
from cdc_daemon.notify.senders import sender
from tests.support.cli import invoke, write_configuration
from tests.support.smtp_server import Manners, SmtpServer
from tests.support.tls import Authority, Certificate, require_openssl
from tests.support.web_server import Says, WebServer
from tests.unit.test_config_problems import GOOD

SECRET = "S3cret-S3cret-S3cret"
PLAIN = Guard(plain=True, private=frozenset({"localhost"}))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    require_openssl()
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> Certificate:
    return authority.sign("localhost", common_name="localhost")


@pytest.fixture
def web() -> Iterator[WebServer]:
    with WebServer() as found:
        yield found


def message() -> Message:
    alert = Alert(kind=Kind.BLOCKED, severity=Severity.CRITICAL, pipeline="erp")
    return Message(
        channel="x", notices=(Notice(alert=alert, phase=Phase.BEGAN, since=1.0, time=1.0),)
    )


def sent(channel: dict[str, Any], one: Message | None = None) -> Result:
    config = NotificationsConfig.model_validate({"channels": {"x": channel}})
    return sender(config, "x")(one or message(), time.time())


def hook(url: str, **more: Any) -> dict[str, Any]:
    return {
        "kind": "webhook",
        "url": url,
        "secret": SECRET,
        "allow_private": ("localhost",),
        **more,
    }


# --- https --------------------------------------------------------------------------------------


def test_a_webhook_gets_what_it_can_verify(authority: Authority, certificate: Certificate) -> None:
    with WebServer(certificate=certificate) as server:
        one = message()
        found = sent(hook(f"{server.url}/cdc?t=1", ca=str(authority.own.path)), one)
        assert found == Delivered(answer="status 200")
        got = server.got[0]
        assert got.path == "/cdc?t=1"
        assert got.headers["host"] == f"localhost:{server.server_port}"
        assert got.headers["idempotency-key"] == one.id
        signed = f"{one.id}.{got.headers['webhook-timestamp']}.".encode() + got.body
        digest = hmac.new(webhook_key(SECRET), signed, hashlib.sha256).digest()
        assert got.headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"


@pytest.mark.parametrize(
    "channel, path, answer",
    [
        (
            {"kind": "dingtalk", "token": "tok", "secret": "sec"},
            "/robot/send?access_token=tok&",
            {"errcode": 0},
        ),
        ({"kind": "wecom", "token": "tok"}, "/cgi-bin/webhook/send?key=tok", {"errcode": 0}),
        ({"kind": "feishu", "token": "tok"}, "/open-apis/bot/v2/hook/tok", {"code": 0}),
    ],
)
def test_chats_are_reached_at_their_own_paths(
    channel: dict[str, Any], path: str, answer: dict[str, int], web: WebServer
) -> None:
    web.answers = [Says(body=json.dumps(answer).encode())]
    local = {"allow_plain": True, "allow_private": ("localhost",), "base": web.url}
    assert isinstance(sent({**channel, **local}), Delivered)
    assert web.got[0].path.startswith(path)
    assert json.loads(web.got[0].body)


def test_slack_and_what_it_says(web: WebServer) -> None:
    web.answers = [
        Says(status=429, headers={"Retry-After": "9"}, body=b"rate_limited"),
        Says(status=404, body=b"no_service"),
        Says(),
    ]
    local = {"allow_plain": True, "allow_private": ("localhost",), "url": f"{web.url}/services/T/B"}
    results = [sent({"kind": "slack", **local}) for _ in range(3)]
    assert results[0] == Deferred(reason="localhost wants fewer messages (429)", after=9.0)
    assert isinstance(results[1], Refused)
    assert "removed" in results[1].cure
    assert results[2] == Delivered()


def test_a_certificate_is_checked_with_its_name(
    authority: Authority, certificate: Certificate
) -> None:
    other = authority.sign("other", common_name="other.test")
    with WebServer(certificate=certificate) as server:
        unknown = sent(hook(server.url))
        assert isinstance(unknown, Refused)
        assert "certificate is refused" in unknown.reason
        assert server.got == []
    with WebServer(certificate=other) as server:
        misnamed = sent(hook(server.url, ca=str(authority.own.path)))
        assert isinstance(misnamed, Refused)
        assert server.got == []
    absent = sent(hook("https://localhost:1/", ca="/nowhere.pem"))
    assert absent == Refused(
        reason="the authority's file /nowhere.pem cannot be used: no such file or directory",
        cure="name a PEM file that the daemon may read in ca",
    )


# --- the guard ----------------------------------------------------------------------------------


def test_nothing_is_sent_inside_unless_the_host_is_named(web: WebServer) -> None:
    found = post(Request(url=f"{web.url}/x{SECRET}", body=b"{}"), Guard(plain=True))
    assert isinstance(found, Refused)
    assert "localhost has a loopback address" in found.reason
    assert "allow_private" in found.cure
    assert SECRET not in str(found)
    assert web.got == []


def test_the_address_that_was_judged_is_the_one_connected_to(
    web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that answers otherwise the second time is not asked a second time."""
    asked: list[str] = []

    def resolve(host: str, port: int) -> list[Address]:
        asked.append(host)
        return [ipaddress.ip_address("127.0.0.1" if len(asked) == 1 else "169.254.169.254")]

    monkeypatch.setattr(http, "resolved", resolve)
    guard = Guard(plain=True, private=frozenset({"hooks.example"}))
    url = f"http://hooks.example:{web.server_port}/x"
    assert isinstance(post(Request(url=url, body=b"{}"), guard), http.Answer)
    assert asked == ["hooks.example"]
    assert web.got[0].headers["host"] == f"hooks.example:{web.server_port}"
    again = post(Request(url=url, body=b"{}"), guard)
    assert isinstance(again, Refused)
    assert "metadata" in again.reason
    assert len(web.got) == 1


def test_a_redirect_is_not_followed(web: WebServer) -> None:
    web.answers = [Says(status=302, headers={"Location": f"{web.url}/elsewhere"})]
    found = post(Request(url=f"{web.url}/x", body=b"{}"), PLAIN)
    assert isinstance(found, Refused)
    assert "redirect (302)" in found.reason
    assert len(web.got) == 1


def test_no_proxy_of_the_environment_is_used(
    web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert isinstance(post(Request(url=f"{web.url}/x", body=b"{}"), PLAIN), http.Answer)


def test_http_is_refused_unless_it_is_allowed(web: WebServer) -> None:
    guard = Guard(private=frozenset({"localhost"}))
    found = post(Request(url=f"{web.url}/x", body=b"{}"), guard)
    assert isinstance(found, Refused)
    assert "not encrypted" in found.reason


def drip(handler: Any) -> None:
    """A byte each 20 ms: no single wait is long."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for _ in range(500):
        handler.wfile.write(b"X")
        handler.wfile.flush()
        time.sleep(0.02)


def flood(handler: Any) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(200):
        handler.wfile.write(b"x" * MOST_BYTES)


def test_a_server_cannot_take_more_time_or_memory_than_it_may(
    web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "WHOLE_SECONDS", 0.3)
    web.answers = [Says(raw=drip), Says(raw=flood), Says(raw=lambda handler: None)]
    began = time.monotonic()
    slow = post(Request(url=f"{web.url}/x", body=b"{}"), PLAIN)
    assert isinstance(slow, Deferred)
    assert time.monotonic() - began < 2
    large = post(Request(url=f"{web.url}/x", body=b"{}"), PLAIN)
    assert isinstance(large, http.Answer)
    assert len(large.body) <= MOST_BYTES
    assert isinstance(post(Request(url=f"{web.url}/x", body=b"{}"), PLAIN), Deferred)


def test_what_fails_is_told_by_host_only() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        found = post(Request(url=f"http://localhost:{port}/{SECRET}?k={SECRET}", body=b""), PLAIN)
    assert found == Deferred(reason="localhost: connection refused")
    nobody = post(Request(url=f"https://nobody.invalid/{SECRET}", body=b""), PLAIN)
    assert isinstance(nobody, Deferred)
    assert nobody.reason.startswith("nobody.invalid: the name cannot be resolved")


# --- smtp ---------------------------------------------------------------------------------------


def mail(server: SmtpServer, **more: Any) -> dict[str, Any]:
    own = {"host": "localhost", "port": server.port, "from": "cdc@corp", "to": ("ops@corp",)}
    return {"kind": "email", **own, **more}


ACCOUNT = {"user": "cdc", "password": SECRET}


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_a_mail_goes_encrypted_and_logged_in(
    tls: str, authority: Authority, certificate: Certificate
) -> None:
    manners = Manners(
        certificate=certificate, implicit=tls == "implicit", passwords={"cdc": SECRET}
    )
    with SmtpServer(manners) as server:
        found = sent(mail(server, tls=tls, ca=str(authority.own.path), language="zh", **ACCOUNT))
        assert found == Delivered()
        got = server.received[0]
        assert (got.sender, got.receivers, got.user) == ("cdc@corp", ("ops@corp",), "cdc")
        assert got.encrypted
        assert "管道 erp 受阻" in got.mail["Subject"]
        assert "cdc-daemon doctor" in got.mail.get_content()


def test_no_password_goes_to_a_server_that_does_not_encrypt(authority: Authority) -> None:
    with SmtpServer(Manners(passwords={"cdc": SECRET})) as server:
        found = sent(mail(server, ca=str(authority.own.path), **ACCOUNT))
        assert found == Refused(
            reason="localhost does not offer what is asked of it", cure="check tls, user and port"
        )
        assert "AUTH" not in [word for word, _ in server.commands]


def test_a_mail_server_with_another_certificate_is_refused(certificate: Certificate) -> None:
    with SmtpServer(Manners(certificate=certificate)) as server:
        found = sent(mail(server))
        assert isinstance(found, Refused)
        assert "certificate is refused" in found.reason
        assert server.received == []


@pytest.mark.parametrize(
    "codes, kind, words",
    [
        ({"greeting": "421 busy"}, Deferred, "421"),
        ({"MAIL": "450 later"}, Deferred, "450"),
        ({"RCPT": "550 nobody"}, Refused, "550"),
        ({"DATA": "452 full"}, Deferred, "452"),
    ],
)
def test_what_a_mail_server_says(codes: dict[str, str], kind: type[Result], words: str) -> None:
    with SmtpServer(Manners(codes=codes)) as server:
        found = sent(mail(server, tls="none"))
        assert isinstance(found, kind)
        assert words in str(found)


def test_a_password_that_a_server_quotes_is_not_told(
    authority: Authority, certificate: Certificate
) -> None:
    with SmtpServer(Manners(certificate=certificate, passwords={"cdc": "other"})) as server:
        found = sent(mail(server, ca=str(authority.own.path), **ACCOUNT))
        assert found == Refused(reason="localhost answers 535", cure="check user and password")


def test_a_mail_that_was_taken_is_delivered_however_the_server_takes_its_leave() -> None:
    with SmtpServer(Manners(hang_up_after_data=True)) as server:
        assert sent(mail(server, tls="none")) == Delivered()
        assert len(server.received) == 1


# --- notify test --------------------------------------------------------------------------------


def test_notify_test_says_what_each_service_answered(web: WebServer, tmp_path: Path) -> None:
    local = f'allow_plain: true, allow_private: [localhost], base: "{web.url}"'
    section = f"""
notifications:
  directory: {tmp_path}
  channels:
    good: {{kind: wecom, token: {SECRET}, {local}}}
    bad: {{kind: wecom, token: {SECRET}, {local}}}
"""
    path = str(write_configuration(tmp_path, GOOD + section))
    web.answers = [
        Says(body=b'{"errcode": 0}'),
        Says(body=b'{"errcode": 93000, "errmsg": "invalid webhook url"}'),
    ]
    both = invoke("notify", "test", "-c", path)
    assert both.exit_code == 1
    good, bad = both.stdout.splitlines()[1:]
    assert good.split() == ["good", "wecom", "localhost", "ok", "ok"]
    assert "invalid webhook url (the key is unknown" in bad
    assert SECRET not in both.output
    assert "测试" not in web.got[0].body.decode()
    web.answers = [Says(body=b'{"errcode": 0}')]
    one = invoke("notify", "test", "good", "-c", path, "-o", "json")
    assert one.exit_code == 0
    assert json.loads(one.stdout)[0]["result"] == "ok"
    wrong = invoke("notify", "test", "goof", "-c", path)
    assert wrong.exit_code == 2
    assert "did you mean 'good'?" in wrong.stderr


def test_notify_log_of_nothing_and_without_a_section(tmp_path: Path) -> None:
    channels = "notifications: {directory: /nowhere, channels: {a: {kind: wecom, token: x}}}\n"
    path = str(write_configuration(tmp_path, GOOD + channels))
    nothing = invoke("notify", "log", "-c", path)
    assert nothing.exit_code == 0
    assert "nothing waits and nothing was sent: /nowhere/notifications.db" in nothing.stderr
    write_configuration(tmp_path, GOOD)
    for command in ("log", "test"):
        without = invoke("notify", command, "-c", path)
        assert without.exit_code == 78
        assert "no notifications are configured" in without.stderr
