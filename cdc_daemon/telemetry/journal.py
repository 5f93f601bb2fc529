"""Events as entries of the systemd journal, with a field for each value.

The native protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/): one datagram an entry to
``/run/systemd/journal/socket``; ``NAME=value`` and a line end for each field, or, where the value
has line ends of its own, the name, a line end, its length as 64 bits little-endian, the value and a
line end. An entry that is too large for a datagram goes as a sealed memfd. Not in here: when the
journal is used (``configure``).
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import socket
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

SOCKET = Path("/run/systemd/journal/socket")
IDENTIFIER = "cdc-daemon"
OWN_LOGGERS = "cdc_daemon"
PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "exception": 3, "critical": 2}

_NAMESPACE = uuid.UUID("5f1f3f0e-9d2b-4d0e-8f3a-6b1d8a0c4e27")
_NOT_IN_NAMES = re.compile(r"[^A-Z0-9_]")
_LONGEST_NAME = 64
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Journal:
    """Entries to the journal's socket."""

    def __init__(self, address: Path = SOCKET) -> None:
        self._address = str(address)

    def write(self, line: bytes) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.connect(self._address)
            try:
                channel.sendall(line)
            except OSError as error:
                if error.errno not in {errno.EMSGSIZE, errno.ENOBUFS}:
                    raise
                _send_large(channel, line)

    def close(self) -> None:
        """Nothing is held between two entries: journald may be restarted at any time."""


def _send_large(channel: socket.socket, entry: bytes) -> None:
    fd = os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(entry)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        socket.send_fds(channel, [b""], [fd])
    finally:
        os.close(fd)


def entry(event: Mapping[str, Any], message: str) -> bytes:
    """The datagram for an event; ``message`` is its line for people.

    Values get the prefix ``CDC_``. Events of our own loggers have a ``MESSAGE_ID``.
    """
    logger = str(event.get("logger", ""))
    fields: dict[str, object] = {
        "MESSAGE": message,
        "PRIORITY": PRIORITIES.get(str(event.get("level", "")), 6),
        "SYSLOG_IDENTIFIER": IDENTIFIER,
    }
    if logger.split(".", 1)[0] == OWN_LOGGERS:
        fields["MESSAGE_ID"] = message_id(str(event.get("event", "")))
    for key, value in event.items():
        if key not in {"level", "timestamp"}:
            fields[_name(key)] = value
    return b"".join(_field(name, _text(value)) for name, value in fields.items())


def message_id(event: str) -> str:
    """The id that every entry of this event carries, whatever its values."""
    return uuid.uuid5(_NAMESPACE, event).hex


def is_journal(stream: TextIO) -> bool:
    """Whether the stream is the one that systemd connected to the journal (``device:inode``)."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _name(key: str) -> str:
    return ("CDC_" + _NOT_IN_NAMES.sub("_", key.upper()))[:_LONGEST_NAME]


def _text(value: object) -> str:
    match value:
        case str():
            return value
        case None:
            return ""
        case dict() | list():
            return json.dumps(value, ensure_ascii=False, default=str)
        case _:
            return str(value)


def _field(name: str, value: str) -> bytes:
    data = value.encode(errors="backslashreplace")
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"
