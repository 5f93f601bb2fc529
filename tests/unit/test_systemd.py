"""What the service manager receives, on real datagram sockets."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdc_daemon.systemd import Notifier, notifier, watchdog_interval


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A listening socket, and its address as NOTIFY_SOCKET has it."""
    name = f"@cdc-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind("\0" + name[1:] if name[0] == "@" else name)
        channel.settimeout(5)
        yield channel, name


def test_each_message_is_one_datagram_of_assignments(manager: tuple[socket.socket, str]) -> None:
    channel, address = manager
    told = notifier({"NOTIFY_SOCKET": address})
    told.ready()
    told.status("2 streaming,\n1 stopped")
    told.stopping()
    told.watchdog()
    told.extend_timeout(1.5)
    assert [channel.recv(4096).decode() for _ in range(5)] == [
        "READY=1",
        "STATUS=2 streaming, 1 stopped",
        "STOPPING=1",
        "WATCHDOG=1",
        "EXTEND_TIMEOUT_USEC=1500000",
    ]


def test_reloading_carries_the_monotonic_clock(manager: tuple[socket.socket, str]) -> None:
    channel, address = manager
    before = time.monotonic_ns() // 1000
    Notifier(address).reloading()
    first, second = channel.recv(4096).decode().split("\n")
    assert first == "RELOADING=1"
    name, _, value = second.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(value) <= time.monotonic_ns() // 1000


def test_without_a_service_manager_nothing_happens(tmp_path: Path) -> None:
    notifier({}).ready()
    Notifier(str(tmp_path / "nobody listens")).ready()
    Notifier("").watchdog()


@pytest.mark.parametrize(
    "environment,seconds",
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_interval_is_half_the_limit_and_only_ours(
    environment: dict[str, str], seconds: float | None
) -> None:
    assert watchdog_interval(environment) == seconds
