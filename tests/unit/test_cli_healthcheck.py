"""``healthcheck`` against the real page of a board, and against what is no daemon."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdc_daemon.admin import board as boards
from cdc_daemon.admin.board import Board, PipelineView
from cdc_daemon.admin.server import AdminServer
from cdc_daemon.engine.status import State, WorkerStatus
from tests.support.cli import invoke, write_configuration
from tests.unit.test_cli_config import VALID


@pytest.fixture
def board() -> Iterator[tuple[Board, str]]:
    """A served board and its address."""
    found = Board()
    server = AdminServer(found, port=0)
    server.start()
    yield found, server.url.removeprefix("http://")
    server.close()


def asked(address: str, *arguments: str) -> tuple[int, str]:
    """Exit code and words."""
    result = invoke("healthcheck", "--address", address, *arguments)
    return result.exit_code, result.stderr


def test_a_living_daemon_is_well(board: tuple[Board, str]) -> None:
    code, words = asked(board[1])
    assert code == 0
    assert '"status": "ok"' in words


def test_a_daemon_whose_loop_is_late_is_not(
    board: tuple[Board, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board[0], "lateness", lambda: boards.LATE_AFTER + 1)
    code, words = asked(board[1])
    assert code == 1
    assert '"status": "late"' in words


def test_ready_asks_for_pipelines_and_their_lag(board: tuple[Board, str]) -> None:
    assert asked(board[1], "--ready")[0] == 1
    status = WorkerStatus(pipeline="erp", state=State.STREAMING, lag_seconds=5.0)
    board[0].publish(PipelineView(status=status, alive=True))
    assert asked(board[1], "--ready")[0] == 0
    assert asked(board[1], "--ready", "--lag", "10s")[0] == 0
    code, words = asked(board[1], "--ready", "--lag", "2s")
    assert code == 1
    assert "lag is too large" in words
    assert asked(board[1], "--ready", "--lag", "1 & x=")[0] == 1


def test_nobody_there_is_1_with_the_address() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code, words = asked(f"127.0.0.1:{port}")
    assert code == 1
    assert f"no answer from 127.0.0.1:{port}: " in words


def test_who_does_not_answer_in_time_is_not_waited_for() -> None:
    with socket.socket() as dumb:
        dumb.bind(("127.0.0.1", 0))
        dumb.listen()
        code, words = asked(f"127.0.0.1:{dumb.getsockname()[1]}", "--timeout", "0.2")
    assert code == 1
    assert "timed out" in words


def test_the_configuration_says_where_it_listens(board: tuple[Board, str], tmp_path: Path) -> None:
    """Secrets that only the daemon may read need not be there."""
    text = f'{VALID}daemon: {{metrics_listen: "{board[1]}"}}\n'
    path = write_configuration(tmp_path, text)
    assert invoke("healthcheck", "-c", str(path)).exit_code == 0
    path.write_text(text.replace(board[1], "127.0.0.1:0"))
    result = invoke("healthcheck", "-c", str(path))
    assert result.exit_code == 1
    assert "takes a free port" in result.stderr
    path.write_text("targt: {}\n")
    assert invoke("healthcheck", "-c", str(path)).exit_code == 1


@pytest.mark.parametrize(
    "arguments", [["--address", "9464"], ["--address", "a:0"], ["--lag", "1s"]]
)
def test_a_wrong_call_is_a_usage_error(arguments: list[str]) -> None:
    assert invoke("healthcheck", *arguments).exit_code == 2
