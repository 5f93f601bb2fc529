"""The section ``notifications``: what it may say, mistakes with their places, and its secrets."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest

from cdc_daemon.config.channels import CHANNEL_KINDS, webhook_key
from cdc_daemon.config.load import load
from cdc_daemon.config.notifications import NotificationsConfig, QuietHours
from cdc_daemon.model.errors import ConfigurationError
from cdc_daemon.worker_document import configuration_of, document
from tests.support.cli import invoke
from tests.unit.test_config_problems import GOOD, problems

SECTION = """\
notifications:
  channels:
    ding: {kind: dingtalk, token: "${T}", secret: "${T}"}
    wecom: {kind: wecom, token: "${T}"}
    fly: {kind: feishu, token: "${T}", secret: "${T}", language: zh}
    slack: {kind: slack, url: "https://hooks.slack.com/services/${T}"}
    hook: {kind: webhook, url: "https://hooks.corp/cdc?t=${T}", secret: "${T}"}
    mail: {kind: email, host: smtp, from: cdc@corp, to: [ops@corp], user: cdc, password: "${T}"}
  rules:
    - {to: [ding, mail]}
    - {to: [hook], severity: critical, pipeline: "erp*"}
  quiet_hours: {from: "22:00", to: "07:00", zone: Asia/Shanghai}
