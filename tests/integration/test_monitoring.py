"""Rules and dashboard against a real Prometheus that scrapes the real daemon."""

from __future__ import annotations

import http.client
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from cdc_daemon.admin.board import Board, PipelineView, Verification
from cdc_daemon.admin.metrics import MetricsPage
from cdc_daemon.engine.status import State, WorkerStatus
from cdc_daemon.model.ports import SlotState
from cdc_daemon.notify.figures import Figures
from tests.conftest import DatabaseFactory, PostgresFactory
from tests.integration.test_faults_refusals import dropped
from tests.support.erp import Erp, Writer
from tests.support.prometheus import (
    ALERTS,
    ALERTS_TEST,
    MONITORING,
    Prometheus,
    alerts,
    concrete,
    dashboard,
    dashboard_queries,
    exposed,
    metrics_in,
    program,
)
from tests.support.real_daemon import RealDaemon
from tests.support.waiting import until

VARIABLES = {"__rate_interval": "5s", "instance": ".+", "pipeline": ".+", "datasource": "here"}
MAY_BE_EMPTY = {
    "cdc_verification_due": "nothing is verified on a schedule here",
    "cdc_slot_seconds_left": "the slot lasts for ever here",
    "cdc_slot_seconds_if_stopped": "known after a few looks only",
    "cdc_source_log_bytes_per_second": "known after a few looks only",
    "cdc_check_findings": "all is well here",
    "changes(cdc_worker_start_time_seconds": "no worker is started again",
}
"""Queries that rightly find nothing in this test; their metrics exist all the same."""

LABEL_VALUES = re.compile(r"label_values\((?P<series>.+), (?P<label>\w+)\)")


