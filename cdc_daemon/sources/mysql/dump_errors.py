"""Why a server does not send its log, in our words: one error number, many reasons.

Error 1236 says the reason only in its text, which both engines have reworded over the years; what
is not recognised stops with the server's own words, which name files, GTIDs and settings only.
"""

from __future__ import annotations

import enum
import re
from typing import Final

from pymysql import err

from cdc_daemon.model.errors import RESNAPSHOT, CdcError, PreflightRefusal, Problem
from cdc_daemon.sources.mysql.connection import Server

_FATAL, _UNKNOWN_FILE, _SAME_ID = 1236, 1373, 4052


class Reason(enum.Enum):
    """Why the log does not begin where it was asked for, or ended."""

    PURGED = "purged"  # files that are needed are gone
    ABSENT = "absent"  # what was read before is not in the server's log
    CLASH = "clash"  # another reader has the same server id
    SETTING = "setting"  # the server's settings do not allow it
    DAMAGED = "damaged"  # the file cannot be read


class DumpRefused(PreflightRefusal):
    """The server does not send its log from there on."""

    def __init__(self, problem: Problem, reason: Reason) -> None:
        super().__init__([problem])
        self.reason = reason


_PURGED: Final = (
    f"{RESNAPSHOT}; keep the log for longer (binlog_expire_logs_seconds) than the daemon may"
    " be down"
)
_ABSENT: Final = (
    "the server was reset or restored, lost transactions in a fail-over, or is another one: if it"
    f" is the right one, {RESNAPSHOT}"
)
_CLASH: Final = (
    "another reader is there under the same server id: stop it, or set server_id of this source to"
    " a number that nobody else has"
)
_CURES: Final[tuple[tuple[re.Pattern[str], Reason, str], ...]] = tuple(
    (re.compile(pattern, re.IGNORECASE), reason, cure)
    for pattern, reason, cure in (
        (r"purged|Could not find (first log file|GTID state)", Reason.PURGED, _PURGED),
        (r"same server_uuid|same server_id|already connected", Reason.CLASH, _CLASH),
        (
            r"impossible position|position > file size|more GTIDs than|not in the master's binlog"
            r"|is missing the GTID|diverged|Could not find target log",
            Reason.ABSENT,
            _ABSENT,
        ),
        (
            r"AUTO_POSITION mode|GTID_MODE|anonymous transaction",
            Reason.SETTING,
            "set gtid_mode=ON at the server, as it was when the copy was taken",
        ),
        (
            r"max_allowed_packet",
            Reason.SETTING,
            "raise max_allowed_packet at the server: an event of its log is larger",
        ),
        (
            r"log is not open|binary log.* not (enabled|open)",
            Reason.SETTING,
            "turn the binary log on: log_bin",
        ),
        (r"checksum", Reason.SETTING, "set binlog_checksum to CRC32 at the server"),
        (
            r"bogus data|truncated|corrupt|could not open|I/O error|read error|decrypt",
            Reason.DAMAGED,
            f"read the server's error log; where the file cannot be repaired, {RESNAPSHOT}",
        ),
    )
)


def refusal_of(server: Server, packet: bytes) -> CdcError:
    """What an error packet of the stream says."""
    code = int.from_bytes(packet[1:3], "little")
    start = 9 if packet[3:4] == b"#" else 3
    said = packet[start:].decode("utf-8", "replace").split("\n", 1)[0]
    if code not in (_FATAL, _UNKNOWN_FILE, _SAME_ID):
        return server.translate(err.OperationalError(code, said), "reading the binlog")
    what = f"reading the binlog: {said[:600]} (error {code})"
    reason, cure = _judge(code, said)
    return DumpRefused(Problem(what=what, where=server.where, cure=cure), reason)


def _judge(code: int, said: str) -> tuple[Reason, str]:
    if code == _SAME_ID:
        return Reason.CLASH, _CLASH
    for pattern, reason, cure in _CURES:
        if pattern.search(said):
            return reason, cure
    return Reason.DAMAGED, "read the server's error log"
