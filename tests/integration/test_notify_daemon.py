"""Notifications of a real supervisor, to a real web server, through ends of every kind."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cdc_daemon.notify.spool import read_log
from tests.integration.test_supervisor import Daemon
from tests.support.waiting import until
from tests.support.web_server import WebServer

SECRET = "S3cret-S3cret-S3cret"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """One that was not started yet."""
    found = Daemon(tmp_path, {})
    yield found
    found.close()


def notify(folder: Path, url: str, **more: Any) -> None:
    """Have the daemon's settings say so."""
    hook = {"kind": "webhook", "url": url, "secret": SECRET, "allow_plain": True}
    section = {
        "channels": {"hook": {**hook, "allow_private": ["localhost"]}},
        "directory": str(folder),
        "settle_seconds": 0,
        "group_wait_seconds": 0,
        **more,
    }
    settings = folder / "daemon.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "notifications": section}))


def kinds(server: WebServer) -> list[tuple[str, str]]:
    alerts = [json.loads(got.body)["data"]["alerts"] for got in server.got]
    return [(one["kind"], one["phase"]) for some in alerts for one in some]


def test_a_pipeline_that_refuses_is_told_before_the_daemon_ends(
    daemon: Daemon, tmp_path: Path
) -> None:
    """Though nobody would start it again, and though messages wait to be grouped."""
    with WebServer() as server:
        daemon.configure(erp={"behave": "leave", "code": 78})
        notify(tmp_path, server.url, group_wait_seconds=600)
        daemon.start()
        assert daemon.wait() == 78
        assert kinds(server) == [("stopped", "began")]
        alert = json.loads(server.got[0].body)["data"]["alerts"][0]
        assert alert["facts"] == {"error": "as it was told"}
    assert SECRET not in daemon.log()


def test_a_message_that_waits_is_delivered_after_kill_9_and_a_stop_is_none(
    daemon: Daemon, tmp_path: Path
) -> None:
    """HUP brings the section; its service is down; the daemon is killed; both come back."""
    with WebServer() as server:
        url, port = server.url, server.server_port
    daemon.configure(erp={"behave": "leave", "code": 78}, hr="stream")
    daemon.start()
    daemon.until_logged("pipeline stopped")
    notify(tmp_path, url)
    daemon.signal(signal.SIGHUP)
    file = tmp_path / "notifications.db"
    waiting = until(lambda: [one for one in read_log(file, None, 9)[0] if one.attempts])
    assert "connection refused" in waiting[0].error
    daemon.signal(signal.SIGKILL)
    assert daemon.wait() == -signal.SIGKILL
    with WebServer(port=port) as server:
        daemon.configure(hr="stream")
        notify(tmp_path, url)
        daemon.start()
        until(lambda: kinds(server) == [("stopped", "began"), ("stopped", "ended")])
        assert server.got[0].headers["idempotency-key"] == waiting[0].message.id
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0
        assert len(server.got) == 2
    assert [one.result for one in read_log(file, None, 9)[1]] == ["delivered"] * 2