"""
TOKEN = "S3cretS3cretS3cret"


def written(folder: Path, text: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(text)
    path.chmod(0o600)
    return path


def loaded(folder: Path, section: str = SECTION) -> NotificationsConfig:
    found = load([written(folder, GOOD + section)], environ={"T": TOKEN}).notifications
    assert found is not None
    return found


def section(**keys: str) -> str:
    lines = {"channels": "{a: {kind: wecom, token: x}}", **keys}
    return GOOD + "notifications:\n" + "".join(f"  {k}: {v}\n" for k, v in lines.items())


def test_every_kind_of_channel_is_understood(tmp_path: Path) -> None:
    config = loaded(tmp_path)
    assert {channel.kind for channel in config.channels.values()} == set(CHANNEL_KINDS)
    assert [rule.severity for rule in config.effective_rules] == ["warning", "critical"]


def test_without_the_section_there_is_none(tmp_path: Path) -> None:
    assert load([written(tmp_path, GOOD)], environ={}).notifications is None


def test_without_rules_every_channel_gets_warnings(tmp_path: Path) -> None:
    config = load([written(tmp_path, section())], environ={}).notifications
    assert config is not None
    assert [(rule.to, rule.severity) for rule in config.effective_rules] == [(("a",), "warning")]


@pytest.mark.parametrize(
    "key, value, told",
    [
        ("channels", "{}", "no channel is configured"),
        ("channels", "{a: {kind: dingtak, token: x}}", "did you mean 'dingtalk'?"),
        ("channels", "{a: {token: x}}", "missing key 'kind'"),
        ("channels", "{A b: {kind: wecom, token: x}}", "'A b' cannot be a name"),
        ("channels", "{a: {kind: wecom}}", "missing key 'token'"),
        ("channels", "{a: {kind: wecom, tokn: x, token: x}}", "did you mean 'token'?"),
        (
            "channels",
            "{a: {kind: dingtalk, token: 'https://oapi.dingtalk.com/robot/send?access_token=x'}}",
            "write only what stands behind access_token=",
        ),
        ("channels", "{a: {kind: slack, url: 'http://h/x'}}", "the address is not encrypted"),
        ("channels", "{a: {kind: slack, url: 'https://u:p@h/x'}}", "the address holds an account"),
        ("channels", "{a: {kind: slack, url: 'file:///etc/passwd'}}", "this is no address"),
        ("channels", "{a: {kind: slack, url: 'https://h:99999/'}}", "this is no address"),
        ("channels", '{a: {kind: slack, url: "https://h/\\r\\nx"}}', "not ASCII"),
        ("channels", "{a: {kind: feishu, token: x, base: 'https://h/x'}}", "has a path"),
        ("channels", "{a: {kind: webhook, url: 'https://h', secret: short}}", "too short"),
        ("channels", "{a: {kind: webhook, url: 'https://h', secret: whsec_!}}", "no Base64"),
        ("channels", "{a: {kind: email, host: h, from: x, to: [a@b]}}", "no mail address"),
        ("channels", "{a: {kind: email, host: h, from: a..b@c, to: [a@b]}}", "no mail address"),
        ("channels", "{a: {kind: email, host: h, from: 'é@c', to: [a@b]}}", "no mail address"),
        ("channels", '{a: {kind: email, host: h, from: a@b, to: ["a@b\\nBcc: c@d"]}}', "no mail"),
        ("channels", "{a: {kind: email, host: h, from: a@b, to: []}}", "must not be empty"),
        ("channels", "{a: {kind: email, host: h, from: a@b, to: [a@b], user: u}}", "both or neith"),
        ("channels", "{a: {kind: email, host: h, from: a@b, to: [a@b], tls: none}}", "unencrypted"),
        ("rules", "[{to: [b]}]", "unknown channel 'b'"),
        ("rules", "[{to: [a], severity: bad}]", "is not one of info, warning, critical"),
        ("rules", "{to: [a]}", "expected a list"),
        ("quiet_hours", "{from: '7', to: '09:00'}", "this is no time of the day"),
        ("quiet_hours", "{from: '07:00', to: '07:00'}", "quiet hours end when they begin"),
        ("quiet_hours", "{from: '07:00', to: '08:00', zone: Mars}", "there is no time zone"),
        ("zone", "Mars", "there is no time zone"),
        ("directory", "here", "absolute path"),
        ("repeat_second", "1", "did you mean 'repeat_seconds'?"),
        ("give_up_seconds", "1", "must be at least 60"),
    ],
)
def test_a_mistake_is_named_with_its_place(key: str, value: str, told: str, tmp_path: Path) -> None:
    found = problems(section(**{key: value}), tmp_path)
    assert len(found) == 1, found
    assert told in found[0]
    assert found[0].split(":")[0] == "c.yaml"
    assert int(found[0].split(":")[1]) > GOOD.count("\n")


def test_a_password_goes_over_no_open_line(tmp_path: Path) -> None:
    mail = "kind: email, host: h, from: a@b, to: [a@b], tls: none, allow_plain: true"
    found = problems(section(channels=f"{{a: {{{mail}, user: u, password: p}}}}"), tmp_path)
    assert "the password would leave this machine unencrypted" in found[0]
    load([written(tmp_path, section(channels=f"{{a: {{{mail}}}}}"))], environ={})


def test_a_pattern_that_matches_nothing_is_a_warning(tmp_path: Path) -> None:
    rules = "[{to: [a], pipeline: 'crm*'}, {to: [a], entity: cust*}]"
    found = load([written(tmp_path, section(rules=rules))], environ={}).warnings
    assert [str(one).partition(": ")[2] for one in found] == ["no pipeline matches 'crm*'"]


def test_no_secret_is_shown(tmp_path: Path) -> None:
    """Neither by a dump, nor by an error, nor by its repr; and workers do not get it."""
    path = written(tmp_path, GOOD + SECTION)
    configuration = load([path], environ={"T": TOKEN})
    assert TOKEN not in json.dumps(configuration.describe())
    assert TOKEN not in repr(configuration)
    assert configuration.variables == {"T"}
    assert configuration_of(document(configuration, "erp")).notifications is None
    shown = invoke("config", "show", "-c", str(path), env={"T": TOKEN})
    assert shown.exit_code == 0
    assert TOKEN not in shown.output


@pytest.mark.parametrize(
    "bad", ["{kind: wecom, token: 'x ${T}'}", "{kind: slack, url: 'x:${T}'}",
            "{kind: webhook, url: 'https://h', secret: '${T}', base: '${T}'}"]
)  # fmt: skip
def test_no_error_shows_a_secret(bad: str, tmp_path: Path) -> None:
    path = written(tmp_path, section(channels=f"{{a: {bad}}}"))
    with pytest.raises(ConfigurationError) as raised:
        load([path], environ={"T": TOKEN})
    assert TOKEN not in str(raised.value)


def test_an_offline_check_needs_no_secret(tmp_path: Path) -> None:
    text = GOOD + SECTION.replace("${T}", "${cred:t}")
    found = load([written(tmp_path, text)], environ={}, resolve_secrets=False)
    assert found.notifications is not None
    assert len(found.notifications.channels) == 6


def test_a_token_that_everybody_may_read_is_a_warning(tmp_path: Path) -> None:
    path = written(tmp_path, section(channels="{a: {kind: wecom, token: abc}}"))
    path.chmod(0o644)
    found = load([path], environ={}).warnings
    assert ["everybody may read" in str(one) for one in found] == [True]


def test_a_change_of_it_is_no_other_work_for_a_pipeline(tmp_path: Path) -> None:
    one = load([written(tmp_path, GOOD)], environ={})
    other = load([written(tmp_path, section())], environ={})
    assert document(one, "erp").keys() == document(other, "erp").keys()


@pytest.mark.parametrize(
    "hours, clock, quiet",
    [
        ({"from": "22:00", "to": "07:00"}, "23:30", True),
        ({"from": "22:00", "to": "07:00"}, "06:59", True),
        ({"from": "22:00", "to": "07:00"}, "07:00", False),
        ({"from": "12:00", "to": "13:00"}, "12:00", True),
        ({"from": "12:00", "to": "13:00"}, "13:00", False),
    ],
)
def test_quiet_hours_by_the_clock_of_their_zone(
    hours: dict[str, str], clock: str, quiet: bool
) -> None:
    config = QuietHours.model_validate({**hours, "zone": "Asia/Shanghai"})
    moment = dt.datetime.fromisoformat(f"2026-07-01T{clock}:00+08:00").timestamp()
    assert config.hold(moment, "UTC") is quiet
    there = QuietHours.model_validate(hours)
    assert there.hold(moment, "Asia/Shanghai") is quiet


def test_a_webhooks_key_in_both_forms() -> None:
    assert webhook_key("whsec_MDEyMzQ1Njc4OWFiY2RlZg==") == b"0123456789abcdef"
    assert webhook_key("0123456789abcdef") == b"0123456789abcdef"


def test_where_messages_wait() -> None:
    config = NotificationsConfig()
    assert str(config.file({})) == "/var/lib/cdc-daemon/notifications.db"
    assert str(config.file({"STATE_DIRECTORY": "/a:/b"})) == "/a/notifications.db"
    own = NotificationsConfig(directory="/c")
    assert str(own.file({"STATE_DIRECTORY": "/a"})) == "/c/notifications.db"
