"""Python reads this at its start: the process's wall clock is off by what a file says, in seconds.

libfaketime's sleep fails while it leaves the monotonic clock alone (0.9.10, EINVAL), so the clock
is shifted here. On PYTHONPATH of the daemon only, with CDC_TEST_CLOCK naming the file.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

_file = Path(os.environ["CDC_TEST_CLOCK"])
_time, _time_ns = time.time, time.time_ns


def _offset() -> float:
    with suppress(OSError, ValueError):
        return float(_file.read_text())
    return 0.0


time.time = lambda: _time() + _offset()
time.time_ns = lambda: _time_ns() + int(_offset() * 1_000_000_000)
