"""Strict parsers for what text columns hold: boolean, uuid, bytes, JSON. Text in, text out.

Numbers are parsed in mapping/decimals, dates and times in mapping/times. Blanks around a value are
allowed, as PostgreSQL allows them. Every parser raises DataError (``invalid_value``).
"""

from __future__ import annotations

import re

from cdc_daemon.mapping.decimals import SPACE
from cdc_daemon.mapping.documents import parse_document
from cdc_daemon.model.errors import DataError

_BOOLEAN = dict.fromkeys((b"t", b"true", b"y", b"yes", b"on", b"1"), b"t") | dict.fromkeys(
    (b"f", b"false", b"n", b"no", b"off", b"0"), b"f"
)
_UUID = re.compile(
    rb"\{?([0-9a-fA-F]{8})-?([0-9a-fA-F]{4})-?([0-9a-fA-F]{4})-?([0-9a-fA-F]{4})-?([0-9a-fA-F]{12})\}?"
)
_HEX = re.compile(rb"\\x(?:[0-9a-fA-F]{2})*")


def _no(what: str) -> DataError:
    return DataError(f"the text is no {what}", code="invalid_value")


def parse_boolean(text: bytes) -> bytes:
    """``t true y yes on 1`` and their opposites in any case → ``t`` or ``f``."""
    found = _BOOLEAN.get(text) or _BOOLEAN.get(text.strip(SPACE).lower())
    if found is None:
        raise _no("boolean")
    return found


def parse_uuid(text: bytes) -> bytes:
    """32 hex digits, with or without hyphens or braces → lower case with hyphens."""
    stripped = text.strip(SPACE)
    match = _UUID.fullmatch(stripped)
    if match is None or (stripped[:1] == b"{") != (stripped[-1:] == b"}"):
        raise _no("uuid")
    return b"-".join(match.groups()).lower()


def parse_bytes(text: bytes) -> bytes:
    r"""``\x`` and hex digits → the same in lower case."""
    if not _HEX.fullmatch(text):
        raise _no("hex text of bytes")
    return text.lower()


def parse_json(text: bytes) -> bytes:
    """A JSON document, as it is."""
    parse_document(text)
    return text
