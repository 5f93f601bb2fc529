"""References to what must not stand in a file, replaced in the merged files.

They are read under ``sources``, ``target``, ``daemon``, ``notifications`` and ``failures`` only, so
that neither SQL text nor a name is ever made from the environment. What they stand for never
appears in a message. Not in here: what a reference may say (``references``).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from cdc_daemon.config.document import Path as Keys
from cdc_daemon.config.findings import Findings, annotation_at
from cdc_daemon.config.keys import UNREAD
from cdc_daemon.config.references import Absent, resolve
from cdc_daemon.config.scalars import CANONICAL_NUMBER, Complaint
from cdc_daemon.config.schema import ConfigurationFile

SECTIONS = frozenset({"sources", "target", "daemon", "notifications", "failures"})

_LEFT_OUT = object()
"""In place of a scalar that could not be read: its key is not checked any further."""

_ADDRESS = "postgresql://127.0.0.1/unresolved"
_PLACEHOLDERS: dict[str | int, str] = {
    "dsn": _ADDRESS,
    "url": _ADDRESS,
    "password": "unresolved",
    "kind": "postgres",
}
"""What stands for a scalar that could not be read where something must stand."""

_IN_CHANNELS: dict[str | int, str] = {
    "url": "https://unresolved.invalid/",
    "token": "unresolved",
    "secret": "unresolved-unresolved",
    "password": "unresolved",
}
"""The same for channels of notifications."""

_WHOLE = re.compile(r"-?[0-9]{1,18}")


class Secrets:
    """Resolves references in one pass over the merged files.

    ``resolve`` False: files and credentials may be missing (an offline check). ``needed``: the
    sections in which nothing may be missing; elsewhere variables may be, too.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        resolve: bool,
        needed: Collection[str] = SECTIONS,
    ) -> None:
        self._environ = environ
        self._resolve = resolve
        self._needed = needed

    def read(self, data: dict[str, Any], findings: Findings) -> dict[str, Any]:
        """The same data with every reference replaced; what cannot be read is found wrong."""
        return {section: self._walk(value, (section,), findings) for section, value in data.items()}

    def _walk(self, value: Any, path: Keys, findings: Findings) -> Any:
        match value:
            case dict():
                walked = {key: self._walk(v, (*path, key), findings) for key, v in value.items()}
                return {key: v for key, v in walked.items() if v is not _LEFT_OUT}
            case list():
                walked_items = [self._walk(v, (*path, i), findings) for i, v in enumerate(value)]
                return [v for v in walked_items if v is not _LEFT_OUT]
            case str() if "${" in value:
                return self._text(value, path, findings)
            case _:
                return value

    def _text(self, text: str, path: Keys, findings: Findings) -> Any:
        allowed = path[0] in SECTIONS
        try:
            found = resolve(text, self._environ, allowed=allowed)
            return _typed(found, annotation_at(ConfigurationFile, path))
        except Complaint as complaint:
            findings.problem(complaint.what, path, complaint.cure)
        except Absent as absent:
            if path[0] in self._needed and (self._resolve or absent.always):
                findings.problem(absent.complaint.what, path, absent.complaint.cure)
        if path[:2] == ("failures", "keys"):
            return UNREAD
        stand_ins = _IN_CHANNELS if path[0] == "notifications" else _PLACEHOLDERS
        return stand_ins.get(path[-1], _LEFT_OUT)


def _typed(text: str, annotation: Any) -> Any:
    """A resolved text as what its key holds; a text that is no such thing stays one."""
    if annotation is bool:
        return {"true": True, "false": False}.get(text, text)
    if annotation is int and _WHOLE.fullmatch(text):
        return int(text)
    if annotation is float and CANONICAL_NUMBER.fullmatch(text):
        return float(text)
    return text
