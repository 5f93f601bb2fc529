"""References to what must not stand in a file: ``${VAR}``, ``${VAR:-default}``, ``${file:/path}``,
``${cred:name}``; ``$${`` writes ``${``.

They are read under ``sources``, ``target`` and ``daemon`` only, so that neither SQL text nor a name
is ever made from the environment. What they stand for never appears in a message.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from cdc_daemon.config.document import Path as Keys
from cdc_daemon.config.findings import Findings, annotation_at
from cdc_daemon.config.scalars import CANONICAL_NUMBER, Complaint
from cdc_daemon.config.schema import ConfigurationFile

SECTIONS = frozenset({"sources", "target", "daemon"})
MAX_SECRET_BYTES = 64 * 1024

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

_REFERENCE = re.compile(r"(?P<escaped>\$\$\{)|\$\{(?P<body>[^{}]*)\}|(?P<open>\$\{)")
_VARIABLE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?", re.S)
_CREDENTIAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_FORMS = "write ${VAR}, ${VAR:-default}, ${file:/path} or ${cred:name}; $${ for the text ${"


class _Absent(Exception):
    """Something that may be missing where the section is not needed; ``always``: only there."""

    def __init__(self, complaint: Complaint, *, always: bool = False) -> None:
        self.complaint = complaint
        self.always = always
        super().__init__(complaint.what)


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
            found = _REFERENCE.sub(lambda found: self._replace(found, allowed=allowed), text)
            return _typed(found, annotation_at(ConfigurationFile, path))
        except Complaint as complaint:
            findings.problem(complaint.what, path, complaint.cure)
        except _Absent as absent:
            if path[0] in self._needed and (self._resolve or absent.always):
                findings.problem(absent.complaint.what, path, absent.complaint.cure)
        return _PLACEHOLDERS.get(path[-1], _LEFT_OUT)

    def _replace(self, found: re.Match[str], *, allowed: bool) -> str:
        if found["escaped"]:
            return "${"
        if found["open"]:
            raise Complaint("a reference that begins with ${ does not end", _FORMS)
        if not allowed:
            raise Complaint(
                "references are read under sources, target and daemon only",
                "write the value itself; $${ for the text ${",
            )
        return self._value_of(found["body"])

    def _value_of(self, body: str) -> str:
        if body.startswith("file:"):
            return self._file(body.removeprefix("file:"))
        if body.startswith("cred:"):
            return self._credential(body.removeprefix("cred:"))
        found = _VARIABLE.fullmatch(body)
        if found is None:
            raise Complaint("not a reference that can be read", _FORMS)
        value = self._environ.get(found["name"])
        if found["default"] is not None:
            return value or found["default"]
        if value is None:
            raise _Absent(
                Complaint(
                    f"the environment has no variable {found['name']}",
                    "set it, or write ${VAR:-default}",
                ),
                always=True,
            )
        return value

    def _file(self, name: str) -> str:
        if not name.startswith("/"):
            raise Complaint("${file:…} needs an absolute path", "write ${file:/path}")
        return _content(Path(name), f"the file {name}")

    def _credential(self, name: str) -> str:
        if not _CREDENTIAL.fullmatch(name):
            raise Complaint("${cred:…} needs the name of a credential", "write ${cred:name}")
        directory = self._environ.get("CREDENTIALS_DIRECTORY")
        if not directory:
            raise _Absent(
                Complaint(
                    f"the credential {name} cannot be read: CREDENTIALS_DIRECTORY is not set",
                    f"run under systemd with LoadCredential={name}:…, or set the directory",
                )
            )
        return _content(Path(directory, name), f"the credential {name}")


def _typed(text: str, annotation: Any) -> Any:
    """A resolved text as what its key holds; a text that is no such thing stays one."""
    if annotation is bool:
        return {"true": True, "false": False}.get(text, text)
    if annotation is int and _WHOLE.fullmatch(text):
        return int(text)
    if annotation is float and CANONICAL_NUMBER.fullmatch(text):
        return float(text)
    return text


def _content(path: Path, what: str) -> str:
    try:
        if path.stat().st_size > MAX_SECRET_BYTES:
            raise Complaint(f"{what} is larger than {MAX_SECRET_BYTES} bytes")
        content = path.read_bytes()
    except OSError as error:
        reason = error.strerror or "unreadable"
        raise _Absent(
            Complaint(f"{what} cannot be read: {reason}", "check that it is there and readable")
        ) from None
    except ValueError:
        raise Complaint("the path holds a NUL character", "write ${file:/path}") from None
    try:
        return content.decode().removesuffix("\n")
    except UnicodeDecodeError:
        raise Complaint(f"{what} is not UTF-8 text") from None
