"""A private Prometheus that scrapes one daemon each second and evaluates the shipped alerts.

And what rules and dashboard consist of: their queries and the metrics that these name.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlencode

import pytest
import yaml

from cdc_daemon.demo.processes import die_with
from cdc_daemon.demo.server import free_port
from tests.support.waiting import until

MONITORING: Final = Path(__file__).parents[2] / "config" / "monitoring"
ALERTS: Final = MONITORING / "alerts.yml"
ALERTS_TEST: Final = MONITORING / "alerts_test.yml"
DASHBOARD: Final = MONITORING / "grafana" / "cdc-daemon.json"

CONFIGURATION: Final = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: cdc-daemon
    static_configs: [{{targets: ["{target}"]}}]
"""


def program(name: str) -> str:
    """Where prometheus or promtool is; without it the test is skipped, in CI it fails."""
    found = shutil.which(name)
    if found is not None:
        return found
    reason = f"{name} is not installed"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


class Prometheus:
    """One server on a free port of loopback; its context starts and ends it."""

    def __init__(self, folder: Path, target: str) -> None:
        self._program = program("prometheus")
        self._folder = folder
        self._port = free_port()
        folder.mkdir()
        self._settings = folder / "prometheus.yml"
        self._settings.write_text(CONFIGURATION.format(rules=ALERTS, target=target), "utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    self._program,
                    f"--config.file={self._settings}",
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with(os.getpid()),  # noqa: PLW1509 - one libc call, see there
            )
        until(self._ready, what="Prometheus is ready")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The instant vector (or scalar) that it evaluates to now. AssertionError for an error."""
        answer = self._get(f"/api/v1/query?{urlencode({'query': expression})}")
        assert answer["status"] == "success", (expression, answer.get("error"))
        return list(answer["data"]["result"])

    def rules(self) -> dict[str, dict[str, Any]]:
        """Every alert with its health, state and last error."""
        groups = self._get("/api/v1/rules")["data"]["groups"]
        return {rule["name"]: rule for group in groups for rule in group["rules"]}

    def _ready(self) -> bool:
        assert self._process is not None
        log = self._folder / "log"
        assert self._process.poll() is None, log.read_text(errors="replace")
        with suppress(OSError, http.client.HTTPException):
            return self._ask("/-/ready")[0] == 200
        return False

    def _get(self, path: str) -> dict[str, Any]:
        _, body = self._ask(path)
        found = json.loads(body)
        assert isinstance(found, dict)
        return found

    def _ask(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def alerts() -> list[dict[str, Any]]:
    """The rules of alerts.yml."""
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    """The dashboard."""
    found = json.loads(DASHBOARD.read_text("utf-8"))
    assert isinstance(found, dict)
    return found


def dashboard_queries() -> Iterator[tuple[str, str]]:
    """Where each query of the dashboard stands, and the query: panels and annotations."""
    board = dashboard()
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for note in board["annotations"]["list"]:
        yield f"annotation {note['name']}", note["expr"]


def concrete(query: str, variables: dict[str, str]) -> str:
    """A query as Grafana sends it."""
    for name, value in variables.items():
        query = query.replace(f"${name}", value)
    assert "$" not in query, f"unknown variable in {query}"
    return query


def metrics_in(query: str) -> set[str]:
    """The daemon's metrics that a query names."""
    return set(re.findall(r"\b(?:cdc|process)_[a-z_]+\b", query))


def exposed(page: str) -> set[str]:
    """Every name that a sample of a /metrics page has or may have."""
    found: set[str] = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\w+)$", page, re.MULTILINE):
        found |= {name}
        if kind == "histogram":
            found |= {f"{name}_{suffix}" for suffix in ("bucket", "sum", "count")}
    return found
