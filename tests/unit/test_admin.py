"""The pages on loopback, from a board without a daemon behind it."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cdc_daemon.admin.board import Board, PipelineView, Verification
from cdc_daemon.admin.families import COMMON_FAILURES, MOST_REASONS
from cdc_daemon.admin.metrics import MetricsPage
from cdc_daemon.admin.server import MOST_REQUESTS, AdminServer
from cdc_daemon.engine.meter import Meter
from cdc_daemon.engine.status import State, WorkerStatus
from cdc_daemon.model.errors import ConfigurationError
from cdc_daemon.model.ports import SlotState
from cdc_daemon.notify.figures import Figures
from cdc_daemon.sinks.dispositions import CODES
from tests.support.waiting import until


class Site:
    """A served board."""

    def __init__(self) -> None:
        self.board = Board()
        self.server = AdminServer(self.board, port=0, fresh=0)
        self.server.start()

    def show(self, pipeline: str = "erp", *, alive: bool = True, **fields: Any) -> None:
        status = WorkerStatus(pipeline=pipeline, **{"state": State.STREAMING, **fields})
        self.board.publish(PipelineView(status=status, alive=alive))

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
        """Status code, content type, body."""
        host = self.server.url.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=10)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
        finally:
            connection.close()

    def samples(self, name: str) -> dict[tuple[str, ...], float]:
        """A metric's samples by their label values, in the order of the labels' names."""
        _, _, page = self.ask("/metrics")
        return {
            tuple(value for _, value in sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name == name
        }


@pytest.fixture
def site() -> Iterator[Site]:
    """A site on a free port."""
    found = Site()
    yield found
    found.server.close()


def test_a_sample_that_is_there_from_the_start_is_of_a_class_that_there_is() -> None:
    """Else it stands at 0 for ever, and an alert on it never fires."""
    assert set(COMMON_FAILURES) <= set(CODES)


def test_metrics_render_the_latest_status(site: Site) -> None:
    meter = Meter("erp", {"erp.public.t_order": "sales_order"})
    meter.phase(State.STREAMING)
    meter.log_read()
    meter.committed(
        "0/1",
        begins=[(0, 0, int(time.time() * 1e6))],
        commit_time=1_700_000_000_000_000,
        transactions=1,
        changes=2,
        counts={("erp.public.t_order", "insert"): 2},
        seconds=0.02,
    )
    site.board.publish(PipelineView(status=meter.status(), alive=True, restarts=3))
    assert site.samples("cdc_rows_applied_total") == {
        ("sales_order", "erp.public.t_order", "insert", "erp"): 2,
        ("sales_order", "erp.public.t_order", "update", "erp"): 0,
        ("sales_order", "erp.public.t_order", "delete", "erp"): 0,
        ("sales_order", "erp.public.t_order", "noop", "erp"): 0,
    }
    assert site.samples("cdc_up") == {("erp",): 1}
    assert site.samples("cdc_worker_restarts_total") == {("erp",): 3}
    last = site.samples("cdc_source_last_applied_commit_timestamp_seconds")
    assert last == {("erp",): 1_700_000_000}
    assert site.samples("cdc_apply_duration_seconds_count") == {("erp",): 1}
    assert site.samples("cdc_end_to_end_latency_seconds_count") == {("erp",): 1}
    assert site.samples("cdc_failure_queue_rows") == {("erp.public.t_order", "erp", "parked"): 0}
    assert site.samples("cdc_health")["erp", "streaming"] == 1
    assert sum(site.samples("cdc_health").values()) == 1
    assert site.samples("cdc_config_last_reload_successful") == {(): 1}
    assert len(site.samples("cdc_build_info")) == 1
    assert site.samples("process_cpu_seconds_total")


def test_labels_stay_bounded(site: Site) -> None:
    site.show(failed={f"class_{number}": 1 for number in range(10 * MOST_REASONS)})
    found = site.samples("cdc_rows_failed_total")
    assert len(found) == MOST_REASONS + 1
    assert sum(found.values()) == 10 * MOST_REASONS


def test_notifications_are_counted_by_channel(site: Site) -> None:
    assert site.samples("cdc_notifications_waiting") == {}
    site.board.notified({"ops": Figures(sent=3, failed=2, waiting=1)})
    assert site.samples("cdc_notifications_sent_total") == {("ops",): 3}
    assert site.samples("cdc_notifications_failed_total") == {("ops",): 2}
    assert site.samples("cdc_notifications_waiting") == {("ops",): 1}


def test_the_page_is_open_metrics_for_who_asks(site: Site) -> None:
    site.show()
    code, kind, page = site.ask("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert code == 200
    assert kind.startswith("application/openmetrics-text")
    assert page.endswith("# EOF\n")


def test_health_is_about_the_loop_and_nothing_else(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.show(state=State.BLOCKED)
    assert site.ask("/healthz")[0] == 200
    assert site.ask("/-/healthy")[0] == 200
    monkeypatch.setattr(site.board, "lateness", lambda: 10.5)
    assert site.ask("/healthz")[0] == 503
    assert site.ask("/readyz")[0] == 503


@pytest.mark.parametrize("path", ["/readyz", "/-/ready"])
def test_without_pipelines_nothing_is_ready(site: Site, path: str) -> None:
    assert site.ask(path)[0] == 503


@pytest.mark.parametrize("state", list(State))
def test_ready_is_who_streams_also_with_changes_parked(site: Site, state: State) -> None:
    site.show("erp", state=state)
    site.show("hr", state=State.IDLE)
    ready = state in {State.STREAMING, State.IDLE, State.DEGRADED}
    code, _, body = site.ask("/readyz")
    assert code == (200 if ready else 503)
    assert json.loads(body)["sources"]["erp"]["state"] == state.value
    assert site.ask("/readyz?source=hr")[0] == 200


def test_parked_changes_are_told_by_who_is_ready(site: Site) -> None:
    site.show(state=State.DEGRADED, parked={"erp.public.t_order": 2})
    code, _, body = site.ask("/readyz")
    assert code == 200
    assert json.loads(body)["sources"]["erp"]["reason"] == "changes are parked: 2"
    slot = SlotState(
        active=True, status="unreserved", retained_bytes=9, safe_bytes=-1, behind_bytes=0
    )
    site.show(state=State.DEGRADED, slot=slot)
    reason = json.loads(site.ask("/readyz")[2])["sources"]["erp"]["reason"]
    assert reason == "the slot's log is unreserved"


def test_the_slot_and_the_failure_queue_are_on_the_page(site: Site) -> None:
    slot = SlotState(
        active=True, status="extended", retained_bytes=900, safe_bytes=None, behind_bytes=7
    )
    site.show(
        slot=slot,
        lag_bytes=7,
        parked_since=1_700_000_000.0,
        events={"insert": 3, "truncate": 0},
        filtered={("m", "ignore"): 4},
    )
    assert site.samples("cdc_slot_active") == {("erp",): 1}
    assert site.samples("cdc_slot_retained_wal_bytes") == {("erp",): 900}
    assert site.samples("cdc_slot_safe_wal_bytes") == {}
    assert site.samples("cdc_slot_wal_status")["erp", "extended"] == 1
    assert sum(site.samples("cdc_slot_wal_status").values()) == 1
    assert site.samples("cdc_source_lag_bytes") == {("erp",): 7}
    assert site.samples("cdc_source_events_total")["insert", "erp"] == 3
    assert site.samples("cdc_rows_filtered_total") == {("m", "ignore", "erp"): 4}
    oldest = site.samples("cdc_failure_queue_oldest_timestamp_seconds")
    assert oldest == {("erp",): 1_700_000_000}


def test_lag_of_a_worker_that_is_gone_is_not_shown_as_if_it_were_well(site: Site) -> None:
    """The last 0 would stay for ever; what the slot keeps stays as it was last seen."""
    slot = SlotState(
        active=True, status="lost", retained_bytes=900, safe_bytes=None, behind_bytes=7
    )
    site.show(alive=False, state=State.STOPPED, slot=slot, lag_seconds=0.0, lag_bytes=0)
    for name in ("cdc_source_lag_seconds", "cdc_source_lag_bytes", "cdc_slot_seconds_left"):
        assert site.samples(name) == {}
    assert site.samples("cdc_slot_wal_status")["erp", "lost"] == 1
    assert site.samples("cdc_source_connected") == {("erp",): 0}
    assert site.samples("cdc_up") == {("erp",): 0}


def _verification(**rows: int) -> Verification:
    found = {("erp.public.t", result): number for result, number in rows.items()}
    return Verification(pipeline="erp", time=1_700_000_000.0, seconds=2.5, rows=found)


def test_verifications_are_shown_as_they_ended(site: Site) -> None:
    site.show()
    site.board.verification_due("erp", 1_700_000_600.0)
    site.board.verified(_verification(match=7, missing=1, different=2, moving=4, parked=8))
    assert site.samples("cdc_verification_timestamp_seconds") == {("erp",): 1_700_000_000}
    assert site.samples("cdc_verification_due_timestamp_seconds") == {("erp",): 1_700_000_600}
    assert site.samples("cdc_verification_duration_seconds") == {("erp",): 2.5}
    assert site.samples("cdc_verification_differences") == {("erp.public.t", "erp"): 3}
    assert site.samples("cdc_verification_rows")["erp.public.t", "match", "erp"] == 7
    site.board.verified(_verification(match=10))
    site.board.verified(
        Verification(pipeline="erp", time=1_800_000_000.0, seconds=0.1, rows={}, failed=True)
    )
    assert site.samples("cdc_verification_differences") == {("erp.public.t", "erp"): 0}
    assert site.samples("cdc_verification_timestamp_seconds") == {("erp",): 1_700_000_000}
    assert site.samples("cdc_verification_runs_total") == {
        ("different", "erp"): 1,
        ("equal", "erp"): 1,
        ("failed", "erp"): 1,
    }
    site.board.withdraw("erp")
    assert site.samples("cdc_verification_runs_total") == {}


def test_lines_that_were_not_written_are_counted_by_who_wrote_them(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdc_daemon.telemetry.dropped", lambda: 7)
    site.show(log_lines_dropped=3)
    assert site.samples("cdc_log_lines_dropped_total") == {("",): 7, ("erp",): 3}
    assert Meter("hr").status().log_lines_dropped == 7


def test_what_checks_find_is_counted_by_check(site: Site) -> None:
    """And nothing of what they say is in a label: that names tables and servers at length."""
    finding = {"check": "tables.identity", "state": "warning", "what": "words", "where": "t_order"}
    site.show(findings=(finding, finding), log_bytes_per_second=5.0, slot_seconds_if_stopped=6.0)
    assert site.samples("cdc_check_findings") == {("tables.identity", "erp", "warning"): 2}
    assert site.samples("cdc_source_log_bytes_per_second") == {("erp",): 5}
    assert site.samples("cdc_slot_seconds_if_stopped") == {("erp",): 6}


def test_the_failure_queue_is_told_by_entity_and_error(site: Site) -> None:
    """What it holds, what was tried again, and how much waits; the rarest beyond 500 together."""
    place = ("erp.public.t_order", "sales_order")
    meter = Meter("erp", {place[0]: place[1]})
    meter.failures.holds({(place[0], "required"): 3, (place[0], "waiting"): 2}, lanes=4)
    for applied in (True, False, True):
        meter.failures.replayed(place[0], "required", applied=applied)
    site.board.publish(PipelineView(status=meter.status(), alive=True, restarts=0))
    assert site.samples("cdc_failure_queue_errors") == {
        (place[1], "required", place[0], "erp"): 3,
        (place[1], "waiting", place[0], "erp"): 2,
    }
    assert site.samples("cdc_replays_total") == {
        (place[1], "required", place[0], "applied", "erp"): 2,
        (place[1], "required", place[0], "failed", "erp"): 1,
    }
    assert site.samples("cdc_failure_queue_blocked_lanes") == {("erp",): 4}
    many = {("erp.t", "e", f"error_{n}"): 600 - n for n in range(600)}
    site.show(parked_errors=many)
    found = site.samples("cdc_failure_queue_errors")
    assert (len(found), sum(found.values())) == (501, sum(many.values()))


HOSTILE = 'erp.public.t"} 1\nup{x="\\ \u2028物料'


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_a_hostile_table_name_stays_one_label(site: Site, accept: str) -> None:
    """Quotes, line ends and backslashes can neither end the label nor add a line."""
    site.show(applied={(HOSTILE, HOSTILE, "insert"): 5}, parked={HOSTILE: 2}, failed={HOSTILE: 1})
    _, kind, page = site.ask("/metrics", Accept=accept)
    assert kind.startswith("application/openmetrics-text" if accept else "text/plain")
    lines = page.split("\n")  # splitlines() would also split at U+2028, which is no line end here
    assert not [line for line in lines if line.startswith("up")]
    assert site.samples("cdc_rows_applied_total") == {(HOSTILE, HOSTILE, "insert", "erp"): 5}
    assert site.samples("cdc_failure_queue_rows") == {(HOSTILE, "erp", "parked"): 2}


def test_asking_all_the_time_renders_now_and_then() -> None:
    """FAULT 44: what a page costs does not depend on how often it is asked for."""
    page = MetricsPage(Board(), fresh=60.0)
    with ThreadPoolExecutor(8) as pool:
        bodies = {found.body for found in pool.map(page.render, [""] * 200)}
    assert page.renders == len(bodies) == 1
    page.render("application/openmetrics-text; version=1.0.0")
    assert page.renders == 2


def test_rendering_takes_a_bounded_share_of_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand tables render slowly; then a page is good for longer."""
    clock = iter([0.0, 2.0])
    page = MetricsPage(Board())
    with monkeypatch.context() as patch:
        patch.setattr("cdc_daemon.admin.metrics.time.monotonic", lambda: next(clock))
        assert page.render("").good_until == pytest.approx(2.0 + 18.0)


