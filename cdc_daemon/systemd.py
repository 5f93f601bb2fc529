"""sd_notify in a few lines of standard library; without ``NOTIFY_SOCKET`` every call does nothing.

Protocol: sd_notify(3). One datagram per message, lines ``NAME=value``; an address that begins with
``@`` is in the abstract namespace. A message that cannot be sent is dropped: the service manager
notices silence by itself.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

PRIVATE_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID")
"""What a child process must not inherit: these are addressed to the main process."""


class Notifier:
    """Tells the service manager how the daemon is."""

    def __init__(self, address: str | None = None) -> None:
        self._address = f"\0{address[1:]}" if address and address[0] == "@" else address or ""

    def ready(self) -> None:
        """Start-up, or a reload, has finished."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``."""
        self._send("STATUS=" + " ".join(text.split()))

    def reloading(self) -> None:
        """A reload begins; ``ready`` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Shutdown has begun."""
        self._send("STOPPING=1")

    def watchdog(self) -> None:
        """The daemon is alive and makes progress."""
        self._send("WATCHDOG=1")

    def extend_timeout(self, seconds: float) -> None:
        """The current start, reload or stop needs that much longer from now on."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.setblocking(False)
            channel.connect(self._address)
            channel.sendall("\n".join(lines).encode())


def notifier(environment: Mapping[str, str] = os.environ) -> Notifier:
    """The notifier for the service manager that started this process, if one did."""
    return Notifier(environment.get("NOTIFY_SOCKET"))


def watchdog_interval(environment: Mapping[str, str] = os.environ) -> float | None:
    """Seconds between two ``WATCHDOG=1`` (half the limit); None: nobody watches this process."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    limit = environment.get("WATCHDOG_USEC", "")
    return int(limit) / 2_000_000 if limit.isdigit() and int(limit) else None
