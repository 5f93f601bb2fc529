"""Memory that a million blocked lanes take, in a process of its own: prints 10⁶ bytes.

They come as a pipeline's queue gives them at a start.
"""

from __future__ import annotations

import os
import sys

from benchmarks.cpu import peak_mb
from cdc_daemon.engine.blocked import Lanes
from cdc_daemon.engine.touched import digests

NUMBER = 1_000_000


def main() -> None:
    """Print what the process grew by, at its peak."""
    lanes, before = Lanes(), peak_mb(os.getpid())
    keys = ((b"%d" % n,) for n in range(NUMBER))
    lanes.reload(dict.fromkeys(digests(("key", "item"), keys), "erp.item"))
    if len(lanes) != NUMBER:
        raise SystemExit("some lanes were lost")
    sys.stdout.write(f"{peak_mb(os.getpid()) - before:.1f}\n")


if __name__ == "__main__":
    main()