def test_no_more_requests_at_a_time_than_there_are_slots(site: Site) -> None:
    """FAULT 44: clients that dawdle take no more threads than that, and the rest is turned away."""
    address = site.server.url.removeprefix("http://").split(":")
    before = threading.active_count()
    with ExitStack() as stack:
        for _ in range(3 * MOST_REQUESTS):
            stack.enter_context(socket.create_connection((address[0], int(address[1]))))
        until(lambda: threading.active_count() >= before + MOST_REQUESTS)
        assert threading.active_count() <= before + MOST_REQUESTS
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            site.ask("/healthz")
    until(lambda: threading.active_count() <= before, what="the threads end with their clients")
    assert site.ask("/healthz")[0] == 200


def test_a_pipeline_without_worker_is_not_ready(site: Site) -> None:
    site.show(alive=False, error="worker ended with signal 9")
    code, _, body = site.ask("/readyz")
    assert code == 503
    assert json.loads(body)["sources"]["erp"]["reason"] == "worker ended with signal 9"


@pytest.mark.parametrize(
    "lag,query,code",
    [
        (59.0, "lag=60s", 200),
        (61.0, "lag=60s", 503),
        (61.0, "lag=2m", 200),
        (61.0, "", 200),
        (0.2, "lag=100ms", 503),
        (None, "lag=60s", 503),
        (0.0, "lag=0", 200),
        (0.0, "lag=soon", 400),
        (0.0, "lag=1e9s", 400),
        (0.0, "source=nobody", 404),
    ],
)
def test_lag_limits_readiness(site: Site, lag: float | None, query: str, code: int) -> None:
    site.show(lag_seconds=lag)
    assert site.ask(f"/readyz?{query}")[0] == code


