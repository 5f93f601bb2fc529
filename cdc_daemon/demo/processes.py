"""What /proc and prctl(2) tell and do about processes (Linux)."""

import ctypes
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_libc = ctypes.CDLL(None)


def die_with(parent: int, number: signal.Signals = signal.SIGQUIT) -> Callable[[], None]:
    """What a child runs between fork and exec, as `preexec_fn`: a signal when its parent dies.

    It runs after the change of account, which would clear the wish. If the parent is gone already,
    the signal would never come, so it ends at once. One libc call, resolved beforehand, and nothing
    that takes a lock: another thread may hold it at the fork.
    """
    prctl, getppid, end = _libc.prctl, os.getppid, os._exit

    def arrange() -> None:
        prctl(_PR_SET_PDEATHSIG, int(number))
        if getppid() != parent:
            end(1)

    return arrange


def children(parent: int) -> list[int]:
    """Process ids of the direct children, from /proc."""
    pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if (status := _status(pid)) and status[1] == str(parent)]


def lives(pid: int) -> bool:
    """Whether a process runs still; a zombie has given back all it held."""
    status = _status(pid)
    return status is not None and status[0] not in "ZX"


def _status(pid: int) -> list[str] | None:
    """State, parent and more of /proc/PID/stat, after the name in brackets; None: it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()
