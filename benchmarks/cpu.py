"""What /proc tells of processes: CPU time and peak memory (Linux)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cdc_daemon.demo.processes import children

_TICKS = os.sysconf("SC_CLK_TCK")
_UTIME, _STIME = 11, 12  # after the name in brackets


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """CPU-seconds by process: the source's walsender, the applying worker, the target's backends.

    Native replication's worker is its backend, so there `backend` is 0.
    """

    walsender: float
    worker: float
    backend: float

    def per_million(self, earlier: Cpu, rows: int) -> Cpu:
        """What was used since `earlier`, for a million rows."""
        factor = 1_000_000 / max(rows, 1)
        return Cpu(
            walsender=(self.walsender - earlier.walsender) * factor,
            worker=(self.worker - earlier.worker) * factor,
            backend=(self.backend - earlier.backend) * factor,
        )


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of these processes; one that is gone counts nothing."""
    return sum(map(_seconds, pids))


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    return [pid, *(member for child in children(pid) for member in family(child))]


def peak_mb(pid: int) -> float:
    """VmHWM: the most memory it ever held, in 10⁶ bytes. Raises ProcessLookupError."""
    for line in _read(pid, "status").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ProcessLookupError(pid)


def command_line(pid: int) -> list[str]:
    """The arguments a process was started with; none if it is gone."""
    try:
        return _read(pid, "cmdline").split("\0")
    except ProcessLookupError:
        return []


def _seconds(pid: int) -> float:
    try:
        fields = _read(pid, "stat").rpartition(")")[2].split()
    except ProcessLookupError:
        return 0.0
    return (int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except FileNotFoundError as exc:
        raise ProcessLookupError(pid) from exc