def test_status_is_json(site: Site) -> None:
    site.show(position="0/1A")
    site.show("hr")
    _, kind, body = site.ask("/status")
    assert kind == "application/json"
    erp, hr = json.loads(body)
    assert (erp["pipeline"], erp["position"], erp["alive"]) == ("erp", "0/1A", True)
    assert hr["pipeline"] == "hr"


def test_head_answers_without_body_and_other_methods_not_at_all(site: Site) -> None:
    site.show()
    assert site.ask("/metrics", "HEAD")[::2] == (200, "")
    assert site.ask("/healthz", "HEAD")[::2] == (200, "")
    assert site.ask("/healthz", "POST")[0] == 405
    assert site.ask("/nothing")[0] == 404
    assert site.ask("/readyz?" + "&".join(["a=1"] * 100))[0] == 400


def test_only_loopback_and_only_free_ports(site: Site) -> None:
    with pytest.raises(ConfigurationError, match="loopback"):
        AdminServer(Board(), "0.0.0.0", 0)
    with pytest.raises(ConfigurationError, match="not an IP address"):
        AdminServer(Board(), "db.example.com", 0)
    port = int(site.server.url.rpartition(":")[2])
    with pytest.raises(ConfigurationError, match="cannot listen"):
        AdminServer(Board(), "127.0.0.1", port)
