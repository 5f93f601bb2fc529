"""How many messages a service takes in which time.

Windows that slide rather than buckets: a full bucket that fills up meanwhile lets nearly twice the
figure through in one window, and DingTalk then refuses everything for ten minutes. Pure; the clock
is passed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple


class Window(NamedTuple):
    """At most ``most`` messages in any ``seconds``."""

    most: int
    seconds: float


MARGIN = 1.05
"""By which windows are longer than the services say: their clock is not ours."""

BY_KIND: Final[Mapping[str, tuple[Window, ...]]] = {
    "dingtalk": (Window(20, 60),),  # https://open.dingtalk.com/document/robots/custom-robot-access
    "wecom": (Window(20, 60),),  # https://developer.work.weixin.qq.com/document/path/91770
    "feishu": (Window(5, 1), Window(100, 60)),  # https://open.feishu.cn, custom bot guide
    "slack": (Window(1, 1),),  # https://api.slack.com/apis/rate-limits
    "webhook": (Window(60, 60),),  # ours
    "email": (Window(30, 60),),  # ours
}


class Limits:
    """What was sent of late through one channel."""

    def __init__(self, windows: Iterable[Window], sent: Iterable[float] = ()) -> None:
        """``sent``: when messages went before (seconds since 1970), ascending."""
        self._windows = tuple(Window(one.most, one.seconds * MARGIN) for one in windows)
        self._sent = deque(sent, maxlen=max((one.most for one in self._windows), default=1))

    def wait(self, now: float) -> float:
        """Seconds until the next may go; 0: now."""
        waits = (self._wait(window, now) for window in self._windows)
        return max(0.0, *waits) if self._windows else 0.0

    def note(self, now: float) -> None:
        """One goes now, whatever becomes of it."""
        self._sent.append(now)

    def _wait(self, window: Window, now: float) -> float:
        if len(self._sent) < window.most:
            return 0.0
        return self._sent[-window.most] + window.seconds - now
