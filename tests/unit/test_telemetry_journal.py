"""What the journal receives, on a real datagram socket."""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cdc_daemon import telemetry
from cdc_daemon.telemetry.journal import Journal, entry, message_id
from tests.unit.test_telemetry import _restored

__all__ = ["_restored"]


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[tuple[socket.socket, Path]]:
    """A listening socket and its address."""
    address = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(address))
        channel.settimeout(10)
        yield channel, address


def received(channel: socket.socket) -> dict[str, str]:
    """The fields of the next entry, which may come as a file."""
    data, descriptors, _, _ = socket.recv_fds(channel, 1 << 20, 1)
    if descriptors:
        with os.fdopen(descriptors[0], "rb") as file:
            file.seek(0)
            data = file.read()
    return fields(data)


def fields(data: bytes) -> dict[str, str]:
    """An entry in the journal's export format."""
    found: dict[str, str] = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            length = int.from_bytes(data[:8], "little")
            value, data = data[8 : 8 + length], data[8 + length + 1 :]
        found[name.decode()] = value.decode()
    return found


def test_an_event_is_an_entry_with_a_field_for_each_value(
    journald: tuple[socket.socket, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, address = journald
    with ExitStack() as stack:
        stderr = stack.enter_context((tmp_path / "stderr").open("w+"))
        found = os.fstat(stderr.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        monkeypatch.setattr(telemetry, "SOCKET", address)
        telemetry.configure("info", "auto", stderr)
        log = telemetry.get_logger("cdc_daemon.test")
        log.warning(
            "worker restarts", pipeline="erp", seconds=1.5, error="no\nanswer", password="hunter2"
        )
        assert received(channel) == {
            "MESSAGE": r"worker restarts pipeline=erp seconds=1.5 error=no\nanswer password=***",
            "PRIORITY": "4",
            "SYSLOG_IDENTIFIER": "cdc-daemon",
            "MESSAGE_ID": message_id("worker restarts"),
            "CDC_EVENT": "worker restarts",
            "CDC_LOGGER": "cdc_daemon.test",
            "CDC_PIPELINE": "erp",
            "CDC_SECONDS": "1.5",
            "CDC_ERROR": "no\nanswer",
            "CDC_PASSWORD": "***",
        }
        log.error("größer", tables=["表"], position=None)
        assert received(channel)["CDC_TABLES"] == '["表"]'
        telemetry.get_logger("library").info("hello")
        assert "MESSAGE_ID" not in received(channel)
        stderr.seek(0)
        assert stderr.read() == ""


def test_an_entry_larger_than_a_datagram_arrives_whole(
    journald: tuple[socket.socket, Path],
) -> None:
    channel, address = journald
    text = "ä" * 1_000_000
    Journal(address).write(entry({"event": "large", "traceback": text}, "large"))
    assert received(channel)["CDC_TRACEBACK"] == text


def test_a_journal_that_is_away_drops_lines(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Journal(tmp_path / "nobody").write(b"MESSAGE=x\n")


def test_an_event_has_one_id_for_ever() -> None:
    """Operators have it in their filters."""
    assert message_id("pipeline stopped") == "389107ba45a55ea3b0ba29bc3d11c1b6"


def test_the_operators_page_has_the_ids_of_events_that_there_are() -> None:
    root = Path(__file__).parents[2]
    page = (root / "docs/operations/service.md").read_text("utf-8")
    found = dict(re.findall(r"^\| (.+) \| `([0-9a-f]{32})` \|$", page, re.M))
    assert len(found) >= 5
    assert found == {event: message_id(event) for event in found}
    code = "".join(path.read_text("utf-8") for path in (root / "cdc_daemon").rglob("*.py"))
    assert [event for event in found if f'"{event}"' not in code] == []


@pytest.mark.parametrize("key,name", [("a b-c", "CDC_A_B_C"), ("x" * 99, "CDC_" + "X" * 60)])
def test_names_are_what_the_journal_takes(key: str, name: str) -> None:
    assert fields(entry({key: 1}, ""))[name] == "1"
