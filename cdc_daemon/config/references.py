"""What is meant by ``${VAR}``, ``${VAR:-default}``, ``${file:/path}`` and ``${cred:name}``;
``$${`` writes ``${``. What a reference stands for never appears in a message.

Not in here: in which sections references may stand (``secrets``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from cdc_daemon.config.scalars import Complaint

MAX_SECRET_BYTES = 64 * 1024

_REFERENCE = re.compile(r"(?P<escaped>\$\$\{)|\$\{(?P<body>[^{}]*)\}|(?P<open>\$\{)")
_VARIABLE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?", re.S)
_CREDENTIAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_FORMS = "write ${VAR}, ${VAR:-default}, ${file:/path} or ${cred:name}; $${ for the text ${"
_LIVING = ("${file:", "${cred:")


class Absent(Exception):
    """Something that may be missing where the section is not needed; ``always``: only there."""

    def __init__(self, complaint: Complaint, *, always: bool = False) -> None:
        self.complaint = complaint
        self.always = always
        super().__init__(complaint.what)


def resolve(text: str, environ: Mapping[str, str], *, allowed: bool = True) -> str:
    """The text with every reference replaced. Raises Complaint or Absent."""
    return _REFERENCE.sub(lambda found: _replace(found, environ, allowed=allowed), text)


class Rereading(Mapping[str, str]):
    """Keywords of a connection whose password is read anew each time that it is asked for.

    So a password that was changed in its file is used from the next connection on. One that cannot
    be read at that moment is the last that could.
    """

    def __init__(self, keywords: Mapping[str, str], reference: str) -> None:
        self._keywords = dict(keywords)
        self._reference = reference

    def __getitem__(self, keyword: str) -> str:
        if keyword == "password":
            with suppress(Absent, Complaint):
                self._keywords[keyword] = resolve(self._reference, os.environ)
        return self._keywords[keyword]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keywords)

    def __len__(self) -> int:
        return len(self._keywords)


def variables(value: object) -> frozenset[str]:
    """The names of the variables that texts anywhere in the value refer to."""
    match value:
        case dict():
            return frozenset[str]().union(*map(variables, value.values()))
        case list():
            return frozenset[str]().union(*map(variables, value))
        case str():
            bodies = [found["body"] or "" for found in _REFERENCE.finditer(value)]
            named = [_VARIABLE.fullmatch(body) for body in bodies]
            return frozenset(found["name"] for found in named if found)
        case _:
            return frozenset()


def may_change(text: object) -> bool:
    """Whether a text refers to something that may change while the daemon runs."""
    return isinstance(text, str) and any(form in text for form in _LIVING)


def _replace(found: re.Match[str], environ: Mapping[str, str], *, allowed: bool) -> str:
    if found["escaped"]:
        return "${"
    if found["open"]:
        raise Complaint("a reference that begins with ${ does not end", _FORMS)
    if not allowed:
        raise Complaint(
            "references are read under sources, target, daemon, notifications and failures only",
            "write the value itself; $${ for the text ${",
        )
    return _value_of(found["body"], environ)


def _value_of(body: str, environ: Mapping[str, str]) -> str:
    if body.startswith("file:"):
        return _file(body.removeprefix("file:"))
    if body.startswith("cred:"):
        return _credential(body.removeprefix("cred:"), environ)
    found = _VARIABLE.fullmatch(body)
    if found is None:
        raise Complaint("not a reference that can be read", _FORMS)
    value = environ.get(found["name"])
    if found["default"] is not None:
        return value or found["default"]
    if value is None:
        raise Absent(
            Complaint(
                f"the environment has no variable {found['name']}",
                "set it, or write ${VAR:-default}",
            ),
            always=True,
        )
    return value


def _file(name: str) -> str:
    if not name.startswith("/"):
        raise Complaint("${file:…} needs an absolute path", "write ${file:/path}")
    return _content(Path(name), f"the file {name}")


def _credential(name: str, environ: Mapping[str, str]) -> str:
    if not _CREDENTIAL.fullmatch(name):
        raise Complaint("${cred:…} needs the name of a credential", "write ${cred:name}")
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        raise Absent(
            Complaint(
                f"the credential {name} cannot be read: CREDENTIALS_DIRECTORY is not set",
                f"run under systemd with LoadCredential={name}:…, or set the directory",
            )
        )
    return _content(Path(directory, name), f"the credential {name}")


def _content(path: Path, what: str) -> str:
    try:
        if path.stat().st_size > MAX_SECRET_BYTES:
            raise Complaint(f"{what} is larger than {MAX_SECRET_BYTES} bytes")
        content = path.read_bytes()
    except OSError as error:
        reason = error.strerror or "unreadable"
        raise Absent(
            Complaint(f"{what} cannot be read: {reason}", "check that it is there and readable")
        ) from None
    except ValueError:
        raise Complaint("the path holds a NUL character", "write ${file:/path}") from None
    try:
        return content.decode().removesuffix("\n")
    except UnicodeDecodeError:
        raise Complaint(f"{what} is not UTF-8 text") from None
