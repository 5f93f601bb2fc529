"""Masks what must not stand in a line: secrets, and what a server's message quotes of rows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from structlog.typing import EventDict

_MASK = "***"
_SECRET_KEY = re.compile(
    r"passw(or)?d|passphrase|secret|token|credential|private_key|api_?key", re.I
)
_IN_URL = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?P<user>[^\s:/@]*):\S*@", re.I)
_IN_CONNINFO = re.compile(
    r"\b(?P<key>password|passwd|sslpassword)\s*=\s*('(?:[^'\\]|\\.)*'|[^\s&]+)", re.I
)
_IN_DICT = re.compile(
    r"(?P<key>(?P<quote>['\"])\w*(?:passw(?:or)?d|passphrase|secret|token)(?P=quote)\s*:\s*)"
    r"(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")",
    re.I,
)
_NEXT = (  # what a value may be followed by; its own lines cannot be told from others
    r"\b(?:DETAIL|CONTEXT|QUERY|STATEMENT|HINT|LOCATION|SCHEMA NAME|TABLE NAME|COLUMN NAME):"
    r"|\n+(?:Traceback \(most|The above exception was|During handling of)|\Z"
)
_ABOUT_ROLES = r"\s+Only roles with "  # what right is missing: no value, and worth reading
_SERVER_VALUES = re.compile(
    rf"\b(?P<field>DETAIL|CONTEXT|QUERY|STATEMENT):(?!{_ABOUT_ROLES}).*?(?={_NEXT})", re.S
)


def redact(logger: object, method: str, event: EventDict) -> EventDict:
    """Mask values under secret-sounding keys, passwords inside URLs and connection strings, and the
    parts of a server's error message that quote row values.
    """
    del logger, method
    return {key: _redacted(key, value) for key, value in event.items()}


def redact_text(text: str) -> str:
    """A text without passwords and without a server's quotes of row values."""
    text = _IN_URL.sub(rf"\g<scheme>\g<user>:{_MASK}@", text)
    text = _IN_CONNINFO.sub(rf"\g<key>={_MASK}", text)
    text = _IN_DICT.sub(rf"\g<key>'{_MASK}'", text)
    return _SERVER_VALUES.sub(_masked, text)


def _masked(found: re.Match[str]) -> str:
    """A server's field without what it says; blanks and line ends behind it stay."""
    end = found[0][len(found[0].rstrip()) :]
    return f"{found['field']}: {_MASK}{end}"


def _redacted(key: str, value: Any) -> Any:
    if _SECRET_KEY.search(key):
        return _MASK if value else value
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return {inner: _redacted(str(inner), found) for inner, found in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted("", found) for found in value]
    if isinstance(value, BaseException):
        return redact_text(str(value))
    return value
