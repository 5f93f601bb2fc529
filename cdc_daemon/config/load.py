"""From files to a checked :class:`Configuration`, or to every reason why not, at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from cdc_daemon.config.configuration import Configuration
from cdc_daemon.config.consistency import check_and_build
from cdc_daemon.config.document import Path as Keys
from cdc_daemon.config.files import Merged, read_files
from cdc_daemon.config.findings import Findings, errors_of
from cdc_daemon.config.notifying import notifications
from cdc_daemon.config.references import may_change, variables
from cdc_daemon.config.scalars import NAME, SOURCE_NAME
from cdc_daemon.config.schema import (
    SOURCE_KINDS,
    AnySource,
    Connection,
    EntityConfig,
    FailuresConfig,
    MappingConfig,
    SettingsConfig,
    TargetConfig,
    VerificationConfig,
)
from cdc_daemon.config.secrets import SECTIONS, Secrets
from cdc_daemon.config.sensitive import check_keys
from cdc_daemon.config.written import Written
from cdc_daemon.model.errors import ConfigurationError, suggest

M = TypeVar("M", bound=BaseModel)

SECRETIVE = ("sources", "target", "notifications", "failures")
"""Sections whose variables may be secret."""


Examine = Callable[[MappingConfig], Iterable[tuple[Keys, str]]]
"""What else is wrong with a mapping that is valid by itself: where, and what."""


def load(
    paths: Sequence[Path],
    *,
    environ: Mapping[str, str],
    resolve_secrets: bool = True,
    needed: Collection[str] = SECTIONS,
    examine: Examine | None = None,
) -> Configuration:
    """Read and check a configuration.

    Raises ConfigurationError with every problem found. With ``resolve_secrets`` False, files and
    credentials that are not there are no problem (the result then cannot connect); nor are they,
    and variables, in sections that are not ``needed``. ``examine``: called for every mapping, for
    checks that this package does not know.
    """
    merged = read_files(paths)
    findings = Findings(merged.spots)
    findings.problems += merged.problems
    findings.warnings += merged.warnings
    data = Secrets(environ, resolve=resolve_secrets, needed=needed).read(merged.data, findings)
    written = _sections(data, findings, whole=not merged.broken)
    _note_references(written, merged)
    _warn_of_passwords(written, merged, findings)
    if examine is not None:
        for path, what in (found for mapping in written.mappings for found in examine(mapping)):
            findings.problem(what, path)
    entities = {} if merged.broken else check_and_build(written, findings)
    check_keys(written, entities, findings, needed="failures" in needed)
    if findings.problems or written.target is None:
        raise ConfigurationError(_in_order(findings, merged))
    return Configuration(
        sources=written.sources,
        target=written.target,
        entities=entities,
        mappings=tuple(written.mappings),
        settings=written.settings,
        verification=written.verification,
        notifications=written.notifications,
        failures=written.failures,
        warnings=tuple(findings.warnings),
        files=tuple(merged.files),
        places={path: spot.place for path, spot in merged.spots.items()},
        variables=variables([merged.data[name] for name in SECRETIVE]),
    )


def _in_order(findings: Findings, merged: Merged) -> list[Any]:
    """Problems by file, line and column, as an admin goes through them; each once."""
    order = {name: number for number, name in enumerate(merged.files)}

    def rank(where: str) -> tuple[int, int, int]:
        found = re.fullmatch(r"(.*):([0-9]+):([0-9]+)", where)
        if found is None:
            return (-1, 0, 0)
        return (order.get(found[1], len(order)), int(found[2]), int(found[3]))

    return sorted(dict.fromkeys(findings.problems), key=lambda problem: rank(problem.where))


def _sections(data: dict[str, Any], findings: Findings, *, whole: bool) -> Written:
    """Each section through its models; what is wrong is noted, what is right goes on."""
    written = Written(data=data)
    for section in ("sources", "target", "entities", "mappings"):
        if whole and not data[section]:
            findings.problem(f"nothing is configured under '{section}'", (), f"add '{section}:'")
    for name, entry in data["sources"].items():
        source = _source(name, entry, findings)
        if source is not None:
            written.sources[name] = source
    if data["target"]:
        written.target = validate(TargetConfig, data["target"], ("target",), findings)
    for name, entry in data["entities"].items():
        _check_name(name, ("entities", name), findings, NAME, 63)
        entity = validate(EntityConfig, entry, ("entities", name), findings)
        if entity is not None:
            written.entities[name] = entity
    for index, entry in enumerate(data["mappings"]):
        mapping = validate(MappingConfig, entry, ("mappings", index), findings)
        if mapping is not None:
            written.mappings.append(mapping)
    settings = validate(SettingsConfig, data["daemon"], ("daemon",), findings)
    written.settings = settings or SettingsConfig()
    verification = validate(VerificationConfig, data["verification"], ("verification",), findings)
    written.verification = verification or VerificationConfig()
    written.notifications = notifications(written, validate, findings)
    failures = validate(FailuresConfig, data["failures"], ("failures",), findings)
    written.failures = failures or FailuresConfig()
    return written


def _check_name(
    name: str, path: Keys, findings: Findings, pattern: re.Pattern[str], length: int
) -> None:
    if not pattern.fullmatch(name):
        findings.problem(
            f"{name!r} cannot be a name",
            path,
            f"a name is a-z, 0-9 and _, at most {length} characters, not beginning with a digit",
            at_key=True,
        )


def _source(name: str, entry: Any, findings: Findings) -> AnySource | None:
    path = ("sources", name)
    _check_name(name, path, findings, SOURCE_NAME, 40)
    kind = entry.get("kind") if isinstance(entry, dict) else None
    if isinstance(kind, str) and kind not in SOURCE_KINDS:
        written = findings.written((*path, "kind"))
        findings.problem(
            f"unknown kind of source {written}{suggest(kind, SOURCE_KINDS) if written else ''}",
            (*path, "kind"),
            f"kinds are {', '.join(SOURCE_KINDS)}",
        )
        return None
    model = SOURCE_KINDS.get(kind or "postgres", SOURCE_KINDS["postgres"])
    return validate(model, entry, path, findings, name=name)


def validate(
    model: type[M], data: Any, path: Keys, findings: Findings, *, name: str | None = None
) -> M | None:
    """Data as a model. What is wrong is noted and left out, so that the rest can be checked too."""
    context = {"path": path, "name": name or str(path[-1])}
    for attempt in range(4):
        try:
            return model.model_validate(data, context=context)
        except ValidationError as error:
            errors = errors_of(error)
        if attempt == 0:
            for found in errors:
                findings.invalid(found, model, path)
        data = _without(data, errors)
        if data is None:
            return None
    return None


def _without(data: Any, errors: Sequence[ErrorDetails]) -> Any:
    """A copy of the data without what is wrong; None where nothing can be left out."""
    copy = _copy(data)
    removed: set[tuple[int | str, ...]] = set()
    for error in errors:
        path = error["loc"]
        holders = _holders(copy, path)
        if path[: len(holders) + 1] in removed:
            continue  # an earlier error of the same part has taken it out
        if not holders:
            return None
        here = path[: len(holders)]
        holders[-1].pop(str(here[-1]))
        removed.add(here)
    return copy


def _holders(data: Any, path: Sequence[int | str]) -> list[dict[str, Any]]:
    """What holds each part of a path, as far as it is there."""
    found: list[dict[str, Any]] = []
    for part in path:
        if not isinstance(data, dict) or part not in data:
            break
        found.append(data)
        data = data[str(part)]
    return found


def _copy(data: Any) -> Any:
    match data:
        case dict():
            return {key: _copy(value) for key, value in data.items()}
        case list():
            return [_copy(value) for value in data]
        case _:
            return data


def _note_references(written: Written, merged: Merged) -> None:
    """Passwords that may change while the daemon runs are read anew for each connection."""
    sections: list[tuple[Connection, Any]] = [
        (source, merged.data["sources"][name]) for name, source in written.sources.items()
    ]
    if written.target is not None:
        sections.append((written.target, merged.data["target"]))
    for connection, data in sections:
        if may_change(data.get("password")):
            connection.read_anew(data["password"])


def _warn_of_passwords(written: Written, merged: Merged, findings: Findings) -> None:
    """A password that stands in a file which everybody on the machine may read."""
    found: list[tuple[Keys, SecretStr | None]] = []
    for name, source in written.sources.items():
        found += [(("sources", name, key), source.password) for key in ("password", "dsn")]
    if written.target is not None:
        found += [(("target", key), written.target.password) for key in ("password", "url")]
    if written.notifications is not None:
        told = written.notifications.secrets()
        found += [(("notifications", "channels", name, key), value) for name, key, value in told]
    found += [(("failures", "keys", name), key) for name, key in written.failures.keys.items()]
    for path, password in found:
        spot = merged.spots.get(path)
        if spot is None or spot.text is None or password is None:
            continue
        if _holds(spot.text, password.get_secret_value()) and merged.readable.get(spot.file):
            findings.warning(
                f"a {'key' if path[0] == 'failures' else 'password'} stands in a file that "
                "everybody may read",
                path,
                "chmod o-r the file, or use ${cred:name} or ${file:/path}",
            )


def _holds(text: str, password: str) -> bool:
    """Whether a scalar as written holds the password: alone, as a default, or in an address."""
    form = "|".join(re.escape(form) for form in {password, quote(password, safe="")} if form)
    return bool(form) and bool(
        re.search(
            rf"^(?:{form})$|:-(?:{form})\}}|:(?:{form})@|password='?(?:{form})(?:['&}}\s]|$)", text
        )
    )