def admin_page(daemon: RealDaemon, path: str) -> str:
    """A page of the daemon, with code 200."""
    connection = http.client.HTTPConnection(address(daemon), timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read().decode()
    finally:
        connection.close()


def address(daemon: RealDaemon) -> str:
    """Host and port of its admin server."""
    daemon.said("admin server listens")
    return str(urlsplit(daemon.events("admin server listens")[0]["url"]).netloc)


def promtool(*arguments: str, input: str | None = None) -> None:
    """It must find nothing."""
    done = subprocess.run(
        [program("promtool"), *arguments],
        input=input,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == "", done.stderr


def test_the_alerts_fire_when_they_should_and_only_then() -> None:
    """As promtool runs their cases; each alert has one that fires and one that does not."""
    promtool("check", "rules", str(ALERTS))
    promtool("test", "rules", str(ALERTS_TEST))
    promtool("check", "config", "--syntax-only", str(MONITORING / "prometheus.yml"))


def test_a_full_page_is_as_prometheus_wants_it() -> None:
    """Names, units, types and help of every family, each with a sample."""
    board = Board()
    slot = SlotState(active=True, status="reserved", retained_bytes=1, safe_bytes=1, behind_bytes=1)
    key = "erp.public.t_order"
    status = WorkerStatus(
        pipeline="erp",
        state=State.STREAMING,
        started=1.0,
        commit_time=1.0,
        event_time=1.0,
        checkpoint_time=1.0,
        lag_seconds=0.0,
        lag_bytes=0,
        slot=slot,
        slot_seconds_left=1.0,
        slot_seconds_if_stopped=1.0,
        log_bytes_per_second=1.0,
        findings=({"check": "slot.failover", "state": "warning"},),
        events={"insert": 1},
        applied={(key, "sales_order", "insert"): 1},
        filtered={(key, "where"): 1},
        parked={key: 1},
        parked_errors={(key, "sales_order", "required"): 1},
        parked_since=1.0,
        replays={(key, "sales_order", "required", "failed"): 1},
        progress_time=1.0,
    )
    board.publish(PipelineView(status=status, alive=True))
    board.verification_due("erp", 1.0)
    board.verified(Verification(pipeline="erp", time=1.0, seconds=1.0, rows={(key, "match"): 1}))
    board.notified({"ops": Figures(sent=1, failed=1, waiting=1)})
    page = MetricsPage(board).render("").body.decode()
    families = re.findall(r"^# TYPE (\S+)", page, re.MULTILINE)
    empty = [name for name in families if not re.search(rf"^{name}\S* ", page, re.MULTILINE)]
    assert empty == []
    promtool("check", "metrics", input=page)


def test_dashboard_and_rules_find_what_they_ask_for(
    postgres_factory: PostgresFactory, database_factory: DatabaseFactory, tmp_path: Path
) -> None:
    """Every query of the dashboard has an answer, every rule can be evaluated, and an alert follows
    from what happens: a row is written by hand, the slot is dropped and the daemon ends.
    """
    server = postgres_factory(settings={"max_slot_wal_keep_size": "1GB"})
    erp = Erp(database_factory(server=server), database_factory(), tmp_path).set_up()
    with erp.streaming() as daemon, Prometheus(tmp_path / "tsdb", address(daemon)) as prometheus:
        erp.commit("INSERT INTO t_order VALUES (9000, 'O9000', 9000, 1)")  # refers to nobody
        differs(erp)
        assert erp.ask("failures", "retry", "--all", "--yes").exit_code == 3
        with Writer(erp, seed=7, pause=0.2):
            every_query_answers(prometheus)
        every_metric_exists(admin_page(daemon, "/metrics"))
        every_rule_works(prometheus)
        assert state(prometheus, "CdcPipelineStopped") == "inactive"
        until(lambda: state(prometheus, "CdcVerificationMismatch") == "firing", what="it fires")
        until(lambda: dropped(erp), what="the slot is dropped")
        assert daemon.wait(60) == 78, daemon.log
        becomes_pending(prometheus, "CdcDown")


def differs(erp: Erp) -> None:
    """Somebody writes to an entity table by hand, and it is verified."""
    erp.insert_materials(5000, 1)
    erp.caught_up()
    erp.target.execute("UPDATE material SET name = 'by hand' WHERE code = 'M5000.0'")
    done = erp.ask("verify")
    assert done.exit_code == 3, done.output


def every_query_answers(prometheus: Prometheus) -> None:
    """Within the time that a rate needs."""
    for where, query in dashboard_queries():
        asked = concrete(query, VARIABLES)
        if any(text in query for text in MAY_BE_EMPTY):
            prometheus.query(asked)  # an error is one all the same
        else:
            until(partial(has_value, prometheus, asked), what=f"{where}: {asked}")
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            found = LABEL_VALUES.fullmatch(variable["definition"])
            assert found is not None
            series = prometheus.query(concrete(found["series"], VARIABLES))
            assert series
            assert all(one["metric"][found["label"]] for one in series)


def has_value(prometheus: Prometheus, query: str) -> bool:
    """Some series of it has a number; a quantile of nothing is NaN."""
    return any(series["value"][1] != "NaN" for series in prometheus.query(query))


def every_metric_exists(page: str) -> None:
    """What rules and dashboard name, the daemon exposes; and the page is as it should be."""
    promtool("check", "metrics", input=page)
    there = exposed(page)
    for where, query in dashboard_queries():
        assert metrics_in(query) <= there, where
    for rule in alerts():
        assert metrics_in(rule["expr"]) <= there, rule["alert"]


def every_rule_works(prometheus: Prometheus) -> None:
    """Evaluated without an error."""
    found = until(lambda: all_evaluated(prometheus), what="every rule was evaluated")
    assert {name: rule["health"] for name, rule in found.items()} == {
        rule["alert"]: "ok" for rule in alerts()
    }


def all_evaluated(prometheus: Prometheus) -> dict[str, dict[str, str]]:
    """Every rule, once none is unknown any more."""
    found = prometheus.rules()
    return {} if any(rule["health"] == "unknown" for rule in found.values()) else found


def state(prometheus: Prometheus, alert: str) -> str:
    """inactive, pending or firing."""
    return str(prometheus.rules()[alert]["state"])


def becomes_pending(prometheus: Prometheus, alert: str) -> None:
    """Its condition holds; it fires once that has lasted."""
    until(lambda: state(prometheus, alert) in {"pending", "firing"}, what=f"{alert} is pending")


@pytest.mark.acceptance
def test_asking_all_the_time_does_not_slow_a_pipeline(erp: Erp) -> None:
    """FAULT 44: more clients than there are slots, without a pause, while changes come."""
    with erp.streaming() as daemon, hammered(address(daemon)) as answers:
        for n in range(5):
            erp.insert_materials(1 + 2000 * n, 2000)
            erp.caught_up(daemon, seconds=20)
        until(lambda: answers.count("200 OK") >= 200, what="200 answers")
        assert len(daemon.workers) == 1
        assert daemon.events("worker ended") == []
    erp.same_content()


def test_a_log_that_the_server_holds_back_is_lag(
    postgres_factory: PostgresFactory,
    database_factory: DatabaseFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a fail-over, `synchronized_standby_slots` may name a standby that is gone: the server
    answers, and sends nothing.
    """
    monkeypatch.setattr("cdc_daemon.engine.meter.STALLED_AFTER", 1.0)
    monkeypatch.setattr("cdc_daemon.worker.RECHECK", 0.5)
    server = postgres_factory()
    erp = Erp(database_factory(server=server), database_factory(), tmp_path).set_up()
    with erp.worker():
        erp.caught_up()
    with psycopg.connect(f"{erp.source.dsn}?replication=database", autocommit=True) as walsender:
        walsender.execute(f"ALTER_REPLICATION_SLOT {erp.slot} (FAILOVER true)".encode())
    with erp.worker() as meter:
        server.execute("ALTER SYSTEM SET synchronized_standby_slots = 'gone'")
        server.execute("SELECT pg_reload_conf()")
        erp.insert_materials(1, 3)
        until(lambda: (meter.status().lag_seconds or 0) > 1, what="it is told as lag")
        server.execute("ALTER SYSTEM RESET synchronized_standby_slots")
        server.execute("SELECT pg_reload_conf()")
        erp.caught_up()
        until(lambda: meter.status().lag_seconds == 0, what="it is over")
    erp.same_content()


@contextmanager
def hammered(where: str) -> Iterator[list[str]]:
    """Clients that ask for metrics as fast as they can; what each time came of it."""
    answers: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            connection = http.client.HTTPConnection(where, timeout=10)
            try:
                connection.request("GET", "/metrics")
                answer = connection.getresponse()
                answer.read()
                answers.append(f"{answer.status} {answer.reason}")
            except (OSError, http.client.HTTPException) as exc:
                answers.append(type(exc).__name__)
            finally:
                connection.close()

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(24)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
