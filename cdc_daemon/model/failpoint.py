"""Named points at which a crash test ends the process: ``CDC_FAILPOINT=name[:n]``.

The n-th time (default: the first) the process comes by, it is killed with SIGKILL, as a power cut
would. Without the variable a failpoint costs one comparison with None.
"""

from __future__ import annotations

import os
import signal

_name, _, _count = os.environ.get("CDC_FAILPOINT", "").partition(":")
_left = int(_count) if _count.isdigit() else 1


def failpoint(name: str) -> None:
    """End the process here if ``CDC_FAILPOINT`` says so."""
    if not _name or name != _name:
        return
    global _left  # noqa: PLW0603 - the count of this process
    _left -= 1
    if _left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
