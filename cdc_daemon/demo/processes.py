"""What /proc and prctl(2) tell and do about processes (Linux), and servers that die with ours.

Linux ties the death signal of a child to the *thread* that forked it (prctl(2), PR_SET_PDEATHSIG):
all servers are forked by one thread of this module that lives as long as the process, so that a
server may be started from a thread that ends soon. A fork of this process cannot start servers.
"""

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from cdc_daemon.demo.installation import Account

_PR_SET_PDEATHSIG: Final = 1
_libc = ctypes.CDLL(None)
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="server-spawner")


def spawn(
    command: Sequence[str],
    *,
    log: Path,
    account: Account,
    environment: Mapping[str, str],
    death: signal.Signals,
) -> subprocess.Popen[bytes]:
    """Start a server in the folder of its `log`, which takes what it prints.

    It gets a session of its own, out of reach of the terminal's Ctrl-C, and the signal `death` when
    this process dies.
    """
    parent = os.getpid()

    def fork() -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=log.parent,
                env=environment,
                start_new_session=True,
                preexec_fn=die_with(parent, death),  # noqa: PLW1509 (one libc call, see there)
                user=account.uid,
                group=account.gid,
                extra_groups=account.groups,
            )

    return _spawner.submit(fork).result()


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
