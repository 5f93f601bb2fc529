"""The section ``notifications`` through its models, and its checks against the others."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from pydantic import BaseModel

from cdc_daemon.config.channels import CHANNEL_KINDS, AnyChannel
from cdc_daemon.config.document import Path as Keys
from cdc_daemon.config.findings import Findings
from cdc_daemon.config.notifications import NotificationsConfig, RuleConfig
from cdc_daemon.config.scalars import NAME
from cdc_daemon.config.written import Written
from cdc_daemon.model.errors import suggest

M = TypeVar("M", bound=BaseModel)
Validate = Callable[[type[M], Any, Keys, Findings], M | None]

SECTION = "notifications"


def notifications(
    written: Written, validate: Validate[Any], findings: Findings
) -> NotificationsConfig | None:
    """The section, as far as it is valid; None where there is none."""
    data = written.data[SECTION]
    if not data:
        return None
    channels = _channels(data.get("channels"), validate, findings)
    rules = _rules(data.get("rules"), validate, findings)
    rest = {key: value for key, value in data.items() if key not in {"channels", "rules"}}
    found: NotificationsConfig | None = validate(NotificationsConfig, rest, (SECTION,), findings)
    if found is None:
        return None
    _check_rules(rules, written, findings)
    valid = tuple(rule for _, rule in rules)
    return found.model_copy(update={"channels": channels, "rules": valid})


def _channels(data: Any, validate: Validate[Any], findings: Findings) -> dict[str, AnyChannel]:
    path: Keys = (SECTION, "channels")
    if not isinstance(data, dict) or not data:
        findings.problem("no channel is configured", path, "add 'channels:' with a name: {kind: …}")
        return {}
    for name in data:
        if not NAME.fullmatch(name):
            cure = "a name is a-z, 0-9 and _, at most 63 characters, not beginning with a digit"
            findings.problem(f"{name!r} cannot be a name", (*path, name), cure, at_key=True)
    found = {
        name: _channel(entry, (*path, name), validate, findings) for name, entry in data.items()
    }
    return {name: channel for name, channel in found.items() if channel is not None}


def _channel(
    entry: Any, path: Keys, validate: Validate[Any], findings: Findings
) -> AnyChannel | None:
    kind = entry.get("kind") if isinstance(entry, dict) else None
    if isinstance(kind, str) and kind in CHANNEL_KINDS:
        channel: AnyChannel | None = validate(CHANNEL_KINDS[kind], entry, path, findings)
        return channel
    near = suggest(kind, CHANNEL_KINDS) if isinstance(kind, str) else ""
    what = f"unknown kind of channel{near}" if kind is not None else "missing key 'kind'"
    findings.problem(what, (*path, "kind"), f"kinds are {', '.join(CHANNEL_KINDS)}")
    return None


def _rules(data: Any, validate: Validate[Any], findings: Findings) -> list[tuple[int, RuleConfig]]:
    path: Keys = (SECTION, "rules")
    if data is None:
        return []
    if not isinstance(data, list):
        findings.problem("expected a list: a line '- to: […]' for each rule", path)
        return []
    found = [(n, validate(RuleConfig, entry, (*path, n), findings)) for n, entry in enumerate(data)]
    return [(n, rule) for n, rule in found if rule is not None]


def _check_rules(rules: list[tuple[int, RuleConfig]], written: Written, findings: Findings) -> None:
    """Rules must name channels; patterns that match nothing are worth a look."""
    data = written.data
    known = data[SECTION].get("channels")
    channels = list(known) if isinstance(known, dict) else []
    for number, rule in rules:
        path: Keys = (SECTION, "rules", number)
        for place, name in enumerate(rule.to):
            if name not in channels:
                what = f"unknown channel {name!r}{suggest(name, channels)}"
                cure = f"channels are {', '.join(channels)}"
                findings.problem(what, (*path, "to", place), cure)
        for key, pattern, names in (
            ("pipeline", rule.pipeline, data["sources"]),
            ("entity", rule.entity, data["entities"]),
        ):
            if pattern is not None and not any(fnmatchcase(name, pattern) for name in names):
                findings.warning(f"no {key} matches {pattern!r}", (*path, key))
