"""Events out of packets, however the bytes come, and what a server's refusal means."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc_daemon.model.errors import CdcError, Unreachable
from cdc_daemon.sources.mysql.connection import Connection, Edition, Server
from cdc_daemon.sources.mysql.dump import Dump
from cdc_daemon.sources.mysql.dump_errors import DumpRefused, Reason, refusal_of

SERVER = Server("hr", {"host": "db", "user": "cdc"})
EDITION = Edition(mariadb=True, version=(10, 11, 19), lower_case=0)
LARGEST = (1 << 24) - 1


class Wire:
    """Both ends of a connection."""

    def __init__(self, *, until_end: bool = False) -> None:
        self.near, self.far = socket.socketpair()
        connection = cast("Connection", SimpleNamespace(_sock=self.near))
        self.dump = Dump(SERVER, connection, EDITION, until_end=until_end, silent=5.0)

    def events(self, count: int) -> list[bytes]:
        found: list[bytes] = []
        while len(found) < count:
            found += self.dump.read(1) or pytest.fail(f"{len(found)} of {count}")
        return found


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.near.close()
    made.far.close()


def packets(bodies: list[bytes], first: int = 1) -> bytes:
    return b"".join(
        struct.pack("<I", len(body))[:3] + bytes(((first + i) & 0xFF,)) + body
        for i, body in enumerate(bodies)
    )


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=300),
    st.lists(st.integers(1, 60), min_size=1, max_size=8),
)
def test_events_are_whole_however_the_bytes_come(bodies: list[bytes], cuts: list[int]) -> None:
    """Also where the packets' numbers begin anew, after 255."""
    wire = Wire()
    data = packets([b"\0" + body for body in bodies])
    found: list[bytes] = []
    offset, turn = 0, 0
    while offset < len(data):
        size = cuts[turn % len(cuts)] * (1 + turn % 3)
        wire.far.sendall(data[offset : offset + size])
        offset, turn = offset + size, turn + 1
        found += wire.dump.read(0) or []
    assert found + (wire.dump.read(0) or []) == bodies
    wire.near.close()
    wire.far.close()


@pytest.mark.parametrize("extra", [0, 1, 100])
def test_an_event_of_several_packets_is_joined(wire: Wire, extra: int) -> None:
    """Whose last packet may be empty."""
    large = bytes(LARGEST - 1) + bytes(extra)
    sent = packets([b"\0" + bytes(LARGEST - 1), bytes(extra), b"\0small"])
    wire.far.setblocking(False)
    found: list[bytes] = []
    while sent or len(found) < 2:
        with suppress(BlockingIOError):
            sent = sent[wire.far.send(sent[: 1 << 20]) :] if sent else sent
        found += wire.dump.read(0) or []
    assert found == [large, b"small"]


def test_what_came_before_an_error_is_handed_over_first(wire: Wire) -> None:
    refusal = b"\xff" + struct.pack("<H", 1236) + b"#HY000Could not find first log file name"
    wire.far.sendall(packets([b"\0one", b"\0two", refusal]))
    assert wire.events(2) == [b"one", b"two"]
    for _ in range(2):
        with pytest.raises(DumpRefused, match="Could not find first log file name"):
            wire.dump.read(1)


def test_an_error_whose_number_is_wrong_is_read_too(wire: Wire) -> None:
    """MariaDB counts anew when it shuts down."""
    refusal = b"\xff" + struct.pack("<H", 1053) + b"#08S01Server shutdown in progress"
    wire.far.sendall(packets([b"\0one"]) + packets([refusal], first=0))
    assert wire.events(1) == [b"one"]
    with pytest.raises(Unreachable, match="shutdown in progress"):
        wire.dump.read(1)


@pytest.mark.parametrize(
    "sent, said",
    [
        (packets([b"\0one"], first=2), "out of order"),
        (packets([b"\x07one"]), "no event"),
        (packets([b""]), "no event"),
        (packets([b"\xfe\0\0\2\0"]), "the server ended the stream"),
    ],
)
def test_what_is_no_event_ends_the_stream(wire: Wire, sent: bytes, said: str) -> None:
    wire.far.sendall(sent)
    with pytest.raises(Unreachable, match=said):
        wire.dump.read(1)


