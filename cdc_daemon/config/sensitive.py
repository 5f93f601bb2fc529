"""Which attributes are sensitive, and whether there are keys to seal their values with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cdc_daemon.config.findings import Findings
from cdc_daemon.config.keys import CURRENT, UNREAD
from cdc_daemon.config.written import Written
from cdc_daemon.model.entities import Attribute, Entity
from cdc_daemon.sealing import KEY_ID, can, key_in

_KEYS = ("failures", "keys")
_NEW_KEY = "cdc-daemon failures new-key makes one"


def with_inherited(entities: Mapping[str, Entity]) -> dict[str, Entity]:
    """The entities, an attribute that holds a sensitive key being sensitive itself."""
    found = dict(entities)
    changed = True
    while changed:
        changed = False
        for name, entity in found.items():
            told = replace(entity, attributes=tuple(_inherit(entity, found)))
            if told != entity:
                found[name], changed = told, True
    return found


def _inherit(entity: Entity, entities: Mapping[str, Entity]) -> list[Attribute]:
    inherited = []
    for attribute in entity.attributes:
        parent = entities.get(attribute.references or "")
        key = {one.name: one for one in parent.attributes} if parent is not None else {}
        kinds = [key[name].sensitivity for name in parent.key if name in key] if parent else []
        told = attribute.sensitivity or next(filter(None, kinds), None)
        inherited.append(replace(attribute, sensitivity=told))
    return inherited


def check_keys(
    written: Written, entities: Mapping[str, Entity], findings: Findings, *, needed: bool
) -> None:
    """Note keys that are none, and their lack. ``needed`` False: they may not be readable here."""
    config = written.failures
    for name, text in config.keys.items():
        if name != CURRENT:
            _check_key(name, text.get_secret_value(), findings)
    _check_current(written, findings)
    if config.keys and not can(config.cipher):
        what = f"the installed library cryptography has no {config.cipher}"
        findings.problem(what, ("failures", "cipher"), "use aes-256-gcm, or another build of it")
    if needed and not config.keys:
        for entity in entities.values():
            _needs_key(entity, findings)
    for entity in entities.values():
        _warn_of_key(entity, findings)


def _check_key(name: str, text: str, findings: Findings) -> None:
    path = (*_KEYS, name)
    if not KEY_ID.fullmatch(name):
        cure = "an id is a-z, 0-9, _ and -, at most 40 characters"
        findings.problem(f"{name!r} cannot be the id of a key", path, cure, at_key=True)
    spot = findings.spots.get(path)
    unread = text == UNREAD and spot is not None and "${" in (spot.text or "")
    if not unread and key_in(text) is None:
        findings.problem("this is no key: 32 bytes in base64", path, _NEW_KEY)


def _check_current(written: Written, findings: Findings) -> None:
    config = written.failures
    if not config.keys:
        return
    ids = sorted(set(config.keys) - {CURRENT})
    if config.current is None:
        cure = "add current: and the id of one of them"
        findings.problem("nothing says which key seals", _KEYS, cure)
    elif config.current not in ids:
        cure = f"keys are {', '.join(ids)}" if ids else _NEW_KEY
        findings.problem("'current' names no key", (*_KEYS, CURRENT), cure)


def _needs_key(entity: Entity, findings: Findings) -> None:
    for attribute in entity.attributes:
        if attribute.sensitivity is not None:
            findings.problem(
                f"{attribute.name!r} is sensitive, and there is no key to seal its values with",
                ("entities", entity.name, "attributes", attribute.name),
                f"add failures.keys; {_NEW_KEY}",
                at_key=True,
            )


def _warn_of_key(entity: Entity, findings: Findings) -> None:
    for attribute in entity.attributes:
        name = attribute.name
        if name in entity.key and attribute.sensitivity is not None:
            findings.warning(
                f"{name!r} is sensitive and part of the key of {entity.name}: reference tables, "
                "lanes, verifications and repairs keep keys unsealed",
                ("entities", entity.name, "attributes", name),
                "key the entity by something else where that matters",
            )
