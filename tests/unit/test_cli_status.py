"""What ``status`` makes of a checkpoint and of a daemon's own word."""

import dataclasses
import datetime as dt
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from cdc_daemon.admin.board import PipelineView
from cdc_daemon.cli.status import WORSE, _row, ask_daemon, at_least, standing
from cdc_daemon.engine.status import State, WorkerStatus
from cdc_daemon.model.ports import SlotState
from cdc_daemon.model.position import Checkpoint, Phase

CHECKPOINT = Checkpoint(
    pipeline="erp",
    phase=Phase.STREAMING,
    epoch=3,
    position="0/1A2B",
    transactions=7,
    changes=9,
    updated_at=dt.datetime.now(dt.UTC),
)


def view(state: State, **fields: Any) -> dict[str, Any]:
    """What the daemon's page says of the pipeline."""
    return PipelineView(status=WorkerStatus(pipeline="erp", state=state, **fields)).to_dict()


@pytest.mark.parametrize(
    "phase,held,parked,state",
    [
        (Phase.STREAMING, True, 0, "streaming"),
        (Phase.STREAMING, True, 2, "degraded"),
        (Phase.SNAPSHOTTING, True, 0, "snapshotting"),
        (Phase.NEW, True, 0, "starting"),
        (Phase.STREAMING, False, 0, "stopped"),
    ],
)
def test_without_a_daemons_word_the_control_database_tells_the_state(
    phase: Phase, held: bool, parked: int, state: str
) -> None:
    checkpoint = Checkpoint(pipeline="erp", phase=phase, epoch=1)
    assert standing("erp", checkpoint, None, held, parked).state == state


def test_the_daemons_word_goes_first_and_adds_lag() -> None:
    live = view(State.BLOCKED, lag_seconds=1.5, error="no answer", parked={"erp.a.b": 4})
    found = standing("erp", CHECKPOINT, live, True, 2)
    assert (found.state, found.lag_seconds, found.error) == ("blocked", 1.5, "no answer")
    assert (found.parked, found.position, found.live) == (2, "0/1A2B", True)
    assert standing("erp", None, live, None, None).parked == 4


def test_a_long_position_does_not_spread_the_table() -> None:
    gtids = "mysql/1 set=763b2316-ea98-11f1-aa46-02fc00000001:1-46 last=763b2316:46@1"
    long = dataclasses.replace(CHECKPOINT, position=gtids)
    known = standing("hr", long, None, True, 0)
    assert known.position == gtids
    assert gtids[:50] in str(_row(known))
    assert gtids not in str(_row(known))
    assert "0/1A2B" in _row(standing("erp", CHECKPOINT, None, True, 0))


def test_how_long_the_slot_lasts_and_what_checks_find_amiss() -> None:
    slot = SlotState(
        active=True, status="extended", retained_bytes=1, safe_bytes=7200, behind_bytes=0
    )
    amiss = ({"check": "slot.retention", "what": "little is left"}, {"check": "b", "what": "x"})
    live = view(
        State.STREAMING,
        slot=slot,
        slot_seconds_if_stopped=7200.0,
        log_bytes_per_second=1.0,
        findings=amiss,
    )
    found = standing("erp", CHECKPOINT, live, True, 0)
    assert (found.slot_status, found.slot_safe_bytes) == ("extended", 7200)
    assert (found.slot_seconds_if_stopped, found.log_bytes_per_second) == (7200.0, 1.0)
    note = "slot.retention: little is left (and 1 more: cdc-daemon doctor)"
    assert _row(found)[-2:] == ("2 h", note)
    assert _row(dataclasses.replace(found, error="no answer\nat all"))[-1] == "no answer"


def test_a_pipeline_that_never_ran_is_stopped() -> None:
    assert standing("erp", None, None, False, 0).state == "stopped"


@pytest.mark.parametrize("state", list(State))
def test_fail_on_means_this_state_or_a_worse_one(state: State) -> None:
    found = standing("erp", CHECKPOINT, view(state), True, 0)
    place = WORSE.index(state.value) if state.value in WORSE else -1
    assert [at_least(found, level) for level in WORSE] == [n <= place for n in range(len(WORSE))]


def test_parked_changes_are_a_degradation_in_every_state() -> None:
    assert at_least(standing("erp", CHECKPOINT, view(State.SNAPSHOTTING), True, 1), "degraded")


# --- the daemon's page ------------------------------------------------------------------------


@pytest.fixture
def page() -> Iterator[tuple[HTTPServer, list[bytes]]]:
    """A server on loopback that answers with the bytes in the list."""
    answer = [b"[]"]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer[0])

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server, answer
        server.shutdown()


def test_a_daemon_is_asked_without_any_proxy(
    page: tuple[HTTPServer, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    server, answer = page
    answer[0] = json.dumps([view(State.IDLE)]).encode()
    assert ask_daemon("127.0.0.1", server.server_port)["erp"]["state"] == "idle"


@pytest.mark.parametrize("said", [b"", b"<html>", b"7", b'[{"a": 1}]', b'{"pipelines": 1}'])
def test_something_else_on_that_port_is_no_daemon(
    page: tuple[HTTPServer, list[bytes]], said: bytes
) -> None:
    server, answer = page
    answer[0] = said
    assert ask_daemon("127.0.0.1", server.server_port) == {}


def test_nobody_on_that_port_is_no_daemon() -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        port = server.server_port
    assert ask_daemon("127.0.0.1", port) == {}
    assert ask_daemon("127.0.0.1", 0) == {}