def test_the_end_of_the_log_is_told_where_it_was_asked_for() -> None:
    wire = Wire(until_end=True)
    wire.far.sendall(packets([b"\0one", b"\xfe\0\0\2\0"]))
    assert wire.dump.read(1) == [b"one"]
    assert wire.dump.read(1) == []
    assert wire.dump.read(1) == []
    wire.near.close()
    wire.far.close()


def test_nothing_within_the_time_is_none_and_a_closed_end_is_unreachable(wire: Wire) -> None:
    assert wire.dump.read(0.01) is None
    wire.far.sendall(packets([b"\0one"])[:6])
    assert wire.dump.read(0.01) is None
    wire.far.close()
    with pytest.raises(Unreachable, match="connection lost"):
        wire.dump.read(1)


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code, said, reason",
    [
        (1236, "Could not find first log file name in binary log index file", Reason.PURGED),
        (1236, "Cannot replicate because the source purged required binary logs. Replicate the"
         " missing transactions from elsewhere", Reason.PURGED),
        (1236, "Could not find GTID state requested by slave in any binlog files. Probably the"
         " slave state is too old and required binlog files have been purged.", Reason.PURGED),
        (1236, "The slave is connecting using CHANGE MASTER TO MASTER_AUTO_POSITION = 1, but the"
         " master has purged binary logs containing GTIDs that the slave requires.", Reason.PURGED),
        (1236, "Client requested master to start replication from impossible position; the first"
         " event 'bin.000001' at 99999", Reason.ABSENT),
        (1236, "Client requested source to start replication from position > file size",
         Reason.ABSENT),
        (1236, "Replica has more GTIDs than the source has, using the source's SERVER_UUID.",
         Reason.ABSENT),
        (1236, "Error: connecting slave requested to start from GTID 0-1-100, which is not in the"
         " master's binlog", Reason.ABSENT),
        (1236, "The binlog on the master is missing the GTID 0-1-5 requested by the slave (even"
         " though a subsequent sequence number does exist), and GTID strict mode is enabled",
         Reason.ABSENT),
        (1236, "A replica with the same server_uuid/server_id as this replica has connected to the"
         " source; the first event '' at 4", Reason.CLASH),
        (4052, "A slave with the same server_uuid/server_id is already connected", Reason.CLASH),
        (1236, "The replication sender thread cannot start in AUTO_POSITION mode: this server has"
         " GTID_MODE = OFF instead of ON.", Reason.SETTING),
        (1236, "log event entry exceeded max_allowed_packet; Increase max_allowed_packet on source",
         Reason.SETTING),
        (1236, "Binary log is not open", Reason.SETTING),
        (1236, "bogus data in log event; the first event 'bin.000001' at 4", Reason.DAMAGED),
        (1236, "binlog truncated in the middle of event; consider out of disk space on source",
         Reason.DAMAGED),
        (1236, "something that nobody has seen", Reason.DAMAGED),
        (1373, "Could not find target log during relay log initialization", Reason.ABSENT),
    ],
)  # fmt: skip
def test_m27_a_refusal_has_a_reason_and_a_cure(code: int, said: str, reason: Reason) -> None:
    error = refused(code, said)
    assert isinstance(error, DumpRefused)
    assert error.reason is reason
    [problem] = error.problems
    assert said in problem.what
    assert problem.where == "source hr (db:3306)"
    assert problem.cure


def test_other_errors_of_a_stream_are_those_of_any_connection() -> None:
    assert isinstance(refused(1053, "Server shutdown in progress"), Unreachable)
    assert isinstance(refused(1927, "Connection was killed"), Unreachable)
    assert "grant cdc" in str(refused(1227, "Access denied; you need REPLICATION SLAVE"))


def refused(code: int, said: str) -> CdcError:
    return refusal_of(SERVER, b"\xff" + struct.pack("<H", code) + b"#HY000" + said.encode())
